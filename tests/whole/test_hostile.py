"""What no honest party sends, in the middle of honest traffic on whole networks.

A liar here is a host whose own layers are honest, and into whose adjacencies the test posts
messages: they arrive with right names, boot ids and acknowledgements. A forger has no adjacency
at all: the test makes whole datagrams, or replays those that it has recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import attrs
import pytest

from qstack.errors import ErrorCode
from qstack.machine import DRAINED, Arrived
from qstack.messages.application import (
    ApplyGate,
    Cancel,
    FreeQubit,
    MeasureQubit,
)
from qstack.messages.common import PLAIN_Z, Basis, PairId, PairKind, Qubit, RequestId
from qstack.messages.control import Hello
from qstack.messages.devices import (
    Abort,
    DeviceState,
    DeviceStatus,
    EmitterArm,
    EmitterHeralded,
    Gate,
    MemoryMeasure,
    MemoryResult,
    StationOpen,
)
from qstack.messages.link import (
    LinkAdd,
    LinkAnswer,
    LinkClose,
    LinkCommit,
    LinkEstimate,
    LinkExpire,
    LinkOutcome,
    LinkRequest,
    LinkSetting,
    LinkStation,
    LinkTest,
)
from qstack.messages.physical import Arm, ArmReply, Beacon, Confirm, Herald, Success, Verdict
from qstack.messages.wire import KIND_OF, Datagram, Layer
from qstack.sim.heap import Wire
from qstack.stack.peers import kinds_between
from qstack.testing import Party, check_same_pairs, hold, terms
from qstack.units import MILLISECOND, SECOND
from tests.whole.rig import Lab, Rig

M = TypeVar("M")
NOBODY = RequestId("nobody", 7, 1)
PAIRS = 40


def tell(rig: Rig, liar: str, victim: str, *lies: Any) -> None:
    """Let a host say these things to its peer, now and in one bundle."""
    host = rig.net.host(liar)
    for lie in lies:
        host.neighbours.post(victim, lie, rig.heap.now)
    rig.heap.post(liar, DRAINED)


def refused(rig: Rig, name: str) -> int:
    """How much of what came in a host has refused so far."""
    counters = rig.net.host(name).neighbours.counters
    return cast(int, counters["misplaced"] + counters["remote-errors"])


def in_traffic(rig: Rig, mischief: Callable[[int], None], times: int = 10) -> int:
    """Run a request of PAIRS pairs and do the mischief again and again while it runs.

    Returns how many pairs it delivered, after all that must hold was checked.
    """
    before = len(rig.alice.done)
    wanted = len(rig.alice.pairs) + PAIRS
    rig.alice.keep(terms("bob", PAIRS))
    for turn in range(times):
        reached = wanted - PAIRS + 1 + turn * PAIRS // times
        rig.run(lambda reached=reached: len(rig.alice.pairs) >= reached)
        mischief(turn)
    rig.run(lambda: len(rig.alice.done) > before and len(rig.bob.done) > before)
    rig.settle()
    assert not rig.alice.ended
    assert not rig.bob.ended
    assert not rig.alice.expired
    assert not rig.bob.expired
    assert rig.alice.done[-1].delivered == rig.bob.done[-1].delivered == PAIRS
    check_same_pairs(rig.alice, rig.bob)
    assert len(rig.alice.pairs) == wanted
    assert rig.free_slots() == (4, 4)
    return rig.alice.done[-1].delivered


def latest(rig: Rig, kind: type[M], source: str, target: str) -> Callable[[], M]:
    """Listen from now on; return what gives the latest message of this kind between the two."""
    heard: list[M] = []

    def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
        if name == target and type(event) is Arrived:
            datagram = event.datagram
            if datagram.header.source == source:
                heard.extend(f.body for f in datagram.frames if type(f.body) is kind)

    rig.heap.watch = watch
    return lambda: heard[-1]


def request(origin: str, number: int = 1) -> LinkRequest:
    """A request that nobody made."""
    return LinkRequest(
        RequestId(origin, 7, 1),
        PairKind.KEEP,
        number,
        0.0,
        0,
        0,
        0,
        1.0,
        False,
        False,
        False,
        PLAIN_Z,
        PLAIN_Z,
        None,
    )


# --- arms ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lie",
    [
        {"number": 1 << 40},
        {"number": 0},
        {"number": 1 << 63},
        {"credits": 1 << 40},
        {"credits": -1},
        {"query": 1 << 40},
        {"herald_sequence": 1 << 30},
        {"first_cycle": 1 << 70},
        {"queue_version": -1},
        {"link": "elsewhere"},
        {"setting": "none such"},
        {"request": NOBODY},
    ],
    ids=str,
)
def test_an_arm_that_cannot_be_is_refused_and_the_next_honest_one_counts(
    lie: dict[str, Any],
) -> None:
    """Arms are soft: the lie takes the place of bob's last one until bob's next."""
    rig = Rig(Lab(), seed=61)
    arm_of_bob = latest(rig, Arm, "bob", "station")

    def mischief(turn: int) -> None:
        tell(rig, "bob", "station", attrs.evolve(cast(Any, arm_of_bob()), **lie))

    in_traffic(rig, mischief)
    assert refused(rig, "station") > 0


def test_credits_for_memories_that_are_not_there_make_no_pairs() -> None:
    """Bob offers a thousand more than it has: within what could be true, so it is believed.

    It harms bob's own link alone, and not for longer than until the next arm of another number.
    """
    rig = Rig(Lab(), seed=62)
    arm_of_bob = latest(rig, Arm, "bob", "station")
    rig.alice.keep(terms("bob", PAIRS))
    rig.run(lambda: len(rig.alice.pairs) >= PAIRS // 2)
    arm = arm_of_bob()
    tell(rig, "bob", "station", attrs.evolve(cast(Any, arm), credits=arm.credits + 1_000))
    rig.settle()
    assert len(rig.alice.pairs) <= PAIRS
    rig.net.crash("bob")
    rig.net.start("bob")
    rig.bob.reached = False
    rig.run(lambda: rig.alice.finished() and rig.bob.reached)
    rig.bob.accept()
    rig.settle()
    wanted = len(rig.alice.done) + 1
    rig.alice.keep(terms("bob", PAIRS))
    rig.run(lambda: len(rig.alice.done) == wanted)
    rig.settle()
    assert rig.alice.done[-1].delivered == PAIRS
    assert rig.free_slots() == (4, 4)


# --- heralds, and other words of the wrong party --------------------------------------------


def success(sequence: int) -> Success:
    """A success that no station has seen."""
    return cast(Success, _evolved(Success, sequence=sequence))


def _evolved(kind: Any, **changes: Any) -> Any:
    """A record of this kind with plausible values for the fields that are not named."""
    plausible = {
        "link": "ab",
        "request": NOBODY,
        "kind": PairKind.KEEP,
        "setting": "alpha-0.1",
        "verdict": Verdict.ACCEPT,
        "successes": (),
        "unconfirmed": (),
        "voids": (),
        "tags_ps": (0, 0),
        "reason": "",
        "bell": 2,
        "clicks": 1,
    }
    values = {field.name: plausible.get(field.name, 1) for field in attrs.fields(kind)}
    return kind(**{**values, **changes})


def test_heralds_of_one_who_is_no_station_change_nothing() -> None:
    rig = Rig(Lab(), seed=63)

    def mischief(turn: int) -> None:
        lies = (
            _evolved(Herald, successes=(success(turn + 1),)),
            _evolved(ArmReply),
            _evolved(Beacon),
            _evolved(Arm),
            _evolved(EmitterHeralded, device="alice.emitter"),
            DeviceState("alice.emitter", DeviceStatus.FAULT, "says bob", 0, 0),
        )
        tell(rig, "bob", "alice", *lies)

    in_traffic(rig, mischief)
    assert refused(rig, "alice") >= 20


def test_what_only_the_other_party_of_a_station_says_is_refused() -> None:
    """A node that heralds to its station, and a station that arms at its node."""
    rig = Rig(Lab(), seed=65)
    of_a_station = (Herald, ArmReply, Beacon)
    of_an_end = (Arm, Confirm)

    def mischief(turn: int) -> None:
        tell(rig, "bob", "station", *(_evolved(kind) for kind in of_a_station))
        tell(rig, "station", "bob", *(_evolved(kind) for kind in of_an_end))

    in_traffic(rig, mischief)
    assert refused(rig, "station") == 10 * len(of_a_station)
    assert refused(rig, "bob") == 10 * len(of_an_end)


def test_commands_are_heard_by_devices_alone_and_their_events_by_nobody_of_them() -> None:
    """A host of devices that arms its node would end the node's process."""
    for role in ("node", "station"):
        from_devices, to_devices = kinds_between(role, "world"), kinds_between("world", role)
        assert {EmitterHeralded, DeviceState, MemoryResult} <= from_devices
        assert {EmitterArm, StationOpen, MemoryMeasure, Abort} <= to_devices
        assert not from_devices & to_devices
        both = {kind.cls for kind in KIND_OF.values() if kind.layer is Layer.DEVICE}
        assert from_devices | to_devices == both


