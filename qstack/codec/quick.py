"""Writers and readers of records as straight code, for values that are what they should be.

The careful ones of ``bodies`` call a converter for every field. What nearly always comes needs
none: these check the types and bounds of all plain fields in one expression, and hand
everything else to the careful one, which converts it or says what is wrong with it. Built as source
text once per class, as attrs builds its own methods.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from math import isfinite
from typing import Any, TypeAlias

from qstack.machine import record

Converter: TypeAlias = Callable[[Any], Any]


@record
class Field:
    """One field: its annotation, the bound of its text, and the careful converters."""

    name: str
    hint: Any
    text_limit: int
    write: Converter
    read: Converter


@record
class Bounds:
    """What the wire allows of integers and binaries."""

    least: int
    most: int
    binary: int


def writer(cls: type[Any], fields: list[Field], bounds: Bounds, careful: Converter) -> Converter:
    """Return what turns a record of this class into a list for msgpack."""
    scope: dict[str, Any] = {"cls": cls, "careful": careful, "isfinite": isfinite}
    conditions, values = ["type(value) is cls"], []
    reads = []
    for place, field in enumerate(fields):
        variable = f"f{place}"
        reads.append(f"    {variable} = value.{field.name}\n")
        if _is_enumeration(field.hint):
            # msgpack packs it as the integer that it is.
            scope[f"e{place}"] = field.hint
            conditions.append(f"type({variable}) is e{place}")
            values.append(variable)
            continue
        condition = _condition(field, variable, bounds)
        if condition:
            conditions.append(condition)
            values.append(variable)
        else:
            scope[f"c{place}"] = field.write
            values.append(f"c{place}({variable})")
    source = (
        "def quick(value):\n"
        "    if type(value) is not cls:\n"
        "        return careful(value)\n"
        f"{''.join(reads)}"
        f"    if {' and '.join(conditions)}:\n"
        f"        return [{', '.join(values)}]\n"
        "    return careful(value)\n"
    )
    return _built(source, scope)


def reader(cls: type[Any], fields: list[Field], bounds: Bounds, careful: Converter) -> Converter:
    """Return what turns an unpacked list into a record of this class."""
    scope: dict[str, Any] = {"cls": cls, "careful": careful, "isfinite": isfinite}
    conditions, values = ["True"], []
    for place, field in enumerate(fields):
        variable = f"f{place}"
        if _is_enumeration(field.hint):
            scope[f"e{place}"] = {int(member): member for member in field.hint}
            conditions.append(f"type({variable}) is int and {variable} in e{place}")
            values.append(f"e{place}[{variable}]")
            continue
        condition = _condition(field, variable, bounds)
        if condition:
            conditions.append(condition)
            values.append(variable)
        else:
            scope[f"c{place}"] = field.read
            values.append(f"c{place}({variable})")
    unpacked = "".join(f"f{place}, " for place in range(len(fields)))
    source = (
        "def quick(value):\n"
        f"    if type(value) is not list or len(value) != {len(fields)}:\n"
        "        return careful(value)\n"
        f"{f'    {unpacked}= value' if unpacked else ''}\n"
        f"    if {' and '.join(conditions)}:\n"
        f"        return cls({', '.join(values)})\n"
        "    return careful(value)\n"
    )
    return _built(source, scope)


def _is_enumeration(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, IntEnum)


def _condition(field: Field, variable: str, bounds: Bounds) -> str:
    """Return what must hold of a plain field; nothing for one that is not plain."""
    if field.hint is int:
        return f"type({variable}) is int and {bounds.least} <= {variable} <= {bounds.most}"
    if field.hint is bool:
        return f"({variable} is True or {variable} is False)"
    if field.hint is float:
        return f"type({variable}) is float and isfinite({variable})"
    if field.hint is str:
        return f"type({variable}) is str and len({variable}) <= {field.text_limit}"
    if field.hint is bytes:
        return f"type({variable}) is bytes and len({variable}) <= {bounds.binary}"
    return ""


def _built(source: str, scope: dict[str, Any]) -> Converter:
    # The text is made of field names and numbers of our own classes, and of nothing that came in.
    exec(source, scope)  # noqa: S102 - see the line above
    made: Converter = scope["quick"]
    return made
