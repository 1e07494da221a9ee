"""Identities and values that several layers put into their messages."""

from __future__ import annotations

from enum import IntEnum

from qstack.bell import BellIndex
from qstack.messages.wire import payload
from qstack.units import BootId, Duration, LinkName, NodeName

HASHED = (1 << 60) - 1
"""What looks these up meets few that differ in their other fields only; a peer may send numbers
that no hash may have."""


@payload
class RequestId:
    """A request, network-wide: who asked, in which life, the how-manieth time."""

    origin: NodeName
    boot: BootId
    number: int

    def __hash__(self) -> int:
        return self.number & HASHED

    def __str__(self) -> str:
        return f"{self.origin}.{self.boot & 0xFFFF:04x}.{self.number}"


@payload
class PairId:
    """A pair of a link, network-wide: never a memory slot."""

    link: LinkName
    station_boot: BootId
    sequence: int

    def __hash__(self) -> int:
        return self.sequence & HASHED

    def __str__(self) -> str:
        return f"{self.link}.{self.station_boot & 0xFFFF:04x}.{self.sequence}"


@payload
class Qubit:
    """A local memory position in one of its lives. Never leaves the node but to its user."""

    slot: int
    generation: int

    def __hash__(self) -> int:
        return (self.slot ^ self.generation << 8) & HASHED


class PairKind(IntEnum):
    """What a request asks for: keep both halves, measure both, or prepare the far one."""

    KEEP = 0
    MEASURE = 1
    PREPARE = 2


class BasisSet(IntEnum):
    """The set from which the basis of each measured pair is drawn."""

    NONE = 0
    """No draw: the Z axis after the rotation."""
    XZ = 1
    """X with the first probability, otherwise Z."""
    XYZ = 2
    """X with the first, Y with the second probability, otherwise Z."""
    CHSH = 3
    """(Z+X)/sqrt2 with the first probability, otherwise (Z-X)/sqrt2."""


class Basis(IntEnum):
    """The axis that was measured, before the inverse of the rotation (numbers: netqasm)."""

    Z = 0
    X = 1
    Y = 2
    ZPX = 3
    ZMX = 4


@payload
class BasisPlan:
    """How to measure: the Euler rotation ``Rx(x1)``, then ``Ry(y)``, then ``Rx(x2)``, then an axis.

    Angles in radians; the axis is drawn from `basis_set` with `first` and `second`.
    """

    basis_set: BasisSet
    first: float
    second: float
    x1: float
    y: float
    x2: float


@payload
class Pattern:
    """What a station saw: which detectors clicked, and what that heralds.

    `clicks` is a bit mask over the analyser's detectors (for two-round schemes the second
    round's detectors follow the first's). `bell` is the Bell index that the pattern heralds.
    """

    clicks: int
    bell: BellIndex


@payload
class PairInfo:
    """What is known of a delivered pair, the same at both ends but for the last field.

    `goodness` is the fidelity to Bell state `bell` that the link stands for, with its lower
    bound `goodness_low`, estimated for `age_ns` after the emission. `horizon_ns` is the time
    from delivery after which no EXPIRE can follow. `origin` is true at the requester. `hops`: over
    so many links; a pair over several has the id and the age of its half at the head-end.
    """

    pair: PairId
    bell: BellIndex
    clicks: int
    setting: str
    goodness: float
    goodness_low: float
    age_ns: Duration
    horizon_ns: Duration
    origin: bool
    hops: int = 1


PLAIN_Z = BasisPlan(BasisSet.NONE, 0.0, 0.0, 0.0, 0.0, 0.0)
