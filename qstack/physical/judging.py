"""Which state of a link follows from what its station knows."""

from __future__ import annotations

from collections.abc import Container

from qstack.physical.gate import Gate
from qstack.physical.heralding import MAX_UNCONFIRMED, StationEnd, Wanted
from qstack.physical.pairing import LinkState


def standing(command: int | None, purpose: Wanted | None, end: StationEnd) -> bool:
    """Whether the analyser is open for what an end wants; `command` and `purpose`: if it is."""
    return command is not None and end.wanted == purpose


def judge(
    ends: tuple[StationEnd, StationEnd],
    settings: Container[str],
    gate: Gate,
    *,
    opened: bool,
    granted: bool,
) -> tuple[LinkState, str]:
    """Return the state of a link whose analyser works, with a reason where it is not open.

    `opened`: whether the analyser is open; `granted`: whether it is this link's turn.
    """
    if gate.blind:
        return LinkState.CLOSED, "no window is known well enough by the clock of the link"
    first, second = ends
    one, two = first.asks, second.asks
    if one is None or two is None:
        return (LinkState.IDLE if one is two else LinkState.HALF), ""
    if one != two:
        return LinkState.APART, ""
    if one[2] not in settings:
        return LinkState.CLOSED, f"no setting {one[2]!r}"
    if gate.keeps and one[5] == 0:
        return LinkState.CLOSED, "the ends know of no windows of the link"
    if not gate.admits(one[4], one[5]):
        return LinkState.DEFERRED, "the link is closed"
    room = MAX_UNCONFIRMED if opened else MAX_UNCONFIRMED // 2
    if len(first.unconfirmed) >= room or len(second.unconfirmed) >= room:
        return LinkState.CLOSED, "too many successes are unconfirmed"
    return (LinkState.PAIRED if granted else LinkState.DEFERRED), ""