@pytest.mark.parametrize(
    "lie", [{"herald_sequence": 1 << 30}, {"credits": 1 << 40}, {"link": "elsewhere"}], ids=str
)
def test_a_confirmation_that_cannot_be_is_refused(lie: dict[str, Any]) -> None:
    rig = Rig(Lab(), seed=66)
    confirm_of_bob = latest(rig, Confirm, "bob", "station")

    def mischief(turn: int) -> None:
        if turn:  # the first comes before bob has confirmed anything
            tell(rig, "bob", "station", attrs.evolve(cast(Any, confirm_of_bob()), **lie))

    in_traffic(rig, mischief)
    assert refused(rig, "station") == 9


def test_a_station_that_says_what_cannot_be_is_refused() -> None:
    """Successes that nobody offered memory for, of other links, of the future, or twice."""
    rig = Rig(Lab(), seed=64)
    herald_of = latest(rig, Herald, "station", "alice")

    def mischief(turn: int) -> None:
        honest = cast(Any, herald_of())
        last, cycle = honest.last_sequence, honest.cycle
        true = attrs.evolve(cast(Any, success(last + 1)), cycle=cycle)
        far = attrs.evolve(true, sequence=last + 1_000_000)
        lies: tuple[dict[str, Any], ...] = (
            {"link": "elsewhere"},
            {"last_sequence": far.sequence, "successes": (far,)},
            {"last_sequence": last + 2, "successes": (true, true)},
            {"last_sequence": last + 1, "successes": (attrs.evolve(true, mode=99),)},
            {"last_sequence": last + 1, "successes": (attrs.evolve(true, cycle=1 << 60),)},
            {"last_sequence": last + 1, "successes": (attrs.evolve(true, bell=9),)},
            {"cycle": 5, "decided_cycle": 6},
        )
        tell(rig, "station", "alice", *(attrs.evolve(honest, **lie) for lie in lies))
        void = LinkExpire("ab", rig.net.host("station").boot, 1, 1, "says the station")
        tell(rig, "station", "alice", void)

    in_traffic(rig, mischief)
    # Three of the eight name a success that is told already when they come, and go unread.
    assert refused(rig, "alice") >= 50


