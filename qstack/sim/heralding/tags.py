"""What a frequency offset does: the phase of the heralded state depends on the time tags.

The tables of :mod:`.schemes` hold the state with this phase taken out. Given the tags, the true
state has an additional phase on |10> relative to |01>: :func:`phase_of` says which,
:func:`with_phase` puts it there. The corrector undoes it with RZ(-phase) on A's qubit or
RZ(+phase) on B's. Who ignores the tags holds the average: :func:`untagged`.

Sources: Hermans et al., arXiv 2208.07449 (abstract); Legero et al. 2003 for the beat of two detuned
photons. The averages assume windows that hold the whole packets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qstack.errors import LocalProtocolError
from qstack.sim.heralding.optics import AnalyserOptics
from qstack.sim.heralding.schemes import HERALDS, POLARISATION, SINGLE_CLICK
from qstack.sim.heralding.table import HeraldTable, Outcome
from qstack.sim.states import Matrix
from qstack.units import Picoseconds


def phase_of(
    measurement: str, clicks: int, tags_ps: Sequence[Picoseconds], analyser: AnalyserOptics
) -> float:
    """Return the phase in radians of |10> relative to |01> that these tags imply.

    `tags_ps`: one per click of `clicks`, in the order of the bits, from one origin common to
    both emissions. 0 where the pattern heralds nothing. LocalProtocolError where the number
    of tags is not that of the clicks.
    """
    if clicks not in HERALDS[measurement]:
        return 0.0
    if len(tags_ps) != clicks.bit_count():
        raise LocalProtocolError(f"{len(tags_ps)} tags for the clicks {clicks:#b}")
    turn = -2 * math.pi * analyser.frequency_offset_hz * 1e-12
    if measurement == SINGLE_CLICK:
        # |10>: the photon came from A, whose field advances by -2 pi f_A t.
        return turn * tags_ps[0]
    later, earlier = tags_ps[1], tags_ps[0]
    if measurement == POLARISATION and clicks == 0b0110:
        # V1 and H2 are the bits in this order; the phase counts V's time less H's.
        later, earlier = earlier, later
    return turn * (later - earlier)


def with_phase(state: Matrix, phase: float) -> Matrix:
    """Return the (4, 4) state after RZ(phase) on A's qubit: |1> of A gains `phase` over |0>."""
    turn = np.exp(np.array([0, 0, 1j, 1j]) * phase)
    result: Matrix = state * np.outer(turn, turn.conj())
    return result


def tag_average(measurement: str, analyser: AnalyserOptics) -> complex:
    """Return the factor on the coherence <10|rho|01> when nobody looks at the tags."""
    # The mean of exp(-i w t) over an exponential law of time is 1 / (1 + i w lifetime).
    once = 1 / (1 + 1j * analyser.detuning)
    return once if measurement == SINGLE_CLICK else abs(once) ** 2 + 0j


def untagged(measurement: str, table: HeraldTable, analyser: AnalyserOptics) -> HeraldTable:
    """Return the table with every coherence averaged over the times of detection."""
    factor = tag_average(measurement, analyser)
    keep = np.ones((4, 4), complex)
    keep[2, 1], keep[1, 2] = factor, factor.conjugate()
    return HeraldTable(
        tuple(Outcome(o.clicks, o.probability, o.state * keep) for o in table.outcomes)
    )
