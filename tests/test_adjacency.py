"""Two adjacencies and a fake wire: what arrives, in which order, and when."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qstack.adjacency import (
    TABLE,
    Adjacency,
    Delivered,
    Dormant,
    Open,
    PeerLost,
    PeerUp,
    Post,
    Shut,
    State,
)
from qstack.codec import encode_body
from qstack.errors import LocalProtocolError
from qstack.machine import DRAINED, TICK, Arrived, Transmit
from qstack.messages.application import Status
from qstack.messages.control import Bye, Credit, KeepAlive
from qstack.messages.link import LinkExpire, LinkTest
from qstack.messages.physical import Arm, Beacon
from qstack.messages.wire import MAX_MESSAGE, VERSION, Frame
from qstack.units import MILLISECOND, SECOND
from tests.wire_fakes import (
    ALICE,
    BOB,
    HELLO_INTERVAL,
    KEEPALIVE,
    FakeWire,
    Faults,
    check_ordered_and_whole,
    forged,
    frame,
    hello_frame,
    numbers,
    parameters,
    reliable,
    soft,
    timed,
    up,
)

# --- hello ------------------------------------------------------------------------------


def test_both_ends_come_up_and_say_what_the_peer_is() -> None:
    wire = FakeWire()
    wire.add("alice", "bob", ALICE, features=("seal", "bulk"), datasheets=(("em", "NV"),))
    wire.add("bob", "alice", BOB, features=("bulk", "other"), role="station")
    wire.settle()
    assert wire.changes("bob") == [PeerUp("alice", ALICE, "node", ("bulk",), (("em", "NV"),))]
    assert wire.changes("alice") == [PeerUp("bob", BOB, "station", ("bulk",), ())]
    assert wire.ends["alice"].deadline is None
    assert wire.ends["bob"].deadline is None


def test_two_callers_come_up_as_one_adjacency() -> None:
    wire = FakeWire()
    wire.pair(initiate=True)
    wire.settle()
    assert [type(change) for change in wire.changes("alice")] == [PeerUp]
    assert [type(change) for change in wire.changes("bob")] == [PeerUp]


@pytest.mark.parametrize("seed", range(10))
def test_the_handshake_survives_the_loss_of_half_of_all_datagrams(seed: int) -> None:
    wire = FakeWire(Faults(loss=0.5, duplicate=0.2, jitter_ns=200 * MILLISECOND), seed)
    wire.pair()
    wire.settle()
    assert [type(change) for change in wire.changes("alice")] == [PeerUp]
    assert [type(change) for change in wire.changes("bob")] == [PeerUp]


def test_a_caller_repeats_its_hello_at_its_interval_and_sends_nothing_else() -> None:
    wire = FakeWire()
    wire.add("alice", "bob", ALICE)
    wire.run(10 * HELLO_INTERVAL - 1)
    assert len(wire.sent) == 10
    assert {tuple(f.kind for f in datagram.frames) for _, datagram in wire.sent} == {(1,)}


def test_a_peer_without_a_common_version_is_lost_with_that_reason_once() -> None:
    wire = FakeWire()
    wire.add("alice", "bob", ALICE)
    for number in (1, 2):
        wire.inject("alice", forged(number, hello_frame(BOB, ALICE, (7, 9)), boots=(BOB, 0)))
    (lost,) = wire.changes("alice")
    assert isinstance(lost, PeerLost)
    assert "no common version" in lost.reason
    assert wire.ends["alice"].state is State.CALLING


def test_a_hello_that_echoes_nothing_of_mine_confirms_nobody() -> None:
    wire = FakeWire()
    wire.add("alice", "bob", ALICE)
    wire.inject("alice", forged(1, hello_frame(BOB, 0), boots=(BOB, 0)))
    wire.inject("alice", forged(2, hello_frame(BOB, ALICE + 1), boots=(BOB, ALICE)))
    assert wire.ends["alice"].state is State.CALLING


# --- delivery ---------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.0, 0.01, 0.1, 0.3])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("on_wire", [True, False])
def test_everything_arrives_as_its_kind_promises(loss: float, seed: int, on_wire: bool) -> None:
    faults = Faults(loss, duplicate=0.1, jitter_ns=MILLISECOND)
    wire = up(faults, seed, wire=on_wire)
    for number in range(200):
        for name in ("alice", "bob"):
            bundle = [reliable(channel, number) for channel in ("a", "b", "c")]
            wire.post(name, *bundle, soft("k", number + 1), timed(number))
        wire.run(MILLISECOND)
    wire.settle()
    for name in ("alice", "bob"):
        check_ordered_and_whole(wire, name, {"a": 200, "b": 200, "c": 200})
        states = numbers(wire, name, Arm)["k"]
        assert states == sorted(set(states))
        assert states[-1] == 200
        cycles = [m.cycle for m in wire.delivered(name) if type(m) is Beacon]
        assert len(cycles) == len(set(cycles)) <= 200
        assert len(cycles) >= 200 * (1 - loss) - 45  # five standard deviations at loss 0.3
    assert all(len(wire.changes(name)) == 1 for name in wire.ends)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    faults=st.builds(
        Faults,
        st.floats(0, 0.4),
        st.floats(0, 0.5),
        st.integers(0, 20 * MILLISECOND),
        st.integers(0, 20 * MILLISECOND),
    ),
    posts=st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.integers(0, 5 * MILLISECOND)),
        max_size=20,
    ),
)
def test_reliable_channels_are_whole_and_ordered_on_any_wire(
    seed: int, faults: Faults, posts: list[tuple[str, int, int]]
) -> None:
    wire = FakeWire(faults, seed)
    wire.pair()
    wire.settle()
    posted = {"a": 0, "b": 0}
    for channel, count, pause in posts:
        start = posted[channel]
        wire.post("alice", *(reliable(channel, start + each) for each in range(count)))
        posted[channel] += count
        wire.run(pause)
    wire.settle()
    check_ordered_and_whole(wire, "bob", posted)


def test_a_channel_that_lost_a_frame_does_not_hold_up_another() -> None:
    wire = up()
    wire.lose = lambda datagram: any(
        f.stream == "link/a" and f.sequence == 1 for f in datagram.frames
    )
    wire.post("alice", reliable("a", 0))
    wire.post("alice", reliable("a", 1), reliable("b", 0))
    wire.run(SECOND)
    assert numbers(wire, "bob", LinkExpire) == {"b": [0]}
    wire.lose = lambda datagram: False
    wire.settle()
    assert numbers(wire, "bob", LinkExpire) == {"b": [0], "a": [0, 1]}


def test_a_lost_datagram_is_noticed_by_its_followers_before_its_time_is_over() -> None:
    wire = up(retransmit_floor_ns=SECOND)
    start = wire.now
    unlucky = wire.ends["alice"].counters["sent"] + 1
    wire.lose = lambda datagram: (
        datagram.header.source == "alice" and datagram.header.number == unlucky
    )
    for number in range(6):
        wire.post("alice", reliable("a", number))
    wire.run(5 * MILLISECOND)
    check_ordered_and_whole(wire, "bob", {"a": 6})
    last = max(instant for instant, _, event in wire.log if type(event) is Delivered)
    assert last - start < MILLISECOND  # the delay of an acknowledgement that nothing hurries


def test_a_soft_state_is_repeated_until_it_arrived_and_then_never_again() -> None:
    wire = up()
    wire.cut.add("bob")
    wire.post("alice", soft("k", 1))
    wire.run(20 * MILLISECOND)
    wire.post("alice", soft("k", 2))
    wire.run(SECOND)
    wire.cut.clear()
    wire.settle()
    assert numbers(wire, "bob", Arm) == {"k": [2]}
    assert wire.ends["alice"].deadline is None


def test_an_older_soft_state_that_arrives_late_is_dropped() -> None:
    wire = up()
    wire.inject("alice", forged(50, frame(soft("k", 5), 5, "physical/k#10")))
    wire.inject("alice", forged(49, frame(soft("k", 4), 4, "physical/k#10")))
    assert numbers(wire, "alice", Arm) == {"k": [5]}


def test_a_timed_message_that_is_lost_stays_lost() -> None:
    wire = up()
    wire.cut.add("bob")
    wire.post("alice", timed(1))
    assert wire.ends["alice"].deadline is None
    wire.cut.clear()
    wire.settle()
    assert wire.delivered("bob") == []


@pytest.mark.parametrize(
    ("loss", "jitter_ns", "fewest", "most"),
    [
        (0.0, 0, 0, 0),  # nothing lost, nothing reordered: nothing is sent twice
        (0.0, 50_000, 0, 400),  # half the delay of jitter within bursts of 48: some are, in vain
        (0.1, 0, 60, 250),  # of about 1,000 datagrams, and some acknowledgements
    ],
)
def test_a_message_of_a_mebibyte_arrives_whole_next_to_small_ones(
    loss: float, jitter_ns: int, fewest: int, most: int
) -> None:
    wire = up(Faults(loss=loss, jitter_ns=jitter_ns))
    status = Status(1, "s" * (MAX_MESSAGE - 10))
    assert MAX_MESSAGE - 10 < len(encode_body(status)) <= MAX_MESSAGE
    wire.post("alice", status, reliable("a", 0))
    wire.settle()
    assert wire.delivered("bob") == [reliable("a", 0), status]
    assert fewest <= wire.ends["alice"].counters["retransmitted"] <= most


def test_bulk_messages_wait_behind_the_others_of_a_flush() -> None:
    wire = up()
    bulk = [LinkTest("bulk", 1, number, 0, 0) for number in range(100)]
    wire.post("alice", *bulk, reliable("a", 0), soft("k", 1), timed(1))
    wire.settle()
    first, second, third, *rest = wire.delivered("bob")
    assert {type(first), type(second), type(third)} == {LinkExpire, Arm, Beacon}
    assert rest == bulk


def test_small_messages_share_datagrams_and_leave_only_when_drained() -> None:
    wire = up()
    before = len(wire.sent)
    for number in range(50):
        wire.step("alice", Post(reliable("a", number)), drain=False)
    assert len(wire.sent) == before
    wire.step("alice", DRAINED, drain=False)
    assert len(wire.sent) - before <= 3
    wire.settle()
    check_ordered_and_whole(wire, "bob", {"a": 50})


def test_no_datagram_number_is_ever_used_twice() -> None:
    wire = up(Faults(loss=0.2))
    for number in range(50):
        wire.post("alice", reliable("a", number))
        wire.run(MILLISECOND)
    wire.step("alice", Shut("again"))
    wire.step("alice", Open())
    wire.settle()
    used = [d.header.number for _, d in wire.sent if d.header.source == "alice"]
    assert used == list(range(1, len(used) + 1))


# --- times ------------------------------------------------------------------------------


def test_messages_that_answer_each_other_need_no_bare_acknowledgement() -> None:
    wire = up()
    before = {name: dict(end.counters) for name, end in wire.ends.items()}
    for number in range(100):
        for name in ("alice", "bob"):
            wire.post(name, reliable("a", number))
            wire.run(200_000)
    wire.settle()
    bare = sum(end.counters["bare_acks"] - before[n]["bare_acks"] for n, end in wire.ends.items())
    assert bare == 1


def test_one_way_messages_within_the_delay_share_a_bare_acknowledgement() -> None:
    wire = up()
    before = wire.ends["bob"].counters["bare_acks"]
    for number in range(10):
        wire.post("alice", reliable("a", number))
        wire.run(50_000)
    wire.settle()
    assert wire.ends["bob"].counters["bare_acks"] - before == 1
    assert wire.ends["alice"].counters["retransmitted"] == 0


def test_a_burst_is_acknowledged_before_the_delay_is_over_so_that_the_bitmap_holds_it() -> None:
    wire = up()
    before = wire.ends["bob"].counters["bare_acks"]
    for number in range(40):
        wire.post("alice", reliable("a", number))
    wire.run(MILLISECOND // 2)
    assert wire.ends["bob"].counters["bare_acks"] - before == 2
    wire.settle()
    assert wire.ends["alice"].counters["retransmitted"] == 0


def test_timed_messages_ask_for_no_acknowledgement() -> None:
    wire = up()
    before = len(wire.sent)
    for number in range(20):
        wire.post("alice", timed(number))
        wire.run(5 * MILLISECOND)
    assert len(wire.sent) - before == 20


def test_the_round_trip_is_measured_without_the_time_that_the_peer_held_it() -> None:
    wire = up(Faults(delay_ns=3 * MILLISECOND), lab_per_wall=4.0)
    for number in range(20):
        wire.post("alice", reliable("a", number))
        wire.run(20 * MILLISECOND)
    measured = wire.ends["alice"].smoothed_rtt_ns
    assert measured is not None
    # The delay crosses the wire in wall microseconds, each four lab microseconds here.
    assert 6 * MILLISECOND <= measured <= 6 * MILLISECOND + 4_000


def test_an_idle_adjacency_measures_its_round_trip_by_its_keepalives() -> None:
    wire = up(Faults(delay_ns=30 * MILLISECOND), keepalive_ns=KEEPALIVE)
    wire.post("alice", reliable("a", 0))
    wire.run(100 * MILLISECOND)
    alice = wire.ends["alice"]
    assert alice.recent_rtt_ns == alice.smoothed_rtt_ns == 60 * MILLISECOND
    wire.faults = Faults(delay_ns=MILLISECOND)
    wire.run(4 * KEEPALIVE)
    assert alice.recent_rtt_ns == 2 * MILLISECOND
    assert alice.smoothed_rtt_ns is not None
    assert alice.smoothed_rtt_ns > 2 * MILLISECOND


def test_retransmissions_to_a_silent_peer_double_their_distance() -> None:
    wire = up()
    wire.post("alice", reliable("a", 0))
    wire.run(100 * MILLISECOND)
    wire.cut.add("bob")
    before = len(wire.sent)
    wire.post("alice", reliable("a", 1))
    wire.run(SECOND)
    instants = [instant for instant, _ in wire.sent[before:]]
    gaps = [later - earlier for earlier, later in pairwise(instants)]
    assert len(gaps) >= 6
    assert gaps[0] >= 2 * MILLISECOND
    assert all(later == 2 * earlier for earlier, later in pairwise(gaps))


def test_a_silent_peer_is_lost_after_eight_intervals_and_not_before() -> None:
    wire = up(keepalive_ns=KEEPALIVE)
    wire.cut.add("bob")
    heard = wire.ends["alice"]._received.heard
    wire.run(heard + 8 * KEEPALIVE - 1 - wire.now)
    assert len(wire.changes("alice")) == 1
    wire.run(1)
    lost = wire.changes("alice")[1]
    assert isinstance(lost, PeerLost)
    assert lost.reason == "silent for 8 keepalive intervals"


def test_keepalives_keep_an_idle_adjacency_with_one_question_per_interval() -> None:
    wire = up(keepalive_ns=KEEPALIVE)
    before = len(wire.sent)
    wire.run(100 * KEEPALIVE)
    assert all(end.state is State.UP for end in wire.ends.values())
    assert len(wire.sent) - before <= 2 * 101


def test_a_peer_that_is_dormant_is_neither_asked_nor_lost_before_its_time() -> None:
    wire = up(keepalive_ns=KEEPALIVE)
    until = wire.now + 100 * KEEPALIVE
    wire.step("alice", Dormant(until))
    wire.cut.add("bob")
    before = wire.ends["alice"].counters["sent"]
    wire.run(100 * KEEPALIVE)
    assert len(wire.changes("alice")) == 1
    assert wire.ends["alice"].counters["sent"] == before
    wire.run(8 * KEEPALIVE)
    assert isinstance(wire.changes("alice")[1], PeerLost)


# --- our own caller, and the table ------------------------------------------------------


def test_messages_posted_while_not_up_are_dropped_with_a_note() -> None:
    wire = FakeWire()
    wire.add("alice", "bob", ALICE)
    wire.post("alice", reliable("a", 0))
    assert [note.name for _, note in wire.notes] == ["adjacency-dropped"]
    assert wire.ends["alice"].counters["dropped"] == 1


@pytest.mark.parametrize(
    "message", [KeepAlive(), Bye("no"), "text", Beacon("l" * 500, 1, 1, 1, 1, 2**65)]
)
def test_a_message_that_cannot_be_carried_is_our_own_bug(message: Any) -> None:
    wire = up()
    with pytest.raises(LocalProtocolError):
        wire.post("alice", message)


@pytest.mark.parametrize(
    "changes",
    [{"name": "n" * 65}, {"hello_interval_ns": 0}, {"datasheets": (("em", "x" * 1_200),)}],
)
def test_parameters_that_cannot_work_are_refused_at_once(changes: dict[str, Any]) -> None:
    with pytest.raises(LocalProtocolError):
        Adjacency(parameters(**({"name": "alice", "peer": "bob"} | changes)), 1)


def test_an_adjacency_is_a_value_that_can_be_copied_and_replayed() -> None:
    wire = up()
    alice = wire.ends["alice"]
    twin = copy.deepcopy(alice)
    events: list[Any] = [Post(reliable("a", 1)), Post(soft("k", 1)), DRAINED, TICK]
    for event in events:
        assert alice.handle(event, wire.now + SECOND) == twin.handle(event, wire.now + SECOND)
        assert alice.deadline == twin.deadline


STATES: dict[State, list[Any]] = {
    State.CLOSED: [],
    State.WAITING: [Open()],
    State.CALLING: [Open()],
    State.UP: [
        Open(),
        Arrived("peer", forged(1, hello_frame(BOB, ALICE), boots=(BOB, ALICE))),
    ],
}
EVENTS: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            *(Open(), Shut("x"), TICK, DRAINED, Dormant(SECOND), Dormant(0)),
            *(Post(reliable("a", 0)), Post(soft("k", 1)), Post(timed(1))),
        ]
    ),
    st.builds(
        lambda number, boots, frames, version: Arrived(
            "peer", forged(number, *frames, boots=boots, version=version)
        ),
        st.integers(1, 200) | st.just(2**64 - 1),
        st.tuples(st.sampled_from([BOB, 99, 0]), st.sampled_from([ALICE, 5, 0])),
        st.lists(
            st.sampled_from(
                [
                    *(hello_frame(BOB, ALICE), hello_frame(99, 0), hello_frame(BOB, ALICE, (9,))),
                    *(frame(reliable("l", 0), number) for number in (1, 2, 3, 2**64 - 1)),
                    *(frame(each, 0, "") for each in (Bye("bye"), KeepAlive(), timed(1))),
                    frame(Credit("link/l", 9), 1, "control/link/l#4"),
                    frame(soft("k", 1), 1, "k"),
                    *(Frame(kind, "", 0, False, b"\xc1") for kind in (1, 0x7F)),
                ]
            ),
            max_size=3,
        ),
        st.sampled_from([VERSION, VERSION, VERSION, 9]),
    ),
)


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.name)
@settings(max_examples=150)
@given(events=st.lists(st.tuples(EVENTS, st.integers(0, 10 * SECOND)), min_size=1, max_size=12))
def test_every_event_in_every_state_follows_the_table(
    state: State, events: list[tuple[Any, int]]
) -> None:
    changes = {"initiate": state is not State.WAITING, "keepalive_ns": KEEPALIVE}
    machine = Adjacency(parameters("alice", "bob", **changes), ALICE)
    for event in STATES[state]:
        machine.handle(event, 0)
    assert machine.state is state
    now = 0
    balance = int(state is State.UP)
    for event, later in events:
        now += later
        before = machine.state
        allowed = TABLE[before].get(type(event))
        if allowed is None:
            with pytest.raises(LocalProtocolError):
                machine.handle(event, now)
            assert machine.state is before
            continue
        for action in machine.handle(event, now):
            if type(action) is Transmit:
                assert type(event) in (type(TICK), type(DRAINED), Shut)
            elif type(getattr(action, "event", None)) is PeerUp:
                balance += 1
            elif type(getattr(action, "event", None)) is PeerLost and balance:
                balance -= 1
            assert balance in (0, 1)
        assert machine.state in allowed
        assert balance == (machine.state is State.UP)
        assert machine.state is not State.CLOSED or machine.deadline is None
