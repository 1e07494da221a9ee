"""The heralding model against an independent calculation, and planted errors against the checks.

The independent calculation is a truncated Fock space: explicit matrices for loss (Kraus operators)
and for the beam splitter (an exponential of its generator), spins carried along. Every check
takes the model as an argument; the true one must pass all of them, and each model with a
known mistake must fail the checks that are there to find it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import numpy as np
import pytest

from qstack.sim.heralding import (
    BARRETT_KOK,
    HERALDS,
    POLARISATION,
    SINGLE_CLICK,
    AnalyserOptics,
    ArmOptics,
    HeraldTable,
    Outcome,
    table_for,
)
from qstack.sim.states import fidelity

Model: TypeAlias = Callable[[str, ArmOptics, ArmOptics, AnalyserOptics], HeraldTable]
Case: TypeAlias = tuple[ArmOptics, ArmOptics, AnalyserOptics]
Array: TypeAlias = Any
SCHEMES = (SINGLE_CLICK, POLARISATION, BARRETT_KOK)

# --- the independent calculation -------------------------------------------------------------

LEVELS = 3
"""Zero, one, two photons per mode: all that two emitters of one photon each can make."""

LOWER: Array = np.diag(np.sqrt(np.arange(1, LEVELS)), 1)


def splitter() -> Array:
    """The unitary of a balanced splitter: the first mode goes to (+, +), the second to (+, -)."""
    first, second = np.kron(LOWER, np.eye(LEVELS)), np.kron(np.eye(LEVELS), LOWER)
    generator = 1j * math.pi / 4 * (second.T @ first - first.T @ second)
    values, vectors = np.linalg.eigh(generator)
    turn = vectors @ np.diag(np.exp(-1j * values)) @ vectors.conj().T
    return turn @ np.kron(np.eye(LEVELS), np.diag((-1.0) ** np.arange(LEVELS)))


def loss(efficiency: float) -> list[Array]:
    """Kraus operators of losing zero, one or two photons of a mode."""
    operators = []
    for lost in range(LEVELS):
        kraus = np.zeros((LEVELS, LEVELS))
        for n in range(lost, LEVELS):
            share = math.comb(n, lost) * efficiency ** (n - lost) * (1 - efficiency) ** lost
            kraus[n - lost, n] = math.sqrt(share)
        operators.append(kraus)
    return operators


def photons(*counts: int) -> Array:
    """The Fock state of the modes A matched, B matched, A orthogonal, B orthogonal."""
    vector = np.ones(1)
    for count in counts:
        vector = np.kron(vector, np.eye(LEVELS)[count])
    return vector


def one_round(a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics, emits: int) -> Array:
    """Amplitudes of all occupations (81) for the four spin states, one array per lost set."""
    overlap, rest = math.sqrt(analyser.visibility), math.sqrt(1 - analyser.visibility)
    columns = []
    for spin_a, spin_b in itertools.product((0, 1), repeat=2):
        one = int(spin_a == emits)
        if spin_b == emits:
            column = overlap * photons(one, 1, 0, 0) + rest * photons(one, 0, 0, 1)
        else:
            column = photons(one, 0, 0, 0)
        columns.append(column)
    state = np.array(columns).T
    mixer = np.kron(splitter(), splitter())
    branches = []
    for ka, kb, ko in itertools.product(loss(a.efficiency), loss(b.efficiency), loss(b.efficiency)):
        branches.append(mixer @ np.kron(np.kron(ka, kb), np.kron(np.eye(LEVELS), ko)) @ state)
    return branches


def answers(count: int, quiet: float, one: float, resolving: bool) -> dict[int, float]:
    """P(silent 0, click 1, more than one 3) of a detector that `count` photons reach."""
    if not resolving:
        silent = quiet if count == 0 else 0.0
        return {0: silent, 1: 1 - silent}
    if count == 0:
        return {0: quiet, 1: one, 3: 1 - quiet - one}
    return {0: 0.0, 1: quiet, 3: 1 - quiet} if count == 1 else {3: 1.0}


def round_maps(
    a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics, emits: int, detectors: int
) -> dict[tuple[int, int], Array]:
    """For both detectors' answers: how the spins' density matrix is multiplied, element-wise."""
    noise = (a.noise_clicks_per_window + b.noise_clicks_per_window) / detectors
    quiet = (1 - analyser.dark_probability) * math.exp(-noise)
    one = analyser.dark_probability * math.exp(-noise) + quiet * noise
    maps: dict[tuple[int, int], Array] = {}
    for amplitudes in one_round(a, b, analyser, emits):
        for index, row in enumerate(amplitudes):
            if not row.any():
                continue
            n = [int(k) for k in np.unravel_index(index, (LEVELS,) * 4)]
            first = answers(n[0] + n[2], quiet, one, analyser.number_resolving)
            second = answers(n[1] + n[3], quiet, one, analyser.number_resolving)
            for x, y in itertools.product(first, second):
                part = first[x] * second[y] * np.outer(row, row.conj())
                maps[x, y] = maps.get((x, y), 0) + part
    return maps


def mask(*answered: int) -> int:
    """The click mask of detectors' answers (0, 1, 3): clicks first, then "more than one"."""
    width = len(answered)
    return sum((x & 1) << k | (x >> 1) << (k + width) for k, x in enumerate(answered))


