"""What a world is made of, and the events of fault injection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from qstack.errors import ConfigError
from qstack.machine import record
from qstack.messages.devices import DeviceStatus
from qstack.sim.channels import Fibre, LossProcess
from qstack.sim.devices import (
    PAIR_SOURCE,
    AnalyserParameters,
    ColourCentreParameters,
    DetectorParameters,
    MemoryParameters,
    Parameters,
    QuantumDotParameters,
    SpdcParameters,
    TrappedIonParameters,
)
from qstack.units import LinkName, NodeName, Picoseconds

MIDPOINT_BSM = "midpoint-bsm"
MIDPOINT_SOURCE = "midpoint-source"

T = TypeVar("T")

EMITTERS = (ColourCentreParameters, TrappedIonParameters, QuantumDotParameters, SpdcParameters)


@record
class WorldDevice:
    """A device: which process commands it, and its parameters."""

    owner: NodeName
    parameters: Parameters


@record
class WorldEnd:
    """One end of a link: its devices and its fibre to the station.

    `emitter` is the device that the end's arms address: what emits (`midpoint-bsm`), or the
    receiver with its two detectors (`midpoint-source`: a detector device). `memory` is empty
    where nothing can be kept. `wander` is loss on top of the fibre's, which varies in time.
    """

    node: NodeName
    emitter: str
    memory: str
    fibre: Fibre
    wander: LossProcess | None = None


@record
class WorldLink:
    """A link: scheme, both ends (A, B), the analyser, the source where one is in the middle.

    `max_modes`: how many attempts of a cycle the optics carry.
    """

    name: LinkName
    scheme: str
    ends: tuple[WorldEnd, WorldEnd]
    analyser: str
    max_modes: int
    source: str = ""


@record
class WorldParameters:
    """All devices by name, and all links."""

    devices: tuple[tuple[str, WorldDevice], ...]
    links: tuple[WorldLink, ...]


@record
class Break:
    """Fault injection: a device fails, or is taken out of service, with this status."""

    device: str
    status: DeviceStatus
    reason: str


@record
class Mend:
    """Fault injection: a device is ready again."""

    device: str


@record
class Retime:
    """From now on the hardware of `node` is `offset_ps` ahead of the network's timing.

    It gains `drift_ppt` parts in 10**12 on top; negative numbers mean behind, and slower.
    """

    node: NodeName
    offset_ps: Picoseconds
    drift_ppt: int


def parameters_of(devices: Mapping[str, WorldDevice], name: str, kind: type[T]) -> T:
    """Return the parameters of a device; ConfigError where they are of another kind."""
    device = devices.get(name)
    if device is None:
        raise ConfigError([f"there is no device {name!r}"])
    if not isinstance(device.parameters, kind):
        raise ConfigError([f"{name!r} is a {type(device.parameters).__name__}"])
    return device.parameters


def check(parameters: WorldParameters) -> None:
    """Raise ConfigError with every device that a link names wrongly."""
    devices = dict(parameters.devices)
    problems: list[str] = []

    def want(where: str, name: str, *kinds: type) -> None:
        device = devices.get(name)
        if device is None:
            problems.append(f"{where}: there is no device {name!r}")
        elif not isinstance(device.parameters, kinds):
            problems.append(f"{where}: {name!r} is a {type(device.parameters).__name__}")

    for link in parameters.links:
        where = f"link {link.name}"
        source = link.scheme == MIDPOINT_SOURCE
        if link.scheme not in (MIDPOINT_BSM, MIDPOINT_SOURCE):
            problems.append(f"{where}: unknown scheme {link.scheme!r}")
        want(where, link.analyser, AnalyserParameters)
        for end in link.ends:
            want(where, end.emitter, *((DetectorParameters,) if source else EMITTERS))
            if end.memory:
                want(where, end.memory, MemoryParameters)
        pairs = [_is(devices, end.emitter, SpdcParameters) for end in link.ends]
        if pairs[0] != pairs[1]:
            problems.append(f"{where}: a pair source at one end alone")
        if source:
            want(where, link.source, SpdcParameters)
    for name, device in parameters.devices:
        analyser = device.parameters
        if not isinstance(analyser, AnalyserParameters):
            continue
        try:
            analyser.turn()
        except ConfigError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
        if analyser.measurement != PAIR_SOURCE:
            want(f"analyser {name}", analyser.detector, DetectorParameters)
    if problems:
        raise ConfigError(problems)


def _is(devices: Mapping[str, WorldDevice], name: str, kind: type) -> bool:
    return name in devices and isinstance(devices[name].parameters, kind)
