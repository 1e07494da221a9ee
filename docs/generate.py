"""Write the reference pages that come from the code, or say which of them are out of date.

``python docs/generate.py`` writes ``docs/reference/*.md``; with ``--check`` it writes nothing,
names the pages that differ and exits with 1. What a page says in prose before its tables
stands in ``docs/parts/<page>.md``.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.util
import inspect
import json
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs

import qstack
from qstack import errors, messages
from qstack.messages import wire
from qstack.sim import devices

DOCS = Path(__file__).resolve().parent
REFERENCE = DOCS / "reference"
NOTICE = "<!-- Written by docs/generate.py from the code: change the code, not this page. -->\n"

ROLES = {
    wire.Layer.CONTROL: "any two neighbours",
    wire.Layer.PHYSICAL: "node and station",
    wire.Layer.LINK: "the two ends of a link",
    wire.Layer.NETWORK: "nodes",
    wire.Layer.APPLICATION: "user and node: the user port",
    wire.Layer.DEVICE: "commander and hardware: the hardware port",
}


# --- pieces ---------------------------------------------------------------------------------


def prose(page: str) -> str:
    """Return the hand-written head of a page."""
    return (DOCS / "parts" / f"{page}.md").read_text()


def docstring(thing: Any) -> str:
    """Return a docstring with its Sphinx roles turned into plain code marks."""
    text = inspect.getdoc(thing) or ""
    for role in (":class:", ":func:", ":mod:", ":meth:"):
        text = text.replace(role, "")
    return text.replace("``", "`")


def cell(text: str) -> str:
    """Return text that may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines) + "\n"


def member_notes(cls: type[Any]) -> dict[str, str]:
    """Return the string below each member of an enumeration, by the member's name."""
    (body,) = ast.parse(inspect.getsource(cls)).body
    statements = body.body if isinstance(body, ast.ClassDef) else []
    notes = {}
    for first, second in pairwise(statements):
        if (
            isinstance(first, ast.Assign)
            and isinstance(second, ast.Expr)
            and isinstance(second.value, ast.Constant)
        ):
            notes[ast.unparse(first.targets[0])] = str(second.value.value)
    return notes


def on_wire(hint: Any) -> str:
    """Return how a field of this type is encoded."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        kept = [each for each in inner if each is not type(None)]
        return " or ".join([on_wire(each) for each in kept] + ["nil"] * (len(kept) < len(inner)))
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"array of {on_wire(inner[0])}"
        return f"array [{', '.join(map(on_wire, inner))}]"
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return f"integer, {link(hint)}"
    if attrs.has(hint):
        return f"array, {link(hint)}"
    names = {int: "integer", float: "float", str: "string", bytes: "binary", bool: "boolean"}
    return names[hint]


def link(cls: type[Any]) -> str:
    """Return a link to the section of a class on the same page."""
    return f"[{cls.__name__}](#{cls.__name__.lower()})"


def fields(cls: type[Any]) -> str:
    """Return the table of a record's fields, in the order of the wire."""
    hints = typing.get_type_hints(cls)
    rows = [
        (str(place), f"`{field.name}`", f"`{field.type}`", on_wire(hints[field.name]))
        for place, field in enumerate(attrs.fields(cls))
    ]
    return table(("place", "field", "type", "on the wire"), rows) if rows else "No fields.\n"


def inner_types(hint: Any) -> Iterator[type[Any]]:
    """Yield the records and enumerations that a type is made of."""
    if isinstance(hint, type) and (attrs.has(hint) or issubclass(hint, IntEnum)):
        yield hint
        if attrs.has(hint):
            for each in typing.get_type_hints(hint).values():
                yield from inner_types(each)
    for each in typing.get_args(hint):
        yield from inner_types(each)


def enumeration(cls: type[IntEnum]) -> str:
    """Return the table of an enumeration's members."""
    notes = member_notes(cls)
    rows = [(str(int(each)), f"`{each.name}`", notes.get(each.name, "")) for each in cls]
    return table(("value", "name", "meaning"), rows)


def modules(package: str) -> list[types.ModuleType]:
    """Return a package and all modules in it, but those that run when they are imported."""
    top = importlib.import_module(package)
    found = [top]
    for each in pkgutil.walk_packages(getattr(top, "__path__", []), f"{package}."):
        if not each.name.endswith("__main__"):
            found.append(importlib.import_module(each.name))
    return found


