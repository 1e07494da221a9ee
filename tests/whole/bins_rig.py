"""A network whose links are divided in time, with a controller, and what happens in which bin."""

from __future__ import annotations

from typing import Any

import attrs

from qstack.machine import FromDevice, Transmit
from qstack.messages.application import RequestDone, RequestEnded
from qstack.messages.common import RequestId
from qstack.messages.devices import EmitterFired, EmitterHeralded, EmitterOutcome
from qstack.messages.physical import Herald
from qstack.messages.schedule import BinRun, LinkBins
from qstack.network.service import TimeDivision
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.stack.policy import Policy
from qstack.testing import Party, terms
from qstack.testing.routes import RouteNetwork
from qstack.testing.routes_lab import RouteLab
from qstack.testing.scenario import TIMING
from qstack.units import MILLISECOND, SECOND, LinkName, NodeName

BIN_NS = MILLISECOND
LEASE_NS = 24 * MILLISECOND


@attrs.define
class Seen:
    """What crossed the wires: successes and timetables of each link, as (cycle, request)."""

    successes: dict[LinkName, dict[int, RequestId]] = attrs.field(factory=dict)
    tables: dict[LinkName, list[tuple[int, LinkBins]]] = attrs.field(factory=dict)
    sent: dict[str, int] = attrs.field(factory=dict)

    def watch(self, target: str, event: Any, now: int, actions: list[Any]) -> None:
        for action in actions:
            if type(action) is Transmit:
                for frame in action.datagram.frames:
                    body = frame.body
                    kind = type(body).__name__
                    self.sent[kind] = self.sent.get(kind, 0) + 1
                    if type(body) is Herald:
                        of = self.successes.setdefault(body.link, {})
                        of |= {success.cycle: success.request for success in body.successes}
                    elif type(body) is LinkBins:
                        self.tables.setdefault(body.link, []).append((now, body))


class BinsRig:
    """A network of users who all listen; `controller` grants bins."""

    def __init__(
        self, lab: RouteLab, controller: NodeName, seed: int, *, loss: float = 0.0
    ) -> None:
        self.lab = lab
        division = TimeDivision(controller, BIN_NS, LEASE_NS, lab.nodes)
        policies = tuple((node, Policy(division=division)) for node in lab.nodes)
        around = Surroundings(wire=Wire(20_000), timing=TIMING, policies=policies)
        self.net = RouteNetwork(lab.links(), lab.world(), seed, around)
        self.heap = self.net.heap
        self.seen = Seen()
        self.heap.watch = self.seen.watch
        self.controller = controller
        self.of: dict[NodeName, Party] = {}
        for node in lab.nodes:
            user = self.of[node] = Party(self.heap, f"user-{node}", node)
            self.net.user(user.name, [node], user.listen)
        self.rest(10 * MILLISECOND)
        for user in self.of.values():
            user.accept()
        self.rest(5 * MILLISECOND)
        if loss:
            self.heap.set_default(Wire(20_000, 0, loss, 0.0))

    def rest(self, duration_ns: int) -> None:
        self.heap.run(self.heap.now + duration_ns)

    def ask(self, node: NodeName, remote: NodeName, number: int, max_time_ns: int) -> int:
        return self.of[node].keep(terms(remote, number, max_time_ns=max_time_ns))

    def pairs(self, node: NodeName, reference: int) -> list[int]:
        request = self.of[node].created[reference]
        return [at for at, pair in self.of[node].pairs if pair.request == request]

    def ended(self, node: NodeName, reference: int) -> Any:
        request = self.of[node].created[reference]
        user = self.of[node]
        words: list[RequestDone | RequestEnded] = [*user.done, *user.ended]
        found = [word for word in words if word.request == request]
        return found[0] if found else None
