"""What the words of a command line may be: each function takes one, or says what is wrong.

:func:`pairs_arguments` adds those of ``pairs``, which is a verb live and in virtual time.
"""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Return names that commas part."""
    found = tuple(name for name in text.split(",") if name)
    if not found:
        raise argparse.ArgumentTypeError("names are wanted, with commas between them")
    return found


def seed(text: str) -> int:
    """Return a whole number from 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def probability(text: str) -> float:
    """Return a number from 0 to 1."""
    value = _number(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return value


def seconds(text: str) -> float:
    """Return a positive number of seconds."""
    value = _number(text)
    if not 0.0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def level(text: str) -> int:
    """Return a whole number, also below 0."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def pairs_complaint(given: argparse.Namespace) -> str:
    """Return why the arguments of `pairs` exclude each other; empty where they do not."""
    if given.count is None and not given.dry_run:
        return "how many pairs? Give --count N, or --dry-run to see whether they can be had"
    if given.early and (given.kind != "keep" or given.within or given.dry_run):
        return "--early is for kept pairs that come one by one, and for no dry run"
    return ""


def drain_arguments(verb: argparse.ArgumentParser) -> None:
    """Add what `drain` is asked with, live and in virtual time."""
    verb.add_argument("names", metavar="NODE|LINK", nargs="+", help="a link: at both its ends")
    verb.add_argument("--undo", action="store_true", help="let them take new requests again")
    verb.add_argument("--wait", action="store_true", help="return when nothing runs any more")
    verb.add_argument("--json", action="store_true", help="one JSON object per end, then summary")


def pairs_arguments(verb: argparse.ArgumentParser) -> None:
    """Add what `pairs` is asked with, live and in virtual time."""
    verb.add_argument("a", metavar="A", help="the node that asks")
    verb.add_argument("b", metavar="B", help="the node at the other end")
    verb.add_argument("--count", type=positive, metavar="N", help="needed, but for a dry run")
    verb.add_argument("--kind", choices=("keep", "measure", "prepare"), default="keep")
    verb.add_argument("--fidelity-min", type=probability, default=0.0, metavar="F")
    verb.add_argument(
        "--timeout", type=seconds, default=0.0, metavar="S", help="lab seconds for each request"
    )
    verb.add_argument(
        "--per-request", type=positive, default=0, metavar="K", help="pairs in one request"
    )
    verb.add_argument(
        "--within",
        type=seconds,
        default=0.0,
        metavar="S",
        help="hand over the pairs of a request together, none there for longer (lab seconds)",
    )
    verb.add_argument(
        "--early",
        action="store_true",
        help="measure kept halves when they come, before it is known of what pair they are",
    )
    verb.add_argument(
        "--trust", type=level, default=0, metavar="T", help="least trust of nodes on the way"
    )
    verb.add_argument(
        "--dry-run", action="store_true", help="make nothing: would it be served, and how?"
    )
    verb.add_argument("--list", action="store_true", help="a table of the pairs, one by one")
    verb.add_argument("--json", action="store_true", help="one JSON object per pair, then summary")
