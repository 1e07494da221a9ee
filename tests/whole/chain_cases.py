"""Chains of 2 to 9 nodes: what they are made of, and what the models say of the same chain."""

from __future__ import annotations

from functools import cache

import numpy as np

from qstack.testing.chain_runs import Chain, Delivered, Round
from qstack.testing.chains import ONE_PHOTON, ChainLab, Segment
from qstack.testing.truth import TruthError
from tests.whole.chain_models import Physics, Sample, product, slot_model, with_cutoff

ALPHA, VISIBILITY = 0.02, 0.98
KEEP, READOUT = 0.99, 0.995

CYCLE_NS = 1_000_000
KM = 10.0
LIGHT_NS = 48_974
"""10 km at 2.0419e8 m/s."""
HOP_NS = 49_000
PORT_NS = 1_000

DRAWN = 200_000
"""Rounds of the slot model."""

Errors = tuple[float, float, float, float]


# --- without decay --------------------------------------------------------------------------


def mixed(links: int) -> list[Segment]:
    """Two-photon and one-photon links in turn, heralding Psi and Phi in turn of two."""
    kinds = [Segment(visibility=VISIBILITY), Segment(ONE_PHOTON, alpha=ALPHA)]
    kinds += [Segment(visibility=VISIBILITY, turn=2), Segment(ONE_PHOTON, alpha=ALPHA, turn=2)]
    return [kinds[place % 4] for place in range(links)]


def pure(links: int) -> list[Segment]:
    """Two-photon links alone: each pair's state is diagonal, so that all pairs are alike."""
    return [Segment(visibility=VISIBILITY, turn=place % 4) for place in range(links)]


def errors_of(segment: Segment) -> Errors:
    """I, Z, X, Y at emission, from the formulas of the physics notes (efficiency 1)."""
    if segment.kind == ONE_PHOTON:
        # One click of two bright ends, threshold detectors: the photons always bunch.
        one, both = 2 * ALPHA * (1 - ALPHA), ALPHA**2
        return one / (one + both), 0.0, both / (one + both) / 2, both / (one + both) / 2
    return (1 + VISIBILITY) / 2, (1 - VISIBILITY) / 2, 0.0, 0.0


def swap_errors() -> list[Errors]:
    """A swap's flaws as errors of their own: a mixing gate, and each of two bits read wrong."""
    rest = (1 - KEEP) / 4
    wrong = 1 - READOUT
    return [(KEEP + rest, rest, rest, rest), (READOUT, wrong, 0, 0), (READOUT, 0, wrong, 0)]


def expected(segments: list[Segment]) -> float:
    """The fidelity from end to end by the product formula."""
    links = [errors_of(segment) for segment in segments]
    return product(links + (len(segments) - 1) * swap_errors())


@cache
def without_decay(nodes: int, count: int, *, diagonal: bool) -> list[Delivered]:
    """Pairs of one request over a chain that does not fade, with flawed swaps."""
    segments = pure(nodes - 1) if diagonal else mixed(nodes - 1)
    chain = Chain(ChainLab(segments, keep=KEEP, readout=READOUT), seed=40 + nodes)
    return chain.ask(count)


# --- with decay -----------------------------------------------------------------------------


class Fading:
    """A chain of equal links whose memories fade, and the same for the slot model.

    Times in cycles.
    """

    def __init__(
        self, nodes: int, success: float, t2: float, *, t1: float = 0.0, exponent: float = 1.0
    ) -> None:
        links = nodes - 1
        efficiency = (2 * success) ** 0.5
        self.lab = ChainLab(
            [Segment(efficiency=efficiency, visibility=VISIBILITY, km=KM) for _ in range(links)],
            cycle_ns=CYCLE_NS,
            t1_ns=round(t1 * CYCLE_NS),
            t2_ns=round(t2 * CYCLE_NS),
            exponent=exponent,
            wire_ns=HOP_NS,
            confirm_ns=50 * CYCLE_NS,
        )
        self.physics = Physics(
            (success,) * links,
            ((VISIBILITY, VISIBILITY, 1.0),) * links,
            slot=float(CYCLE_NS),
            t2=t2 * CYCLE_NS,
            t1=t1 * CYCLE_NS or np.inf,
            exponent=exponent,
            light=float(LIGHT_NS),
            hop=float(HOP_NS),
            port=float(PORT_NS),
        )

    def model(self) -> Sample:
        """What the slot model draws."""
        return slot_model(self.physics, DRAWN, seed=1)


FADING = {
    3: Fading(3, 0.1, 60.0),
    4: Fading(4, 0.02, 400.0),
    5: Fading(5, 0.1, 60.0, t1=150.0, exponent=1.5),
    9: Fading(9, 0.2, 60.0),
}


@cache
def in_rounds(nodes: int, count: int) -> list[Round]:
    """So many rounds of the chain of this many nodes in FADING."""
    return Chain(FADING[nodes].lab, seed=60 + nodes).rounds(count)


# --- with a cutoff --------------------------------------------------------------------------

CUT_AFTER = 4
"""Cycles more that the older pair is kept for the younger one."""
CUT_GOAL = 0.86
"""The fidelity that is asked for so that the head-end chooses the cutoff of a fifth of T2.

It ends in the middle of the cycle in which that falls.
"""


class Cut(Fading):
    """Two links with p = 0.1, of whose cutoffs that of T2 / 5 falls between two cycles."""

    def __init__(self) -> None:
        super().__init__(3, 0.1, 5 * (CUT_AFTER + 0.3))

    def fidelity(self, most: int) -> float:
        """The mean with the older pair discarded after `most` more cycles."""
        t2 = self.physics.t2
        _, wait = with_cutoff(0.1, most, float(np.exp(-2 * CYCLE_NS / t2)))
        phase = VISIBILITY**2 * np.exp(-2 * (SWAP_NS + END_NS) / t2) * wait
        return float((2 + 2 * phase) / 4)


SWAP_NS = LIGHT_NS + HOP_NS + 2 * PORT_NS
"""From the emission of the later pair of two to its swap: light, report, herald, command."""
END_NS = LIGHT_NS + 3 * HOP_NS + 2 * PORT_NS
"""From there to the later of both users: the other end's track passes two hops."""

CUT = Cut()


@cache
def with_cutoff_rounds(count: int) -> list[Round]:
    """Rounds of that chain; TruthError where another cutoff was chosen."""
    chain = Chain(CUT.lab, seed=65)
    rounds = chain.rounds(count, CUT_GOAL)
    chosen = chain.report("r1")["circuits"][0]["cutoff_ns"]
    if chosen != CUT_AFTER * CYCLE_NS + CYCLE_NS // 2:
        raise TruthError(f"the cutoff is {chosen} ns")
    return rounds
