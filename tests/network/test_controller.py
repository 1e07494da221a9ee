"""The controller against a model that lives bin by bin, and against exhaustive search."""

from __future__ import annotations

from functools import cache
from itertools import pairwise, product
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.errors import ErrorCode, RemoteProtocolError
from qstack.machine import TICK, Send
from qstack.messages.circuits import CircuitId
from qstack.messages.schedule import (
    BinHop,
    BinsAnswer,
    BinsAsk,
    BinsClock,
    BinsPlan,
    BinsRelease,
    CircuitRun,
)
from qstack.network.division.controller import (
    LEAD_BINS,
    Controller,
    FromAsker,
    NodeGone,
    NodeThere,
)
from qstack.network.division.masters import CLOCK_BINS
from qstack.network.service import TimeDivision

BIN = 1_000
LEASE = 12 * BIN
NODES = ("a", "b", "c", "d", "z")
ENDS = {"ab": ("a", "b"), "bc": ("b", "c"), "cd": ("c", "d")}
WAYS = {
    ("a", ("ab",)): ("b",),
    ("a", ("ab", "bc")): ("b", "c"),
    ("b", ("bc",)): ("c",),
    ("b", ("bc", "cd")): ("c", "d"),
    ("d", ("cd",)): ("c",),
    ("d", ("cd", "bc", "ab")): ("c", "b", "a"),
}
QUBITS = {"a": 1, "b": 2, "c": 1, "d": 1}


def ask(circuit: CircuitId, links: tuple[str, ...], need: int, within: int, **more: Any) -> BinsAsk:
    """Bins in number; `within` bins from now."""
    hops = zip(links, WAYS[circuit.origin, links], strict=True)
    times = {"work_ns": need * BIN, "within_ns": within * BIN, "lost_ns": 0, "dry": False}
    return BinsAsk(circuit, tuple(BinHop(*hop) for hop in hops), **(times | more))


@attrs.define(eq=False)
class Held:
    """What was granted, as the model sees it. `done`: bins that it had."""

    links: tuple[str, ...]
    need: int
    deadline: int
    lease_until: int
    done: int = 0


class Model:
    """A controller and the masters of its links; each bin is lived through by `live`."""

    def __init__(self, boot: int = 1, now: int = 0, origin: int | None = None) -> None:
        self.now = now
        self.origin = now if origin is None else origin
        division = TimeDivision("z", BIN, LEASE, NODES)
        self.machine = Controller("z", boot, division, QUBITS.get)
        self.boot = boot
        self.plans: dict[str, tuple[CircuitRun, ...]] = {}
        self.held: dict[CircuitId, Held] = {}
        self.heard: set[str] = set()
        self.answers: list[BinsAnswer] = []
        self.clocks: list[int] = []
        for node in NODES[:-1]:
            self.step(NodeThere(node, 7))

    @property
    def bin(self) -> int:
        return (self.now - self.origin) // BIN

    def step(self, event: Any) -> None:
        for action in self.machine.handle(event, self.now):
            if type(action) is not Send:
                continue
            body = action.message
            match body:
                case BinsPlan():
                    assert action.peer == min(ENDS[body.link])
                    assert (body.boot, body.bin_ns) == (self.boot, BIN)
                    assert body.bin * BIN + body.into_ns == self.now - self.origin
                    self._planned(body)
                case BinsAnswer():
                    assert action.peer == body.circuit.origin
                    self.answers.append(body)
                case BinsClock():
                    assert body.bin * BIN + body.into_ns == self.now - self.origin
                    self.clocks.append(self.bin)

    def _planned(self, plan: BinsPlan) -> None:
        """The bin under way and the next were announced: they may only become nobody's."""
        for number in range(self.bin, self.bin + LEAD_BINS):
            before, after = (
                owner(runs, number) for runs in (self.plans.get(plan.link, ()), plan.runs)
            )
            assert after in (before, None)
            assert after is not None or before not in self.held
        self.plans[plan.link] = plan.runs
        self.heard.add(plan.link)

    def live(self) -> None:
        """Go on to the beginning of the next bin, and count whose this one was."""
        here = self.bin
        owners = {link: owner(runs, here) for link, runs in self.plans.items()}
        for circuit in {each for each in owners.values() if each is not None}:
            held = self.held[circuit]
            mine = {link for link, each in owners.items() if each == circuit}
            assert mine == set(held.links), "not all links of a way in one bin"
            assert here < held.deadline
            held.done += 1
        for node, most in QUBITS.items():
            busy = {who for link, who in owners.items() if who is not None and node in ENDS[link]}
            assert len(busy) <= most
        following = self.origin + (here + 1) * BIN
        while (deadline := self.machine.deadline) is not None and deadline <= following:
            assert deadline >= self.now
            self.now = deadline
            self._over()
            self.step(TICK)
        self.now = following
        for circuit, held in list(self.held.items()):
            if self.bin >= held.deadline:
                assert held.done >= held.need, f"{circuit} was promised {held.need} bins"
                held.need = 0
        self._over()

    def _over(self) -> None:
        for circuit, held in list(self.held.items()):
            if self.now >= held.lease_until:
                del self.held[circuit]

    def left(self, circuit: CircuitId, start: int) -> int:
        """What it still needs from bin `start` on, if all goes as was announced until then."""
        held = self.held[circuit]
        announced = sum(
            owner(self.plans.get(held.links[0], ()), number) == circuit
            for number in range(self.bin, start)
        )
        return held.need - held.done - announced

    def asked(self, message: BinsAsk, need: int) -> BinsAnswer:
        start, circuit = self.bin + LEAD_BINS, message.circuit
        links = tuple(hop.link for hop in message.hops)
        deadline = (self.now + message.within_ns - self.origin) // BIN
        others = [
            (held.links, self.left(each, start), held.deadline) for each, held in self.held.items()
        ]
        self.step(FromAsker(circuit.origin, message))
        answer = self.answers[-1]
        wanted = [(links, need, deadline), *(each for each in others if each[1] > 0)]
        room = feasible(start, tuple(wanted))
        if answer.code is None:
            assert room
            assert answer.bins == need
            lease = self.now + LEASE
            self.held[circuit] = Held(links, need, deadline, lease)
        else:
            assert answer.code is ErrorCode.NO_TIME
            if not answer.reason.endswith("earliest deadline first"):
                assert not room, answer.reason
        return answer

    def release(self, circuit: CircuitId) -> None:
        held = self.held.pop(circuit)
        self.step(FromAsker(circuit.origin, BinsRelease(circuit)))
        for link in held.links:
            coming = (run for run in self.plans[link] if run.end > self.bin)
            assert all(run.circuit != circuit for run in coming)


