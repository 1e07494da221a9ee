"""Changes to a network file by dotted key, for sweeps and for people who try things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from qstack.config.structure import Problems

Place: TypeAlias = tuple[dict[str, Any] | list[Any], str | int]
"""A table and its key, or a list and its position."""


def apply(data: dict[str, Any], changes: Mapping[str, Any], problems: Problems) -> None:
    """Set values of a network file that was read, in place, noting keys that lead nowhere.

    A key is a path of names and positions with dots between, as in
    ``links.alice-bob.settings.0.alpha``; ``*`` stands for every name or position. The last part may
    be new in a table, so that a default can be changed; what it is worth is found out with the
    rest of the file.
    """
    for key, value in changes.items():
        parts = key.split(".")
        places = list(_places(data, parts))
        if not places:
            problems.add(key, "leads to nothing in this file")
        for holder, last in places:
            holder[last] = value  # type: ignore[index]  # a table has names, a list positions


def _places(holder: Any, parts: list[str]) -> Iterator[Place]:
    """Yield every place that the parts lead to."""
    for key in _keys(holder, parts[0], new=len(parts) == 1):
        if len(parts) == 1:
            yield holder, key
        else:
            yield from _places(holder[key], parts[1:])


def _keys(holder: Any, part: str, *, new: bool) -> list[Any]:
    """Return the keys of a table, or positions of a list, that a part stands for."""
    if isinstance(holder, list):
        if part == "*":
            return list(range(len(holder)))
        return [int(part)] if part.isdecimal() and int(part) < len(holder) else []
    if not isinstance(holder, dict) or not part:
        return []
    if part == "*":
        return list(holder)
    return [part] if part in holder or new else []
