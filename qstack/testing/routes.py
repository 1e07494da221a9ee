"""One run of the swarm of many nodes: users all over a network, its faults, and the judgement.

As :mod:`qstack.testing.swarm` does with two nodes: faults happen, all is healed, every request must
end, then some users ask once more and must be served in full; and when the leases have passed
nothing may be left of any circuit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import attrs

from qstack.errors import QstackError
from qstack.machine import record
from qstack.messages.application import HalfReady, Listen, MeasureQubit
from qstack.messages.common import PairId, PairKind, Qubit
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.playing import play
from qstack.sim.wires import CORRUPTED
from qstack.stack import EndNode, NodeReached, ToNode
from qstack.stack.policy import Policy
from qstack.testing.checkers import Ends, OneHand, Seen
from qstack.testing.judge import Checker, Judge, Ledger
from qstack.testing.memory import Owners
from qstack.testing.origins import Origins
from qstack.testing.parties import terms
from qstack.testing.routes_checkers import (
    Parity,
    Paths,
    RouteLight,
    RouteOutcomes,
    RouteSamePairs,
)
from qstack.testing.routes_early import EarlyHalves
from qstack.testing.routes_memory import RouteBaseline, busy
from qstack.testing.routes_scenario import FAULTS_END, RARE_PURPOSE, Call, RouteScenario
from qstack.testing.routes_states import RouteStates
from qstack.testing.scenario import (
    PLANS,
    SILENCE_NS,
    TIMING,
    USER_NS,
    Isolation,
    Mishap,
    UserCrash,
)
from qstack.testing.seals import seals
from qstack.testing.swarm import Stuck, User, who
from qstack.testing.truth import TruthError
from qstack.units import MILLISECOND, Duration, NodeName

LEASE_NS: Duration = 12 * MILLISECOND
IDLE_NS: Duration = 3 * MILLISECOND
HOLD_NS: Duration = MILLISECOND
"""Leases, rests and updates of routes: short against a run, as keepalives are."""

NOTICED_NS: Duration = SILENCE_NS + 4 * HOLD_NS
"""So long after the last fault everybody knows of it, however it ended."""

PATIENCE_NS: Duration = 400 * MILLISECOND
"""After the faults healed every outstanding request must end within this virtual time."""

REST_NS: Duration = 80 * MILLISECOND
"""After the last request has ended nothing may be left of it within this virtual time."""

PROBES = 3
PROBE_PAIRS = 2
"""So many users ask at last, for so many pairs: the least that a run delivers."""

MAX_STEPS = 1_500_000


@record
class RouteResult:
    """What became of a run; fields as in :class:`qstack.testing.swarm.Result`.

    `routed`: how many kept pairs over several links were seen at their first end. `parities` of
    measured ones.
    """

    seed: int
    checker: str
    problem: str
    delivered: int
    steps: int
    ended_ns: Duration
    seen: tuple[Seen, ...]
    routed: int
    parities: tuple[Parity, ...]


class RouteNetwork(VirtualNetwork):
    """A virtual network whose circuits live fast."""

    def start(self, name: NodeName) -> None:
        """Start a party with short leases."""
        super().start(name)
        host = self.heap.host(name)
        if isinstance(host, EndNode):
            # The type checker does not see that our records are attrs classes.
            desk: Any = host.network.desk
            flood: Any = host.network.flood
            desk.parameters = attrs.evolve(desk.parameters, lease_ns=LEASE_NS, idle_ns=IDLE_NS)
            flood.parameters = attrs.evolve(flood.parameters, hold_ns=HOLD_NS)


@attrs.define
class Traveller(User):
    """A user who listens on the shared purpose, and on the rare one where it `knows_more`."""

    knows_more: bool = attrs.field(kw_only=True)

    def listen(self, event: Any, now: int) -> list[Any]:
        """Take what the UserHost indicates; return what it shall do."""
        # Classes with slots are made anew by attrs: a bare super() would look for the old one.
        answers = list(User.listen(self, event, now))
        if type(event) is NodeReached and self.knows_more:
            answers.append(ToNode(self.node, Listen(self.reference(), RARE_PURPOSE)))
        return answers

    def at_once(self, half: HalfReady, now: int) -> Any:
        """Use every other half before its notice comes, and keep the rest until then."""
        if half.half.sequence % 2:
            return User.at_once(self, half, now)
        return MeasureQubit(self.reference(), half.qubit, PLANS[0])


class RouteRun:
    """A scenario as it happens. `checkers` are those of :meth:`go`, by their names.

    `policies`: of nodes whose operators decided other than usual.
    """

    def __init__(
        self,
        scenario: RouteScenario,
        change: Callable[[VirtualNetwork], None] | None = None,
        policies: tuple[tuple[NodeName, Policy], ...] = (),
    ) -> None:
        self.scenario = scenario
        lab = scenario.lab
        self.net = RouteNetwork(
            lab.links(),
            lab.world(),
            scenario.seed,
            Surroundings(
                wire=Wire(max(scenario.latency_ns, 2 * lab.delay_ns)),
                timing=TIMING,
                wire_bytes=scenario.wire_bytes,
                user_ns=0 if scenario.here else USER_NS,
                policies=policies,
            ),
        )
        if scenario.sealed:
            self.net.heap.wiring.keys.update(seals(self.net.places.parties))
        meeting: dict[PairId, tuple[User, Qubit]] = {}
        self.users: dict[NodeName, Traveller] = {}
        for number, node in enumerate(lab.nodes):
            user = Traveller(
                *(self.net.heap, f"user-{node}", node),
                scenario=scenario,
                meeting=meeting,
                knows_more=number % 2 == 0,
            )
            user.policy = user.take
            self.users[node] = user
        self.ledger, origins, self.paths = Ledger(anew=True), Origins(), Paths()
        self.states = RouteStates(
            origins, self.ledger, ages_hold=scenario.ages_hold, exact=scenario.exact_gates
        )
        self.outcomes = RouteOutcomes(origins, self.ledger)
        self.ends = Ends(self.ledger)
        self.checkers: tuple[Checker, ...] = (
            *(self.ledger, origins, self.paths, OneHand(), self.ends, Owners(), self.states),
            *(self.outcomes, EarlyHalves(self.outcomes), RouteLight(origins, self.paths)),
            *(RouteSamePairs(self.ledger, self.paths), RouteBaseline()),
        )
        self.judge = Judge(self.net, {u.name: u.node for u in self.users.values()}, self.checkers)
        if change is not None:
            change(self.net)
        for user in self.users.values():
            self.net.user(user.name, [user.node], user.listen)

    # --- the course of things ------------------------------------------------------------

    def go(self) -> None:
        """Run it to its end; raises TruthError where something is wrong."""
        self._until(self._together, "not everybody finds everybody")
        heap = self.net.heap
        began = heap.now
        play(self.net, self.scenario.schedule)
        for call in self.scenario.calls:
            heap.call(began + call.ask.at, partial(self._ask, call))
        for mishap in self.scenario.mishaps:
            heap.call(began + mishap.at, partial(self._befall, mishap))
            heap.call(began + mishap.until, partial(self._heal, mishap))
        heap.run(began + FAULTS_END, max_steps=MAX_STEPS)
        # What died last and is back may be noticed by its silence only, and told of after that.
        heap.run(heap.now + NOTICED_NS, max_steps=MAX_STEPS)
        self._until(self._all_well, "after the faults healed")
        self._until(self._together, "not everybody finds everybody again")
        self._probe()
        for _ in range(REST_NS // MILLISECOND):
            if not any(busy(self.net.host(name)) for name in self.net.places.parties):
                break
            heap.run(heap.now + MILLISECOND, max_steps=MAX_STEPS)
        if any(path.counts[CORRUPTED] for path in heap.wiring.paths):
            raise TruthError("a datagram was believed that had been corrupted on the way")
        self.judge.finish()

    def _ask(self, call: Call) -> None:
        ask, user = call.ask, self.users[call.ask.node]
        if not user.reached:
            return
        wanted = terms(
            call.remote,
            ask.number,
            fidelity_min=ask.fidelity_min,
            max_time_ns=ask.max_time_ns,
            purpose=call.purpose,
            within_ns=call.within_ns,
        )
        plan = PLANS[ask.axis]
        match ask.kind:
            case PairKind.KEEP:
                reference = user.keep(wanted, final=ask.final_bell, early=call.early)
            case PairKind.MEASURE:
                reference = user.measure_directly(wanted, plan, plan)
            case PairKind.PREPARE:
                reference = user.prepare(wanted, plan, correct=ask.final_bell is not None)
        if ask.cancel_ns:
            user.cancels[reference] = (self.users[ask.canceller], ask.cancel_ns)

    def _befall(self, mishap: Mishap) -> None:
        match mishap:
            case Isolation():
                self.net.heap.cut(mishap.name)
            case UserCrash():
                self.net.crash(f"user-{mishap.node}")

    def _heal(self, mishap: Mishap) -> None:
        match mishap:
            case Isolation():
                self.net.heap.cut(mishap.name, False)
            case UserCrash():
                user = self.users[mishap.node]
                user.reached = False
                user.holding.clear()
                user.early.clear()
                self.net.user(user.name, [user.node], user.listen)

    # --- waiting -------------------------------------------------------------------------

    def _all_well(self) -> bool:
        return all(user.reached for user in self.users.values()) and not self.ends.open

    def _together(self) -> bool:
        """Whether each node knows a way to each other one, and nobody's lists have changed."""
        if not all(user.reached for user in self.users.values()):
            return False
        nodes = self.scenario.lab.nodes
        graphs = [self.net.host(node).network.demand.graph for node in nodes]
        links = 2 * len(self.net.links)
        return all(sum(map(len, graph.choices.values())) == links for graph in graphs)

    def _at_rest(self) -> bool:
        hosts = (self.net.host(node) for node in self.scenario.lab.nodes)
        return all(m.rests for host in hosts for m in host.network.demand.circuits.members)

    def _until(self, stop: Callable[[], bool], what: str) -> None:
        """Turn the heap, looking now and then, as looking costs more than a step."""
        heap = self.net.heap
        end = heap.now + PATIENCE_NS
        while not stop():
            if heap.now >= end:
                raise Stuck(f"{what}, {PATIENCE_NS} ns are not enough: {self._open()}")
            heap.run(heap.now + MILLISECOND // 4, max_steps=MAX_STEPS)

    def _open(self) -> str:
        lost = [user.node for user in self.users.values() if not user.reached]
        return f"not reached: {lost}; not ended: {self.ends.describe()}"

    def _probe(self) -> None:
        """Ask for pairs over several links, one user after another: they are served in full."""
        nodes = self.scenario.lab.nodes
        for number in range(PROBES):
            # One that was installed for nothing holds its room until its lease ends.
            self._until(self._at_rest, "circuits without requests hold what others may need")
            node = nodes[(self.scenario.seed + 4 * number) % len(nodes)]
            near = {node, *self.scenario.lab.neighbours(node)}
            far = [name for name in nodes if name not in near] or sorted(near - {node})
            remote = far[self.scenario.seed % len(far)]
            user = self.users[node]
            reference = user.keep(terms(remote, PROBE_PAIRS))
            self._until(
                lambda user=user, reference=reference: (  # type: ignore[misc]  # bound at once
                    reference in user.created and self._all_well()
                ),
                f"of the last request, from {node} to {remote}",
            )
            request = user.created[reference]
            if request not in {done.request for done in user.done}:
                ended = [each for each in user.ended if each.request == request]
                raise Stuck(f"with nothing wrong any more, {node} to {remote} is told {ended}")


def run(
    scenario: RouteScenario, change: Callable[[VirtualNetwork], None] | None = None
) -> RouteResult:
    """Run a scenario and judge it; `change` may look at the network before it begins."""
    course = RouteRun(scenario, change)
    checker = problem = ""
    try:
        course.go()
    except Stuck as error:
        checker, problem = "liveness", str(error)
    except TruthError as error:
        checker, problem = who(error), str(error)
    except (QstackError, RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        # A machine that raises is a process that would have died.
        checker, problem = type(error).__name__, f"{type(error).__name__}: {error}"
    except LookupError as error:
        checker, problem = "LookupError", f"LookupError: {error}"
    return RouteResult(
        scenario.seed,
        checker,
        problem,
        course.ledger.delivered,
        course.net.heap.steps,
        course.net.heap.now,
        tuple(course.states.seen) if scenario.ages_hold else (),
        course.states.routed,
        tuple(course.outcomes.parities) if scenario.ages_hold else (),
    )
