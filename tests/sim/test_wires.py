"""Wires against hand-computed arrivals and closed forms; each fault draws for itself."""

from __future__ import annotations

import itertools
from typing import Any

import attrs
import pytest

from qstack.errors import ConfigError
from qstack.messages.wire import Datagram, Header
from qstack.sim.heap import EventHeap, Wire
from qstack.sim.wires import Path, checksum
from qstack.sim.wiring import WireCounts
from qstack.units import MILLISECOND, SECOND, Chance
from tests.sim.heap_rig import Say, Talker, pair_of_talkers, talk

ENDS = ("alice", "bob")


def sent(wire: Wire, number: int) -> tuple[dict[str, int], Talker]:
    """Let alice say `number` numbers over this wire; returns the fates and bob."""
    heap = EventHeap(Chance(1), wire)
    _, bob = pair_of_talkers(heap)
    talk(heap, number, 1_000)
    counts = heap.wires[ENDS]
    assert counts.sent == number
    return dict(counts.fates), bob


def changed(wire: Wire, **changes: Any) -> Wire:
    untyped: Any = wire
    evolved: Wire = attrs.evolve(untyped, **changes)
    return evolved


def test_a_plain_wire_delivers_all_in_order_after_its_latency() -> None:
    fates, bob = sent(Wire(700), 3)
    assert bob.heard == [(700, "0"), (1_700, "1"), (2_700, "2")]
    assert not fates


@pytest.mark.parametrize("burst", [1.0, 10.0])
def test_losses_have_the_rate_that_was_asked_for_in_runs_of_the_length_that_was(
    burst: float,
) -> None:
    """200,000 datagrams: 4 standard errors, those of bursts widened by their correlation.

    A two-state chain with mean runs of n losses has a variance (2n - 1) times that of
    independent losses where losses are rare; 19 is an upper bound for n = 10. Independent
    losses come in runs of 1/(1 - 0.2) on average. Run lengths are geometric or less spread.
    """
    path = Path(("alice", "bob"), None, -1, Chance(1), as_bytes=False)
    path.set(Wire(1, loss=0.2, burst=burst), cut=False)
    datagram = Datagram(Header(1, "alice", "bob", 1, 2, 1, 0, 0, 0, 0), ())
    lost = [not path.carry(datagram, 0) for _ in range(200_000)]
    spread = 1 if burst == 1.0 else 19**0.5
    error = (0.2 * 0.8 / 200_000) ** 0.5 * spread
    assert path.counts == {"lost": sum(lost)}
    assert sum(lost) / 200_000 == pytest.approx(0.2, abs=4 * error)
    runs = sum(here and not before for before, here in itertools.pairwise(lost))
    length = 1.25 if burst == 1.0 else burst
    assert sum(lost) / runs == pytest.approx(length, rel=4 / runs**0.5)


def test_a_narrow_wire_serialises_and_drops_the_tail_of_its_queue() -> None:
    """Ten datagrams at once of equal size: the queue holds two besides the one on the wire."""
    heap = EventHeap(Chance(1), Wire(1_000))
    _, bob = pair_of_talkers(heap)
    talk(heap, 10, 0)
    size = 8 * SECOND // 1_000_000  # nanoseconds per byte at 1 Mbit/s
    narrow = Wire(1_000, bits_per_s=1_000_000)
    heap = EventHeap(Chance(1), narrow)
    _, bob = pair_of_talkers(heap)
    talk(heap, 1, 0)
    took = bob.heard[0][0] - 1_000
    length, rest = divmod(took, size)
    assert rest == 0
    assert 40 < length < 100, "a status of one letter, as a datagram"
    heap = EventHeap(Chance(1), changed(narrow, queue_bytes=3 * length))
    _, bob = pair_of_talkers(heap)
    talk(heap, 10, 0)
    assert [now for now, _ in bob.heard] == [1_000 + took * k for k in (1, 2, 3)]
    assert [text for _, text in bob.heard] == ["0", "1", "2"]
    assert heap.wires[ENDS] == WireCounts(10, (("queue", 7),))
    heap.post("alice", Say("bob", "9"))
    heap.run()
    assert bob.heard[-1][1] == "9"
    heap.set_default(changed(narrow, queue_bytes=0))
    heap.post("alice", Say("bob", "10"))
    heap.run()
    assert bob.heard[-1][1] == "10", "an idle wire takes all, without any queue"


def test_duplicates_and_held_datagrams_are_counted_and_come_twice_or_late() -> None:
    fates, bob = sent(Wire(100, duplicate=0.3), 1_000)
    texts = [text for _, text in bob.heard]
    assert len(texts) == 1_000 + fates["duplicated"]
    assert len(set(texts)) == 1_000
    fates, bob = sent(Wire(100, reorder=0.3, reorder_ns=50_000), 1_000)
    late = [now - 1_000 * int(text) - 100 for now, text in bob.heard]
    assert sum(wait > 0 for wait in late) == fates["held"]
    assert 200 < fates["held"] < 400
    assert max(late) < 50_000
    assert [text for _, text in bob.heard] != sorted((t for _, t in bob.heard), key=int)


def test_flipped_bits_are_refused_or_delivered_as_something_else() -> None:
    """Two flips of one bit are none: one in 8 has two, of some 500 bits, so 0.5 of 2,000."""
    fates, bob = sent(Wire(100, corrupt=1.0), 2_000)
    assert min(fates.values()) > 100
    arrived = [event.datagram for _, event in bob.seen if hasattr(event, "datagram")]
    assert fates["rejected"] + len(arrived) == 2_000
    assert 0 <= len(arrived) - fates["corrupted"] < 10
    assert all(
        d.header.source != "alice" or d.frames[0].body is not None for d in arrived if d.frames
    )


