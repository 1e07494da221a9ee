"""Rounds against photon loss, carried out: density matrices, phases, what must not be said.

A pair of one click is Psi with the optical phase of its two paths, \\|11> where both ends were
bright and \\|00> where something dark clicked. Kept is what both ends read 1 of, of pairs that
are all odd: then the phases of two pairs cancel if they are the same (Campbell and Benjamin 2008).
"""

from __future__ import annotations

import cmath
import math
from itertools import product

import attrs
import numpy as np
import pytest

from qstack.bell import BellWeights
from qstack.errors import RemoteProtocolError
from qstack.messages.circuits import Method
from qstack.messages.network import TurnAxis
from qstack.network.budget import ETERNAL, Operations, Storage
from qstack.network.distillation.service import Cause, Discarded
from qstack.network.purification import cheapest, plan, plans
from qstack.network.rounds import Ends, dejmps
from tests.network import registers
from tests.network.distil_lab import bench, deliver_to_both
from tests.network.test_distillation import announcement, given_pair
from tests.network.test_distillation_truth import Case
from tests.network.test_purification import simulated

LOSS = Method.NESTED_LOSS
READ: Ends = (Operations(1.0, 0.99), Operations(1.0, 0.97))
GATES: Ends = (Operations(0.98, 0.99, 1.0, 0.9), Operations(0.95, 0.97, 1.0, 0.9))
"""Turns are bad: a round against loss has none."""
FADING = Storage(0, 1_000_000, 1.0)


@attrs.frozen
class Click:
    """A pair of one click: weights of \\|11> and \\|00>, coherence of the odd rest, its phase."""

    bright: float
    dark: float = 0.0
    clear: float = 1.0
    phase: float = 0.0

    @property
    def weights(self) -> BellWeights:
        odd, even = 1 - self.bright - self.dark, (self.bright + self.dark) / 2
        right = odd * (1 + self.clear * math.cos(self.phase)) / 2
        return right, odd - right, even, even

    @property
    def tilt(self) -> float:
        return self.dark - self.bright

    def state(self, bell: int) -> registers.Matrix:
        """|01> and |10> with the sign of Psi+ or Psi-, and the phase."""
        odd = 1 - self.bright - self.dark
        found: registers.Matrix = np.diag([self.dark, odd / 2, odd / 2, self.bright]).astype(
            complex
        )
        sign = -1 if bell & 1 else 1
        found[1, 2] = sign * self.clear * cmath.exp(1j * self.phase) * odd / 2
        found[2, 1] = found[1, 2].conjugate()
        return found


class Clicked(Case):
    """A round of two pairs of one click, announced as these Bell states."""

    def __init__(self, bells: tuple[int, int], clicks: tuple[Click, Click], ends: Ends) -> None:
        told = [(bell, click.weights) for bell, click in zip(bells, clicks, strict=True)]
        super().__init__(told, LOSS, 1, ends)
        self.clicks = clicks
        self.tilts = [click.tilt for click in clicks]

    def state(self) -> registers.Matrix:
        pairs = zip(self.clicks, self.pairs, strict=True)
        both: registers.Matrix = np.kron(*(click.state(bell) for click, (bell, _) in pairs))
        return both


BRIGHT, DIRTY = Click(0.3), Click(0.2, 0.05, 0.9)


@pytest.mark.parametrize("ends", [READ, GATES])
def test_a_round_gives_what_density_matrices_say_and_both_ends_claim_it(ends: Ends) -> None:
    for first, second in product((2, 3), repeat=2):
        case = Clicked((first, second), (BRIGHT, DIRTY), ends)
        probability, truth, claims = case.all_outcomes()
        whole = simulated(case.state(), ends, False, (3,))
        assert probability == pytest.approx(sum(whole), abs=1e-12)
        assert len(claims) == 2
        for claim in claims:
            assert claim.bell == 2 | (first ^ second) & 1
            assert claim.weights == pytest.approx(truth, abs=1e-10)


def test_ideal_rounds_of_bright_pairs_leave_nothing_but_the_announced_state() -> None:
    """Kept with (1 - alpha)^2 / 2, as Campbell and Benjamin say."""
    ideal = (Operations(), Operations())
    probability, truth, _ = Clicked((2, 3), (BRIGHT, BRIGHT), ideal).all_outcomes()
    assert probability == pytest.approx(0.7**2 / 2, abs=1e-12)
    assert truth == pytest.approx((1.0, 0.0, 0.0, 0.0), abs=1e-12)


