"""The simulated hardware, as network files describe it: parameter records and plugins.

Every plugin here has ``build=None``: the device lives in the simulated world
(:mod:`qstack.sim.world`), which takes the same parameter record, and is reached through the
world's hardware port. Probabilities in [0, 1], fidelities are average fidelities, times as
their names say. Which numbers are realistic for which platform: validation dossier, section 2.
"""

from __future__ import annotations

from typing import TypeAlias

from qstack.bell import PHI_PLUS, BellIndex
from qstack.errors import ConfigError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.plugins import Plugin
from qstack.hal.station import StationSheet
from qstack.machine import record
from qstack.sim.heralding import HERALDS
from qstack.units import Duration, Picoseconds

PAIR_SOURCE = "pair-source"
"""The `measurement` of a station that only compares what the receivers of a source saw."""

COINCIDENCE = 0b11
"""The click mask of such a station: bit 0 the receiver at end A, bit 1 that at end B."""


@record
class ColourCentreParameters:
    """A colour centre that heralds by a single photon; working-point value "alpha".

    `efficiency`: zero-phonon emission, collection and frequency conversion together.
    `alpha`: bright population where the working point names none. `lost_charge`: probability
    that an attempt finds the centre in the wrong charge state: no photon, spin as prepared.
    `phase_sigma`: radians. `noise_hz`: photons added by conversion. Others as in EmitterSheet.
    """

    efficiency: float
    alpha: float = 0.1
    double_excitation: float = 0.0
    phase_sigma: float = 0.0
    lost_charge: float = 0.0
    noise_hz: float = 0.0
    frequency_hz: float = 0.0
    lifetime_ps: Picoseconds = 12_000
    prepare_ns: Duration = 3_800
    herald_line: bool = True
    abort_ns: Duration = 0


@record
class TrappedIonParameters:
    """A trapped ion or atom whose photon's polarisation is entangled with it.

    The same record serves Barrett-Kok, where the station's measurement asks for it; then
    "alpha" is a working-point value too (default 1/2). Fields as in ColourCentreParameters.
    """

    efficiency: float
    double_excitation: float = 0.0
    phase_sigma: float = 0.0
    noise_hz: float = 0.0
    frequency_hz: float = 0.0
    lifetime_ps: Picoseconds = 7_000
    prepare_ns: Duration = 5_000
    herald_line: bool = True
    abort_ns: Duration = 0


@record
class QuantumDotParameters:
    """A quantum dot: bright and fast, its spin too short-lived to be kept.

    `multi_photon`: probability of a second photon (about g2 / 2 for a good dot).
    """

    efficiency: float
    multi_photon: float = 0.0
    phase_sigma: float = 0.0
    noise_hz: float = 0.0
    frequency_hz: float = 0.0
    lifetime_ps: Picoseconds = 250
    prepare_ns: Duration = 10
    herald_line: bool = True
    abort_ns: Duration = 0


@record
class SpdcParameters:
    """A pulsed source of polarisation-entangled photon pairs; measured, never kept.

    `pair_mean`: mean pairs per mode and pulse ("pair_mean" is a working-point value too).
    `efficiency`: of each photon into its fibre. `local_efficiency` and `local_dark_hz` are
    those of the detectors for the photon that stays, where the other goes to a midpoint;
    a source in the middle has none. `bell`: the state of a single pair.
    """

    pair_mean: float
    efficiency: float
    local_efficiency: float = 1.0
    local_dark_hz: float = 0.0
    bell: int = PHI_PLUS
    noise_hz: float = 0.0
    frequency_hz: float = 0.0
    lifetime_ps: Picoseconds = 100
    prepare_ns: Duration = 10
    herald_line: bool = True
    abort_ns: Duration = 0


@record
class DetectorParameters:
    """A single-photon detector, as in DetectorSheet.

    An afterpulse comes at an exponential time of mean `afterpulse_ns` after its click; inside
    the dead time it is lost. A link whose detectors remember a cycle in the next runs attempt
    by attempt, which `qstack check` says.
    """

    efficiency: float
    dark_hz: float = 0.0
    jitter_ps: Picoseconds = 0
    dead_ns: Duration = 0
    afterpulse: float = 0.0
    afterpulse_ns: Duration = 0


@record
class NumberResolvingParameters(DetectorParameters):
    """The same, of a detector that tells two photons from one."""


