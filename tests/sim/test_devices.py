"""Parameter records of the simulated hardware, their datasheets and their plugins."""

from __future__ import annotations

import attrs
import pytest

from qstack.bell import PSI_MINUS, PSI_PLUS
from qstack.errors import ConfigError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.plugins import GROUPS, Plugin
from qstack.hal.station import StationSheet
from qstack.sim.devices import (
    COLOUR_CENTRE,
    PLUGINS,
    QUANTUM_DOT,
    SPDC,
    TRAPPED_ION,
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    MemoryParameters,
    NumberResolvingParameters,
    QuantumDotParameters,
    SpdcParameters,
    TrappedIonParameters,
    detector_sheet,
    emitter_sheet,
    memory_sheet,
    station_sheet,
)

SHEETS = {
    "qstack.emitters": EmitterSheet,
    "qstack.detectors": DetectorSheet,
    "qstack.memories": MemorySheet,
    "qstack.stations": StationSheet,
}


@pytest.mark.parametrize("group", GROUPS)
def test_every_plugin_is_named_after_the_world_and_makes_a_sheet_of_its_group(group: str) -> None:
    least = {"efficiency": 0.5, "pair_mean": 0.1, "communication": 1, "detector": "d"}
    least["measurement"] = "single-click"
    for plugin in PLUGINS[group]:
        assert isinstance(plugin, Plugin)
        assert plugin.name.startswith("sim.")
        assert plugin.build is None
        needed = {
            field.name: least[field.name]
            for field in attrs.fields(plugin.parameters)
            if field.default is attrs.NOTHING
        }
        assert isinstance(plugin.sheet(plugin.parameters(**needed)), SHEETS[group])


def test_only_emitters_with_a_spin_that_lives_keep_a_qubit() -> None:
    keeps = {
        COLOUR_CENTRE.name: emitter_sheet(ColourCentreParameters(0.1)),
        TRAPPED_ION.name: emitter_sheet(TrappedIonParameters(0.1)),
        QUANTUM_DOT.name: emitter_sheet(QuantumDotParameters(0.1)),
        SPDC.name: emitter_sheet(SpdcParameters(0.05, 0.1)),
    }
    assert [name for name, sheet in keeps.items() if sheet.keep] == [
        "sim.colour-centre",
        "sim.trapped-ion",
    ]
    assert [sheet.encoding for sheet in keeps.values()] == [
        "presence",
        "polarisation",
        "polarisation",
        "pairs",
    ]
    assert keeps["sim.spdc"].pair_mean == 0.05


def test_sheets_repeat_the_parameters() -> None:
    sheet = emitter_sheet(
        ColourCentreParameters(0.3, double_excitation=0.02, phase_sigma=0.1, herald_line=False)
    )
    assert (sheet.efficiency, sheet.double_excitation, sheet.phase_sigma) == (0.3, 0.02, 0.1)
    assert not sheet.herald_line
    memory = memory_sheet(MemoryParameters(2, 3, t1_ns=5, t2_ns=7, coupled=((0, 2),)))
    assert (memory.communication, memory.storage, memory.t1_ns, memory.t2_ns) == (2, 3, 5, 7)
    assert memory.coupled == ((0, 2),)


def test_a_memory_with_coupled_slots_offers_bell_measurements_of_two_gates_and_a_readout() -> None:
    coupled = MemoryParameters(2, gate_ns=300, readout_ns=700, coupled=((0, 1),), swap_success=0.5)
    sheet = memory_sheet(coupled)
    assert (sheet.bell_measurement, sheet.bell_ns, sheet.swap_success) == (True, 1_300, 0.5)
    assert not memory_sheet(MemoryParameters(2)).bell_measurement


def test_the_two_detectors_differ_in_resolving_numbers() -> None:
    assert not detector_sheet(DetectorParameters(0.9)).number_resolving
    assert detector_sheet(NumberResolvingParameters(0.9)).number_resolving


def test_an_analyser_accepts_all_that_its_measurement_heralds_unless_told() -> None:
    sheet = station_sheet(AnalyserParameters("single-click", "d"))
    assert sheet.patterns == ((1, PSI_PLUS), (2, PSI_MINUS))
    chosen = ((0b1001, PSI_MINUS),)
    assert (
        station_sheet(AnalyserParameters("polarisation", "d", patterns=chosen)).patterns == chosen
    )


@pytest.mark.parametrize(
    "parameters",
    [
        MemoryParameters(1, t1_ns=10, t2_ns=21),
        MemoryParameters(1, exponent=0.0),
        MemoryParameters(1, coupled=((0, 1),)),
        MemoryParameters(1, readout=(1.1, 1.0)),
        MemoryParameters(1, equilibrium=-0.1),
        MemoryParameters(1, swap_success=1.1),
    ],
)
def test_a_memory_that_cannot_be_is_a_configuration_error(parameters: MemoryParameters) -> None:
    with pytest.raises(ConfigError) as failure:
        memory_sheet(parameters)
    assert failure.value.problems[0].startswith("memory:")


def test_probabilities_and_measurements_are_checked() -> None:
    with pytest.raises(ConfigError, match="efficiency"):
        emitter_sheet(TrappedIonParameters(1.2))
    with pytest.raises(ConfigError, match="efficiency"):
        detector_sheet(DetectorParameters(-0.1))
    with pytest.raises(ConfigError, match="measurement"):
        station_sheet(AnalyserParameters("guesswork", "d"))
