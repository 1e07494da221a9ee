"""The working points of a link, as its file lists them."""

from __future__ import annotations

from typing import Any

from qstack.config.checks import MOST_PAIRS
from qstack.config.records import SettingFile
from qstack.config.structure import Problems, describe, structure, table
from qstack.machine import record
from qstack.units import NodeName, Picoseconds


@record
class _Setting:
    id: str
    window_ps: Picoseconds
    visibility: float | None = None
    pair_mean: float | None = None
    spread: float | None = None


def read_settings(
    value: Any, ends: list[NodeName], spread: float, path: str, problems: Problems
) -> tuple[SettingFile, ...]:
    """Return the settings of the list `value`, of a link between `ends` (sorted names).

    `spread` is that of settings which name none; `path` that of the list.
    """
    if not isinstance(value, list) or not value:
        problems.add(path, "a link needs at least one [[...settings]] table")
        return ()
    found: dict[str, SettingFile] = {}
    for index, entry in enumerate(value):
        key = f"{path}.{index}"
        whole = table(entry, key, problems)
        rest = {name: item for name, item in whole.items() if name != "alpha"}
        setting = structure(rest, _Setting, key, problems)
        alpha = _alpha(whole.get("alpha"), ends, f"{key}.alpha", problems)
        if setting is None:
            continue
        _check(setting, key, problems)
        if setting.id in found:
            problems.add(f"{key}.id", f"{setting.id!r} is there twice")
        found[setting.id] = SettingFile(
            id=setting.id,
            window_ps=setting.window_ps,
            alpha=alpha,
            visibility=setting.visibility,
            pair_mean=setting.pair_mean,
            spread=spread if setting.spread is None else setting.spread,
        )
    return tuple(found.values())


def _alpha(
    value: Any, ends: list[NodeName], key: str, problems: Problems
) -> tuple[float, float] | None:
    """One bright population for both ends, or a table with one for each."""
    if value is None:
        return None
    if isinstance(value, dict):
        if sorted(value) != ends or len(ends) != 2:
            named = ", ".join(sorted(value))
            problems.add(key, f"names {named}, but the ends are {', '.join(ends)}")
            return None
        numbers = [value[end] for end in ends]
    else:
        numbers = [value, value]
    for number in numbers:
        real = isinstance(number, int | float) and not isinstance(number, bool)
        if not real or not 0 < number < 1:
            problems.add(key, f"{describe(number)} is no bright population between 0 and 1")
            return None
    return float(numbers[0]), float(numbers[1])


def _check(setting: _Setting, path: str, problems: Problems) -> None:
    if setting.window_ps < 1:
        problems.add(f"{path}.window_ps", f"{setting.window_ps} is not positive")
    for key in ("visibility", "spread"):
        value = getattr(setting, key)
        if value is not None and not 0 <= value <= 1:
            problems.add(f"{path}.{key}", f"{value} is not in [0, 1]")
    if setting.pair_mean is not None and not 0 < setting.pair_mean <= MOST_PAIRS:
        reason = f"{setting.pair_mean} is not above 0 and at most {MOST_PAIRS:g}"
        problems.add(f"{path}.pair_mean", reason)