@pytest.mark.parametrize("phase", [0.3, 1.2, math.pi])
def test_a_phase_that_two_pairs_share_cancels_where_dejmps_keeps_its_error(phase: float) -> None:
    turned = Click(0.3, phase=phase)
    ideal = (Operations(), Operations())
    _, truth, _ = Clicked((2, 2), (turned, turned), ideal).all_outcomes()
    assert truth[0] == pytest.approx(1.0, abs=1e-12)
    both = np.kron(turned.state(2), turned.state(2))
    by_dejmps = simulated(both, ideal, True, (0, 3))
    assert max(by_dejmps) / sum(by_dejmps) < 0.87


def test_pairs_that_waited_are_told_as_what_is_left_of_them() -> None:
    """Dephasing at one end for a fifth of T2: a phase error of the odd part, nothing else."""
    case = Clicked((2, 2), (BRIGHT, BRIGHT), (Operations(), Operations()))
    case.storage = FADING, ETERNAL
    case.delivered = [(0, 0), (200_000, 200_000)]
    _, truth, claims = case.all_outcomes()
    assert 0.8 < truth[0] < 0.95
    for claim in claims:
        assert claim.weights == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize("waited", [50_000, 200_000])
def test_bright_pairs_that_relaxed_are_told_as_what_is_left_of_them(waited: int) -> None:
    """T1 of a millisecond at both ends, to equal populations: of \\|11> some becomes \\|00>."""
    fading = Storage(1_000_000, 1_000_000, 1.0)
    case = Clicked((2, 2), (BRIGHT, BRIGHT), (Operations(), Operations()))
    case.storage = fading, fading
    case.delivered = [(0, 0), (waited, waited)]
    _, truth, claims = case.all_outcomes()
    for claim in claims:
        assert claim.weights == pytest.approx(truth, abs=1e-6)


# --- what must not be said ----------------------------------------------------------------------


def test_pairs_announced_in_phi_show_no_loss_and_are_given_up_at_both_ends() -> None:
    rig = bench(LOSS)
    deliver_to_both(rig, 1, 2)
    rig.settle()
    for node, cause in (("alice", Cause.FAULT), ("bob", Cause.EXPIRED)):
        end = rig.ends[node]
        assert {each.cause for each in end.all(Discarded)} == {cause}
        assert end.machine.held == ()
        assert end.machine.counters["kept"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"turn": TurnAxis.NONE, "bell": 0},
        {"turn": TurnAxis.NONE, "bell": 2, "tilt": 1.5},
        {"turn": TurnAxis.X, "bell": 2},
    ],
)
def test_a_round_against_loss_that_cannot_be_is_the_peers_mistake(
    changes: dict[str, object],
) -> None:
    rig = bench(LOSS)
    bob = rig.ends["bob"].machine
    good = given_pair(2, turn=TurnAxis.NONE, bell=2)
    with pytest.raises(RemoteProtocolError):
        bob.handle(announcement(kept=given_pair(1, **changes), spent=good), rig.now)
    bob.handle(announcement(kept=given_pair(1, turn=TurnAxis.NONE, bell=2), spent=good), rig.now)


def test_nobody_leaves_pairs_unturned_in_a_plan_of_dejmps() -> None:
    rig = bench()
    unturned = [given_pair(number, turn=TurnAxis.NONE, bell=2) for number in (1, 2)]
    with pytest.raises(RemoteProtocolError, match="never turns"):
        rig.ends["bob"].machine.handle(announcement(kept=unturned[0], spent=unturned[1]), rig.now)


# --- plans --------------------------------------------------------------------------------------


def test_a_plan_begins_against_loss_only_where_more_is_bright_than_dark() -> None:
    methods = (Method.NESTED_DEJMPS, LOSS)
    ideal = (Operations(), Operations())
    start = BRIGHT.weights
    plain, limit = plan(start, 0.99, ideal, 4, methods)
    assert plain is None
    assert limit < 0.95
    best, _ = cheapest(plans(start, ideal, 4, methods, tilt=BRIGHT.tilt), 0.99)
    assert best is not None
    assert (best.method, best.rounds, best.memories) == (LOSS, 1, 2)
    assert best.fidelity == pytest.approx(1.0)
    assert best.pairs == pytest.approx(2 / (0.7**2 / 2))


def test_later_rounds_of_a_plan_against_loss_are_those_of_dejmps() -> None:
    """Phase errors of 5 % double in the first round, and the second, a DEJMPS one, removes them."""
    ideal = (Operations(), Operations())
    click = Click(0.3, clear=0.9)
    odd = 0.7
    p = 0.05
    after = (1 - 2 * p * (1 - p), 2 * p * (1 - p), 0.0, 0.0)
    second = dejmps(after, after, ideal)
    best, _ = cheapest(plans(click.weights, ideal, 3, (LOSS,), tilt=click.tilt), 0.97)
    assert best is not None
    assert best.rounds == 2
    assert best.weights == pytest.approx(second.weights, abs=1e-12)
    assert best.pairs == pytest.approx(4 / (odd**2 / 2) / second.probability)
