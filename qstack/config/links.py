"""What a link of a network file comes to: working points, parameters, budget."""

from __future__ import annotations

from qstack.config.records import ArmFile, LinkFile, NetworkFile, NodeFile, SettingFile, sheet_of
from qstack.hal.detector import DetectorSheet
from qstack.hal.emitter import EmitterSheet
from qstack.hal.memory import MemorySheet
from qstack.hal.station import StationSheet
from qstack.link.budget import ArmSheet, Budget, Optics, Point, predict
from qstack.link.budget import budget as make_budget
from qstack.physical.service import EndParameters, LinkParameters, MemoryModel, Setting, Values
from qstack.units import LinkName, NodeName

IDEAL = MemoryModel(0, 0, 1.0, 0, 1.0, 0, 1.0, (1.0, 1.0))
"""The memory of an end that has none: what is measured at once does not decay."""

UNBIASED = (0.5, 0.5)


def link_parameters(network: NetworkFile, link_name: LinkName) -> LinkParameters:
    """Return all that the ends and the station of a link are told; KeyError for no such link."""
    link = network.link(link_name)
    nodes = {node.name: node for node in network.nodes}
    arms = optics(nodes, link)
    return LinkParameters(
        name=link.name,
        scheme=link.scheme,
        ends=(_end(nodes, link.arms[0]), _end(nodes, link.arms[1])),
        station=link.station,
        analyser=nodes[link.station].device(link.analyser).name,
        cycle_ns=link.cycle_ns,
        modes=link.modes,
        settings=tuple(_setting(link, arms, setting) for setting in link.settings),
        keep=link.keep,
        scheduler=link.scheduler,
        queue_limit=link.queue_limit,
        test_rate=link.test_rate,
        confirm_ns=link.confirm_ns,
        horizon_ns=link.horizon_ns,
        windows=link.windows,
    )


def budget(network: NetworkFile, link_name: LinkName) -> Budget:
    """Return the budget of a link, decibel by decibel; KeyError where there is no such link."""
    link = network.link(link_name)
    arms = optics({node.name: node for node in network.nodes}, link)
    points = tuple(point(link, arms, setting) for setting in link.settings)
    return make_budget(link.name, arms, points, link.cycle_ns, link.modes)


def optics(nodes: dict[NodeName, NodeFile], link: LinkFile) -> Optics:
    """Return the arms and the analyser of a link, as datasheets."""
    station = nodes[link.station]
    analyser = sheet_of(station, link.analyser, StationSheet)
    first, second = (_arm(nodes[arm.node], station, link, arm) for arm in link.arms)
    return Optics((first, second), analyser)


def _arm(node: NodeFile, station: NodeFile, link: LinkFile, arm: ArmFile) -> ArmSheet:
    if link.source:
        emitter = sheet_of(station, link.source, EmitterSheet)
        detector = sheet_of(node, arm.emitter, DetectorSheet)
    else:
        emitter = sheet_of(node, arm.emitter, EmitterSheet)
        detector = sheet_of(station, link.detectors, DetectorSheet)
    return ArmSheet(arm.node, emitter, detector, arm.km, arm.db_per_km, arm.extra_db)


def point(link: LinkFile, arms: Optics, setting: SettingFile) -> Point:
    """Return a working point with what the file leaves to the devices filled in."""
    source = arms.arms[0].emitter
    visibility, pair_mean = setting.visibility, setting.pair_mean
    return Point(
        id=setting.id,
        alpha=setting.alpha or UNBIASED,
        window_ps=setting.window_ps,
        visibility=arms.station.visibility if visibility is None else visibility,
        pair_mean=source.pair_mean if pair_mean is None else pair_mean,
        spread=setting.spread,
    )


def _setting(link: LinkFile, arms: Optics, setting: SettingFile) -> Setting:
    alphas = setting.alpha or (None, None)
    values: list[tuple[NodeName, Values]] = []
    for arm, alpha in zip(link.arms, alphas, strict=True):
        values.append((arm.node, () if alpha is None else (("alpha", alpha),)))
    own = (("visibility", setting.visibility), ("pair_mean", setting.pair_mean))
    return Setting(
        id=setting.id,
        values=tuple(values),
        station_values=tuple((name, value) for name, value in own if value is not None),
        window_ps=setting.window_ps,
        patterns=predict(arms, point(link, arms, setting)),
        calibration="datasheet",
    )


def _end(nodes: dict[NodeName, NodeFile], arm: ArmFile) -> EndParameters:
    node = nodes[arm.node]
    device = node.device(arm.emitter)
    memory = node.device(arm.memory) if arm.memory else None
    # Receivers report coincidences only: to the node that is a herald line.
    line = device.sheet.herald_line if isinstance(device.sheet, EmitterSheet) else True
    return EndParameters(
        node=arm.node,
        emitter=device.name,
        memory=memory.name if memory else "",
        communication=arm.communication,
        storage=arm.storage,
        herald_line=line,
        delay_ns=arm.delay_ns,
        model=_model(sheet_of(node, arm.memory, MemorySheet)) if memory else IDEAL,
    )


def _model(sheet: MemorySheet) -> MemoryModel:
    return MemoryModel(
        t1_ns=sheet.t1_ns,
        t2_ns=sheet.t2_ns,
        exponent=sheet.exponent,
        move_ns=sheet.move_ns,
        move_fidelity=sheet.move_fidelity,
        gate_ns=sheet.gate_ns,
        gate_fidelity=sheet.gate_fidelity,
        readout=sheet.readout,
        bell_measurement=sheet.bell_measurement,
        two_qubit_fidelity=sheet.two_qubit_fidelity,
        swap_success=sheet.swap_success,
        coupled=sheet.coupled,
    )
