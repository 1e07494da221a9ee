"""What a circuit reserves of its links' time, changed while it runs: all nodes do it, or none.

The head-end asks with the new part of each leg. Each node looks whether it has so much, holds it,
and passes the ask on; the tail-end's word comes back and settles it. A node that has not so much
turns the ask back, and whoever held more goes back to what was. One ask at a time is on its way.
"""

from __future__ import annotations

from typing import Any, cast

import attrs

from qstack.errors import RemoteProtocolError
from qstack.messages.circuits import CircuitInstall, CircuitShares
from qstack.network.admission import Reservations, Verdict
from qstack.network.desk import Desk
from qstack.network.places import Place, Side


class Sharing:
    """The reservations of one node's circuits, as they change."""

    __slots__ = ("_desk", "_reservations")

    def __init__(self, desk: Desk, reservations: Reservations) -> None:
        self._desk = desk
        self._reservations = reservations

    def ask(self, place: Place, shares: tuple[float, ...]) -> Verdict | None:
        """At the head-end: reserve so much of each leg; return why not even this node can."""
        verdict = self._reservations.reconsider(place, shares)
        if verdict is None:
            self._hold(place, shares)
            message = CircuitShares(place.id, shares, None, "")
            self._desk.send(place.neighbour(Side.DOWN), message)
        return verdict

    def asked(self, place: Place, message: CircuitShares) -> None:
        """The node before this one asks."""
        shares = message.shares
        sane = len(shares) == len(place.install.legs) and all(0 <= each <= 1 for each in shares)
        if not sane or place.former is not None or message.code is not None:
            raise RemoteProtocolError(f"{message} makes no sense")
        verdict = self._reservations.reconsider(place, shares)
        if verdict is not None:
            told = CircuitShares(place.id, shares, verdict.code, verdict.reason)
            self._desk.send(place.neighbour(Side.UP), told)
            return
        self._hold(place, shares)
        if place.is_tail:
            place.former = None
            self._desk.send(place.neighbour(Side.UP), message)
        else:
            self._desk.send(place.neighbour(Side.DOWN), message)

    def answered(self, place: Place, message: CircuitShares) -> None:
        """The nodes after this one hold what was asked for, or one of them cannot."""
        former = place.former
        if former is None:
            raise RemoteProtocolError(f"nobody asked for {message}")
        place.former = None
        if message.code is not None:
            place.install = former
            self._reservations.reserve(place)
        if not place.is_head:
            self._desk.send(place.neighbour(Side.UP), message)

    def _hold(self, place: Place, shares: tuple[float, ...]) -> None:
        place.former = place.install
        place.install = with_shares(place.install, shares)
        self._reservations.reserve(place)


def with_shares(install: CircuitInstall, shares: tuple[float, ...]) -> CircuitInstall:
    """Return an install whose legs reserve these parts."""
    # The type checker does not see that our records are attrs classes.
    change = cast(Any, attrs.evolve)
    pairs = zip(install.legs, shares, strict=True)
    legs = tuple(change(leg, share=share) for leg, share in pairs)
    changed: CircuitInstall = change(install, legs=legs)
    return changed
