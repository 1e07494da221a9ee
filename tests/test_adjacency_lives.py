"""Lives of a neighbour, and hostile ones: who counts, and what the others cost."""

from __future__ import annotations

import tracemalloc

import pytest

from qstack.adjacency import (
    FRAME_COST,
    INITIAL_CREDIT,
    MAX_STREAMS,
    Delivered,
    Open,
    PeerLost,
    PeerUp,
    Shut,
    State,
)
from qstack.codec import encode_body
from qstack.machine import DRAINED, Arrived
from qstack.messages.control import Credit, Hello, Refusal
from qstack.messages.devices import Completed, Tags
from qstack.messages.link import LinkExpire
from qstack.messages.wire import KIND_OF, MAX_MESSAGE, VERSION, Datagram, Frame, Header
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
    header,
    hello_frame,
    numbers,
    reliable,
    soft,
    up,
)

# --- lives ------------------------------------------------------------------------------


@pytest.mark.parametrize("restarting", ["alice", "bob"])
@pytest.mark.parametrize("seed", range(3))
def test_a_restart_under_traffic_ends_the_former_life_once(restarting: str, seed: int) -> None:
    wire = up(Faults(loss=0.1, duplicate=0.1, jitter_ns=3 * MILLISECOND), seed)
    other = "bob" if restarting == "alice" else "alice"
    for number in range(50):
        wire.post("alice", reliable("old", number))
        wire.post("bob", reliable("old", number))
    wire.run(MILLISECOND)
    wire.log.clear()
    wire.add(restarting, other, 99)
    # The one who waits to be called learns of the restart only when the other sends something.
    wire.run(SECOND)
    wire.settle()
    lost, again = wire.changes(other)
    assert isinstance(lost, PeerLost)
    assert (lost.boot, lost.reason) == (
        {"alice": ALICE, "bob": BOB}[restarting],
        "the peer restarted",
    )
    assert isinstance(again, PeerUp)
    assert again.boot == 99
    assert [type(change) for change in wire.changes(restarting)] == [PeerUp]
    assert wire.delivered(restarting) == []
    assert not any(
        type(event) is Delivered
        for _, name, event in wire.log[wire.log.index(next(e for e in wire.log if e[2] is again)) :]
        if name == other
    )
    for number in range(20):
        wire.post("alice", reliable("new", number))
        wire.post("bob", reliable("new", number))
    wire.settle()
    for name in ("alice", "bob"):
        assert numbers(wire, name, LinkExpire)["new"] == list(range(20))


@pytest.mark.parametrize("watchful", ["alice", "bob"])
def test_a_loss_that_one_end_alone_noticed_is_indicated_at_both(watchful: str) -> None:
    wire = FakeWire()
    for name, peer, boot in (("alice", "bob", ALICE), ("bob", "alice", BOB)):
        wire.add(name, peer, boot, keepalive_ns=KEEPALIVE if name == watchful else 0)
    wire.run(SECOND)
    wire.post("alice", reliable("a", 0))
    wire.run(KEEPALIVE)
    wire.cut.add("bob")
    wire.run(9 * KEEPALIVE)
    wire.cut.clear()
    wire.post("alice", reliable("a", 1))
    wire.run(SECOND)
    for name, boot in (("alice", BOB), ("bob", ALICE)):
        changes = wire.changes(name)
        assert [type(change) for change in changes] == [PeerUp, PeerLost, PeerUp]
        assert {change.boot for change in changes} == {boot}
    wire.post("alice", reliable("b", 0))
    wire.run(SECOND)
    assert numbers(wire, "bob", LinkExpire)["b"] == [0]


def test_a_flood_of_strange_lives_causes_rate_limited_hellos_and_nothing_else() -> None:
    wire = up()
    before = len(wire.sent)
    state = wire.ends["alice"].state
    duration = 0
    for number in range(2_000):
        boots = ((BOB + number, ALICE), (BOB, ALICE + 1 + number), (BOB + number, 0))[number % 3]
        if boots == (BOB, ALICE):
            continue
        frames = (frame(reliable("a", number), 1, "link/a"),)
        if number % 3 == 2:
            frames = (hello_frame(BOB + number, ALICE + 1 + number),)
        assert wire.inject("alice", forged(number + 100, *frames, boots=boots)) == []
        wire.now += 100_000
        duration += 100_000
    caused = [d for _, d in wire.sent[before:] if d.header.source == "alice"]
    assert 4 <= len(caused) <= 4 + duration // HELLO_INTERVAL + 1
    assert {f.kind for datagram in caused for f in datagram.frames} == {KIND_OF[Hello].number}
    assert wire.ends["alice"].state is state


def test_a_late_hello_of_a_replaced_life_does_not_revive_it() -> None:
    wire = up()
    wire.add("bob", "alice", 99)
    wire.post("alice", reliable("a", 0))
    wire.run(SECOND)
    assert wire.ends["alice"].peer_boot == 99
    assert wire.inject("alice", forged(3, hello_frame(BOB, ALICE), boots=(BOB, 0))) == []
    assert wire.ends["alice"].peer_boot == 99


