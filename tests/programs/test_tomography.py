"""The statistics of tomography, against states whose correlators are known exactly."""

from __future__ import annotations

import math

import pytest

from qstack.bell import sign
from qstack.programs.figures import quantiles
from qstack.programs.tomography import AXES, correlators, fidelity_of, weights

Entry = tuple[int, tuple[str, str], tuple[int, int]]


def perfect(bell: int, axis: str, first: int) -> Entry:
    """A pair in Bell state `bell`, both halves measured on `axis`, without any error."""
    equal = sign(bell, axis) > 0
    return bell, (axis, axis), (first, first if equal else 1 - first)


@pytest.mark.parametrize("bell", range(4))
def test_perfect_pairs_of_every_bell_state_have_fidelity_one(bell: int) -> None:
    found = fidelity_of(correlators(perfect(bell, axis, bit) for axis in AXES for bit in (0, 1)))
    assert found is not None
    fidelity, error = found
    assert fidelity == pytest.approx(1.0)
    assert 0 < error < 1


def test_pairs_of_different_bell_states_add_up() -> None:
    found = correlators(perfect(bell, axis, 0) for axis in AXES for bell in range(4))
    assert {axis: (each.value, each.count) for axis, each in found.items()} == {
        "X": (1.0, 4),
        "Y": (-1.0, 4),
        "Z": (1.0, 4),
    }


def test_uncorrelated_outcomes_have_the_fidelity_of_noise() -> None:
    outcomes = ((0, 0), (0, 1), (1, 0), (1, 1))
    found = fidelity_of(correlators((2, (axis, axis), each) for axis in AXES for each in outcomes))
    assert found is not None
    fidelity, error = found
    assert fidelity == 0.25
    # Three correlators of zero: each has the standard error 1 / sqrt(4).
    assert error == pytest.approx(math.sqrt(3 / 4) / 4)


def test_unequal_axes_count_for_nothing_and_a_missing_axis_gives_no_fidelity() -> None:
    found = correlators([(0, ("X", "Z"), (0, 0)), perfect(0, "X", 0), perfect(0, "Z", 1)])
    assert {axis: each.count for axis, each in found.items()} == {"X": 1, "Z": 1}
    assert fidelity_of(found) is None


@pytest.mark.parametrize("readout", [(1.0, 1.0), (0.99, 0.99), (0.95, 0.99), (0.6, 0.9)])
def test_outcome_weights_are_unbiased_for_either_state(readout: tuple[float, float]) -> None:
    zero, one = weights(readout)
    assert readout[0] * zero + (1 - readout[0]) * one == pytest.approx(1)
    assert (1 - readout[1]) * zero + readout[1] * one == pytest.approx(-1)


def test_asymmetric_readout_of_a_polarised_pair_is_undone_exactly() -> None:
    """|11> on Z: <ZZ> = 1 although the readouts see every combination (100 x 100 copies)."""
    first, second = (0.95, 0.9), (0.8, 0.7)
    entries: list[Entry] = []
    for mine, theirs in ((0, 0), (0, 1), (1, 0), (1, 1)):
        seen = (1 - first[1] if mine == 0 else first[1]) * (
            1 - second[1] if theirs == 0 else second[1]
        )
        entries += [(0, ("Z", "Z"), (mine, theirs))] * round(seen * 10_000)
    assert len(entries) == 10_000
    assert correlators(entries, (first, second))["Z"].value == pytest.approx(1.0)
    assert correlators(entries)["Z"].value == pytest.approx(0.8 * 0.4)


def test_a_readout_without_information_is_refused() -> None:
    with pytest.raises(ValueError, match="tells nothing"):
        weights((0.3, 0.7))


def test_quantiles_are_values_that_occurred() -> None:
    assert quantiles(list(range(1, 101))) == (50, 90, 99)
    assert quantiles([7]) == (7, 7, 7)
    assert quantiles([]) == ()
