"""Where and when each pair was made, as the world and the station said; and what follows.

Three checkers rest on it: measured outcomes are those of the pair that they are told for, nothing
is known earlier than light allows, and the joint states of kept pairs know their age.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from qstack.codec import decode_body
from qstack.hal.server import OwnerGone, Reported
from qstack.machine import Arrived, Transmit, Up
from qstack.messages.application import OutcomeReady, PairReady
from qstack.messages.common import Basis, PairId
from qstack.messages.devices import (
    DeviceState,
    EmitterFired,
    EmitterHeralded,
    EmitterOutcome,
    StationClicks,
)
from qstack.messages.physical import ArmReply, Herald, Success
from qstack.messages.wire import KIND_OF, Frame
from qstack.sim.network import VirtualNetwork
from qstack.sim.world import Break
from qstack.testing.judge import Checker
from qstack.testing.truth import TruthError
from qstack.units import Instant, LinkName, NodeName

Attempt: TypeAlias = tuple[int, int]
"""(cycle, mode)."""

_TELLING = (KIND_OF[Herald].number, KIND_OF[ArmReply].number)


def successes_in(frames: tuple[Frame, ...]) -> list[tuple[LinkName, tuple[Success, ...]]]:
    """Return the successes that a datagram's frames tell of, by link."""
    found = []
    for frame in frames:
        if frame.kind in _TELLING:
            body = frame.body
            message = decode_body(frame.kind, body) if type(body) is bytes else body
            told = message.successes if type(message) is Herald else message.unconfirmed
            if told:
                found.append((message.link, told))
    return found


class Origins(Checker):
    """Which attempt each pair came from, when it was emitted, and when the clicks were.

    `disturbed` says when the memory of a node may last have lost something: a device changed its
    state, or the node died. The successes of a life of a station are those of its own messages.
    """

    def __init__(self) -> None:
        self.attempts: dict[PairId, Attempt] = {}
        self.clicked: dict[PairId, Instant] = {}
        self.disturbed: dict[NodeName, Instant] = {}
        self.outcomes: dict[tuple[NodeName, Attempt], list[tuple[Basis, int]]] = {}
        self._clicks: dict[tuple[LinkName, Attempt], Instant] = {}
        self._emitted: dict[tuple[NodeName, str, Attempt], list[Instant]] = {}

    def begin(self, net: VirtualNetwork) -> None:
        """Note the stations and the ends of each link."""
        super().begin(net)
        self._stations = {link.station for link in net.links}
        self._ends = {link.name: tuple(end.node for end in link.ends) for link in net.links}
        self._emitters = {
            (end.node, link.name): end.emitter for link in net.links for end in link.ends
        }
        self._memories = {end.memory: end.node for link in net.links for end in link.ends}

    def emitted_at(self, pair: PairId) -> Instant | None:
        """Return when the later half of a pair was emitted; None where no end has reported it."""
        attempt = self.attempts.get(pair)
        if attempt is None:
            return None
        times = [self.emitted_by(node, pair) for node in self._ends[pair.link]]
        known = [time for time in times if time is not None]
        return max(known, default=None)

    def emitted_by(self, node: NodeName, pair: PairId) -> Instant | None:
        """Return when this end emitted its half; None where it has not reported it.

        Each life of a station counts its cycles anew: of several emissions in a cycle of this
        number that one is meant which is nearest to the clicks.
        """
        attempt = self.attempts.get(pair)
        if attempt is None:
            return None
        times = self._emitted.get((node, self._emitters[node, pair.link], attempt), ())
        clicked = self.clicked[pair]
        return min(times, key=lambda at: abs(at - clicked), default=None)

    def world(self, event: Any, now: Instant, actions: list[Any]) -> None:
        """Note clicks, emissions and outcomes, with the ages that the devices say."""
        if type(event) is OwnerGone:
            self.disturbed[event.owner] = now
        elif type(event) is Break and event.device in self._memories:
            # A device that is stalled as well says so only when it goes on.
            self.disturbed[self._memories[event.device]] = now
        for action in actions:
            if type(action) is Up and type(action.event) is Reported:
                self._reported(action.event.owner, action.event.body, now)

    def _reported(self, owner: NodeName, body: Any, now: Instant) -> None:
        match body:
            case StationClicks():
                self._clicks[body.link, (body.cycle, body.mode)] = now - body.age_ns
            case EmitterHeralded() | EmitterFired() | EmitterOutcome():
                attempt = (body.cycle, body.mode)
                key = (owner, attempt)
                times = self._emitted.setdefault((owner, body.device, attempt), [])
                times.append(now - body.age_ns)
                if type(body) is EmitterOutcome:
                    self.outcomes.setdefault(key, []).append((body.basis, body.outcome))
            case DeviceState():
                self.disturbed[owner] = now

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """Note the successes that a station tells of for the first time."""
        if name not in self._stations:
            return
        for action in actions:
            if type(action) is Transmit:
                for link, told in successes_in(action.datagram.frames):
                    for success in told:
                        self._succeeded(link, self.net.host(name).boot, success)

    def _succeeded(self, link: LinkName, boot: int, success: Success) -> None:
        pair = PairId(link, boot, success.sequence)
        attempt = (success.cycle, success.mode)
        known = self.attempts.setdefault(pair, attempt)
        if known != attempt:
            raise TruthError(f"{pair} was told as attempt {known} and as attempt {attempt}")
        self.clicked.setdefault(pair, self._clicks.get((link, attempt), 0))