@record
class MemoryParameters:
    """A register of qubits; fields as in MemorySheet, of which it is the source.

    Gates are imperfect by depolarising. `two_qubit_fidelity` 1 and `coupled` empty mean that
    no two slots can be joined.

    A memory with coupled slots takes MemoryBell: CNOT, H, and both readouts at once, so that it
    lasts ``2 * gate_ns + readout_ns``. `swap_success`: probability that it gives a result.
    """

    communication: int
    storage: int = 0
    t1_ns: Duration = 0
    t2_ns: Duration = 0
    exponent: float = 1.0
    equilibrium: float = 0.0
    attempt_dephasing: float = 0.0
    initialise_fidelity: float = 1.0
    gate_ns: Duration = 0
    gate_fidelity: float = 1.0
    two_qubit_fidelity: float = 1.0
    move_ns: Duration = 0
    move_fidelity: float = 1.0
    readout_ns: Duration = 0
    readout: tuple[float, float] = (1.0, 1.0)
    coupled: tuple[tuple[int, int], ...] = ()
    swap_success: float = 1.0

    @property
    def bell_ns(self) -> Duration:
        """How long a Bell measurement lasts."""
        return 2 * self.gate_ns + self.readout_ns


@record
class AnalyserParameters:
    """A whole heralding station: interferometer, detectors and logic.

    `measurement` and `visibility` as in StationSheet. `patterns`: what heralds, as (click mask,
    Bell index); empty for all that the measurement can herald. Other Bell states than those of
    plain optics are heralded where B's photon is turned on its way, see :meth:`turn`.
    `phase_sigma`: radians, of the interferometer. `detector`: the name of its detectors' device
    (all alike). `latency_ns`: from a click to its report.
    """

    measurement: str
    detector: str
    visibility: float = 1.0
    phase_sigma: float = 0.0
    trigger_lines: bool = True
    patterns: tuple[tuple[int, int], ...] = ()
    switch_ns: Duration = 0
    latency_ns: Duration = 0

    def heralding(self) -> tuple[tuple[int, int], ...]:
        """The accepted patterns, with those of the measurement where none are named."""
        if self.patterns:
            return self.patterns
        if self.measurement == PAIR_SOURCE:
            return ((COINCIDENCE, PHI_PLUS),)
        return tuple(sorted(HERALDS.get(self.measurement, {}).items()))

    def turn(self) -> BellIndex:
        """Return the Pauli on B's side by which the patterns differ from those of plain optics.

        Half-wave plates before the splitter are Paulis on the polarisation. With one photon Z is
        a phase of pi, and X means that B's other level is the bright one. One
        Pauli for all patterns: ConfigError where they differ by more than one.
        """
        plain = HERALDS.get(self.measurement, {})
        turns = {bell ^ plain.get(clicks, bell) for clicks, bell in self.patterns}
        if len(turns) > 1:
            raise ConfigError(["analyser: no optics gives these patterns these Bell states"])
        return turns.pop() if turns else 0


EmitterParameters: TypeAlias = (
    ColourCentreParameters | TrappedIonParameters | QuantumDotParameters | SpdcParameters
)
Parameters: TypeAlias = (
    EmitterParameters | DetectorParameters | MemoryParameters | AnalyserParameters
)


def emitter_sheet(parameters: EmitterParameters) -> EmitterSheet:
    """Return the datasheet of any simulated emitter."""
    encoding, double, pairs, phase, keep = "polarisation", 0.0, 0.0, 0.0, True
    match parameters:
        case ColourCentreParameters():
            encoding, double = "presence", parameters.double_excitation
            phase = parameters.phase_sigma
        case TrappedIonParameters():
            double, phase = parameters.double_excitation, parameters.phase_sigma
        case QuantumDotParameters():
            double, phase, keep = parameters.multi_photon, parameters.phase_sigma, False
        case SpdcParameters():
            encoding, pairs, keep = "pairs", parameters.pair_mean, False
    check_probabilities("emitter", efficiency=parameters.efficiency, double_excitation=double)
    return EmitterSheet(
        encoding=encoding,
        efficiency=parameters.efficiency,
        noise_hz=parameters.noise_hz,
        double_excitation=double,
        pair_mean=pairs,
        phase_sigma=phase,
        frequency_hz=parameters.frequency_hz,
        lifetime_ps=parameters.lifetime_ps,
        prepare_ns=parameters.prepare_ns,
        herald_line=parameters.herald_line,
        keep=keep,
        abort_ns=parameters.abort_ns,
    )


