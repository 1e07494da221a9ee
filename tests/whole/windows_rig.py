"""What happens on links with windows: attempts and successes against the open times of the file."""

from __future__ import annotations

from typing import Any

import attrs

from qstack.machine import FromDevice, Transmit
from qstack.messages.common import PairId
from qstack.messages.devices import EmitterFired, EmitterHeralded, EmitterOutcome
from qstack.messages.network import RouteUpdate
from qstack.messages.physical import Herald
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.stack import Timing
from qstack.testing.routes_lab import RouteLab
from qstack.testing.routes_memory import busy
from qstack.units import MICROSECOND, MILLISECOND, SECOND, Duration, Instant, LinkName, NodeName
from qstack.windows import Windows, window_after
from tests.whole.many_rig import Many


@attrs.define
class Hours:
    """Counts attempts that ended in an emission, and successes, against the windows of links.

    A period begins at instant 0 of lab time. Every attempt whose light could count is seen: what
    the emitter ends with a herald, an outcome, or without a herald line with each attempt.
    """

    net: VirtualNetwork
    windows: dict[LinkName, Windows]
    made: dict[LinkName, list[Instant]] = attrs.field(factory=dict)
    emitted: dict[LinkName, list[Instant]] = attrs.field(factory=dict)
    _seen: set[tuple[LinkName, int, int]] = attrs.field(factory=set)

    def watch(self, _: str, event: Any, now: Instant, actions: list[Any]) -> None:
        """Take a step of the heap."""
        if type(event) is FromDevice:
            body = event.event
            if isinstance(body, EmitterHeralded | EmitterFired | EmitterOutcome):
                link = next(n for n, link in self.links if self._has(link, body.device))
                self._check(link, self.begin(link, body.cycle))
                self.emitted.setdefault(link, []).append(self.begin(link, body.cycle))
        for action in actions:
            if type(action) is not Transmit:
                continue
            for frame in action.datagram.frames:
                if type(frame.body) is Herald:
                    self._heralded(frame.body, action.datagram.header.source_boot)

    @property
    def links(self) -> Any:
        """The links of the world."""
        return self.net.world._hall.links.items()

    @staticmethod
    def _has(link: Any, device: str) -> bool:
        return any(end.emitter == device for end in link.parameters.ends)

    def _heralded(self, herald: Herald, boot: int) -> None:
        for success in herald.successes:
            key = (herald.link, boot, success.sequence)
            if key not in self._seen:
                self._seen.add(key)
                began = self.begin(herald.link, success.cycle)
                self._check(herald.link, began)
                self.made.setdefault(herald.link, []).append(began)

    def begin(self, link: LinkName, cycle: int) -> Instant:
        """When a cycle of the hardware began: what is true, not what any node believes."""
        clock = self.net.world._hall.links[link].clock
        assert clock is not None
        found: Instant = clock.begin(cycle)
        return found

    def cycle_ns(self, link: LinkName) -> Duration:
        clock = self.net.world._hall.links[link].clock
        assert clock is not None
        found: Duration = clock.cycle_ns
        return found

    def _check(self, link: LinkName, began: Instant) -> None:
        windows = self.windows.get(link)
        if windows is not None:
            opens, closes = window_after(windows, began)
            ended = began + self.cycle_ns(link)
            assert opens <= began, f"{link}: an attempt at {began}, {opens - began} ns too early"
            assert ended <= closes, f"{link}: an attempt at {began} ends {ended - closes} ns late"


WIRE_NS = 20 * MICROSECOND
CALM = Timing(50 * MILLISECOND, 500 * MICROSECOND, 200 * MICROSECOND, MILLISECOND, 1.0)


class Running(Many):
    """A network of many nodes, links of which have windows."""

    def __init__(self, lab: RouteLab, seed: int = 11) -> None:
        self.updates: list[tuple[Instant, RouteUpdate]] = []
        super().__init__(lab, Surroundings(wire=Wire(WIRE_NS), timing=CALM), seed)

    def look_on(self) -> None:
        """Watch every attempt from the beginning."""
        self.hours = Hours(self.net, dict(self.lab.windows))
        self.net.heap.watch = self._watch

    def _watch(self, target: str, event: Any, now: Instant, actions: list[Any]) -> None:
        self.hours.watch(target, event, now, actions)
        for action in actions:
            for frame in action.datagram.frames if type(action) is Transmit else ():
                if type(frame.body) is RouteUpdate and frame.body.origin == target:
                    self.updates.append((now, frame.body))

    def rest_until(self, at: Instant) -> None:
        self.net.heap.run(at)

    def pairs(self, node: NodeName, request: Any) -> list[tuple[Instant, PairId]]:
        """When which pairs of a request were delivered at a node, those that are void left out."""
        user = self.users[node]
        void = {each.pair for each in user.expired}
        told = [(at, p.info.pair) for at, p in user.pairs if p.request == request]
        return [(at, pair) for at, pair in told if pair not in void]

    def ending(self, node: NodeName, request: Any) -> Any:
        found = self.endings(node, request)
        assert len(found) <= 1, "it ends once"
        return found[0] if found else None

    def finish(self, node: NodeName, request: Any, limit_ns: Duration) -> Any:
        self.net.heap.run(self.now + limit_ns, stop=lambda: self.ending(node, request) is not None)
        return self.ending(node, request)

    def nothing_is_taken(self) -> None:
        self.rest(2 * SECOND)
        for node in self.lab.nodes:
            host = self.net.host(node)
            assert not busy(host), node
