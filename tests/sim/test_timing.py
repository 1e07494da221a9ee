"""Clocks of nodes in the optics, through the full stack: the table O25 of the physics notes.

Closed forms (notes, section 1.2): a coincidence window of width w takes in
``[erf((w/2 - d)/(v2 s)) + erf((w/2 + d)/(v2 s))]/2`` of pairs whose clicks differ by a normal
jitter s and the clocks' difference d; two equal exponential packets that come d apart interfere
with ``V0 exp(-|d|/T)``.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import attrs
import numpy as np
import pytest

from qstack.config import link_parameters, load
from qstack.messages.common import PLAIN_Z
from qstack.physical.service import LinkParameters, PatternPrior
from qstack.sim.clocks import NodeClock
from qstack.sim.devices import AnalyserParameters, TrappedIonParameters
from qstack.sim.from_file import world_parameters
from qstack.sim.heralding import HERALDS, POLARISATION
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.world import WorldDevice, WorldParameters
from qstack.testing import Party, terms
from qstack.units import MILLISECOND, SECOND
from tests.whole.rig import Lab, Rig

Clocks: TypeAlias = tuple[tuple[str, NodeClock], ...]

WINDOW_PS = 1_000
LINK = "alice-bob"


def with_devices(world: WorldParameters, **changes: Any) -> WorldParameters:
    """A world some of whose devices have other parameters: a record, or fields that change.

    Keys are names of devices with an underscore for the dot.
    """
    return WorldParameters(
        tuple(
            (name, _with(device, changes.get(name.replace(".", "_"))))
            for name, device in world.devices
        ),
        world.links,
    )


def _with(device: WorldDevice, other: Any) -> WorldDevice:
    untyped: Any = device.parameters
    if isinstance(other, dict):
        other = attrs.evolve(untyped, **other)
    return WorldDevice(device.owner, other or device.parameters)


# --- capture: a source in the middle, receivers whose clocks differ ----------------------


def coincidences(clocks: Clocks, pairs: int = 0, until: int = 0) -> tuple[int, int]:
    """Return (heralds, attempts) of a request for measured pairs, through the full stack.

    Relative jitter 200 ps (120 and 160 in quadrature), window 1 ns, no dark counts, a source
    so weak that double pairs change the probability by 1 % at most.
    """
    file = load("source_in_the_middle")
    links = [link_parameters(file, link.name) for link in file.links]
    world = with_devices(
        world_parameters(file),
        alice_receiver={"dark_hz": 0.0, "jitter_ps": 120},
        bob_receiver={"dark_hz": 0.0, "jitter_ps": 160},
        midpoint_source={"lifetime_ps": 0},
    )
    net = VirtualNetwork(links, world, 3, Surroundings(clocks=clocks))
    alice, bob = (Party(net.heap, f"user-{node}", node) for node in ("alice", "bob"))
    for user in (alice, bob):
        net.user(user.name, [user.node], user.listen)
    net.heap.run(50 * MILLISECOND)
    bob.accept()
    alice.measure_directly(terms("bob", pairs or 10**6), PLAIN_Z, PLAIN_Z)
    net.heap.run(until or 100 * SECOND, stop=None if until else alice.finished)
    heralds = sum(net.world.heralded(LINK).values())
    if pairs:
        assert len(alice.outcomes) == len(bob.outcomes) == pairs
    return heralds, net.world.attempted(LINK)


@pytest.fixture(scope="module")
def aligned() -> float:
    """The success probability with clocks that agree, from 4,000 heralds."""
    heralds, attempts = coincidences((), pairs=4_000)
    return heralds / attempts


@pytest.mark.parametrize(("offset_ps", "captured"), [(300, 0.84131), (500, 0.5), (-700, 0.15866)])
def test_a_clock_offset_of_a_receiver_lowers_the_rate_as_the_window_table_says(
    aligned: float, offset_ps: int, captured: float
) -> None:
    """O25. 1,500 heralds each, 4 standard errors of the ratio: one false alarm in 16,000."""
    heralds, attempts = coincidences((("bob", NodeClock(timing_ps=offset_ps)),), pairs=1_500)
    error = 4 * (1 / 1_500 + 1 / 4_000) ** 0.5
    assert heralds / attempts / aligned == pytest.approx(captured / 0.98758, rel=error)


def test_receivers_that_are_wrong_by_the_same_lose_nothing(aligned: float) -> None:
    """And the clock of their computers is none of the photons' affair."""
    clock = NodeClock(10**9, 10**7, 700, 0)
    heralds, attempts = coincidences((("alice", clock), ("bob", clock)), pairs=1_500)
    error = 4 * (1 / 1_500 + 1 / 4_000) ** 0.5
    assert heralds / attempts / aligned == pytest.approx(1.0, rel=error)


def test_a_drift_of_one_part_in_ten_thousand_million_walks_through_the_window(
    aligned: float,
) -> None:
    """A nanosecond in ten seconds: from the middle of the window to well outside.

    The mean capture over that time is the mean of the window table's law, about one half.
    """
    span = 10 * SECOND
    heralds, attempts = coincidences((("bob", NodeClock(timing_ppt=100)),), until=span)
    began_ps = (span - attempts * 10_000) // 10**7
    assert 0 < began_ps < 20, "attempts begin when everybody has found everybody"
    mean = float(np.mean([window_share(offset) for offset in np.linspace(began_ps, 1_000, 2_000)]))
    assert mean == pytest.approx(0.5, abs=0.01)
    error = 4 * (1 / heralds + 1 / 4_000) ** 0.5
    assert heralds > 1_000
    assert heralds / attempts / aligned == pytest.approx(mean / 0.98758, rel=error)