def owner(runs: tuple[CircuitRun, ...], number: int) -> CircuitId | None:
    found = [run.circuit for run in runs if run.begin <= number < run.end]
    assert len(found) <= 1
    return found[0] if found else None


def feasible(start: int, asks: tuple[tuple[tuple[str, ...], int, int], ...]) -> bool:
    """Try, bin by bin, every set of asks that can be at work together. Links, need, deadline."""
    sets = []
    for choice in product((False, True), repeat=len(asks)):
        mine = [each[0] for each, taken in zip(asks, choice, strict=True) if taken]
        links = [link for way in mine for link in way]
        if len(links) > len(set(links)):
            continue
        at = [{node for link in way for node in ENDS[link]} for way in mine]
        if all(sum(node in nodes for nodes in at) <= most for node, most in QUBITS.items()):
            sets.append(choice)

    @cache
    def search(now: int, left: tuple[int, ...]) -> bool:
        if not any(left):
            return True
        if any(now + n > each[2] for n, each in zip(left, asks, strict=True) if n):
            return False
        return any(
            search(now + 1, tuple(n - c for n, c in zip(left, choice, strict=True)))
            for choice in sets
            if all(n >= c for n, c in zip(left, choice, strict=True))
        )

    return search(start, tuple(each[1] for each in asks))


DONE = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "live", "live", "release", "again", "restart", "flap"]),
    st.integers(0, len(WAYS) - 1),
    st.integers(1, 4),
    st.integers(1, 14),
    st.integers(0, BIN - 1),
)


