"""Time division at one node: asking, keeping plans, and, at the controller, granting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.link.service import LinkClock, LinkDivide
from qstack.machine import TICK, Send
from qstack.messages.circuits import CircuitId, CircuitInstall
from qstack.messages.schedule import (
    BinsAnswer,
    BinsAsk,
    BinsClock,
    BinsPlan,
    BinsRelease,
    Timetable,
)
from qstack.network.desk import Desk
from qstack.network.division.asking import Asking, AskState, Circuit, Work
from qstack.network.division.controller import (
    Controller,
    ControllerEvent,
    FromAsker,
    NodeGone,
    NodeThere,
)
from qstack.network.division.dividing import Dividing, Owner
from qstack.network.places import Place, Side
from qstack.units import BootId, Instant, LinkName, NodeName, earliest

FOR_CONTROLLER = BinsAsk | BinsRelease
FOR_NODES = BinsAnswer | BinsPlan | BinsClock
_ALL = FOR_CONTROLLER | FOR_NODES
OwnerOf: TypeAlias = Callable[[CircuitId, LinkName], Owner | None]


class Division:
    """All of time division that a node does; nothing where no controller is named.

    `circuit`: what circuits do with answers. `owner_of` as in :class:`Dividing`. What a node tells
    itself, as the controller's own, waits until :meth:`take_turns`.
    """

    __slots__ = ("_at", "_desk", "_nodes", "asking", "controller", "dividing", "own")

    def __init__(self, desk: Desk, circuit: Circuit, owner_of: OwnerOf) -> None:
        self._desk = desk
        division = desk.parameters.division
        self._at = None if division is None else division.controller
        self._nodes = frozenset(() if division is None else division.nodes)
        self.own: deque[Any] = deque()
        """What this node has told itself, and has not taken yet."""
        self.controller: Controller | None = None
        self.asking: Asking | None = None
        if division is not None:
            here = division.controller == desk.node
            if here:
                known = desk.node, desk.boot, division, self._qubits_at
                self.controller = Controller(*known)
            to = division.controller
            self.asking = Asking(division, lambda m: self._send(to, m), circuit, there=here)
        self.dividing = Dividing(desk.node, desk.parameters.links, self._divide, owner_of)

    @staticmethod
    def is_ours(message: Any) -> bool:
        """Whether a message is for this part of the network layer."""
        return isinstance(message, _ALL)

    @property
    def deadline(self) -> Instant | None:
        """When a lease ends, or something is to be said again."""
        asking, controller = self.asking, self.controller
        if asking is None and controller is None:
            return None
        return earliest(
            None if asking is None else asking.deadline,
            None if controller is None else controller.deadline,
        )

    # --- circuits of this node -------------------------------------------------------------------

    def prepare(self, install: CircuitInstall, work: Work | None) -> CircuitInstall:
        """Return the install to try for a circuit of this node's: without shares if it asks."""
        if self.asking is None:
            return install
        self.asking.now = self._desk.now
        return self.asking.prepare(install, work)

    def begin(self, circuit: CircuitId) -> bool:
        """Ask for bins, if it needs some; return whether its install has to wait for the answer."""
        return self.asking is not None and self.asking.begin(circuit)

    def served(self, circuit: CircuitId) -> None:
        """A circuit needs its bins no more."""
        if self.asking is not None:
            self.asking.over(circuit)

    def changed(self, place: Place) -> None:
        """A circuit is ready here, or is over: masters know whom its bins are for, or nobody."""
        self.dividing.now = self._desk.now
        self.dividing.changed(place.link(side) for side in Side if place.has(side))

    def bins_of(self, circuit: CircuitId) -> str:
        """Say in a word what bins a circuit of this node's has; empty if it asks for none."""
        wish = None if self.asking is None else self.asking.wish(circuit)
        if wish is None:
            return ""
        return f"{wish.bins} granted" if wish.state is AskState.GRANTED else wish.state.value

    # --- what others do --------------------------------------------------------------------------

    def there(self, peer: NodeName, boot: BootId) -> None:
        """The adjacency with a node is up."""
        self._to_controller(NodeThere(peer, boot))
        if self.asking is not None and peer == self._at:
            self.asking.now = self._desk.now
            self.asking.there_again()

    def gone(self, peer: NodeName) -> None:
        """It is lost."""
        self._to_controller(NodeGone(peer))
        if self.asking is not None and peer == self._at:
            self.asking.now = self._desk.now
            self.asking.gone()

    def told(self, peer: NodeName, message: Any) -> None:
        """Take a message; RemoteProtocolError where it makes no sense, or is not the peer's."""
        self.dividing.now = self._desk.now
        if isinstance(message, FOR_CONTROLLER):
            if self.controller is None or peer not in self._nodes:
                raise RemoteProtocolError(f"{self._desk.node} grants no bins to {peer}")
            self._to_controller(FromAsker(peer, message))
            return
        if self.asking is None or peer != self._at:
            raise RemoteProtocolError(f"{peer} is not the controller")
        self.asking.now = self._desk.now
        match message:
            case BinsAnswer():
                self.asking.answered(message)
            case BinsPlan():
                self.dividing.planned(message)
            case BinsClock():
                self.dividing.told_time(message)
            case _:
                raise LocalProtocolError(f"{type(message).__name__} is not about bins")

    def clock(self, link: LinkName, clock: LinkClock) -> None:
        """A link says when its cycle 0 began."""
        self.dividing.now = self._desk.now
        self.dividing.clock(link, clock)

    def seen(self, link: LinkName, up: bool) -> None:
        """A link can be used, or cannot."""
        self.dividing.now = self._desk.now
        self.dividing.seen(link, up)

    def tick(self) -> None:
        """Time has passed."""
        now = self._desk.now
        if self.controller is not None:
            deadline = self.controller.deadline
            if deadline is not None and deadline <= now:
                self._to_controller(TICK)
        if self.asking is not None:
            self.asking.now = now
            self.asking.tick()

    def take_turns(self) -> None:
        """Take what this node has told itself, until that is nothing more."""
        while self.own:
            self.told(self._desk.node, self.own.popleft())

    def report(self, now: Instant) -> dict[str, Any]:
        """What this node knows of bins, in JSON's types; empty where there is no controller."""
        if self.asking is None:
            return {}
        found: dict[str, Any] = {
            "controller": self._at,
            "there": self.asking.there,
            "links": self.dividing.report(now),
        }
        if self.controller is not None:
            found["granted"] = self.controller.report(now)
        return found

    # --- actions ---------------------------------------------------------------------------------

    def _qubits_at(self, node: NodeName) -> int | None:
        return self._desk.qubits_at(node)

    def _to_controller(self, event: ControllerEvent) -> None:
        if self.controller is None:
            return
        for action in self.controller.handle(event, self._desk.now):
            if type(action) is Send:
                self._send(action.peer, action.message)
            else:
                self._desk.add([action])

    def _send(self, peer: NodeName, message: Any) -> None:
        if peer == self._desk.node:
            self.own.append(message)
        else:
            self._desk.send(peer, message)

    def _divide(self, link: LinkName, table: Timetable | None) -> None:
        self._desk.down(link, LinkDivide(table))
