"""A circuit at one of its nodes: all the parts that this node has in it."""

from __future__ import annotations

import attrs

from qstack.network.forwarding import Between
from qstack.network.head_end import Head
from qstack.network.passing import Passing
from qstack.network.places import Place, Side
from qstack.network.room import Room
from qstack.network.stills import HopStill
from qstack.network.supply import Supply
from qstack.network.tail_end import Tail
from qstack.units import BootId


@attrs.define(eq=False)
class Member:
    """A circuit at this node: where it stands, what forwards its pairs, what asks for them.

    `passing`: requests at nodes between; ends have orders. `room` for halves from upstream.
    `life`: of the head-end, as routes told of it when the circuit came. `used`: it has carried a
    request. `rests`: none is on it now. `stills`: of the hops whose pairs are purified before they
    are swapped.
    """

    place: Place
    room: Room
    passing: Passing
    part: Head | Between | Tail | None = None
    supply: Supply | None = None
    life: BootId | None = None
    used: bool = False
    rests: bool = False
    stills: dict[Side, HopStill] = attrs.field(factory=dict)

    @property
    def quiet(self) -> bool:
        """Whether it has carried requests and none is on it any more."""
        if not self.used or self.part is None:
            return False
        return not (self.passing if isinstance(self.part, Between) else self.part.orders)

    @property
    def running(self) -> bool:
        """Whether a request of the circuit wants pairs, as far as this node knows."""
        if self.part is None:
            return False
        return self.passing.wanted if isinstance(self.part, Between) else bool(self.part.orders)

    def held_on(self, side: Side) -> int:
        """How many halves of one side are here."""
        if self.part is None:
            return 0
        inside = self.stills[side].held if side in self.stills else 0
        part = self.part
        return inside + (part.held_on(side) if isinstance(part, Between) else part.held)
