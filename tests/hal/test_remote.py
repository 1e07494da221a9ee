"""Devices of another process: what its greeting says of them, and what their owner makes of it."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.errors import RemoteProtocolError
from qstack.hal.detector import DetectorSheet
from qstack.hal.remote import differences, sheet_text
from qstack.hal.served import Served
from qstack.hal.station import StationSheet
from qstack.machine import DRAINED, Note
from qstack.messages.devices import DeviceState, DeviceStatus
from qstack.sim.heap import EventHeap, Wire
from qstack.stack import DeviceHost, StationNode, StationParameters
from qstack.units import MILLISECOND, Chance
from tests.hal.benches import example_module
from tests.hal.test_emulated_fpga import FPGA, ScriptedEnd, identity
from tests.physical.physical_lab import NAMES, parameters

SHEET = StationSheet("single-click", 0.95, True, ((1, 2), (2, 3)), 0)


def other(**changes: Any) -> StationSheet:
    untyped: Any = SHEET
    changed: StationSheet = attrs.evolve(untyped, **changes)
    return changed


def test_a_datasheet_agrees_with_itself_and_with_one_of_fewer_or_more_fields() -> None:
    assert differences(sheet_text(SHEET), SHEET) == ()
    said = json.loads(sheet_text(SHEET))
    del said["abort_ns"]
    assert differences(json.dumps({**said, "weight_kg": 12}), SHEET) == ()


def test_each_value_that_differs_is_named_with_both() -> None:
    there = other(visibility=0.9, patterns=((1, 3), (2, 2)))
    assert differences(sheet_text(there), SHEET) == (
        "visibility is 0.9 there, but 0.95 in the network file",
        "patterns is [[1, 3], [2, 2]] there, but [[1, 2], [2, 3]] in the network file",
    )
    # A whole number is a number.
    whole = DetectorSheet(1.0, 0.0, 50, 0, 0.0, False)
    assert differences('{"efficiency": 1, "jitter_ps": 50.0}', whole) == ()


@given(st.text(max_size=60) | st.sampled_from(["[" * 100_000, "5", "null", '"x"', "[1]"]))
def test_any_other_text_is_no_datasheet(text: str) -> None:
    try:
        found = differences(text, SHEET)
    except RemoteProtocolError:
        return
    assert isinstance(json.loads(text), dict)
    assert isinstance(found, tuple)


class Floor:
    """A station, and the process of its analyser, whose greeting says `said` of it."""

    def __init__(self, said: tuple[StationSheet | None, ...]) -> None:
        self.heap = EventHeap(Chance(4), Wire(20_000))
        station = StationParameters(
            identity("station", "station"), (parameters(),), (("bsa", FPGA),), (("bsa", SHEET),)
        )
        self.station = StationNode(station)
        self.heap.add("station", self.station)
        self.ends = [ScriptedEnd(identity(name, "node")) for name in NAMES]
        for end in self.ends:
            self.heap.add(end.name, end)
        for life, sheet in enumerate(said, start=1):
            self.start(life, sheet)
            self.heap.run(self.heap.now + 100 * MILLISECOND)

    def start(self, life: int, sheet: StationSheet | None) -> None:
        module = example_module()
        self.fpga = module.EmulatedFpga("bsa", module.Behaviour(0.01), Chance(life))
        sheets = () if sheet is None else (("station", "bsa", sheet),)
        server = Served({"bsa": self.fpga}, {"bsa": "station"})
        who = identity(FPGA, "world", life)
        self.heap.add(FPGA, DeviceHost(who, (("station", "station"),), server, sheets))

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = self.station.physical.links["a-b"].report()
        return found


@pytest.mark.parametrize("said", [SHEET, None])
def test_a_device_is_used_whose_process_says_the_same_or_nothing(said: StationSheet | None) -> None:
    floor = Floor((said,))
    assert floor.report["state"] == "paired"
    assert len(floor.ends[0].got) > 50


def test_a_device_that_is_not_what_the_file_says_is_not_used_and_the_reason_is_seen() -> None:
    floor = Floor((other(visibility=0.5),))
    assert floor.report["state"] == "closed"
    assert floor.report["trouble"] == (
        "the datasheet of bsa: visibility is 0.5 there, but 0.95 in the network file"
    )
    assert floor.ends[0].got == []
    # It was not even asked to start its clock.
    assert floor.heap.frames.get("device:StationClock", 0) == 0


def test_a_device_that_is_not_what_the_file_says_cannot_declare_itself_ready() -> None:
    floor = Floor((other(visibility=0.5),))
    ready = DeviceState("bsa", DeviceStatus.READY, "restarted", 0, 0)
    host = floor.heap.host(FPGA)
    floor.heap.watch = lambda name, event, now, actions: (
        actions.extend(host.neighbours.post("station", ready, now))
        if name == FPGA and event is DRAINED and now < 101 * MILLISECOND
        else None
    )
    floor.heap.run(floor.heap.now + 100 * MILLISECOND)
    assert floor.heap.frames["device:DeviceState"] > 0
    assert floor.report["state"] == "closed"
    # Nothing was even tried with it.
    assert floor.report.get("faults", 0) == 0


def test_a_process_that_comes_back_as_the_right_device_is_used_and_the_other_way_round() -> None:
    floor = Floor((other(visibility=0.5), SHEET))
    assert floor.report["state"] == "paired"
    got = len(floor.ends[0].got)
    assert got > 50
    floor.start(3, other(switch_ns=7))
    floor.heap.run(floor.heap.now + 20 * MILLISECOND)
    got = len(floor.ends[0].got)
    floor.heap.run(floor.heap.now + 100 * MILLISECOND)
    assert floor.report["state"] == "closed"
    assert len(floor.ends[0].got) == got


def test_a_greeting_has_room_for_some_datasheets_and_says_which_it_leaves_out() -> None:
    devices = {f"bsa-{number}": object() for number in range(20)}
    sheets = tuple(("station", name, SHEET) for name in devices)
    server = Served({}, {})
    host = DeviceHost(identity(FPGA, "world"), (("station", "station"),), server, sheets)
    actions = host.start(0)
    left = [dict(note.fields)["device"] for note in actions if isinstance(note, Note)]
    told = 850 // (len("bsa-10") + len(sheet_text(SHEET)))
    assert 4 <= told <= 8
    assert left == list(devices)[told:]