def test_words_about_pairs_and_requests_that_are_not_there_change_nothing() -> None:
    """Foreign pair ids, requests of nobody, and the master's words from the one who is not it."""
    rig = Rig(Lab(), seed=65)

    def mischief(turn: int) -> None:
        version = rig.net.host("alice").link["ab"].report()["queue_version"]
        lies = (
            LinkExpire("ab", 4_711, 1, 1 << 10, "foreign"),
            LinkExpire("ab", 4_711, 9, 1, "backwards"),
            LinkExpire("ab", rig.net.host("station").boot, 1, 1 << 40, "all of them"),
            LinkOutcome("ab", 4_711, turn, Basis.X, 1),
            LinkOutcome("ab", 4_711, turn, Basis.X, 7),
            LinkTest("ab", 4_711, turn, 1, 5),
            LinkStation("ab", 4_711, 3, False),
            LinkAnswer("ab", NOBODY, None, ""),
            LinkClose("ab", NOBODY, 4_711, 3, True, 0),
            LinkSetting("ab", version + 1, NOBODY, "alpha-0.1"),
            LinkCommit("ab", version + 1, 0, request("alice"), "alpha-0.1", 0.0, 1.0),
            LinkEstimate("ab", version + 1, "alpha-0.1", 1, ((1, 0.0, 0.0, 0.0),) * 3),
            LinkAdd("ab", request("alice")),
            LinkAdd("ab", request("carol")),
            LinkAdd("elsewhere", request("bob")),
        )
        tell(rig, "bob", "alice", *lies)

    in_traffic(rig, mischief)
    assert refused(rig, "alice") >= 60