class Outcomes(Checker):
    """A measured half is told with what the hardware read in the attempt of its pair."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self.seen = 0

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Look the outcome up in what the world reported."""
        if type(message) is not OutcomeReady:
            return
        pair = message.info.pair
        attempt = self._origins.attempts.get(pair)
        if attempt is None:
            raise TruthError(f"{node} tells of {pair}, which no station has heralded")
        read = self._origins.outcomes.get((node, attempt), [])
        if (message.basis, message.outcome) not in read:
            raise TruthError(
                f"{pair} is told at {node} as {message.basis.name}={message.outcome}, but in its "
                f"attempt {attempt} the hardware read {read}"
            )
        self.seen += 1


class Light(Checker):
    """Nothing is known earlier than light allows.

    Clicks follow the emission by the fibre's delay, the herald at an end follows the clicks by
    its delay, and no user hears of a pair before a herald can have been at its node.
    """

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    def begin(self, net: VirtualNetwork) -> None:
        """Note the delay of light between each end and its station."""
        super().begin(net)
        self._delays = {
            (link.name, end.node): end.delay_ns for link in net.links for end in link.ends
        }
        self._link_of = {end.emitter: link.name for link in net.links for end in link.ends}
        self._nodes = {end.node for link in net.links for end in link.ends}
        self._boots: dict[LinkName, int] = {}
        self._station = {link.name: link.station for link in net.links}

    def world(self, event: Any, now: Instant, actions: list[Any]) -> None:
        """A herald line says nothing before light was at the station and back."""
        for action in actions:
            if type(action) is not Up or type(action.event) is not Reported:
                continue
            body, owner = action.event.body, action.event.owner
            if type(body) is EmitterHeralded or type(body) is EmitterOutcome:
                least = 2 * self._delays[self._link_of[body.device], owner]
                if body.age_ns < least:
                    raise TruthError(
                        f"{owner} is told of its photon after {body.age_ns} ns; light to the "
                        f"station and back takes {least} ns"
                    )

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """A herald by message is not faster than light from the station."""
        if type(event) is not Arrived or name not in self._nodes:
            return
        for link, told in successes_in(event.datagram.frames):
            boot = event.datagram.header.source_boot
            for success in told:
                self._not_before(PairId(link, boot, success.sequence), name, now)

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """No pair before its herald."""
        if type(message) is PairReady or type(message) is OutcomeReady:
            pair = message.info.pair
            self._not_before(pair, node, now)
            emitted = self._origins.emitted_by(node, pair)
            if emitted is not None and emitted + 2 * self._delays[pair.link, node] > now:
                raise TruthError(f"{node} told of {pair} at {now}, emitted at {emitted}")

    def _not_before(self, pair: PairId, node: NodeName, now: Instant) -> None:
        clicked = self._origins.clicked.get(pair)
        delay = self._delays[pair.link, node]
        if clicked is not None and now < clicked + delay:
            raise TruthError(
                f"{node} knows of {pair} at {now} ns: its clicks were at {clicked} ns, and light "
                f"takes {delay} ns from there"
            )