@given(st.lists(DONE, max_size=24))
@settings(max_examples=200, deadline=None)
def test_what_is_granted_is_kept_and_what_is_called_impossible_is_so_whatever_happens(
    story: list[tuple[str, int, int, int, int]],
) -> None:
    """Bins never overlap at a link or node, all links of a way go together, deadlines are kept."""
    model, number, boot = Model(), 0, 1
    for what, way, need, within, later in story:
        live_on = list(model.held)
        if what == "ask" and len(model.held) < 4:
            number += 1
            origin, links = list(WAYS)[way]
            model.now += min(later, BIN - 1 - (model.now - model.origin) % BIN)
            model.asked(ask(CircuitId(origin, 7, number), links, need, within), need)
        elif what == "live":
            for _ in range(need):
                model.live()
        elif what == "release" and live_on:
            model.release(live_on[way % len(live_on)])
        elif what == "again" and live_on:
            circuit = live_on[way % len(live_on)]
            held = model.held[circuit]
            if model.machine.report(model.now)[live_on.index(circuit)]["bins"]:
                model.step(FromAsker(circuit.origin, ask(circuit, held.links, need, within)))
                assert model.answers[-1].code is None
                held.lease_until = model.now + LEASE
        elif what == "flap" and model.plans:
            plans = dict(model.plans)
            model.heard.clear()
            for node in NODES[:-1]:
                model.step(NodeGone(node))
                model.step(NodeThere(node, 7))
            for link, runs in plans.items():
                coming = tuple(run for run in runs if run.end > model.bin)
                assert link in model.heard or not coming, "who comes up hears its plans"
                assert tuple(r for r in model.plans[link] if r.end > model.bin) == coming
        elif what == "restart":
            boot += 1
            model = restarted(model, boot)
        assert set(model.machine.granted) == set(model.held)
    for _ in range(40):
        model.live()
    assert not model.held
    assert model.machine.granted == ()
    assert model.machine.deadline is None, "nothing is left to do"
    assert not model.machine._ends, "nothing is left of any link"


def restarted(before: Model, boot: int) -> Model:
    """A new life knows nothing; each head-end asks again for what is missing, in its old order."""
    model = Model(boot, before.now)
    for circuit, held in before.held.items():
        left = held.need - held.done
        within = held.deadline - before.bin
        if left > 0 and within > 0:
            model.asked(ask(circuit, held.links, left, within), left)
    return model


def test_a_refusal_is_said_at_once_with_the_link_that_is_full_and_why() -> None:
    model = Model()
    model.asked(ask(CircuitId("a", 7, 1), ("ab", "bc"), 6, 10), 6)
    answer = model.asked(ask(CircuitId("d", 7, 2), ("cd", "bc", "ab"), 4, 10), 4)
    assert (answer.code, answer.link) == (ErrorCode.NO_TIME, "bc")
    assert "link ab would need 10 bins from bin 2 to before bin 10, where it has 8" in answer.reason


def test_what_is_released_is_there_for_the_next_who_was_refused_before() -> None:
    model = Model()
    first, second = CircuitId("a", 7, 1), CircuitId("d", 7, 2)
    model.asked(ask(first, ("ab", "bc"), 8, 10), 8)
    wanted = ask(second, ("cd", "bc", "ab"), 5, 10)
    assert model.asked(wanted, 5).code is ErrorCode.NO_TIME
    model.release(first)
    assert model.asked(wanted, 5).code is None


def test_nobody_loses_bins_because_somebody_else_gives_up_his() -> None:
    """Links that go together: without the third the order of deadlines would be late for another.

    Found by search, around a ring of eight: first link, number of links, bins, deadline.
    """
    ring = "abcdefgh"
    wanted = [("c", 4, 2, 10), ("g", 5, 5, 19), ("d", 2, 5, 19), ("d", 1, 2, 4)]
    wanted += [("f", 4, 4, 13), ("e", 3, 4, 19), ("a", 3, 5, 10)]
    machine = Controller("z", 1, TimeDivision("z", BIN, LEASE, tuple(ring)))
    needs = {}
    for number, (first, count, need, deadline) in enumerate(wanted):
        way = [ring[(ring.index(first) + place) % 8] for place in range(count + 1)]
        hops = tuple(BinHop(f"{one}{other}", other) for one, other in pairwise(way))
        circuit = CircuitId(first, 7, number)
        times = need * BIN, (LEAD_BINS + deadline) * BIN, 0, False
        needs[circuit] = need, deadline, hops[0].link
        (answer,) = [
            action.message
            for action in machine.handle(FromAsker(first, BinsAsk(circuit, hops, *times)), 0)
            if type(action) is Send and type(action.message) is BinsAnswer
        ]
        assert answer.code is None
    machine.handle(FromAsker("d", BinsRelease(CircuitId("d", 7, 3))), 0)
    del needs[CircuitId("d", 7, 3)]
    for circuit, (need, deadline, link) in needs.items():
        runs = [run for run in machine.runs if run.id == circuit and run.link == link]
        assert sum(run.end - run.begin for run in runs) == need
        assert max(run.end for run in runs) <= LEAD_BINS + deadline