def reference(scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    """The same table, unnormalised nowhere, from the truncated Fock space."""
    spins = np.kron(
        [math.sqrt(1 - a.bright), math.sqrt(a.bright)],
        [math.sqrt(1 - b.bright), math.sqrt(b.bright)],
    )
    rho = np.outer(spins, spins)
    found: dict[int, Array] = {}
    if scheme == SINGLE_CLICK:
        variance = a.phase_sigma**2 + b.phase_sigma**2 + analyser.phase_sigma**2
        blur = np.ones((4, 4))
        blur[1, 2] = blur[2, 1] = math.exp(-variance / 2)
        for (x, y), factor in round_maps(a, b, analyser, 1, 2).items():
            found[mask(x, y)] = rho * factor * blur
    elif scheme == POLARISATION:
        horizontal = round_maps(a, b, analyser, 0, 4)
        vertical = round_maps(a, b, analyser, 1, 4)
        for h, v in itertools.product(horizontal, vertical):
            found[mask(h[0], v[0], h[1], v[1])] = rho * horizontal[h] * vertical[v]
    else:
        maps = round_maps(a, b, analyser, 1, 2)
        flip = np.kron([[0, 1], [1, 0]], [[0, 1], [1, 0]])
        for first, second in itertools.product(maps, maps):
            found[mask(*first, *second)] = flip @ (rho * maps[first]) @ flip * maps[second]
    outcomes = []
    for clicks, matrix in found.items():
        probability = float(np.trace(matrix).real)
        if probability > 0:
            outcomes.append(Outcome(clicks, probability, matrix / probability))
    return HeraldTable(tuple(outcomes))


# --- the checks ------------------------------------------------------------------------------


def random_cases(resolving: bool) -> list[Case]:
    """Thirty asymmetric parameter sets, from lossless to dark-count limited."""
    draw = np.random.default_rng(2718 + resolving)
    cases = []
    for number in range(30):
        scale = (1.0, 0.1, 0.003)[number % 3]
        arms = [
            ArmOptics(
                efficiency=float(scale * draw.uniform(0.05, 0.99)),
                bright=float(draw.uniform(0.03, 0.6)),
                noise_clicks_per_window=float(10 ** draw.uniform(-6, -2)),
                phase_sigma=float(draw.uniform(0.05, 0.4)),
            )
            for _ in range(2)
        ]
        analyser = AnalyserOptics(
            visibility=float(draw.uniform(0.4, 0.97)),
            dark_probability=float(10 ** draw.uniform(-6, -2)),
            number_resolving=resolving,
            phase_sigma=float(draw.uniform(0.05, 0.4)),
        )
        cases.append((arms[0], arms[1], analyser))
    return cases


def success_and_fidelity(scheme: str, table: HeraldTable) -> tuple[float, float]:
    """Probability of all heralding patterns, and the mean fidelity to what each heralds."""
    heralds = HERALDS[scheme]
    parts = [o for o in table.outcomes if o.clicks in heralds]
    p = sum(o.probability for o in parts)
    return p, sum(o.probability * fidelity(o.state, heralds[o.clicks]) for o in parts) / p


def check_against_fock_space(model: Model, scheme: str, resolving: bool) -> None:
    """Relative error of p and absolute error of F below 1e-6, for every pattern and in all."""
    for case in random_cases(resolving):
        table, truth = model(scheme, *case), reference(scheme, *case)
        assert abs(sum(o.probability for o in table.outcomes) - 1) < 1e-12
        for clicks, bell in HERALDS[scheme].items():
            got, want = table.outcome(clicks), truth.outcome(clicks)
            assert abs(got.probability / want.probability - 1) < 1e-6
            assert abs(fidelity(got.state, bell) - fidelity(want.state, bell)) < 1e-6
            assert np.abs(got.state - want.state).max() < 1e-6
        for outcome in truth.outcomes:
            assert abs(table.probability(outcome.clicks) - outcome.probability) < 1e-9


def check_open_single_click(model: Model) -> None:
    """Cases O1 and O2 of the dossier."""
    arm = ArmOptics(0.01, 0.1)
    p, f = success_and_fidelity(
        SINGLE_CLICK, model(SINGLE_CLICK, arm, arm, AnalyserOptics(0.9, 1e-6))
    )
    assert p == pytest.approx(0.00200094400105, rel=3e-12)
    assert f == pytest.approx(0.87658195998, abs=5e-12)
    arm = ArmOptics(0.9, 0.05)
    for resolving, success, truth in (
        (False, 0.087975, 0.971867007673),
        (True, 0.08595, 0.994764397906),
    ):
        analyser = AnalyserOptics(number_resolving=resolving)
        p, f = success_and_fidelity(SINGLE_CLICK, model(SINGLE_CLICK, arm, arm, analyser))
        assert p == pytest.approx(success, rel=1e-9)
        assert f == pytest.approx(truth, rel=1e-9)


def check_open_double_click(model: Model) -> None:
    """Cases O3, O4 and the closed numbers of O5, for both two-photon schemes."""
    cases = (
        (0.05, AnalyserOptics(0.92, 1e-5), 0.00125189932264, 0.95890385046, 1e-9),
        (1.0, AnalyserOptics(), 0.5, 1.0, 1e-9),
        (0.0379473319220, AnalyserOptics(0.9, 1e-6), 7.20146e-4, 0.949856, 1e-6),
    )
    for scheme, (efficiency, analyser, success, truth, digits) in itertools.product(
        (POLARISATION, BARRETT_KOK), cases
    ):
        arm = ArmOptics(efficiency)
        p, f = success_and_fidelity(scheme, model(scheme, arm, arm, analyser))
        assert p == pytest.approx(success, rel=digits)
        assert f == pytest.approx(truth, rel=digits)


def check_closed_form_of_the_single_click(model: Model) -> None:
    """The symmetric closed forms (threshold and resolving) of section 1.1, over ten sets."""
    draw = np.random.default_rng(31)
    for number in range(10):
        eta, a, v = (float(x) for x in draw.uniform((0.001, 0.02, 0.3), (1.0, 0.5, 1.0)))
        pd, sigma = float(10 ** draw.uniform(-6, -2)), float(draw.uniform(0, 0.6))
        resolving = bool(number % 2)
        dark = 2 * pd * (1 - pd)
        own = (1 - pd) ** 2 if resolving else 1 - pd
        ud = a * (1 - a) * (eta * own + (1 - eta) * dark)
        coherence = a * (1 - a) * eta * math.sqrt(v) * own * math.exp(-(sigma**2) / 2)
        bunched = 0 if resolving else eta**2 * (1 + v) / 2 * own
        uu = a**2 * (bunched + 2 * eta * (1 - eta) * own)
        total = 2 * ud + uu + a**2 * (1 - eta) ** 2 * dark + (1 - a) ** 2 * dark
        arm = ArmOptics(eta, a)
        analyser = AnalyserOptics(v, pd, resolving, sigma)
        p, f = success_and_fidelity(SINGLE_CLICK, model(SINGLE_CLICK, arm, arm, analyser))
        assert p == pytest.approx(total, rel=1e-9)
        assert f == pytest.approx((ud + coherence) / total, rel=1e-9)


def check_closed_form_of_the_double_click(model: Model) -> None:
    """The asymmetric closed form of section 1.1 (threshold), over ten sets and both schemes."""
    draw = np.random.default_rng(37)
    for scheme in (POLARISATION, BARRETT_KOK) * 5:
        ea, eb, v = (float(x) for x in draw.uniform((0.001, 0.02, 0.3), (0.2, 1.0, 1.0)))
        pd = float(10 ** draw.uniform(-6, -2))
        s1, s0 = ea * (1 - eb) + eb * (1 - ea), (1 - ea) * (1 - eb)
        outer = (1 - pd) ** 2
        total = outer * (ea * eb / 2 + ea * eb * (1 + v) / 2 * pd + 2 * s1 * pd + 4 * s0 * pd**2)
        good = outer * (ea * eb * (1 + v) / 4 + s1 * pd / 2 + s0 * pd**2)
        analyser = AnalyserOptics(v, pd)
        table = model(scheme, ArmOptics(ea), ArmOptics(eb), analyser)
        p, f = success_and_fidelity(scheme, table)
        assert p == pytest.approx(total, rel=1e-9)
        assert f == pytest.approx(good / total, rel=1e-9)


CHECKS: dict[str, Callable[[Model], None]] = {
    "open single click": check_open_single_click,
    "open double click": check_open_double_click,
    "closed single click": check_closed_form_of_the_single_click,
    "closed double click": check_closed_form_of_the_double_click,
    "fock single click": lambda m: check_against_fock_space(m, SINGLE_CLICK, False),
    "fock single click resolving": lambda m: check_against_fock_space(m, SINGLE_CLICK, True),
    "fock polarisation": lambda m: check_against_fock_space(m, POLARISATION, False),
    "fock polarisation resolving": lambda m: check_against_fock_space(m, POLARISATION, True),
    "fock barrett-kok": lambda m: check_against_fock_space(m, BARRETT_KOK, False),
    "fock barrett-kok resolving": lambda m: check_against_fock_space(m, BARRETT_KOK, True),
}

# --- planted errors --------------------------------------------------------------------------


def v_for_sqrt_v(scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    """The coherence of a single click with V where sqrt(V) belongs; populations untouched."""
    return scaled(table_for(scheme, a, b, analyser), math.sqrt(analyser.visibility))


def sqrt_v_for_v(scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    """The coherence of two clicks with sqrt(V) where V belongs."""
    return scaled(table_for(scheme, a, b, analyser), 1 / math.sqrt(analyser.visibility))


def changed(record: Any, **fields: Any) -> Any:
    return attrs.evolve(record, **fields)


def scaled(table: HeraldTable, factor: float) -> HeraldTable:
    keep = np.full((4, 4), factor)
    np.fill_diagonal(keep, 1)
    return HeraldTable(tuple(changed(o, state=o.state * keep) for o in table.outcomes))


def doubled_darks(scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    twice = changed(analyser, dark_probability=2 * analyser.dark_probability)
    return table_for(scheme, a, b, twice)


def one_alpha(scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics) -> HeraldTable:
    return table_for(scheme, a, changed(b, bright=a.bright), analyser)


def one_efficiency(
    scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics
) -> HeraldTable:
    return table_for(scheme, a, changed(b, efficiency=a.efficiency), analyser)


def no_phase_noise(scheme: str, *case: Any) -> HeraldTable:
    return table_for(scheme, *(changed(optics, phase_sigma=0.0) for optics in case))


def swapped_heralds(scheme: str, *case: Any) -> HeraldTable:
    """The states of the Psi+ and of the Psi- patterns exchanged."""
    table = table_for(scheme, *case)
    plus = sorted(c for c, bell in HERALDS[scheme].items() if bell == 2)
    minus = sorted(c for c, bell in HERALDS[scheme].items() if bell == 3)
    other = dict(zip(plus + minus, minus + plus, strict=True))
    return HeraldTable(
        tuple(changed(o, clicks=other.get(o.clicks, o.clicks)) for o in table.outcomes)
    )


def wrong_detectors(
    scheme: str, a: ArmOptics, b: ArmOptics, analyser: AnalyserOptics
) -> HeraldTable:
    other = changed(analyser, number_resolving=not analyser.number_resolving)
    return table_for(scheme, a, b, other)


def no_noise(scheme: str, *case: Any) -> HeraldTable:
    arms = [changed(arm, noise_clicks_per_window=0.0) for arm in case[:2]]
    return table_for(scheme, *arms, case[2])


PLANTED: list[tuple[Model, tuple[str, ...]]] = [
    (v_for_sqrt_v, ("open single click", "closed single click", "fock single click")),
    (v_for_sqrt_v, ("fock single click resolving", "fock polarisation", "fock barrett-kok")),
    (sqrt_v_for_v, ("open double click", "closed double click", "fock polarisation")),
    (sqrt_v_for_v, ("fock barrett-kok", "fock barrett-kok resolving")),
    (doubled_darks, ("open single click", "open double click", "closed single click")),
    (doubled_darks, ("closed double click", *(name for name in CHECKS if "fock" in name))),
    (one_alpha, tuple(name for name in CHECKS if "fock" in name)),
    (one_efficiency, ("closed double click", *(name for name in CHECKS if "fock" in name))),
    (no_phase_noise, ("closed single click", "fock single click")),
    (no_phase_noise, ("fock single click resolving",)),
    (swapped_heralds, tuple(CHECKS)),
    (wrong_detectors, ("open single click", "closed single click")),
    (wrong_detectors, tuple(name for name in CHECKS if "fock" in name)),
    (no_noise, tuple(name for name in CHECKS if "fock" in name)),
]


@pytest.mark.parametrize("name", CHECKS)
def test_the_model_passes_every_check(name: str) -> None:
    CHECKS[name](table_for)


@pytest.mark.parametrize(
    ("planted", "name"),
    [(model, name) for model, names in PLANTED for name in names],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_planted_error_is_rejected(planted: Model, name: str) -> None:
    with pytest.raises(AssertionError):
        CHECKS[name](planted)


def test_the_independent_calculation_is_itself_a_probability_distribution() -> None:
    for scheme, resolving in itertools.product(SCHEMES, (False, True)):
        table = reference(scheme, *random_cases(resolving)[0])
        assert sum(o.probability for o in table.outcomes) == pytest.approx(1, abs=1e-12)