# --- pages ----------------------------------------------------------------------------------


def wire_page() -> str:
    """The wire: datagram, frames, every kind, every payload, every enumeration."""
    modules(messages.__name__)
    parts = [prose("wire"), "\n## Header\n", docstring(wire.Header), "\n", fields(wire.Header)]
    parts += ["\n## Frame\n", docstring(wire.Frame), "\n"]
    parts += ["\n## Deliveries\n", enumeration(wire.Delivery)]
    parts += ["\n## Layers\n", enumeration(wire.Layer), "\n## All kinds\n"]
    kinds = [wire.KINDS[number] for number in sorted(wire.KINDS)]
    rows = [
        (f"{each.number:#04x}", link(each.cls), each.layer.name, each.delivery.name)
        for each in kinds
    ]
    parts.append(table(("kind", "message", "layer", "delivery"), rows))
    used: dict[str, type[Any]] = {}
    layer = None
    for kind in kinds:
        if kind.layer is not layer:
            layer = kind.layer
            parts.append(f"\n## {layer.name.capitalize()}: {ROLES[layer]}\n")
        stream = "none" if kind.stream is None else f"`{kind.stream}`"
        facts = f"Kind {kind.number:#04x}, {kind.delivery.name.lower()}"
        if kind.delivery is not wire.Delivery.TIMED:
            facts += f", stream field {stream}"
        facts += ", bulk." if kind.bulk else "."
        parts.append(f"\n### {kind.cls.__name__}\n\n{facts}\n\n{docstring(kind.cls)}\n")
        parts.append(fields(kind.cls))
        for hint in typing.get_type_hints(kind.cls).values():
            used |= {each.__name__: each for each in inner_types(hint)}
    parts.append("\n## Values inside messages\n")
    for name in sorted(used):
        body = enumeration(used[name]) if issubclass(used[name], IntEnum) else fields(used[name])
        parts.append(f"\n### {name}\n\n{docstring(used[name])}\n\n{body}")
    return "\n".join(parts)


def errors_page() -> str:
    """The errors: the codes of requests, the exceptions and who raises them."""
    classes = [
        each
        for _, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.QstackError)
    ]
    rows = [
        (f"`{each.__name__}`", f"`{each.code.name}`", docstring(each))
        for each in sorted(classes, key=lambda each: each.__name__)
    ]
    return "\n".join(
        [
            prose("errors"),
            "\n## Codes\n",
            enumeration(errors.ErrorCode),
            "\n## Exceptions\n",
            table(("exception", "code", "meaning"), rows),
        ]
    )


def state_name(state: Any) -> str:
    """Return how a state is called."""
    return str(getattr(state, "name", state))


def diagram(rows: dict[Any, dict[type[Any], frozenset[Any]]]) -> str:
    """Return a state table as a Mermaid diagram; a change by several events is one arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, row in rows.items():
        for event, after in row.items():
            for each in sorted(after, key=state_name):
                arrows.setdefault((state_name(state), state_name(each)), []).append(event.__name__)
    lines = [f"  {a} --> {b}: {', '.join(names)}" for (a, b), names in arrows.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def tables() -> Iterator[tuple[str, dict[Any, dict[type[Any], frozenset[Any]]]]]:
    """Yield each state table of the product by the place where it is defined."""
    for module in modules(qstack.__name__):
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            defined = re.search(rf"^{name}\b.* = ", source, re.MULTILINE)
            if name.endswith("TABLE") and defined and is_state_table(value):
                yield f"{module.__name__}.{name}", value


def is_state_table(value: Any) -> bool:
    """Say whether this has the form of a state table (DESIGN section 4)."""
    if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
        return False
    entries = [entry for row in value.values() for entry in row.items()]
    return all(isinstance(each, type) and isinstance(then, frozenset) for each, then in entries)


def states_page() -> str:
    """The state tables: what each thing that has a life may become, by which event."""
    parts = [prose("state-tables")]
    for place, rows in sorted(tables(), key=lambda each: each[0]):
        lines = [
            (
                f"`{state_name(state)}`",
                f"`{event.__name__}`",
                ", ".join(f"`{each}`" for each in sorted(map(state_name, after))) or "none",
            )
            for state, row in rows.items()
            for event, after in row.items()
        ]
        final = [state_name(state) for state, row in rows.items() if not row]
        parts += [f"\n## {place}\n", diagram(rows), "", table(("in", "event", "then"), lines)]
        if final:
            parts.append(f"Final: {', '.join(f'`{each}`' for each in final)}.\n")
    return "\n".join(parts)


def default_of(field: Any) -> str:
    """Return how the default of a record's field is written in a network file."""
    if field.default is attrs.NOTHING:
        return "required"
    value = getattr(field.default, "factory", lambda: field.default)()
    return "may be left out" if value is None else f"`{json.dumps(value)}`"


