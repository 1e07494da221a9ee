"""One link of an end node: its physical and its link machine, and what passes between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qstack.link.machine import Link
from qstack.machine import DRAINED, TICK, Device, Down, Send, Up
from qstack.network.machine import OnLink
from qstack.physical.events import SLOTS_CHANGED
from qstack.physical.machine import NodePhysical
from qstack.physical.service import LinkParameters
from qstack.stack.devices import Devices
from qstack.stack.hosting import Neighbours
from qstack.stack.turns import Turns
from qstack.units import Instant, NodeName


class Marks:
    """What the strands of a node tell it: whether any was stepped, and which are undrained."""

    __slots__ = ("stepped", "undrained")

    def __init__(self) -> None:
        self.stepped = True
        self.undrained: list[Strand] = []


class Strand:
    """The two machines of one link. `above` takes what the link indicates.

    `undrained`: a step of either left something that physical lets out when it is drained.
    `stepped`: `due`, when they want a TICK, is not known any more. The node clears both; it leaves
    what is undrained stepped, which may be stepped again without a word to `marks`.
    """

    __slots__ = (
        *("_above", "_command", "_link_due", "_link_stepped", "_marks", "_post", "_turns"),
        *("ask_link", "devices", "due", "link", "name", "peer", "physical", "station", "stepped"),
        *("to_link", "undrained"),
    )

    def __init__(
        self,
        link: LinkParameters,
        node: NodeName,
        machines: tuple[NodePhysical, Link],
        marks: Marks,
        outlets: tuple[Neighbours, Devices, Callable[[Any, Instant], list[Any]]],
    ) -> None:
        self.name = link.name
        self.station = link.station
        self.peer = link.other(node).node
        mine = link.end(node)
        self.devices = (mine.emitter, mine.memory)
        self.physical, self.link = machines
        neighbours, devices, self._above = outlets
        self._post, self._command = neighbours.post, devices.command
        self._turns = Turns(self._of_link)
        self.to_link = self._turns.inside
        """Step the link at once."""
        self.ask_link = self._turns.after
        """Step the link when the steps that are being carried out are done."""
        self.undrained, self.stepped = False, True
        self.due: Instant | None = None
        self._link_due: Instant | None = None
        self._link_stepped = True
        self._marks = marks

    def mark(self) -> None:
        """Something was stepped for the first time since this was drained."""
        self.undrained = self.stepped = True
        marks = self._marks
        marks.stepped = True
        marks.undrained.append(self)

    def look(self) -> Instant | None:
        """Find when a TICK is due."""
        self.stepped = self.undrained
        if self._link_stepped:
            self._link_stepped = False
            self._link_due = self.link.deadline
        due, other = self.physical.deadline, self._link_due
        if other is not None and (due is None or other < due):
            due = other
        self.due = due
        return due

    # --- steps --------------------------------------------------------------------------------

    def to_physical(self, event: Any, now: Instant) -> list[Any]:
        """Step physical at once, and carry out what follows."""
        if not self.undrained:
            self.mark()
        physical = self.physical
        actions = physical.handle(event, now)
        if not actions:
            return actions
        out = self._of_physical(actions, now)
        while physical.left:
            # The rest of what it has to indicate, now that the link has answered.
            out += self._of_physical(physical.handle(TICK, now), now)
        return out

    def drain(self, now: Instant) -> list[Any]:
        """Let out what physical has collected."""
        actions = self.physical.handle(DRAINED, now)
        return self._of_physical(actions, now) if actions else actions

    def slots_came_free(self, now: Instant, stores: bool) -> list[Any]:
        """Tell both machines; `stores`: some half may be waiting for a storage slot."""
        self.physical.handle(SLOTS_CHANGED, now)
        if not self.undrained:
            self.mark()
        return self.to_link(DRAINED, now) if stores else []

    def tick(self, now: Instant, *, link: bool) -> list[Any]:
        """Give the link, or else physical, its TICK if that is due."""
        if not self.stepped and (self.due is None or self.due > now):
            return []
        deadline = self.link.deadline if link else self.physical.deadline
        if deadline is None or deadline > now:
            return []
        return self.to_link(TICK, now) if link else self.to_physical(TICK, now)

    def _of_physical(self, actions: list[Any], now: Instant) -> list[Any]:
        out: list[Any] = []
        for action in actions:
            kind = type(action)
            if kind is Up:
                out += self.to_link(action.event, now)
            elif kind is Device:
                out += self._command(action, self.to_physical, now)
            elif kind is Send:
                out += self._post(action.peer, action.message, now)
            else:
                out.append(action)
        return out

    def _of_link(self, event: Any, now: Instant) -> list[Any]:
        if not self.undrained:
            self.mark()
        self._link_stepped = True
        out: list[Any] = []
        action: Any
        for action in self.link.handle(event, now):
            kind = type(action)
            if kind is Up:
                out += self._above(OnLink(self.name, action.event), now)
            elif kind is Down:
                out += self.to_physical(action.request, now)
            elif kind is Send:
                out += self._post(action.peer, action.message, now)
            elif kind is Device:
                out += self._command(action, self.to_link, now)
            else:
                out.append(action)
        return out
