"""What a program sees of its node: the same interface live and in virtual time.

Live it is implemented by :mod:`qstack.drivers.client`, over the node's user port; in virtual
time by :mod:`qstack.sim.network`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeAlias

from qstack.bell import BellIndex
from qstack.messages.application import (
    HalfConfirmed,
    HalfDiscarded,
    HalfReady,
    Measured,
    OutcomeReady,
    PairExpired,
    PairReady,
    Terms,
    Tried,
)
from qstack.messages.common import BasisPlan, Qubit, RequestId
from qstack.messages.devices import Gate
from qstack.units import LinkName

Early: TypeAlias = HalfReady | HalfConfirmed | HalfDiscarded
"""Of a half that is handed over early: first the qubit, then one notice, both with its name."""

Delivery: TypeAlias = PairReady | OutcomeReady | PairExpired | Early
"""What a request or a purpose delivers, in order."""


class Request(Protocol):
    """A running request. Iterate to receive; the loop ends when the request is done.

    Iterating raises :class:`qstack.errors.RequestFailed` when the request ends with an error.
    """

    @property
    def id(self) -> RequestId:
        """The network-wide id."""

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Iterate over what is delivered at this end."""

    async def cancel(self) -> None:
        """End the request early; the iteration then raises RequestFailed(OTHER)."""


class Incoming(Protocol):
    """What comes in for a purpose, from any requester, until it is closed."""

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Iterate over what is delivered at this end."""

    async def close(self) -> None:
        """Refuse later requests; running ones finish."""


class Node(Protocol):
    """A node, as its user sees it."""

    @property
    def name(self) -> str:
        """The node's name in the network."""

    async def create_keep(
        self,
        terms: Terms,
        *,
        store: bool = False,
        final_bell: BellIndex | None = None,
        early: bool = False,
    ) -> Request:
        """Ask for pairs to keep. Deliveries are PairReady.

        `early`: both ends get their halves when they come, as HalfReady, before it is known whether
        they belong to a pair, and later HalfConfirmed or HalfDiscarded of each. The qubit is the
        program's from the first on, to be used at once or kept; a notice never takes it back, so
        the program frees it, or measures it, whatever the notice says. All notices come before
        the end of the request. Without `final_bell`, which nobody could bring about.
        """

    async def create_measure(self, terms: Terms, local: BasisPlan, remote: BasisPlan) -> Request:
        """Ask for pairs to be measured at both ends at once. Deliveries are OutcomeReady."""

    async def create_prepare(
        self, terms: Terms, local: BasisPlan, *, store: bool = False, correct: bool = False
    ) -> Request:
        """Prepare the remote half by measuring mine. Deliveries are OutcomeReady."""

    async def listen(self, purpose: int) -> Incoming:
        """Take what others ask for with this purpose."""

    async def measure(self, qubit: Qubit, plan: BasisPlan) -> Measured:
        """Measure a qubit of mine; it is freed."""

    async def gate(
        self, gate: Gate, qubit: Qubit, other: Qubit | None = None, angle: float = 0.0
    ) -> None:
        """Apply a gate to qubits of mine."""

    async def free(self, qubit: Qubit) -> None:
        """Give a qubit back."""

    async def drain(self, link: LinkName | None = None, *, undo: bool = False) -> None:
        """Take nothing new on a link of this node, None: at all; `undo`: do so again.

        What runs is finished. It belongs to the node: it holds after this program has ended,
        until somebody takes it back or the node's process ends. RequestFailed for a link that the
        node does not have.
        """

    async def try_pairs(self, terms: Terms) -> Tried:
        """Return whether and how a request on these terms would be served now: a dry run.

        Every node on the way is asked, and nothing is kept, made or emitted.
        """

    @property
    def expired(self) -> AsyncIterator[PairExpired]:
        """Pairs that expired after the iteration which delivered them had ended.

        One that expires before is delivered by the iteration itself, that of a purpose as long
        as the purpose is listened to. Up to the horizon in its PairInfo a pair may still turn out
        never to have been one; a program that acts on pairs sooner watches here, or waits. Those
        that nobody has taken are kept, the latest 1,024 of them. All iterators share them.
        """

    async def status(self) -> dict[str, Any]:
        """Return what the node knows and has counted."""