def test_a_peer_that_leaves_says_so_and_may_come_back() -> None:
    wire = up()
    wire.step("bob", Shut("maintenance"))
    wire.run(10 * MILLISECOND)
    lost = wire.changes("alice")[-1]
    assert isinstance(lost, PeerLost)
    assert lost.reason == "the peer left: maintenance"
    assert wire.ends["bob"].state is State.CLOSED
    assert wire.ends["bob"].deadline is None
    wire.step("bob", Open())
    wire.run(SECOND)
    assert isinstance(wire.changes("alice")[-1], PeerUp)


# --- hostile peers ----------------------------------------------------------------------


def test_an_unknown_kind_is_refused_alone_and_its_channel_goes_on() -> None:
    wire = up()
    strange = Frame(0x9F, "link/a", 1, False, b"\x90")
    after = frame(reliable("a", 1), 2, "link/a")
    soft_one, timed_one = Frame(0x9E, "link/a#9e", 1, False, b""), Frame(0x9D, "", 0, False, b"")
    wire.inject("alice", forged(50, strange, after, soft_one, timed_one))
    assert wire.delivered("alice") == [reliable("a", 1)]
    assert wire.ends["alice"].counters["refused"] == 3
    wire.run(MILLISECOND)
    assert wire.ends["bob"].counters["refusals"] == 1


def test_a_malformed_body_is_refused_alone_and_a_refusal_never_answers_a_refusal() -> None:
    wire = up()
    bad = Frame(KIND_OF[LinkExpire].number, "link/a", 1, False, b"\xc1")
    wire.inject("alice", forged(50, bad, frame(reliable("a", 1), 2, "link/a")))
    assert wire.delivered("alice") == [reliable("a", 1)]
    before = len(wire.sent)
    wire.inject("alice", forged(51, Frame(KIND_OF[Refusal].number, "", 0, False, b"\xc1")))
    assert wire.ends["alice"].counters["refused"] == 2
    assert len(wire.sent) == before


@pytest.mark.parametrize(
    "datagram",
    [
        Datagram(header("eve", "alice", (BOB, ALICE), 60), ()),
        Datagram(header("bob", "carol", (BOB, ALICE), 60), ()),
        Datagram(Header(VERSION, "bob", "alice", BOB, ALICE, 60, 2**64 - 1, 0, 0, 0), ()),
        forged(60, version=VERSION + 1),
    ],
)
def test_a_header_that_cannot_be_right_is_counted_and_survived(datagram: Datagram) -> None:
    wire = up()
    assert wire.inject("alice", datagram) == []
    assert wire.ends["alice"].counters["refused"] == 1
    wire.post("alice", reliable("a", 0))
    wire.settle()
    check_ordered_and_whole(wire, "bob", {"a": 1})


def test_frames_beyond_the_credit_or_far_ahead_cost_a_bounded_memory() -> None:
    wire = up()
    alice = wire.ends["alice"]
    body = encode_body(reliable("a", 0))
    kind = KIND_OF[LinkExpire].number
    tracemalloc.start()
    try:
        for number in range(100, 40_000):
            ahead = Frame(kind, "link/a", 2**63 + number, False, body)
            alice.handle(Arrived("peer", forged(number, ahead)), wire.now)
            alice.handle(DRAINED, wire.now)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000
    accepted = 39_900 - alice.counters["refused"]
    assert accepted == INITIAL_CREDIT // (FRAME_COST + len(body))


def test_a_peer_cannot_open_streams_without_end() -> None:
    wire = up()
    for number in range(MAX_STREAMS + 50):
        wire.inject("alice", forged(100 + 2 * number, frame(reliable("a", 0), 1, f"c{number}")))
        state = frame(soft("k", 1), 1, f"s{number}#10")
        wire.inject("alice", forged(101 + 2 * number, state))
    assert wire.ends["alice"].counters["refused"] == 100
    assert len(wire.delivered("alice")) == 2 * MAX_STREAMS


def test_an_endless_message_is_dropped_and_the_next_one_is_taken() -> None:
    wire = up()
    alice = wire.ends["alice"]
    number = KIND_OF[Tags].number
    piece = b"x" * 1_000
    last = MAX_MESSAGE // 1_000 + 20
    for sequence in range(1, last + 1):
        part = Frame(number, "device/d", sequence, sequence < last, piece)
        alice.handle(Arrived("peer", forged(100 + sequence, part)), wire.now)
        alice.handle(DRAINED, wire.now)
    assert alice.counters["refused"] == 1
    wire.inject("alice", forged(9_000, frame(Completed("d", 1), last + 1, "device/d")))
    assert wire.delivered("alice") == [Completed("d", 1)]


def test_a_sender_stops_at_the_credit_and_goes_on_when_there_is_more() -> None:
    wire = up()
    lost = KIND_OF[Credit].number
    wire.lose = lambda datagram: any(f.kind == lost for f in datagram.frames)
    wire.post("alice", *(reliable("a", number) for number in range(3_000)))
    wire.run(SECOND)
    cost = FRAME_COST + len(encode_body(reliable("a", 200)))
    arrived = len(wire.delivered("bob"))
    assert abs(arrived - INITIAL_CREDIT // cost) < 50
    wire.lose = lambda datagram: False
    wire.settle()
    check_ordered_and_whole(wire, "bob", {"a": 3_000})
