"""Heralded entanglement: exact click-pattern distributions and the states they leave.

Two emitters send photons to an analyser. What happened is known by which detectors clicked; the
spins are left in a state that depends on that pattern. For each way of measuring there is a
function that returns a :class:`HeraldTable` over all patterns of one attempt, failures included:

- :func:`single_click`: one photon, two detectors; coherence goes with sqrt(V), rate with the
  efficiency (Cabrillo et al. 1999, Bose et al. 1999).
- :func:`two_photon`: polarisation or time-bin Bell measurement on four detectors;
  :func:`barrett_kok`: two rounds on two detectors. Coherence goes with V, rate with the product of
  the efficiencies (Barrett and Kok 2005).
- :func:`pair_source` and :func:`spdc_bsm`: sources of photon pairs, measured at both ends.

Nothing is expanded in the efficiency: losses, multi-photon terms, dark counts, stray light and
the number of counts that a detector can tell are all in the mode algebra (:mod:`.clicks`).
Linear optics heralds Psi+ and Psi- only. Conventions: bits of a pattern count detectors from 0;
states are (4, 4) over (A, B); |1> is the bright state; numbers checked against are in section 3
of the project's validation dossier.
"""

from qstack.sim.heralding.optics import (
    AnalyserOptics,
    ArmOptics,
    captured,
    dark_probability,
    visibility_with_delay,
)
from qstack.sim.heralding.pairs import ClickTable, PairEnd, PairSource, pair_source, spdc_bsm
from qstack.sim.heralding.schemes import (
    BARRETT_KOK,
    HERALDS,
    POLARISATION,
    SINGLE_CLICK,
    barrett_kok,
    single_click,
    table_for,
    two_photon,
)
from qstack.sim.heralding.table import HeraldTable, Outcome
from qstack.sim.heralding.tags import phase_of, tag_average, untagged, with_phase

__all__ = [
    "BARRETT_KOK",
    "HERALDS",
    "POLARISATION",
    "SINGLE_CLICK",
    "AnalyserOptics",
    "ArmOptics",
    "ClickTable",
    "HeraldTable",
    "Outcome",
    "PairEnd",
    "PairSource",
    "barrett_kok",
    "captured",
    "dark_probability",
    "pair_source",
    "phase_of",
    "single_click",
    "spdc_bsm",
    "table_for",
    "tag_average",
    "two_photon",
    "untagged",
    "visibility_with_delay",
    "with_phase",
]
