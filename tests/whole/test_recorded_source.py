"""Recorded tags through the whole stack: a source in the middle, two ends, nothing simulated.

The recording is that of :mod:`tests.hal.test_kwiat`, or a synthetic stream with known answers. Two
nodes ask for measured pairs; the hardware is two replayed taggers behind the software logic of
:mod:`qstack.hal.pair_analyser`, which finds the delay by itself.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from qstack.config.links import IDEAL
from qstack.hal.coincidence import accidentals
from qstack.hal.pair_analyser import Correlation, PairAnalyser
from qstack.hal.receivers import Channel
from qstack.hal.replay import REPLAY, ReplayParameters
from qstack.hal.served import Served
from qstack.machine import Machine
from qstack.messages.application import Cancel
from qstack.messages.common import PLAIN_Z, Basis
from qstack.physical.service import EndParameters, LinkParameters, PatternPrior, Setting
from qstack.sim.heap import WORLD, EventHeap, Wire
from qstack.stack import Identity, Timing, UserHost
from qstack.stack.assembly import build
from qstack.testing import Party, check_same_pairs, terms
from qstack.units import MILLISECOND, SECOND, Chance, Duration, NodeName
from tests.hal.test_kwiat import BURST_PS, SCAN, WINDOW_PS, Source, both, sources

CYCLE_NS = 1_000
MODES = 64
"""Slices of 15.6 ns: no two coincidences of the recording are nearer than 19 ns."""

LEAD_PS = 2 * 10**12
"""The record begins so long after its origin: by then everybody is ready."""

LEARN = 2_000
"""The first 90 to 130 s."""

PEAKS_PS = {"recording": -83_668, "synthetic": -73_155}
"""The delay that a scan of the first LEARN tags gives: the middle of its fullest 20 ns."""

TIMING = Timing(20 * SECOND, 2 * MILLISECOND, 5 * MILLISECOND, 20 * MILLISECOND, 1.0)
OWNERS = {"a.receiver": "alice", "b.receiver": "bob", "analyser": "station"}
CHANNELS = (Channel(0, Basis.Z, 0), Channel(1, Basis.Z, 1))


def link() -> LinkParameters:
    """What the stack believes of the link: measured pairs only, some five a second."""
    ends = tuple(
        EndParameters(node, device, "", (), (), True, 0, IDEAL)
        for node, device in (("alice", "a.receiver"), ("bob", "b.receiver"))
    )
    width = WINDOW_PS[1] - WINDOW_PS[0]
    prior = PatternPrior(0b11, 0, 1e-7, (0.98, 0.01, 0.01, 0.0), 0.01)
    setting = Setting("plain", (("alice", ()), ("bob", ())), (), width, (prior,), "design")
    return LinkParameters(
        "ab",
        "midpoint-source",
        (ends[0], ends[1]),
        "station",
        "analyser",
        CYCLE_NS,
        MODES,
        (setting,),
        False,
        "first-come",
        64,
        0.0,
        # Reports of what was seen while the delay was learned come that late.
        300 * SECOND,
        700 * SECOND,
    )


class Lab:
    """Everything on one heap; `alice` and `bob` are the users."""

    def __init__(self, source: Source, folder: Path) -> None:
        lean = (WINDOW_PS[0] + WINDOW_PS[1]) // 2 - PEAKS_PS[source.name]
        names = ("a.receiver", CHANNELS), ("b.receiver", CHANNELS)
        self.analyser = PairAnalyser(
            "analyser", names, self._taggers(source, folder), Correlation(LEARN, lean, SCAN)
        )
        devices = {each.name: each for each in (self.analyser, *self.analyser.receivers)}
        self.heap = EventHeap(Chance(3), Wire(50_000, jitter_ns=30_000), device_ns=1_000)
        self.heap.add(WORLD, Served(devices, OWNERS))
        self.hosts = {}
        for name, role in (("station", "station"), ("alice", "node"), ("bob", "node")):
            self.hosts[name] = build(self._identity(name, role), (link(),), (), Chance(name))
            self.heap.add(name, self.hosts[name])
        self.alice, self.bob = self._party("alice"), self._party("bob")
        self.bob.accept()
        self.run(MILLISECOND)

    def _taggers(
        self, source: Source, folder: Path
    ) -> tuple[tuple[str, Machine], tuple[str, Machine]]:
        a, b = both(source, folder, burst=True)
        build_it = REPLAY.build
        assert build_it is not None
        one, other = (
            (
                f"{side}.tagger",
                build_it(
                    f"{side}.tagger",
                    ReplayParameters(
                        str(source.file(folder)),
                        array=array,
                        channel=channel,
                        origin_ps=min(a[0], b[0]) - LEAD_PS,
                        stop_ps=max(a[-1], b[-1]) - BURST_PS,
                        batch_ns=100 * MILLISECOND,
                    ),
                ),
            )
            for channel, (side, array) in enumerate(zip("ab", source.answers.arrays, strict=True))
        )
        return one, other

    def _identity(self, name: NodeName, role: str) -> Identity:
        return Identity(name, role, Chance(f"{name}/boot").boot_id(), TIMING, False)

    def _party(self, node: str) -> Party:
        party = Party(self.heap, f"user-{node}", node)
        host = UserHost(self._identity(party.name, "user"), ((node, "node"),))
        self.heap.add(party.name, host, party.listen)
        self.run(100 * MILLISECOND)
        assert party.reached
        return party

    def run(self, duration: Duration) -> None:
        self.heap.run(self.heap.now + duration)


@sources
def test_a_recorded_source_in_the_middle_gives_the_known_pairs_to_both_ends(
    source: Source, tmp_path: Path
) -> None:
    lab = Lab(source, tmp_path)
    wanted = 2 * source.answers.each_once
    lab.alice.measure_directly(terms("bob", wanted), PLAIN_Z, PLAIN_Z)
    a, b = both(source, tmp_path)
    seconds = (max(a[-1], b[-1]) - min(a[0], b[0]) + LEAD_PS) // 10**12
    # The delay is learned on the way, not configured: at first nothing can be told.
    lab.run(60 * SECOND)
    correlator = lab.analyser.correlator
    assert correlator is not None
    assert correlator.delay is None
    assert lab.alice.outcomes == []
    lab.run((seconds - 60 + 5) * SECOND)
    # It is over: the station says why nothing comes any more, and the request still stands.
    delay, matcher = correlator.delay, correlator.coincidences
    assert delay is not None
    assert matcher is not None
    assert delay.delay_ps == PEAKS_PS[source.name]
    assert (matcher.low_ps, matcher.high_ps) == WINDOW_PS
    assert tuple(matcher.counts) == source.answers.events
    assert matcher.expected_accidentals == pytest.approx(source.answers.accidentals, abs=0.005)
    report = lab.hosts["station"].status(lab.heap.now)["links"]["ab"]["physical"]
    assert (report["state"], report["trouble"]) == ("closed", "a tagger ended in Completed")
    # Every coincidence once, at both ends the same in the same order.
    assert len(lab.alice.outcomes) == source.answers.each_once
    assert len(lab.bob.outcomes) == source.answers.each_once
    check_same_pairs(lab.alice, lab.bob)
    assert (lab.analyser.crowded, lab.analyser.unwanted) == (0, 0)
    # Alice's detector is her channel 0, bob's his channel 1.
    assert {(o.basis, o.outcome) for _, o in lab.alice.outcomes} == {(Basis.Z, 0)}
    assert {(o.basis, o.outcome) for _, o in lab.bob.outcomes} == {(Basis.Z, 1)}
    assert lab.alice.expired == lab.bob.expired == []
    assert lab.alice.done == lab.alice.ended == []
    (request,) = lab.alice.created.values()
    lab.alice.say(Cancel(lab.alice.reference(), request))
    lab.run(SECOND)
    assert [ended.delivered for ended in lab.alice.ended] == [source.answers.each_once]
    span = min(a[-1], b[-1]) - max(a[0], b[0])
    assert accidentals(len(a), len(b), span, 200_000) == matcher.expected_accidentals


@sources
def test_a_plan_that_the_detectors_cannot_measure_is_trouble_with_a_reason(
    source: Source, tmp_path: Path
) -> None:
    lab = Lab(source, tmp_path)
    turned = attrs.evolve(PLAIN_Z, x1=0.5)  # type: ignore[misc]  # a record
    lab.alice.measure_directly(terms("bob", 3), turned, PLAIN_Z)
    lab.run(SECOND)
    assert lab.alice.outcomes == []
    status = lab.hosts["alice"].status(lab.heap.now)["links"]["ab"]["physical"]
    assert status["rejected"] >= 1
