"""Head-ends: for which circuits bins were asked of the controller, and what became of it.

A circuit whose request has a maximum time asks before it is installed. While it has bins it
reserves no part of its links' time. Where there is no controller to be reached it reserves parts,
as on links that are not divided, and asks when the controller is there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeAlias, assert_never, cast

import attrs

from qstack.errors import LocalProtocolError
from qstack.machine import record
from qstack.messages.circuits import CircuitId, CircuitInstall
from qstack.messages.link import LinkRequest
from qstack.messages.schedule import BinHop, BinsAnswer, BinsAsk, BinsRelease
from qstack.network.course import Course
from qstack.network.service import TimeDivision
from qstack.network.topology import Graph
from qstack.units import Duration, Instant, earliest

SPARE_SIGMAS = 2.0
"""Bins are asked for as if so many standard deviations of the pairs' number were wanted too."""
REFRESHES = 3
"""So often in a lease the ask is said again; and after such a part no answer is waited for."""


class AskState(StrEnum):
    """Where the asking for one circuit stands, at its head-end."""

    ASKED = "asked"
    """The controller has not answered; the circuit is not installed."""
    GRANTED = "granted"
    """It has bins."""
    WITHOUT = "without"
    """It goes on as on links that are not divided; it is asked for again when that may help."""
    OVER = "over"
    """Terminal: refused before it was installed, or bins are needed no more."""


@record
class Granted:
    """The controller keeps bins for it."""


@record
class Denied:
    """The controller has no room for it."""


@record
class Unheard:
    """The controller cannot be reached, or does not answer."""


@record
class Served:
    """The circuit is over, or its request is."""


AskEvent: TypeAlias = Granted | Denied | Unheard | Served

_A = AskState
TABLE: dict[AskState, dict[type, frozenset[AskState]]] = {
    _A.ASKED: {
        Granted: frozenset({_A.GRANTED}),
        Denied: frozenset({_A.OVER}),
        Unheard: frozenset({_A.WITHOUT}),
        Served: frozenset({_A.OVER}),
    },
    _A.GRANTED: {
        Granted: frozenset({_A.GRANTED}),
        Denied: frozenset({_A.WITHOUT}),
        Unheard: frozenset({_A.GRANTED}),
        Served: frozenset({_A.OVER}),
    },
    _A.WITHOUT: {
        Granted: frozenset({_A.GRANTED}),
        Denied: frozenset({_A.WITHOUT}),
        Unheard: frozenset({_A.WITHOUT}),
        Served: frozenset({_A.OVER}),
    },
    _A.OVER: {},
}
"""The allowed successors. An event that a state does not list is illegal there."""


@record
class Work:
    """What bins are asked for. All links are at work together for `work_ns`, in `within_ns`.

    Of each bin `lost_ns` pass before that.
    """

    work_ns: Duration
    within_ns: Duration
    lost_ns: Duration


def work_of(graph: Graph, course: Course, wanted: LinkRequest) -> Work | None:
    """Return what a request needs of its way; None where it has no maximum time.

    The number that comes in a given time scatters as its square root. A bin begins at an end when
    that knows the cycle, and at the station when both ends have armed: two ways of a message.
    """
    if wanted.remaining_ns <= 0:
        return None
    more = 1 + SPARE_SIGMAS / math.sqrt(wanted.number)
    work_ns = math.ceil(course.share * wanted.remaining_ns * more)
    way = course.route
    used = {(name, hop.link) for name, hop in zip(way.nodes, way.hops, strict=False)}
    ways = [c.latency_ns for name, link in used for c in graph.choices[name] if c.link == link]
    return Work(max(1, work_ns), wanted.remaining_ns, 2 * max(ways, default=0))


@attrs.define(eq=False)
class Wish:
    """The asking for one circuit. `install`: as it would be without bins; `bins`: as last told."""

    install: CircuitInstall
    work: Work
    until: Instant
    """Its request's maximum time."""
    state: AskState = AskState.ASKED
    again_at: Instant | None = None
    bins: int = 0

    def handle(self, event: AskEvent) -> None:
        """Take one event; afterwards `state` says what has become of it."""
        allowed = TABLE[self.state].get(type(event))
        following = self._follow(event)
        if allowed is None or following not in allowed:
            name, circuit = type(event).__name__, self.install.circuit
            raise LocalProtocolError(f"{name} for the bins of {circuit}, {self.state.value}")
        self.state = following

    def _follow(self, event: AskEvent) -> AskState:
        match event:
            case Granted():
                return AskState.GRANTED
            case Denied():
                return AskState.OVER if self.state is AskState.ASKED else AskState.WITHOUT
            case Unheard():
                return self.state if self.state is not AskState.ASKED else AskState.WITHOUT
            case Served():
                return AskState.OVER
            case _:
                assert_never(event)