def test_a_silent_head_end_loses_its_bins_with_its_lease_and_a_restarted_one_at_once() -> None:
    model = Model()
    model.asked(ask(CircuitId("a", 7, 1), ("ab",), 30, 60), 30)
    model.asked(ask(CircuitId("d", 7, 2), ("cd",), 30, 60), 30)
    model.step(NodeGone("d"))
    granted = model.machine.granted
    assert len(granted) == 2
    del model.held[CircuitId("d", 7, 2)]
    model.step(NodeThere("d", 8))
    granted = model.machine.granted
    assert granted == (CircuitId("a", 7, 1),)
    for _ in range(12):
        model.live()
    granted = model.machine.granted
    assert granted == ()
    assert model.plans == {"ab": (), "cd": ()}


def test_a_dry_ask_is_answered_like_another_and_leaves_nothing() -> None:
    model = Model()
    dry = ask(CircuitId("a", 7, 1), ("ab",), 8, 10, dry=True)
    for _ in range(3):
        model.step(FromAsker("a", dry))
        assert (model.answers[-1].code, model.answers[-1].bins) == (None, 8)
    model.asked(ask(CircuitId("a", 7, 2), ("ab",), 5, 10), 5)
    model.step(FromAsker("a", dry))
    assert model.answers[-1].code is ErrorCode.NO_TIME
    assert model.machine.granted == (CircuitId("a", 7, 2),)


def test_time_that_is_lost_in_each_bin_makes_more_of_them_and_too_much_is_refused() -> None:
    model = Model()
    circuit = CircuitId("a", 7, 1)
    model.step(FromAsker("a", ask(circuit, ("ab",), 3, 30, lost_ns=BIN // 4)))
    assert model.answers[-1].bins == 4
    model.step(FromAsker("b", ask(CircuitId("b", 7, 1), ("bc",), 3, 30, lost_ns=BIN)))
    assert model.answers[-1].code is ErrorCode.UNSUPPORTED
    assert "too short" in model.answers[-1].reason


def test_masters_hear_the_clock_soon_after_a_plan_and_then_ever_more_rarely() -> None:
    model = Model()
    circuit = CircuitId("a", 7, 1)
    model.step(FromAsker("a", ask(circuit, ("ab",), 200, 300)))
    model.held[circuit] = Held(("ab",), 200, 300, model.now + LEASE)
    for _ in range(140):
        if model.bin % 6 == 0:
            model.step(FromAsker("a", ask(circuit, ("ab",), 200, 300)))
            model.held[circuit].lease_until = model.now + LEASE
        model.live()
    gaps = [b - a for a, b in zip(model.clocks, model.clocks[1:], strict=False)]
    assert model.clocks[0] == 1
    assert gaps == [2, 4, 8, 16, CLOCK_BINS, CLOCK_BINS, CLOCK_BINS]


def test_who_has_used_up_its_bins_may_ask_for_more() -> None:
    model = Model()
    circuit = CircuitId("a", 7, 1)
    model.asked(ask(circuit, ("ab",), 2, 30), 2)
    for _ in range(5):
        model.live()
    del model.held[circuit]
    assert model.asked(ask(circuit, ("ab",), 3, 20), 3).bins == 3


A, B = CircuitId("a", 7, 1), CircuitId("b", 7, 1)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("b", ask(A, ("ab",), 1, 9)),
        ("b", BinsRelease(A)),
        ("a", ask(A, ("ab",), 0, 9)),
        ("a", ask(A, ("ab",), 1, 0)),
        ("a", ask(A, ("ab",), 1, 9, lost_ns=-1)),
        ("a", ask(A, ("ab",), 1 << 60, 9)),
        ("a", BinsAsk(A, (), BIN, 9 * BIN, 0, False)),
        ("a", BinsAsk(A, (BinHop("ab", "b"), BinHop("ba", "a")), BIN, 9 * BIN, 0, False)),
        ("a", BinsAsk(A, (BinHop("ab", "b"), BinHop("ab", "c")), BIN, 9 * BIN, 0, False)),
        ("a", BinsAsk(A, (BinHop("bc", "b"),), BIN, 9 * BIN, 0, False)),
        ("b", ask(B, ("bc", "cd"), 1, 9)),
    ],
)
def test_an_ask_that_cannot_be_is_refused_and_changes_nothing(node: str, message: Any) -> None:
    model = Model()
    model.asked(ask(B, ("bc",), 2, 9), 2)
    before = model.machine.report(model.now), model.machine.runs
    with pytest.raises(RemoteProtocolError):
        model.step(FromAsker(node, message))
    assert (model.machine.report(model.now), model.machine.runs) == before