def test_a_user_has_no_hand_in_anothers_qubits_and_requests() -> None:
    """Eve knows slots, generations and request ids of alice's user, and gets nowhere."""
    rig = Rig(Lab(t2_ns=10 * SECOND), seed=66)
    eve = Party(rig.heap, "user-eve", "alice")
    rig.net.user(eve.name, ["alice"], eve.listen)
    rig.run(lambda: eve.reached)
    rig.alice.policy = hold
    reference = rig.alice.keep(terms("bob", PAIRS))
    rig.run(lambda: len(rig.alice.holding) == 4)
    assert isinstance(rig.alice.created[reference], RequestId)
    for qubit in (*rig.alice.holding.values(), Qubit(99, 1), Qubit(-1, 0)):
        eve.say(MeasureQubit(eve.reference(), qubit, PLAIN_Z))
        eve.say(ApplyGate(eve.reference(), Gate.X, qubit, None, 0.0))
        eve.say(FreeQubit(qubit))
    eve.say(Cancel(eve.reference(), rig.alice.created[reference]))
    rig.settle(50 * MILLISECOND)
    assert not eve.measured
    assert {answer.code for answer in eve.answers.values()} <= {ErrorCode.CREATE, ErrorCode.OTHER}
    assert len(rig.alice.holding) == 4
    rig.alice.policy = rig.bob.policy
    for pair in list(rig.alice.holding):
        rig.alice.release(pair)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    rig.settle()
    assert rig.alice.done[0].delivered == PAIRS
    check_same_pairs(rig.alice, rig.bob)
    assert rig.free_slots() == (4, 4)


# --- datagrams ------------------------------------------------------------------------------


def record_datagrams(rig: Rig) -> list[tuple[str, Arrived]]:
    """Let the heap remember every datagram that reaches a host, with the host."""
    taken: list[tuple[str, Arrived]] = []

    def watch(name: str, event: Any, now: int, actions: list[Any]) -> None:
        if type(event) is Arrived:
            taken.append((name, event))

    rig.heap.watch = watch
    return taken


def changed(arrived: Arrived, **header: Any) -> Arrived:
    """The datagram with another header."""
    datagram = arrived.datagram
    other = attrs.evolve(datagram.header, **header)
    return Arrived(arrived.port, Datagram(other, datagram.frames))


