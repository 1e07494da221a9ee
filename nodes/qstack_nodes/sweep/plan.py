"""Sweep files: TOML to the points of a grid, every error at once."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from qstack import __version__
from qstack.config import NetworkFile, parse, read_text
from qstack.config.structure import Problems, describe, structure, table
from qstack.errors import ConfigError, LocalProtocolError
from qstack.machine import record
from qstack.sim.embedding import Wanted, check_wanted
from qstack.units import NodeName

Value: TypeAlias = float | int | str | bool

PAIRS = "pairs."
"""Parameters that begin so are options of the verb, all others keys of the network file."""

MOST_POINTS = 1_000_000


@record
class Ends:
    """Between which nodes."""

    a: NodeName
    b: NodeName


@record
class Range:
    """Evenly spaced values, both ends included; `scale` is linear or log."""

    from_: float
    to: float
    steps: int
    scale: str = "linear"


@record
class Parameter:
    """What is varied: a dotted key and its values."""

    key: str
    values: tuple[Value, ...]


@record
class Task:
    """A point with all that is needed to run it anywhere. `values` in the plan's order.

    `key` is the same for the same work: network, version of qstack, values, seed and options.
    """

    key: str
    text: str
    file: str
    values: tuple[tuple[str, Value], ...]
    seed: int
    ends: Ends
    wanted: Wanted


@record
class Plan:
    """A sweep file that makes sense."""

    file: str
    network: str
    text: str
    seeds: tuple[int, ...]
    parameters: tuple[Parameter, ...]
    ends: Ends
    wanted: dict[str, Any]

    def tasks(self) -> Iterator[Task]:
        """Yield every point: the last parameter varies fastest, and seeds within a point."""
        keys = [parameter.key for parameter in self.parameters]
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        for values in itertools.product(*(parameter.values for parameter in self.parameters)):
            chosen = tuple(zip(keys, values, strict=True))
            options = {key: value for key, value in chosen if key.startswith(PAIRS)}
            wanted = self.wanted | {key[len(PAIRS) :]: each for key, each in options.items()}
            for seed in self.seeds:
                key = _key(digest, chosen, seed, [self.ends.a, self.ends.b, wanted])
                made = Wanted(**wanted)
                yield Task(key, self.text, self.network, chosen, seed, self.ends, made)

    @property
    def points(self) -> int:
        """How many points there are, seeds counted."""
        return math.prod(len(each.values) for each in self.parameters) * len(self.seeds)


def changes_of(values: tuple[tuple[str, Value], ...]) -> dict[str, Value]:
    """Return the changes to the network file among the values of a point."""
    return {key: value for key, value in values if not key.startswith(PAIRS)}


def _key(digest: str, values: tuple[tuple[str, Value], ...], seed: int, rest: list[Any]) -> str:
    whole = json.dumps([__version__, digest, values, seed, rest], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:24]


# --- reading ------------------------------------------------------------------------------


def read_plan(name: str) -> Plan:
    """Return the plan of a sweep file; ConfigError with everything that is wrong with it."""
    path = Path(name)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigError([f"{path}: cannot be read: {reason}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error
    problems = Problems(str(path))
    known = ("network", "seeds", "parameters", "pairs")
    for key in data:
        if key not in known:
            problems.add(key, f"unknown key; known are {', '.join(known)}")
    network, text, file = _network(path, data.get("network"), problems)
    seeds = _seeds(data.get("seeds", 1), problems)
    ends, wanted = _pairs(data.get("pairs"), problems)
    parameters = _parameters(data.get("parameters", {}), problems)
    plan = Plan(str(path), network, text, seeds, parameters, ends, wanted)
    if file is not None:
        _check_ends(file, ends, problems)
        _check_values(plan, problems)
    if plan.points > MOST_POINTS:
        problems.add("parameters", f"{plan.points} points are more than {MOST_POINTS}")
    if problems.lines:
        raise ConfigError(problems.lines)
    return plan


def _network(path: Path, name: Any, problems: Problems) -> tuple[str, str, NetworkFile | None]:
    """Read the network: a bare name, or a path from the sweep file's folder."""
    if not isinstance(name, str) or not name:
        problems.add("network", "is missing" if name is None else f"{describe(name)} is no name")
        return "", "", None
    beside = path.parent / name
    try:
        file, text = read_text(str(beside) if beside.is_file() else name)
        return file, text, parse(text, file)
    except ConfigError as error:
        problems.lines += error.problems
        return name, "", None


