"""Links for tests of the network layer, without anything below them."""

from __future__ import annotations

from qstack.bell import werner
from qstack.physical.service import (
    EndParameters,
    LinkParameters,
    MemoryModel,
    PatternPrior,
    Setting,
)
from qstack.units import MICROSECOND, MILLISECOND, NodeName


def memory(slots: int, **changes: object) -> MemoryModel:
    """An eternal, perfect memory in which every two slots are coupled."""
    pairs = tuple((one, two) for one in range(slots) for two in range(one + 1, slots))
    usual: dict[str, object] = {
        "t1_ns": 0,
        "t2_ns": 0,
        "exponent": 1.0,
        "move_ns": 0,
        "move_fidelity": 1.0,
        "gate_ns": 0,
        "gate_fidelity": 1.0,
        "readout": (1.0, 1.0),
        "bell_measurement": True,
        "coupled": pairs,
    }
    return MemoryModel(**(usual | changes))  # type: ignore[arg-type]  # fields of MemoryModel


def link_between(  # noqa: PLR0913  every option has a name
    name: str,
    one: NodeName,
    other: NodeName,
    *,
    fidelity: float = 0.95,
    success: float = 0.1,
    slots: tuple[tuple[int, ...], tuple[int, ...]] = ((0,), (0,)),
    model: MemoryModel | None = None,
) -> LinkParameters:
    """A link with one setting, "s", whose pattern 1 heralds Psi+ in a Werner state."""
    ends = tuple(
        EndParameters(
            node,
            f"to-{name}",
            f"{node}/memory",
            mine,
            (),
            True,
            5 * MICROSECOND,
            model or memory(4),
        )
        for node, mine in sorted(zip((one, other), slots, strict=True))
    )
    pattern = PatternPrior(1, 2, success, werner(fidelity, 2), 0.0)
    setting = Setting("s", ((one, ()), (other, ())), (), 1_000, (pattern,), "test")
    return LinkParameters(
        name=name,
        scheme="midpoint-bsm",
        ends=(ends[0], ends[1]),
        station=f"station-{name}",
        analyser=f"station-{name}/analyser",
        cycle_ns=10 * MICROSECOND,
        modes=1,
        settings=(setting,),
        keep=True,
        scheduler="first-come",
        queue_limit=64,
        test_rate=0.0,
        confirm_ns=MILLISECOND,
        horizon_ns=MILLISECOND,
    )
