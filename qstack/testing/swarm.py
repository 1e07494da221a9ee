"""One run of the swarm: a scenario, its users and faults, and the judgement.

:func:`run` builds the network of a :class:`~qstack.testing.scenario.Scenario`, lets its users and
its faults happen, heals everything, and waits until every request has ended, for at most
:data:`PATIENCE_NS` of virtual time. Then both users ask once more, which must be served in full, so
that no run passes that moves no traffic; and at the end every memory must be at its baseline.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

import attrs

from qstack.errors import QstackError
from qstack.machine import record
from qstack.messages.application import Cancel, Created, FreeQubit, Listen, MeasureQubit, PairReady
from qstack.messages.common import PairId, PairKind, Qubit
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.playing import play
from qstack.sim.wires import CORRUPTED, REJECTED
from qstack.stack import FromNode, NodeReached, ToNode
from qstack.testing.checkers import Ends, OneHand, SamePairs, Seen, States
from qstack.testing.judge import Checker, Judge, Ledger
from qstack.testing.memory import Baseline, Owners, leftovers
from qstack.testing.origins import Light, Origins, Outcomes
from qstack.testing.parties import Party, terms
from qstack.testing.scenario import (
    FAULTS_END,
    LINGER_NS,
    PLANS,
    SILENCE_NS,
    TIMING,
    USER_NS,
    Ask,
    Isolation,
    Mishap,
    Scenario,
    UserCrash,
)
from qstack.testing.seals import seals
from qstack.testing.truth import TruthError
from qstack.units import MILLISECOND, Duration, Instant, NodeName

PATIENCE_NS: Duration = 150 * MILLISECOND
"""After the faults healed every outstanding request must end within this virtual time."""

PATIENCE_SLOW_NS: Duration = 500 * MILLISECOND
"""The same where users keep memories for long, and without a herald line: faults spread the
attempts, which come together again slowly."""

REST_NS: Duration = 60 * MILLISECOND
"""After the last request has ended every memory must be as it was within this virtual time."""

PROBE_PAIRS = 3
"""What each user asks for at last; both directions together are the least that a run delivers."""

MAX_STEPS = 400_000


@record
class Result:
    """What became of a run. `problem` is empty where nothing is wrong.

    `checker` names who complained: a checker, `liveness`, or the type of a raised exception.
    `rejected`: datagrams in which codec or seal found that they were corrupted on the way.
    """

    seed: int
    checker: str
    problem: str
    delivered: int
    rejected: int
    steps: int
    ended_ns: Duration
    seen: tuple[Seen, ...]


class Habits(Protocol):
    """What a scripted user is told of its scenario; see :class:`Scenario`."""

    @property
    def eager(self) -> bool:
        """Give halves back at once."""

    @property
    def clumsy(self) -> bool:
        """Give each back twice."""

    @property
    def measuring(self) -> bool:
        """Measure them instead."""

    @property
    def hold_ns(self) -> Duration:
        """Keep one for so long at most."""

    @property
    def lingering(self) -> bool:
        """Keep some on after both ends have theirs."""


@attrs.define
class User(Party):
    """A scripted user who listens whenever it reaches its node, and gives back what it gets.

    It keeps a half until the other user has its own too (`meeting`), for `hold_ns` at most.
    `cancels`: by whom, and how long after it was created, the call of a reference is cancelled.
    """

    scenario: Habits = attrs.field(kw_only=True)
    meeting: dict[PairId, tuple[User, Qubit]] = attrs.field(kw_only=True)
    cancels: dict[int, tuple[User, Duration]] = attrs.field(factory=dict, kw_only=True)

    def listen(self, event: Any, now: Instant) -> Iterable[Any]:
        """Take what the UserHost indicates; return what it shall do."""
        answers = list(super().listen(event, now))
        if isinstance(event, FromNode) and isinstance(event.message, Created):
            canceller, after_ns = self.cancels.pop(event.message.reference, (None, 0))
            if canceller is not None:
                cancel = Cancel(canceller.reference(), event.message.request)
                canceller.say(cancel, after_ns)
        if type(event) is NodeReached:
            answers.append(ToNode(self.node, Listen(self.reference(), 0)))
        return answers

    def take(self, pair: PairReady, now: Instant) -> Any:
        """Decide what happens to a delivered half."""
        scenario, identity = self.scenario, pair.info.pair
        if scenario.eager or pair.outcome is not None:  # a prepared half has no other one
            self._late(pair.qubit)
            return self._last_word(pair.qubit)
        first = self.meeting.pop(identity, None)
        if first is None or first[0] is self:
            self.meeting[identity] = (self, pair.qubit)
            self.say(FreeQubit(pair.qubit), scenario.hold_ns)
            return None
        user, qubit = first
        user.holding.pop(identity, None)
        linger_ns = LINGER_NS[identity.sequence % len(LINGER_NS)] if scenario.lingering else 0
        user.say(user._last_word(qubit), linger_ns)
        self._late(pair.qubit, linger_ns)
        if not linger_ns:
            return self._last_word(pair.qubit)
        self.say(self._last_word(pair.qubit), linger_ns)
        return None

    def _last_word(self, qubit: Qubit) -> Any:
        if self.scenario.measuring:
            return MeasureQubit(self.reference(), qubit, PLANS[0])
        return FreeQubit(qubit)

    def _late(self, qubit: Qubit, after_ns: Duration = 0) -> None:
        if self.scenario.clumsy:
            self.say(FreeQubit(qubit), after_ns + 200_000)


class Run:
    """A scenario as it happens. `checkers` are those of :meth:`run`, by their names."""

    def __init__(
        self, scenario: Scenario, change: Callable[[VirtualNetwork], None] | None = None
    ) -> None:
        self.scenario = scenario
        self.net = VirtualNetwork(
            scenario.lab.links(),
            scenario.lab.world(),
            scenario.seed,
            Surroundings(
                wire=Wire(scenario.latency_ns),
                timing=TIMING,
                wire_bytes=scenario.wire_bytes,
                user_ns=0 if scenario.here else USER_NS,
            ),
        )
        if scenario.sealed:
            self.net.heap.wiring.keys.update(seals(scenario.lab.places.parties))
        meeting: dict[PairId, tuple[User, Qubit]] = {}
        self.users: dict[NodeName, User] = {}
        for node in scenario.lab.nodes:
            user = User(self.net.heap, f"user-{node}", node, scenario=scenario, meeting=meeting)
            user.policy = user.take
            self.users[node] = user
        self.ledger = Ledger()
        origins = Origins()
        self.states = States(origins, ages_hold=scenario.judged_by_age)
        self.ends = Ends(self.ledger)
        self.checkers: tuple[Checker, ...] = (
            *(self.ledger, origins, OneHand(), self.ends, Owners(), self.states),
            *(Outcomes(origins), Light(origins), SamePairs(self.ledger), Baseline()),
        )
        self.judge = Judge(self.net, {u.name: u.node for u in self.users.values()}, self.checkers)
        if change is not None:
            change(self.net)
        for user in self.users.values():
            self.net.user(user.name, [user.node], user.listen)
        self.began: Instant = 0
        self.phase = "start"

    # --- the course of things ------------------------------------------------------------

    def go(self) -> None:
        """Run it to its end; raises TruthError where something is wrong."""
        self.phase = "start"
        self._until(lambda: all(user.answers for user in self.users.values()), "nobody is reached")
        self._rest(3 * MILLISECOND)
        self.phase = "faults"
        self.began = self.net.heap.now
        play(self.net, self.scenario.schedule)
        heap = self.net.heap
        for ask in self.scenario.asks:
            heap.call(self.began + ask.at, partial(self._ask, ask))
        for mishap in self.scenario.mishaps:
            heap.call(self.began + mishap.at, partial(self._befall, mishap))
            heap.call(self.began + mishap.until, partial(self._heal, mishap))
        heap.run(self.began + FAULTS_END, max_steps=MAX_STEPS)
        self.phase = "healed"
        # What was cut off last may still be lost by its silence, and whoever asks then is told so.
        heap.run(heap.now + SILENCE_NS, max_steps=MAX_STEPS)
        self._until(self._all_well, "after the faults healed")
        self.phase = "probe"
        self._until(self._all_found, "not all neighbours found each other")
        self._probe()
        self.phase = "rest"
        self._come_to_rest()
        if any(path.counts[CORRUPTED] for path in self.net.heap.wiring.paths):
            raise TruthError("a datagram was believed that had been corrupted on the way")
        self.judge.finish()

    def _ask(self, ask: Ask) -> None:
        user, other = self.users[ask.node], self.users[ask.remote]
        if not user.reached:
            return
        wanted = terms(
            other.node,
            ask.number,
            fidelity_min=ask.fidelity_min,
            max_time_ns=ask.max_time_ns,
            priority=ask.priority,
            weight=ask.weight,
            atomic=ask.atomic,
            consecutive=ask.consecutive,
        )
        plan = PLANS[ask.axis]
        match ask.kind:
            case PairKind.KEEP:
                reference = user.keep(wanted, store=ask.store, final=ask.final_bell)
            case PairKind.MEASURE:
                reference = user.measure_directly(wanted, plan, plan)
            case PairKind.PREPARE:
                reference = user.prepare(wanted, plan, correct=ask.final_bell is not None)
        if ask.cancel_ns:
            user.cancels[reference] = (self.users[ask.canceller], ask.cancel_ns)

    # --- mishaps -------------------------------------------------------------------------

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
                self.net.user(user.name, [user.node], user.listen)

    # --- waiting -------------------------------------------------------------------------

    def _all_well(self) -> bool:
        reached = all(user.reached for user in self.users.values())
        return reached and not self.ends.open

    def _until(self, stop: Callable[[], bool], what: str) -> None:
        heap = self.net.heap
        slow = self.scenario.lingering or not self.scenario.lab.herald_line
        patience = PATIENCE_SLOW_NS if slow else PATIENCE_NS
        heap.run(heap.now + patience, stop=stop, max_steps=MAX_STEPS)
        if not stop():
            raise Stuck(f"{what}, {patience} ns are not enough: {self._open()}")

    def _open(self) -> str:
        lost = [user.node for user in self.users.values() if not user.reached]
        return f"not reached: {lost}; not ended: {self.ends.describe()}"

    def _all_found(self) -> bool:
        """Whether all neighbours, users too, know each other in their present lives."""
        users = () if self.scenario.here else self.users.values()
        pairs = [(user.name, user.node) for user in users]
        for _, first, second, station in self.scenario.lab.joints:
            pairs += [(first, second), (first, station), (second, station)]
        lives = [(self._lives(one, other), self._lives(other, one)) for one, other in pairs]
        return all(a[1] == b[0] and b[1] == a[0] and a[1] and b[1] for a, b in lives)

    def _lives(self, name: NodeName, peer: NodeName) -> tuple[int, int]:
        """Its own life towards a peer, and that of the peer which counts for it; 0 for none."""
        adjacency = self.net.host(name).neighbours.adjacencies().get(peer)
        return (
            (0, 0)
            if adjacency is None
            else (
                adjacency._greeting.life,
                adjacency._greeting.peer_life,
            )
        )

    def _come_to_rest(self) -> None:
        """Let everybody confirm and free what is open, for as long as that takes, up to a bound."""
        for _ in range(REST_NS // MILLISECOND):
            if not any(leftovers(self.net.host(name)) for name in self.scenario.lab.places.parties):
                return
            self._rest(MILLISECOND)

    def _rest(self, duration_ns: Duration) -> None:
        self.net.heap.run(self.net.heap.now + duration_ns, max_steps=MAX_STEPS)

    def _probe(self) -> None:
        """Ask once more from both sides of every link: it must be served in full."""
        probes: list[tuple[User, int]] = []
        for _, first, second, _ in self.scenario.lab.joints:
            for node, remote in ((first, second), (second, first)):
                user = self.users[node]
                probes.append((user, user.keep(terms(remote, PROBE_PAIRS))))
        self._until(
            lambda: all(probe in user.created for user, probe in probes) and self._all_well(),
            "of the last requests",
        )
        for user, probe in probes:
            request = user.created[probe]
            if request not in {done.request for done in user.done}:
                ended = [ended for ended in user.ended if ended.request == request]
                raise Stuck(f"with nothing wrong any more, {user.node} is told {ended}")


class Stuck(TruthError):
    """Something that had to happen did not, within the bound."""


def run(scenario: Scenario, change: Callable[[VirtualNetwork], None] | None = None) -> Result:
    """Run a scenario and judge it; `change` may look at the network before it begins."""
    course = Run(scenario, change)
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
    return Result(
        scenario.seed,
        checker,
        problem,
        course.ledger.delivered,
        sum(path.counts[REJECTED] for path in course.net.heap.wiring.paths),
        course.net.heap.steps,
        course.net.heap.now,
        tuple(course.states.seen) if scenario.judged_by_age else (),
    )


def who(error: TruthError) -> str:
    """Name the checker that raised: the innermost method of one on the traceback."""
    trace, name = error.__traceback__, "checker"
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        if isinstance(owner, Checker):
            name = type(owner).__name__
        trace = trace.tb_next
    return name
