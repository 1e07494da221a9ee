"""Many successes of one instant: all told at once, and none thrown away."""

from __future__ import annotations

from qstack.messages.common import BasisPlan, BasisSet, PairKind, RequestId
from qstack.messages.physical import Arm, Success
from qstack.physical.heralding import MAX_LISTED, REPEATED, StationEnd, Word
from qstack.testing import terms
from tests.whole.rig import Lab, Rig

WORD = Word("ab", 900, 20, 800, 0, 0, 0)
DRAWN = BasisPlan(BasisSet.XYZ, 1 / 3, 1 / 3, 0.0, 0.0, 0.0)
REQUEST = RequestId("alice", 7, 1)


def success(sequence: int) -> Success:
    return Success(sequence, REQUEST, 100 + sequence, 0, 1, 2, (), "s")


def test_a_burst_is_told_whole_in_several_heralds_of_which_the_last_decides() -> None:
    end = StationEnd("alice", 1_000_000)
    end.take(Arm("ab", 1, 1, REQUEST, PairKind.KEEP, "s", 1, 0, 64, 0, 0), 0)
    for sequence in range(1, 21):
        end.succeed(success(sequence), 0)
    heralds = end.heralds(WORD)
    told = [each.sequence for herald in heralds for each in herald.successes]
    assert told == list(range(1, 21))
    assert max(len(herald.successes) for herald in heralds) <= MAX_LISTED
    assert [herald.decided_cycle for herald in heralds] == [-1, -1, 800]
    assert [herald.last_sequence for herald in heralds] == [8, 16, 20]
    end.succeed(success(21), 0)
    (following,) = end.heralds(WORD)
    assert [each.sequence for each in following.successes] == list(range(21 - REPEATED, 22))


def test_an_emitter_faster_than_the_protocol_makes_the_station_throw_nothing_away() -> None:
    """Sixteen modes and no loss: with the whole request armed at once 35 queries and 68 voids."""
    rig = Rig(Lab(qubits=16, efficiency=0.9, alpha=0.3), seed=3)
    rig.alice.measure_directly(terms("bob", 500), DRAWN, DRAWN)
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    assert [done.delivered for done in rig.alice.done] == [500]
    for name in ("alice", "bob"):
        report = rig.net.host(name).physical["ab"].report()
        assert report["queries"] == 0
        assert report.get("voids", 0) == 0
        assert report.get("missing", 0) == 0