def test_old_datagrams_come_again_and_again_and_do_nothing() -> None:
    """Every third datagram of a run is replayed twice, later, among those of the next."""
    rig = Rig(Lab(), seed=67)
    taken = record_datagrams(rig)
    in_traffic(rig, lambda turn: None)
    rig.heap.watch = None
    old = taken[::3]

    def mischief(turn: int) -> None:
        for name, arrived in old[turn::10]:
            rig.heap.post(name, arrived)
            rig.heap.post(name, arrived, 300_000)

    assert in_traffic(rig, mischief) == PAIRS


def test_datagrams_of_a_former_life_do_nothing_to_the_next() -> None:
    rig = Rig(Lab(), seed=68)
    taken = record_datagrams(rig)
    in_traffic(rig, lambda turn: None)
    rig.heap.watch = None
    old = [(n, a) for n, a in taken if "bob" in (n, a.datagram.header.source)]
    rig.net.crash("bob")
    rig.net.start("bob")
    rig.bob.reached = False
    rig.run(lambda: rig.bob.reached)
    rig.bob.accept()
    rig.settle()

    def mischief(turn: int) -> None:
        for name, arrived in old[turn::20]:
            rig.heap.post(name, arrived)

    assert in_traffic(rig, mischief) == PAIRS


def test_datagrams_for_others_on_wrong_ports_and_of_unknown_lives_are_dropped() -> None:
    rig = Rig(Lab(), seed=69)
    taken = record_datagrams(rig)
    everybody = ("alice", "bob", "station")

    def mischief(turn: int) -> None:
        for name, arrived in taken[-30:]:
            if name not in everybody:
                continue
            header = arrived.datagram.header
            for other in everybody:
                if other not in (name, header.source):
                    rig.heap.post(other, arrived)
            other_port = "user" if arrived.port == "peer" else "peer"
            rig.heap.post(name, Arrived(other_port, arrived.datagram))
            rig.heap.post(name, changed(arrived, source="mallory"))
            if all(type(frame.body) is not Hello for frame in arrived.datagram.frames):
                # A hello that echoes my life begins a new one of the peer: whoever reads along
                # can do that, and only keys will keep him out.
                rig.heap.post(name, changed(arrived, source_boot=header.source_boot ^ 1))
            rig.heap.post(name, changed(arrived, destination_boot=header.destination_boot ^ 1))
            rig.heap.post(name, changed(arrived, destination="mallory"))
            rig.heap.post(name, changed(arrived, version=99))

    in_traffic(rig, mischief)
    for name in everybody:
        neighbours = rig.net.host(name).neighbours
        assert neighbours.counters["strangers"] > 0
        # The cases of unknown lives, between others, and of versions that nobody agreed on.
        met = neighbours.report().values()
        assert sum(each["strangers"] for each in met) > 0
        assert sum(each["refused"] for each in met) > 0
        assert all(each["losses"] == 0 for each in met)


# --- crashes --------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["alice", "bob"])
def test_after_a_crash_both_ends_know_the_same_pairs_but_for_what_expired(victim: str) -> None:
    """The horizon outlasts the time after which a silent peer is lost, as it does in files."""
    for seed in range(5):
        one, other = told_after_crash(victim, 70 + seed)
        assert one == other
        # What expires is of the request that was running.
        assert len(one) >= PAIRS


def told_after_crash(victim: str, seed: int) -> list[list[PairId]]:
    """Crash a node in the middle of a request, wires lossy; return what was told at each end."""
    rig = Rig(Lab(horizon_ns=200 * MILLISECOND), seed=seed)
    rig.heap.set_default(Wire(50_000, 100_000, 0.1, 0.05))
    for number in (PAIRS, 10 * PAIRS):
        rig.alice.keep(terms("bob", number))
    both = (rig.alice, rig.bob)
    rig.run(lambda: all(len(p.done) >= 1 and len(p.pairs) >= 5 * PAIRS // 4 for p in both))
    rig.net.crash(victim)
    rig.settle()
    void = {expired.pair for party in both for expired in party.expired}
    return [
        [pair.info.pair for _, pair in party.pairs if pair.info.pair not in void] for party in both
    ]
