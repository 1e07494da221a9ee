"""A network whose links are divided in time, with a controller, and what happens in which bin."""

from __future__ import annotations

from typing import Any

import attrs

from qstack.machine import Transmit
from qstack.messages.application import RequestDone, RequestEnded
from qstack.messages.circuits import CircuitId
from qstack.messages.common import RequestId
from qstack.messages.physical import Herald
from qstack.messages.schedule import LinkBins
from qstack.network.division.controller import Controller
from qstack.network.service import TimeDivision
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings
from qstack.stack.policy import Policy
from qstack.testing import Party, terms
from qstack.testing.routes import RouteNetwork
from qstack.testing.routes_lab import RouteLab
from qstack.testing.routes_memory import busy
from qstack.testing.scenario import TIMING
from qstack.units import MICROSECOND, MILLISECOND, Instant, LinkName, NodeName

BIN_NS = MILLISECOND
LEASE_NS = 24 * MILLISECOND
WIRE_NS = 20 * MICROSECOND
EDGE_NS = 3 * WIRE_NS
"""By so much a bin may begin earlier or later at a link: the ways of the words of two clocks."""


@attrs.define
class Made:
    """A success that a station told of for the first time, and for which circuit, if for one."""

    at: Instant
    link: LinkName
    circuit: CircuitId | None


class BinsRig:
    """A network of users who all listen; `controller` grants bins.

    `schedule`: whose each bin was, by link and the instant at which it began, as the controller
    had it when the bin began.
    """

    def __init__(
        self, lab: RouteLab, controller: NodeName, seed: int, *, loss: float = 0.0
    ) -> None:
        self.lab = lab
        division = TimeDivision(controller, BIN_NS, LEASE_NS, lab.nodes)
        policies = tuple((node, Policy(division=division)) for node in lab.nodes)
        around = Surroundings(wire=Wire(WIRE_NS), timing=TIMING, policies=policies)
        self.net = RouteNetwork(lab.links(), lab.world(), seed, around)
        self.heap = self.net.heap
        self.controller = controller
        self.made: list[Made] = []
        self.tables: list[tuple[Instant, LinkBins]] = []
        self.sent: dict[str, int] = {}
        self.schedule: dict[tuple[LinkName, Instant], CircuitId] = {}
        self._runs: Any = ()
        self._seen: set[tuple[LinkName, int, int]] = set()
        self.heap.watch = self._watch
        self.of: dict[NodeName, Party] = {}
        for node in lab.nodes:
            user = self.of[node] = Party(self.heap, f"user-{node}", node)
            self.net.user(user.name, [node], user.listen)
        self.rest(10 * MILLISECOND)
        for user in self.of.values():
            user.accept()
        self.rest(5 * MILLISECOND)
        if loss:
            self.heap.set_default(Wire(WIRE_NS, 0, loss, 0.0))

    @property
    def grants(self) -> Controller:
        """The machine of the controller's present life."""
        found: Controller = self.net.host(self.controller).network.division.controller
        return found

    # --- what is seen --------------------------------------------------------------------------

    def _watch(self, target: str, event: Any, now: Instant, actions: list[Any]) -> None:
        if target == self.controller and self.grants.runs is not self._runs:
            self._planned(now)
        for action in actions:
            if type(action) is not Transmit:
                continue
            for frame in action.datagram.frames:
                body = frame.body
                self.sent[type(body).__name__] = self.sent.get(type(body).__name__, 0) + 1
                if type(body) is Herald:
                    self._heralded(body, action.datagram.header.source_boot, now)
                elif type(body) is LinkBins:
                    self.tables.append((now, body))

    def _planned(self, now: Instant) -> None:
        grants = self.grants
        self._runs = grants.runs
        here = grants.bins.at(now)
        begun = grants.bins.begin(here)
        self.schedule = {key: who for key, who in self.schedule.items() if key[1] < begun}
        for run in self._runs:
            for number in range(max(run.begin, here), run.end):
                assert isinstance(run.id, CircuitId)
                self.schedule[run.link, grants.bins.begin(number)] = run.id

    def _heralded(self, herald: Herald, boot: int, now: Instant) -> None:
        for success in herald.successes:
            key = herald.link, boot, success.sequence
            if key in self._seen:
                continue
            self._seen.add(key)
            self.made.append(Made(now, herald.link, self._circuit(success.request)))

    def _circuit(self, request: RequestId) -> CircuitId | None:
        desk = self.net.host(request.origin).network.desk
        owner = desk.owner_of(request)
        return None if owner is None else owner[0]

    def whose(self, made: Made, edge_ns: int = EDGE_NS) -> set[CircuitId | None]:
        """Whose the bins are that a success may have been made in."""
        found = set()
        for at in (made.at - edge_ns, made.at, made.at + edge_ns):
            begins = (began for link, began in self.schedule if link == made.link)
            mine = [began for began in begins if began <= at < began + BIN_NS]
            found.add(self.schedule[made.link, mine[0]] if mine else None)
        return found

    def strangers(self, edge_ns: int = EDGE_NS) -> list[Made]:
        """Successes in bins of others."""
        return [made for made in self.made if not {made.circuit, None} & self.whose(made, edge_ns)]

    # --- what is done --------------------------------------------------------------------------

    def rest(self, duration_ns: int) -> None:
        self.heap.run(self.heap.now + duration_ns)

    def until(self, stop: Any, limit_ns: int = 1_000 * MILLISECOND) -> None:
        self.heap.run(self.heap.now + limit_ns, stop=stop)
        assert stop(), f"not reached by {self.heap.now}"

    def ask(self, node: NodeName, remote: NodeName, number: int, max_time_ns: int) -> Asked:
        user = self.of[node]
        reference = user.keep(terms(remote, number, max_time_ns=max_time_ns))
        return Asked(user, reference, number, self.heap.now + max_time_ns)

    def _busy(self, node: NodeName) -> bool:
        division = self.net.host(node).network.division
        granted = division.controller is not None and division.controller.granted
        return bool(busy(self.net.host(node)) or division.asking._wishes or granted)

    def nothing_is_left(self) -> None:
        """No circuit, no bin and no qubit is anybody's any more."""
        for _ in range(30):
            if not any(self._busy(node) for node in self.lab.nodes):
                break
            self.rest(4 * MILLISECOND)
        for node in self.lab.nodes:
            host = self.net.host(node)
            assert not busy(host), node
            assert host.network.report(self.heap.now)["circuits"] == []
            asking = host.network.division.asking
            assert not asking._wishes
            links = host.network.report(self.heap.now)["bins"]["links"]
            assert all(runs == [] for runs in links.values())
        assert self.grants.granted == ()
        assert not self.grants._ends


@attrs.define
class Asked:
    """A request of a user."""

    user: Party
    reference: int
    number: int
    until: Instant

    @property
    def request(self) -> RequestId:
        return self.user.created[self.reference]

    @property
    def pairs(self) -> list[Instant]:
        """When its pairs were delivered here."""
        return [at for at, pair in self.user.pairs if pair.request == self.request]

    @property
    def end(self) -> RequestDone | RequestEnded | None:
        """How it ended."""
        words: list[RequestDone | RequestEnded] = [*self.user.done, *self.user.ended]
        return next((word for word in words if word.request == self.request), None)

    @property
    def is_done(self) -> bool:
        """Whether all its pairs were delivered."""
        return type(self.end) is RequestDone

    @property
    def kept(self) -> bool:
        """Whether nine in ten of its pairs came in time."""
        return len([at for at in self.pairs if at <= self.until]) >= 0.9 * self.number
