"""Emitters: what makes a photon, and the qubit that it is entangled with, if there is one.

Commands: EmitterArm, EmitterMeasure, Abort. Events: EmitterHeralded, EmitterFired,
EmitterOutcome and the general terminal events of :mod:`qstack.messages.devices`.
"""

from __future__ import annotations

from qstack.machine import record
from qstack.units import Duration, Picoseconds


@record
class EmitterSheet:
    """The datasheet of an emitter: bounds and capabilities, as data.

    `encoding`: "presence" (single click), "polarisation", "time-bin" (Barrett-Kok), "pairs"
    (a source of photon pairs) or a plugin's own word. `efficiency`: probability that an
    attempt which should emit puts a photon into the fibre, frequency conversion included.
    `noise_hz`: unwanted photons that it adds in the fibre. `double_excitation`: probability of
    a second photon. `pair_mean`: mean pairs per mode of a pair source. `phase_sigma`: optical
    phase noise, radians, r.m.s. `frequency_hz`: offset from the network's reference.
    `lifetime_ps`: of the exponential photon packet. `keep`: its qubit can be kept.
    `abort_ns`: the bounded latency of an abort, 0 where an abort ends what it aborts at once.
    """

    encoding: str
    efficiency: float
    noise_hz: float
    double_excitation: float
    pair_mean: float
    phase_sigma: float
    frequency_hz: float
    lifetime_ps: Picoseconds
    prepare_ns: Duration
    herald_line: bool
    keep: bool
    abort_ns: Duration = 0