@attrs.define
class Circuit:
    """What the circuits of a node do when there is news of their bins, and what they know.

    `proceed`: install it now. `fall_back`: install it as if there were no bins. `refuse`: it is not
    to be. `left`: which part of its pairs is still missing, in [0, 1].
    """

    proceed: Callable[[CircuitId], None]
    fall_back: Callable[[CircuitInstall], None]
    refuse: Callable[[BinsAnswer], None]
    left: Callable[[CircuitId], float]


class Asking:
    """All that this node asks of the controller. `send`: to it; `there`: whether it is."""

    __slots__ = ("_circuit", "_division", "_send", "_there", "_wishes", "now")

    def __init__(
        self, division: TimeDivision, send: Callable[[Any], None], circuit: Circuit, *, there: bool
    ) -> None:
        self._division = division
        self._send = send
        self._circuit = circuit
        self._there = there
        self._wishes: dict[CircuitId, Wish] = {}
        self.now: Instant = 0

    @property
    def deadline(self) -> Instant | None:
        """When something is to be said again, or an answer waited for no more."""
        return earliest(*(wish.again_at for wish in self._wishes.values()))

    def wish(self, circuit: CircuitId) -> Wish | None:
        """Return the asking for a circuit, None where there is none."""
        return self._wishes.get(circuit)

    @property
    def there(self) -> bool:
        """Whether the controller can be reached."""
        return self._there

    # --- circuits ------------------------------------------------------------------------------

    def prepare(self, install: CircuitInstall, work: Work | None) -> CircuitInstall:
        """Return the install that is to be tried: one that asks for bins reserves nothing."""
        if work is None:
            return install
        wish = Wish(install, work, self.now + work.within_ns)
        self._wishes[install.circuit] = wish
        if not self._there:
            wish.handle(Unheard())
            return install
        bare = tuple(attrs.evolve(cast(Any, leg), share=0.0) for leg in install.legs)
        return cast(CircuitInstall, attrs.evolve(cast(Any, install), legs=bare))

    def begin(self, circuit: CircuitId) -> bool:
        """Ask for it, where it is to ask first; return whether its install has to wait."""
        wish = self._wishes.get(circuit)
        if wish is None or wish.state is not AskState.ASKED:
            return False
        self._ask(wish)
        return True

    def over(self, circuit: CircuitId) -> None:
        """Its bins are needed no more."""
        wish = self._wishes.pop(circuit, None)
        if wish is None:
            return
        if self._there and not wish.install.dry:
            self._send(BinsRelease(circuit))
        if wish.state is not AskState.OVER:
            wish.handle(Served())

    def _ask(self, wish: Wish) -> None:
        install, left = wish.install, 1.0
        if wish.state is not AskState.ASKED:
            left = self._circuit.left(install.circuit)
        work_ns = math.ceil(wish.work.work_ns * left)
        within_ns = wish.until - self.now
        wish.again_at = self.now + self._division.lease_ns // REFRESHES
        if work_ns <= 0 or within_ns <= 0:
            wish.again_at = None
            return
        hops = tuple(BinHop(leg.link, leg.node) for leg in install.legs)
        times = work_ns, within_ns, wish.work.lost_ns
        self._send(BinsAsk(install.circuit, hops, *times, install.dry))

    # --- the controller ------------------------------------------------------------------------

    def answered(self, answer: BinsAnswer) -> None:
        """Take its answer; one for a circuit that is over is nothing."""
        wish = self._wishes.get(answer.circuit)
        if wish is None:
            return
        asked = wish.state is AskState.ASKED
        wish.bins = answer.bins
        if answer.code is None:
            wish.handle(Granted())
            if answer.bins:  # what is missing when they are over is asked for anew
                last = self.now + answer.last_ns + self._division.bin_ns
                wish.again_at = earliest(wish.again_at, last)
            if asked:
                self._circuit.proceed(answer.circuit)
            return
        wish.handle(Denied())
        if asked:
            del self._wishes[answer.circuit]
            self._circuit.refuse(answer)

    def there_again(self) -> None:
        """It can be reached, perhaps in a new life, in which it knows nothing."""
        self._there = True
        for wish in list(self._wishes.values()):
            self._ask(wish)

    def gone(self) -> None:
        """It cannot be reached: what waits for an answer goes on without."""
        self._there = False
        for wish in list(self._wishes.values()):
            wish.again_at = None
            self._unheard(wish)

    def _unheard(self, wish: Wish) -> None:
        if wish.install.circuit not in self._wishes:
            return
        asked = wish.state is AskState.ASKED
        wish.handle(Unheard())
        if asked:
            self._circuit.fall_back(wish.install)

    def tick(self) -> None:
        """Say again what is asked for; go on without an answer that does not come."""
        for wish in list(self._wishes.values()):
            if wish.again_at is None or self.now < wish.again_at:
                continue
            self._unheard(wish)
            if wish.install.circuit in self._wishes:
                self._ask(wish)
