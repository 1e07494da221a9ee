"""A station with more links than analysers: who may open an analyser, and for how long.

Links whose ends agree take turns, in the order of their names. A link keeps its analyser while
nobody else wants it; otherwise its turn lasts for `turn_ns`, and the next one follows. A link
that waits tells its ends DEFER.

:class:`Station` takes every event of a station's physical layer as it is, and finds the links
that it is for by itself: whoever composes it keeps no map of links, commands or analysers.
"""

from __future__ import annotations

from typing import Any

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.hal.commands import CommandIds
from qstack.machine import Device, Drained, Tick
from qstack.messages.devices import (
    Aborted,
    Calibration,
    Completed,
    DeviceState,
    Exhausted,
    Faulted,
    Rejected,
    StationClicks,
)
from qstack.physical.events import (
    Deferred,
    EndReachable,
    EndUnreachable,
    FromEnd,
    Granted,
    StationEvent,
)
from qstack.physical.service import LinkParameters
from qstack.physical.station import StationPhysical
from qstack.units import BootId, Duration, Instant, LinkName, earliest

TURN = 20
"""A turn lasts this many times the longest `confirm_ns` of the links that share."""


class _Analyser:
    """One analyser, the links that share it, and whose turn it is."""

    __slots__ = ("ends_at", "holder", "last", "links", "turn_ns")

    def __init__(self, links: tuple[LinkName, ...], turn_ns: Duration) -> None:
        self.links = links
        self.turn_ns = turn_ns
        self.holder: LinkName | None = None
        self.last = links[-1]
        self.ends_at: Instant | None = None

    def after(self, link: LinkName) -> tuple[LinkName, ...]:
        """The links in the order of their turns after that of `link`, which is the last."""
        index = self.links.index(link) + 1
        return self.links[index:] + self.links[:index]


class Station:
    """All links of a station. Machine; actions are those of the links' machines."""

    __slots__ = ("_dirty", "_only", "_parameters", "_running", "_shared", "links")

    def __init__(
        self, links: tuple[LinkParameters, ...], commands: CommandIds, boot: BootId
    ) -> None:
        by_analyser: dict[str, list[LinkParameters]] = {}
        for link in sorted(links, key=lambda link: link.name):
            by_analyser.setdefault(link.analyser, []).append(link)
        self.links = {
            link.name: StationPhysical(
                link, commands, boot, shared=len(by_analyser[link.analyser]) > 1
            )
            for link in links
        }
        self._only = next(iter(self.links.values())) if len(self.links) == 1 else None
        self._parameters = {link.name: link for link in links}
        self._running: dict[int, LinkName] = {}
        self._dirty: set[LinkName] = set()
        self._shared = {
            analyser: _Analyser(
                tuple(link.name for link in sharing),
                TURN * max(link.confirm_ns for link in sharing),
            )
            for analyser, sharing in by_analyser.items()
            if len(sharing) > 1
        }

    @property
    def deadline(self) -> Instant | None:
        """When this station wants a TICK."""
        if self._only is not None:
            return self._only.deadline
        return earliest(
            *(machine.deadline for machine in self.links.values()),
            *(analyser.ends_at for analyser in self._shared.values()),
        )

    def handle(self, event: StationEvent, now: Instant) -> list[Any]:
        """Take one event for the links that it concerns.

        Raises RemoteProtocolError, with nothing changed, for an arm of a link that this
        station has not, of a node that is no end of it, or that no honest node sends.
        """
        actions: list[Any] = []
        match event:
            case FromEnd():
                name = event.message.link
                if name not in self.links:
                    raise RemoteProtocolError(f"no link {name!r} at this station")
                return self._concerns(name, event, now)
            case StationClicks():
                return self._concerns(event.link, event, now) if event.link in self.links else []
            case Drained():
                dirty = self._dirty
                for link in dirty if len(dirty) < 2 else sorted(dirty):
                    actions += self.links[link].handle(event, now)  # messages alone
                dirty.clear()
            case Tick():
                for link, machine in self.links.items():
                    if machine.deadline is not None and machine.deadline <= now:
                        actions += self._step(link, event, now)
                for name in self._shared:
                    actions += self._arbitrate(name, now)
            case Granted() | Deferred():
                raise LocalProtocolError("who may use an analyser is decided here")
            case _:
                for link in self._links_of(event):
                    actions += self._concerns(link, event, now)
        return actions

    def report(self) -> dict[LinkName, dict[str, Any]]:
        """What is going on and what was counted, by link, for people."""
        return {name: machine.report() for name, machine in self.links.items()}

    def _links_of(self, event: StationEvent) -> list[LinkName]:
        """Find the links that an event is for which names none."""
        match event:
            case EndReachable() | EndUnreachable():
                return [
                    name
                    for name, link in self._parameters.items()
                    if any(end.node == event.node for end in link.ends)
                ]
            case DeviceState() | Calibration():
                return [n for n, link in self._parameters.items() if link.analyser == event.device]
            case Completed() | Exhausted() | Aborted() | Rejected() | Faulted():
                link = self._running.pop(event.command, None)
                return [] if link is None else [link]
            case _:
                raise LocalProtocolError(f"{type(event).__name__} is for no link in particular")

    def _concerns(self, link: LinkName, event: StationEvent, now: Instant) -> list[Any]:
        """Let a link take an event, after which another one's turn may come."""
        actions = self._step(link, event, now)
        if self._shared:
            actions += self._arbitrate(self._parameters[link].analyser, now)
        return actions

    def _step(self, link: LinkName, event: StationEvent, now: Instant) -> list[Any]:
        """Let a link take an event, and remember whose commands leave."""
        actions = self.links[link].handle(event, now)
        self._dirty.add(link)
        for action in actions:
            if type(action) is Device:
                self._running[action.command.command] = link
        return actions

    def _arbitrate(self, name: str, now: Instant) -> list[Any]:
        analyser = self._shared.get(name)
        if analyser is None:
            return []
        agreed = [link for link in analyser.after(analyser.last) if self.links[link].agreed]
        others = [link for link in agreed if link != analyser.holder]
        actions: list[Any] = []
        over = analyser.ends_at is not None and analyser.ends_at <= now and bool(others)
        if analyser.holder is not None and (over or analyser.holder not in agreed):
            # Whoever goes on after a turn waits for all the others at most.
            wait = Deferred(analyser.turn_ns * len(others))
            actions += self._step(analyser.holder, wait, now)
            analyser.holder = analyser.ends_at = None
        if analyser.holder is None and agreed:
            chosen = others[0] if others else agreed[0]
            analyser.holder = analyser.last = chosen
            actions += self._step(chosen, Granted(), now)
            others = [link for link in agreed if link != chosen]
        if analyser.holder is None or not others:
            analyser.ends_at = None
        elif analyser.ends_at is None:
            analyser.ends_at = now + analyser.turn_ns
        return actions