def detector_sheet(parameters: DetectorParameters) -> DetectorSheet:
    """Return the datasheet of a simulated detector."""
    check_probabilities(
        "detector", efficiency=parameters.efficiency, afterpulse=parameters.afterpulse
    )
    if parameters.afterpulse and parameters.afterpulse_ns <= 0:
        raise ConfigError(["detector: afterpulse needs its mean time, afterpulse_ns"])
    return DetectorSheet(
        parameters.efficiency,
        parameters.dark_hz,
        parameters.jitter_ps,
        parameters.dead_ns,
        parameters.afterpulse,
        isinstance(parameters, NumberResolvingParameters),
        parameters.afterpulse_ns,
    )


def memory_sheet(parameters: MemoryParameters) -> MemorySheet:
    """Return the datasheet of a simulated memory; ConfigError naming what cannot be."""
    p = parameters
    problems = []
    if p.t1_ns and p.t2_ns > 2 * p.t1_ns:
        problems.append(f"memory: t2_ns = {p.t2_ns} is longer than twice t1_ns = {p.t1_ns}")
    if p.exponent <= 0:
        problems.append(f"memory: exponent = {p.exponent} is not positive")
    slots = p.communication + p.storage
    problems += [
        f"memory: coupled names slots {pair}, but there are {slots}"
        for pair in p.coupled
        if not (min(pair) >= 0 and max(pair) < slots and pair[0] != pair[1])
    ]
    if problems:
        raise ConfigError(problems)
    check_probabilities(
        "memory",
        equilibrium=p.equilibrium,
        attempt_dephasing=p.attempt_dephasing,
        initialise_fidelity=p.initialise_fidelity,
        gate_fidelity=p.gate_fidelity,
        two_qubit_fidelity=p.two_qubit_fidelity,
        move_fidelity=p.move_fidelity,
        readout_0=p.readout[0],
        readout_1=p.readout[1],
        swap_success=p.swap_success,
    )
    return MemorySheet(
        p.communication,
        p.storage,
        p.t1_ns,
        p.t2_ns,
        p.exponent,
        p.equilibrium,
        p.attempt_dephasing,
        p.initialise_fidelity,
        p.gate_ns,
        p.gate_fidelity,
        p.two_qubit_fidelity,
        p.move_ns,
        p.move_fidelity,
        p.readout_ns,
        p.readout,
        p.coupled,
        bell_measurement=bool(p.coupled),
        bell_ns=p.bell_ns,
        swap_success=p.swap_success,
    )


def station_sheet(parameters: AnalyserParameters) -> StationSheet:
    """Return the datasheet of a simulated analyser; ConfigError for an unknown measurement."""
    known = (*HERALDS, PAIR_SOURCE)
    if parameters.measurement not in known:
        raise ConfigError(
            [f"analyser: measurement {parameters.measurement!r} is none of {', '.join(known)}"]
        )
    check_probabilities("analyser", visibility=parameters.visibility)
    parameters.turn()
    return StationSheet(
        parameters.measurement,
        parameters.visibility,
        parameters.trigger_lines,
        parameters.heralding(),
        parameters.switch_ns,
    )


def check_probabilities(device: str, **values: float) -> None:
    """Raise ConfigError that names every value outside [0, 1]."""
    problems = [
        f"{device}: {name} = {value} is not in [0, 1]"
        for name, value in values.items()
        if not 0.0 <= value <= 1.0
    ]
    if problems:
        raise ConfigError(problems)


COLOUR_CENTRE = Plugin("sim.colour-centre", ColourCentreParameters, emitter_sheet, None)
TRAPPED_ION = Plugin("sim.trapped-ion", TrappedIonParameters, emitter_sheet, None)
QUANTUM_DOT = Plugin("sim.quantum-dot", QuantumDotParameters, emitter_sheet, None)
SPDC = Plugin("sim.spdc", SpdcParameters, emitter_sheet, None)
THRESHOLD = Plugin("sim.threshold", DetectorParameters, detector_sheet, None)
NUMBER_RESOLVING = Plugin("sim.number-resolving", NumberResolvingParameters, detector_sheet, None)
MEMORY = Plugin("sim.memory", MemoryParameters, memory_sheet, None)
ANALYSER = Plugin("sim.analyser", AnalyserParameters, station_sheet, None)

PLUGINS = {
    "qstack.emitters": (COLOUR_CENTRE, TRAPPED_ION, QUANTUM_DOT, SPDC),
    "qstack.detectors": (THRESHOLD, NUMBER_RESOLVING),
    "qstack.memories": (MEMORY,),
    "qstack.stations": (ANALYSER,),
}
"""Every plugin of the simulated world, by the group it belongs to."""