def _seeds(given: Any, problems: Problems) -> tuple[int, ...]:
    """A number of seeds, from 1, or a list of them."""
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MOST_POINTS:
        return tuple(range(1, given + 1))
    if isinstance(given, list) and given:
        wrong = [each for each in given if type(each) is not int or each < 0]
        if not wrong and len(set(given)) == len(given):
            return tuple(given)
    problems.add("seeds", f"{describe(given)} is neither a number of seeds nor a list of seeds")
    return (1,)


def _pairs(given: Any, problems: Problems) -> tuple[Ends, dict[str, Any]]:
    """The verb's options, and between which nodes."""
    nothing = Ends("", ""), {"count": 1}
    if given is None:
        problems.add("pairs", "is missing: the nodes a and b, and a count")
        return nothing
    raw = dict(table(given, "pairs", problems))
    names = {key: raw.pop(key) for key in ("a", "b") if key in raw}
    ends = structure(names, Ends, "pairs", problems)
    wanted = structure(raw, Wanted, "pairs", problems)
    if ends is None or wanted is None:
        return nothing
    try:
        check_wanted(wanted)
    except LocalProtocolError as error:
        problems.add("pairs", str(error))
    fields = ("count", "kind", "fidelity_min", "timeout_s", "per_request", "trust_min")
    return ends, {field: getattr(wanted, field) for field in fields}


def _parameters(given: Any, problems: Problems) -> tuple[Parameter, ...]:
    found = []
    for key, value in table(given, "parameters", problems).items():
        values = _values(value, f"parameters.{key}", problems)
        if values:
            found.append(Parameter(key, values))
    return tuple(found)


def _values(given: Any, path: str, problems: Problems) -> tuple[Value, ...]:
    """A list of plain values, or a range."""
    if isinstance(given, dict):
        renamed = {"from_" if key == "from" else key: value for key, value in given.items()}
        span = structure(renamed, Range, path, problems)
        # A field of that name would be a word of Python.
        problems.lines = [line.replace("from_", "from") for line in problems.lines]
        return () if span is None else _span(span, path, problems)
    if not isinstance(given, list) or not given:
        reason = f"{describe(given)} is neither a list of values nor a range (from, to, steps)"
        problems.add(path, reason)
        return ()
    wrong = [each for each in given if not isinstance(each, int | float | str)]
    if wrong:
        problems.add(path, f"{describe(wrong[0])} is no plain value")
        return ()
    if len({json.dumps(each) for each in given}) < len(given):
        problems.add(path, "a value stands there twice")
    return tuple(given)


def _span(span: Range, path: str, problems: Problems) -> tuple[Value, ...]:
    low, high = span.from_, span.to
    if span.steps < 2:
        problems.add(path, f"steps is {span.steps}: a range has at least 2, both ends included")
    elif span.scale not in ("linear", "log"):
        problems.add(path, f"scale is {span.scale!r}: it is linear or log")
    elif span.scale == "log" and (low <= 0 or high <= 0):
        problems.add(path, "a range on a log scale lies above 0")
    elif low == high:
        problems.add(path, "from and to are equal")
    else:
        shares = [step / (span.steps - 1) for step in range(span.steps)]
        if span.scale == "log":
            made = [low * (high / low) ** share for share in shares]
        else:
            made = [low + (high - low) * share for share in shares]
        # What people would write: 0.1, not 0.1 and some remainder.
        return tuple(float(f"{each:.12g}") for each in made)
    return ()


def _check_ends(network: NetworkFile, ends: Ends, problems: Problems) -> None:
    known = [node.name for node in network.nodes if node.kind == "end"]
    for key, name in (("a", ends.a), ("b", ends.b)):
        if name and name not in known:
            problems.add(f"pairs.{key}", f"{name!r} is no end node of {', '.join(known)}")
    if ends.a and ends.a == ends.b:
        problems.add("pairs", f"{ends.a!r} cannot have pairs with itself")


def _check_values(plan: Plan, problems: Problems) -> None:
    """Try every value, the other parameters as in the files."""
    for parameter in plan.parameters:
        path = f"parameters.{parameter.key}"
        for value in parameter.values:
            for reason in _wrong(plan, parameter.key, value):
                problems.add(path, f"{describe(value)}: {reason}")


def _wrong(plan: Plan, key: str, value: Value) -> list[str]:
    """Return what is wrong with one value of one parameter."""
    if not key.startswith(PAIRS):
        try:
            parse(plan.text, plan.network, changes={key: value})
        except ConfigError as error:
            return [line.removeprefix(f"{plan.network}: ") for line in error.problems]
        return []
    found = Problems("")
    wanted = structure(plan.wanted | {key[len(PAIRS) :]: value}, Wanted, "", found)
    if wanted is None or found.lines:
        return [line.removeprefix(": ") for line in found.lines]
    try:
        check_wanted(wanted)
    except LocalProtocolError as error:
        return [str(error)]
    return []
