"""One TOML table to one record: strict types, unknown and missing keys, all problems at once."""

from __future__ import annotations

import math
import re
from typing import Any, TypeVar

import attrs
from cattrs import BaseValidationError, Converter, transform_error

T = TypeVar("T")

_QUOTED = re.compile(r"\['?([^'\]]+)'?\]")


class _Wrong(ValueError):
    """A value that its key cannot have; the text is for people."""


class Problems:
    """What is wrong with a file, in the order of finding."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: list[str] = []

    def add(self, path: str, reason: str) -> None:
        """Note a problem of the key `path` (dotted; empty: the file itself)."""
        line = f"{self.file}: {path}: {reason}" if path else f"{self.file}: {reason}"
        if line not in self.lines:
            self.lines.append(line)

    @property
    def count(self) -> int:
        """How many there are so far."""
        return len(self.lines)


def _number(value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"expected a number, found {describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise _Wrong(f"{describe(value)} is too large") from None
    if not math.isfinite(number):
        raise _Wrong(f"{value} is not a finite number")
    return number


def _whole(value: Any, _: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong(f"expected a whole number, found {describe(value)}")
    if abs(value) >= 1 << 63:
        raise _Wrong(f"{describe(value)} is too large")
    return value


def _text(value: Any, _: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"expected text, found {describe(value)}")
    return value


def _truth(value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"expected true or false, found {describe(value)}")
    return value


def describe(value: Any) -> str:
    """Say what a TOML value is, shortened, for a person to read."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _converter() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(bool, _truth)
    return converter


_CONVERTER = _converter()


def table(value: Any, path: str, problems: Problems) -> dict[str, Any]:
    """Return `value` if it is a table; otherwise note a problem and return an empty one."""
    if isinstance(value, dict):
        return value
    problems.add(path, f"expected a table, found {describe(value)}")
    return {}


def structure(value: Any, cls: type[T], path: str, problems: Problems) -> T | None:
    """Make a record of class `cls` of a table, noting every problem of it.

    Unknown keys are noted and left out, so that what they stand beside is checked all the
    same; None where a value is of the wrong type or missing.
    """
    if not isinstance(value, dict):
        problems.add(path, f"expected a table, found {describe(value)}")
        return None
    # Untyped on purpose: the type checker does not see that our records are attrs classes.
    untyped: Any = cls
    known = [field.name for field in attrs.fields(untyped)]
    for key in value:
        if key not in known:
            reason = f"unknown key; known are {', '.join(known)}"
            problems.add(f"{path}.{key}" if path else key, reason)
    try:
        return _CONVERTER.structure({k: v for k, v in value.items() if k in known}, cls)
    except BaseValidationError as error:
        for line in transform_error(error, format_exception=_explain):
            reason, _, place = line.rpartition(" @ ")
            place = _QUOTED.sub(r".\1", place.removeprefix("$")).strip(".")
            problems.add(".".join(part for part in (path, place) if part), reason)
        return None


def _explain(error: BaseException, _: type | None) -> str:
    """Word one problem."""
    if isinstance(error, KeyError):
        return "is missing"
    if isinstance(error, _Wrong):
        return str(error)
    return f"has the wrong shape: {error}"
