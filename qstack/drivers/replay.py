"""Replay: step a host again with what a trace recorded, and compare all that it does.

The same rules as in the pump hold for a single step (:func:`step`), so what differs between
a recording and its replay is the machine alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qstack.drivers.trace import (
    Kind,
    Start,
    Stop,
    TraceRecord,
    action_record,
    describe,
    event_of,
)
from qstack.errors import RemoteProtocolError
from qstack.machine import Note, record
from qstack.units import Instant


def step(host: Any, event: Any, now: Instant) -> list[Any]:
    """Give a host one event; what its peer did wrong becomes a note, its own bugs propagate."""
    try:
        if type(event) is Start:
            actions: list[Any] = host.start(now)
        elif type(event) is Stop:
            actions = host.stop(event.reason, now)
        else:
            actions = host.handle(event, now)
    except RemoteProtocolError as error:
        return [Note("remote-error", (("reason", str(error)),))]
    return actions


@record
class Replayed:
    """The result: `events` were stepped; `difference` is empty where all was the same.

    `complete` is false where the recording itself is cut.
    """

    events: int
    actions: int
    complete: bool
    difference: tuple[str, ...]


def replay(host: Any, records: Iterable[TraceRecord]) -> Replayed:
    """Step `host`, fresh and of the recorded seed, until its actions first differ, or the end."""
    events = actions = 0
    expected: list[TraceRecord] = []
    last: TraceRecord | None = None
    produced: list[TraceRecord] = []
    for item in records:
        if item.kind is Kind.CUT:
            # The limit may have cut the actions of the last event.
            return Replayed(events, actions, False, ())
        if not item.is_event:
            expected.append(item)
            continue
        if difference := _compare(last, expected, produced, final=False):
            return Replayed(events, actions, True, difference)
        actions += len(produced)
        events += 1
        last, expected = item, []
        produced = [action_record(a, item.now) for a in step(host, event_of(item), item.now)]
    difference = _compare(last, expected, produced, final=True)
    return Replayed(events, actions + len(produced), True, difference)


def _compare(
    event: TraceRecord | None,
    expected: list[TraceRecord],
    produced: list[TraceRecord],
    *,
    final: bool,
) -> tuple[str, ...]:
    """Return lines that say where the two differ; a process may die amid its last actions."""
    if expected == produced or event is None:
        return ()
    if final and produced[: len(expected)] == expected:
        return ()
    place = next(
        (i for i, (a, b) in enumerate(zip(expected, produced, strict=False)) if a != b),
        min(len(expected), len(produced)),
    )
    return (
        f"at {event.now} ns, after {event.kind.name} {' '.join(describe(event))}",
        f"action {place + 1} was recorded as: {_at(expected, place)}",
        f"and is now:                  {_at(produced, place)}",
    )


def _at(records: list[TraceRecord], place: int) -> str:
    if place >= len(records):
        return "nothing"
    item = records[place]
    return f"{item.kind.name} {' '.join(describe(item))}"
