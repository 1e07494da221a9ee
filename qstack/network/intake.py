"""What links bring for circuits: requests of neighbours by their label, halves, ends, expiries."""

from __future__ import annotations

from qstack.errors import ErrorCode
from qstack.link.service import LinkCancel, LinkFailed, LinkPairReady
from qstack.messages.circuits import CircuitId
from qstack.messages.common import PairId, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.circuits import Circuits
from qstack.network.desk import Desk
from qstack.network.places import Side
from qstack.units import LinkName

NOBODY = CircuitId("", 0, 0)
"""For whom link requests are that came under a label which is not known (any more)."""


class Intake:
    """Takes the indications of links that belong to circuits to where they belong."""

    __slots__ = ("_circuits", "_desk")

    def __init__(self, desk: Desk, circuits: Circuits) -> None:
        self._desk = desk
        self._circuits = circuits

    def accepted(self, link: LinkName, request: LinkRequest) -> None:
        """A link request of the node before this one entered the queue of the link between."""
        member = self._circuits.labelled(request.purpose)
        if member is None or member.place.link(Side.UP) != link:
            # What it may bring before it ends is nobody's: it must not go to a user.
            self._desk.own(request.id, NOBODY, Side.UP)
            cancel = LinkCancel(request.id, f"{self._desk.node} knows no label {request.purpose}")
            self._desk.down(link, cancel)
            return
        self._desk.own(request.id, member.place.id, Side.UP)
        member.room.accepted(request)

    def pair(self, link: LinkName, ready: LinkPairReady, owner: tuple[CircuitId, Side]) -> None:
        """A link delivered a half for a circuit, or for one that was."""
        circuit, side = owner
        member = self._circuits.member(circuit)
        if member is None or member.part is None:
            self._desk.free(ready.qubit)
            return
        half = self._desk.half(link, ready.info, ready.qubit)
        if side is Side.UP:
            member.room.arrived(ready.request)
        elif member.supply is not None:
            member.supply.arrived(ready.request)
        still = member.stills.get(side)
        if still is None:
            self._circuits.bring(member, side, half)
        elif member.running:
            still.take(half)
        else:
            still.refuse(half, "its request ended")

    def ended(
        self, request: RequestId, failed: LinkFailed | None, owner: tuple[CircuitId, Side]
    ) -> None:
        """A link request of a circuit ended; if it failed though it is wanted, so has all of it.

        Unless it brought pairs and then found no memory for one: users may hold theirs for long.
        """
        circuit, side = owner
        member = self._circuits.member(circuit)
        self._desk.disown(request)
        if member is None:
            return
        if side is Side.UP or member.supply is None:
            member.room.ended(request)
            return
        if member.supply.ended(request, done=failed is None):
            return
        if failed is None or (failed.code is ErrorCode.NO_RESOURCES and failed.delivered):
            member.supply.renew()
            return
        reason = f"link {member.supply.link}: {failed.reason}"
        self._circuits.release(circuit, failed.code, reason)

    def expired(self, pair: PairId, reason: str, owner: tuple[CircuitId, Side]) -> None:
        """EXPIRE of a pair that a link request of a circuit had brought."""
        circuit, side = owner
        member = self._circuits.member(circuit)
        part = None if member is None else member.part
        if member is None or part is None:
            return
        if side in member.stills:
            member.stills[side].expire(pair, reason)
        else:
            self._circuits.void(member, side, pair, reason)