def test_the_checksum_catches_all_but_flips_that_cancel_in_it() -> None:
    """Two flips of opposite kind in one of sixteen columns pass: one pair in 32, of 1 to 8."""
    fates, bob = sent(Wire(100, corrupt=1.0, checksum=True), 4_000)
    arrived = [event for _, event in bob.seen if hasattr(event, "datagram")]
    passed = fates.get("rejected", 0) + len(arrived)
    assert fates["checksum"] + passed == 4_000
    assert passed < 4_000 / 8 / 32 * 3


def test_the_checksum_is_that_of_the_internet() -> None:
    """The worked example of RFC 1071, section 3: the sum of these words is 0xddf2."""
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2 ^ 0xFFFF


@pytest.mark.parametrize(
    ("fault", "other"),
    [
        ({"duplicate": 0.2}, {"loss": 0.3}),
        ({"loss": 0.3}, {"reorder": 0.5, "reorder_ns": 5_000}),
        ({"loss": 0.2, "burst": 4.0}, {"corrupt": 0.5, "checksum": True}),
        ({"loss": 0.3}, {"duplicate": 0.5, "jitter_ns": 300}),
        ({"loss": 0.3}, {"bits_per_s": 200_000_000, "queue_bytes": 300}),
    ],
)
def test_a_fault_meets_the_same_datagrams_whatever_others_are_on(
    fault: dict[str, Any], other: dict[str, Any]
) -> None:
    """What the first fault alone does to a datagram it does with the other on too."""
    key = "lost" if "loss" in fault else "duplicated"
    alone, bob = sent(changed(Wire(100), **fault), 500)
    met = {text for _, text in bob.heard}
    both, hearer = sent(changed(Wire(100), **fault, **other), 500)
    there = {text for _, text in hearer.heard}
    if key == "lost":
        assert there <= met, "what was lost alone is lost with others"
    else:
        copies = [text for _, text in bob.heard]
        twice = {text for text in there if [t for _, t in hearer.heard].count(text) == 2}
        assert twice == {text for text in there if copies.count(text) == 2}
    assert alone[key] > 50
    assert both[key] > 20


def test_wires_of_different_hosts_draw_different_fates_from_one_seed() -> None:
    heap = EventHeap(Chance(5), Wire(100, loss=0.5))
    bob, carol = Talker("bob"), Talker("carol")
    for talker in (Talker("alice"), bob, carol):
        heap.add(talker.name, talker)
    for place in range(200):
        heap.post("alice", Say("bob", str(place)), place)
        heap.post("alice", Say("carol", str(place)), place)
    heap.run()
    assert {text for _, text in bob.heard} != {text for _, text in carol.heard}


def test_a_partition_cuts_the_ways_that_it_names_and_heals_whole() -> None:
    heap = EventHeap(Chance(1), Wire(100))
    alice, bob = pair_of_talkers(heap)
    handle = heap.wiring.part(lambda source, destination: (source, destination) == ENDS)
    for _ in range(2):
        heap.post("alice", Say("bob", "over"))
        heap.post("bob", Say("alice", "back"))
        heap.run()
        heap.wiring.calm(handle)
    assert [text for _, text in bob.heard] == ["over"]
    assert [text for _, text in alice.heard] == ["back", "back"]
    assert heap.wires[ENDS] == WireCounts(2, (("cut", 1),))


def test_a_disturbed_wire_is_what_it_was_when_calm_again() -> None:
    heap = EventHeap(Chance(1), Wire(100))
    pair_of_talkers(heap)
    heap.set_wire("alice", "bob", Wire(300))
    handles = [
        heap.wiring.disturb(lambda source, destination: source == "alice", latency_ns=latency)
        for latency in (1_000, 2_000)
    ]
    arrivals = []
    for handle in (*handles[::-1], 0):
        begun = heap.now
        heap.post("alice", Say("bob", ""))
        heap.run()
        arrivals.append(heap.now - begun)
        heap.wiring.calm(handle)
    assert arrivals == [2_000, 1_000, 300]


def test_what_comes_to_a_host_that_does_not_live_is_counted_on_its_wire() -> None:
    heap = EventHeap(Chance(1), Wire(100))
    pair_of_talkers(heap)
    heap.post("alice", Say("bob", "too late"))
    heap.post("alice", Say("bob", "later"), MILLISECOND)
    heap.run(50)
    heap.remove("bob")
    heap.run()
    assert heap.wires[ENDS] == WireCounts(2, (("nobody", 2),))
    assert heap.frames == {"application:Status": 2}


@pytest.mark.parametrize(
    "wire",
    [
        Wire(-1),
        Wire(1, loss=1.5),
        Wire(1, burst=0.5),
        Wire(1, loss=0.9, burst=2.0),
        Wire(1, corrupt=-0.1),
        Wire(1, bits_per_s=-1),
    ],
)
def test_wires_that_cannot_be_are_refused_with_a_reason(wire: Wire) -> None:
    heap = EventHeap(Chance(1), Wire(1))
    with pytest.raises(ConfigError):
        heap.set_default(wire)
    with pytest.raises(ConfigError):
        heap.set_wire("alice", "bob", wire)