def keys(cls: type[Any]) -> str:
    """Return the table of the keys that a record class gives to a network file."""
    rows = []
    for each in attrs.fields(cls):
        kind = str(each.type).removesuffix(" | None").replace("Any", "table")
        rows.append((f"`{each.name}`", f"`{kind}`", default_of(each)))
    return table(("key", "type", "default"), rows) if rows else "No keys.\n"


def network_file_page() -> str:
    """The network file: its tables, and the keys of every simulated device."""

    def fill(found: re.Match[str]) -> str:
        return keys(getattr(importlib.import_module(found[1]), found[2]))

    head = re.sub(r"^\{\{keys (\S+):(\w+)\}\}$", fill, prose("network-file"), flags=re.MULTILINE)
    parts = [head, "\n## Simulated devices\n"]
    for group, plugins in devices.PLUGINS.items():
        for plugin in plugins:
            parts.append(f"\n### {plugin.name}\n\nOf the group `{group}`.\n")
            parts += [f"{docstring(plugin.parameters)}\n", keys(plugin.parameters)]
    return "\n".join(parts)


def sub_parsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the verbs of a parser, by name."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def arguments(parser: argparse.ArgumentParser) -> str:
    """Return the table of a verb's arguments; argparse's own help differs between Pythons."""
    rows = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
        shown = action.metavar if isinstance(action.metavar, str) else action.dest
        value = "" if action.nargs == 0 else f"`{shown.upper()}`"
        chosen = f" One of {', '.join(map(str, action.choices))}." if action.choices else ""
        plain = action.default in (None, False, argparse.SUPPRESS)
        default = "" if plain else f"`{action.default}`"
        rows.append((f"{flags} {value}".strip(), f"{action.help or ''}{chosen}", default))
    return table(("argument", "meaning", "default"), rows) if rows else "No arguments.\n"


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command `qstack`: what a function of its module says it returns."""
    command = importlib.import_module("qstack_nodes.command")
    makers = [
        each
        for each in vars(command).values()
        if inspect.isfunction(each)
        and each.__annotations__.get("return") == "argparse.ArgumentParser"
        and not inspect.signature(each).parameters
    ]
    parser: argparse.ArgumentParser = makers[0]()
    return parser


def command_line_page() -> str:
    """The command: its verbs with their arguments."""
    top = command_parser()
    parts = [prose("command-line"), f"\n## {top.prog}\n\n{top.description or ''}\n", arguments(top)]
    for name, verb in sub_parsers(top).items():
        parts.append(f"\n## {top.prog} {name}\n\n{verb.description or ''}\n\n{arguments(verb)}")
        for inner, each in sub_parsers(verb).items():
            parts.append(f"\n### {top.prog} {name} {inner}\n\n{arguments(each)}")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "network-file": network_file_page,
    "wire": wire_page,
    "errors": errors_page,
    "state-tables": states_page,
}
if importlib.util.find_spec("qstack_nodes.command"):
    PAGES["command-line"] = command_line_page


def outdated(pages: dict[str, Callable[[], str]], folder: Path, *, write: bool) -> list[str]:
    """Return the differences of the pages in `folder` to the code; write them if asked."""
    differences = []
    for name, build in pages.items():
        path = folder / f"{name}.md"
        new = NOTICE + re.sub(r"\n{3,}", "\n\n", build().rstrip()) + "\n"
        old = path.read_text() if path.exists() else ""
        if old != new:
            diff = difflib.unified_diff(
                old.splitlines(),
                new.splitlines(),
                f"{name}.md",
                f"{name}.md as generated",
                "",
                "",
                1,
            )
            differences.append("\n".join(list(diff)[:30]))
            if write:
                path.write_text(new)
    return differences


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    check = parser.parse_args().check
    differences = outdated(PAGES, REFERENCE, write=not check)
    if check and differences:
        print("\n".join(differences))
        print("reference pages are out of date: run python docs/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
