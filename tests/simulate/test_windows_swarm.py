"""The swarm over links with windows: nothing differs between the ends, leaks, or waits for ever."""

from __future__ import annotations

from typing import Any, cast

import attrs
import pytest

from qstack.testing import swarm
from qstack.testing.scenario import draw
from qstack.units import MICROSECOND, MILLISECOND
from qstack.windows import Windows

WINDOWS = (
    Windows(3 * MILLISECOND, ((500 * MICROSECOND, 2 * MILLISECOND),)),
    Windows(MILLISECOND, ((0, 400 * MICROSECOND), (600 * MICROSECOND, 300 * MICROSECOND))),
    Windows(8 * MILLISECOND, ((MILLISECOND, 4 * MILLISECOND), (6 * MILLISECOND, MILLISECOND))),
)


@pytest.mark.parametrize("seed", [*range(1, 8), 156])
def test_links_with_windows_keep_their_promises_under_all_faults(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the patience of links that are always open: these are for two thirds.

    With seed 156 the clock of a device takes longer to begin than a window lasts.
    """
    for name in ("PATIENCE_NS", "PATIENCE_SLOW_NS"):
        monkeypatch.setattr(swarm, name, 3 * getattr(swarm, name))
    drawn: Any = draw(seed)
    lab = attrs.evolve(cast(Any, drawn.lab), windows=WINDOWS[seed % len(WINDOWS)])
    result = swarm.run(attrs.evolve(drawn, lab=lab))
    assert (result.checker, result.problem) == ("", "")
    assert result.delivered > 0