def test_a_receiver_far_outside_the_window_comes_back_by_its_drift_alone(aligned: float) -> None:
    """From 2 ns on one side to 2 ns on the other in four seconds, and no herald at either end.

    The window table's law has the integral w over all d: one second's worth of heralds.
    """
    clock = NodeClock(timing_ps=2_000, timing_ppt=-1_000)
    heralds, _ = coincidences((("bob", clock),), until=4 * SECOND)
    expected = aligned / 0.98758 * SECOND / 10_000
    assert expected > 200
    assert heralds == pytest.approx(expected, rel=4 * (1 / expected + 1 / 4_000) ** 0.5)


def window_share(offset_ps: float) -> float:
    """The normal law summed over the window, without the error function."""
    times = np.arange(-WINDOW_PS / 2 + 0.5, WINDOW_PS / 2)
    density = np.exp(-(((times - offset_ps) / 200) ** 2) / 2) / (200 * np.sqrt(2 * np.pi))
    return float(density.sum())


# --- visibility: two emitters and an interferometer ------------------------------------


LIFETIME_PS = 7_000
VISIBILITY = 0.9


@attrs.define
class TwoPhotonLab(Lab):
    """Trapped ions under a polarisation Bell measurement, in place of the single click."""

    t2_ns: int = 0
    alpha: float = 0.5

    def links(self) -> tuple[LinkParameters, ...]:
        (plain,) = super().links()
        patterns = tuple(
            PatternPrior(clicks, bell, 0.1, (0.02, 0.02, 0.94, 0.02), 0.05)
            for clicks, bell in HERALDS[POLARISATION].items()
        )
        untyped: Any = plain
        settings = [attrs.evolve(setting, patterns=patterns) for setting in untyped.settings]
        return (attrs.evolve(untyped, settings=tuple(settings)),)

    def world(self) -> WorldParameters:
        ion = TrappedIonParameters(0.5, lifetime_ps=LIFETIME_PS, prepare_ns=1_000)
        return with_devices(
            super().world(),
            alice_emitter=ion,
            bob_emitter=ion,
            station_analyser=AnalyserParameters(
                POLARISATION, "station.detector", visibility=VISIBILITY
            ),
        )


def delivered(clocks: Clocks, number: int = 600) -> tuple[set[float], float]:
    """Return the true fidelities of so many kept pairs, and the success probability."""
    rig = Rig(TwoPhotonLab(), 1, Surroundings(clocks=clocks))
    truth = rig.truth()
    rig.alice.keep(terms("bob", number))
    rig.run(lambda: rig.alice.finished() and rig.bob.finished())
    assert len(truth.fidelities) == number
    heralds = sum(rig.net.world.heralded("ab").values())
    fidelities = {round(fidelity, 9) for _, fidelity, _ in truth.fidelities}
    return fidelities, heralds / rig.net.world.attempted("ab")


@pytest.mark.parametrize(
    ("late_a", "late_b"), [(0, 0), (0, 3_500), (7_000, 0), (2_000, 4_000), (0, -3_500), (-700, 0)]
)
def test_photons_that_come_apart_interfere_less_and_early_ones_miss_the_window(
    late_a: int, late_b: int
) -> None:
    """F = (1 + V)/2 of a two-photon herald without dark counts, V = V0 exp(-|d|/T), exactly.

    The window opens with the front of a photon that is in time and is long against it: what
    comes late is all seen, of what comes early exp(-d/T). 600 heralds, 4 standard errors.
    """
    clocks = (("alice", NodeClock(timing_ps=-late_a)), ("bob", NodeClock(timing_ps=-late_b)))
    fidelities, success = delivered(clocks)
    apart = abs(late_a - late_b)
    expected = (1 + VISIBILITY * math.exp(-apart / LIFETIME_PS)) / 2
    assert list(fidelities) == [pytest.approx(expected, abs=1e-8)]
    seen = math.exp(sum(min(late, 0) for late in (late_a, late_b)) / LIFETIME_PS)
    # p = eta_a eta_b / 2, of which a fraction 1 - p did not happen.
    p = 0.5**2 / 2 * seen
    assert success == pytest.approx(p, rel=4 * ((1 - p) / 600) ** 0.5)


def test_the_station_s_clock_shifts_the_window_for_both_ends_alike() -> None:
    """A station that is 3.5 ns behind sees both photons early: no visibility lost, half of each."""
    fidelities, success = delivered((("station", NodeClock(timing_ps=-3_500)),))
    assert list(fidelities) == [pytest.approx((1 + VISIBILITY) / 2, abs=1e-8)]
    p = 0.5**2 / 2 * math.exp(-2 * 3_500 / LIFETIME_PS)
    assert success == pytest.approx(p, rel=4 * ((1 - p) / 600) ** 0.5)
