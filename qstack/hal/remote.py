"""``remote``: a device that another process serves over the hardware port.

A network file says which process (`host`) and what the device is (`sheet`). The datasheet
stands in the file because every party of a link predicts its working points from those of both
ends, also parties that never talk to the process. What the process itself says of its devices
comes with its greeting, as texts that :func:`sheet_text` makes; where the two differ in a value
that both state (:func:`differences`), the predictions would be wrong, and the device is not used.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import attrs

from qstack.errors import RemoteProtocolError
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.plugins import Plugin, Sheet
from qstack.hal.station import StationSheet
from qstack.machine import record
from qstack.units import NodeName


@record
class RemoteEmitter:
    """`host` names the process in the network file; `sheet` is the device's datasheet."""

    host: NodeName
    sheet: EmitterSheet


@record
class RemoteDetector:
    """As RemoteEmitter."""

    host: NodeName
    sheet: DetectorSheet


@record
class RemoteMemory:
    """As RemoteEmitter."""

    host: NodeName
    sheet: MemorySheet


@record
class RemoteStation:
    """As RemoteEmitter."""

    host: NodeName
    sheet: StationSheet


Remote: TypeAlias = RemoteEmitter | RemoteDetector | RemoteMemory | RemoteStation


def _given(parameters: Remote) -> Sheet:
    return parameters.sheet


EMITTER = Plugin("remote", RemoteEmitter, _given, None, remote=True)
DETECTOR = Plugin("remote", RemoteDetector, _given, None, remote=True)
MEMORY = Plugin("remote", RemoteMemory, _given, None, remote=True)
STATION = Plugin("remote", RemoteStation, _given, None, remote=True)

PLUGINS = {
    "qstack.emitters": EMITTER,
    "qstack.detectors": DETECTOR,
    "qstack.memories": MEMORY,
    "qstack.stations": STATION,
}
"""The plugin of each group."""


def sheet_text(sheet: Sheet) -> str:
    """Return a datasheet as it stands in a greeting: a JSON object of its fields."""
    # Untyped on purpose: the type checker does not see that our records are attrs classes.
    untyped: Any = sheet
    return json.dumps(attrs.asdict(untyped), separators=(",", ":"))


def differences(text: str, sheet: Sheet) -> tuple[str, ...]:
    """Say where the datasheet of a greeting differs from ours; empty where it does not.

    Fields that only one of the two states are not compared: versions may meet.
    RemoteProtocolError for a text that is no JSON object.
    """
    try:
        theirs = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"a datasheet is a JSON object: {error}") from error
    if not isinstance(theirs, dict):
        raise RemoteProtocolError("a datasheet is a JSON object")
    ours = json.loads(sheet_text(sheet))
    return tuple(
        f"{name} is {theirs[name]!r} there, but {ours[name]!r} in the network file"
        for name in ours
        if name in theirs and theirs[name] != ours[name]
    )
