"""What users ask for and are told, in the words of the network layer and in their own."""

from __future__ import annotations

from typing import TypeAlias

from qstack.errors import ErrorCode
from qstack.machine import Send
from qstack.messages.application import Answer, Terms, Tried
from qstack.messages.common import BasisPlan, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.network.service import TryAnswer
from qstack.units import NodeName

Plans: TypeAlias = tuple[BasisPlan, BasisPlan, int | None]


def wanted_of(
    request: RequestId,
    terms: Terms,
    kind: PairKind,
    plans: Plans,
    *,
    store: bool,
    early: bool = False,
) -> LinkRequest:
    """Return a request as both ends will hold it; `plans`: origin, peer, final Bell state."""
    return LinkRequest(
        request,
        kind,
        terms.number,
        terms.fidelity_min,
        terms.max_time_ns,
        terms.purpose,
        terms.priority,
        terms.weight,
        terms.atomic,
        terms.consecutive,
        store,
        *plans,
        terms.within_ns,
        early,
    )


def tried(reference: int, found: TryAnswer) -> Tried:
    """Return what a dry run of the network layer found, for the user who asked."""
    return Tried(
        reference,
        found.code,
        found.reason,
        found.nodes,
        found.links,
        found.rate_hz,
        found.promised_hz,
        found.fidelity,
        found.latency_ns,
        found.cutoffs_ns,
        found.method,
        found.rounds,
    )


def refusal(
    node: NodeName,
    user: NodeName,
    reference: int,
    reason: str,
    code: ErrorCode = ErrorCode.CREATE,
) -> Send:
    """Return the answer that a node does not do what its user wants."""
    return Send(user, Answer(reference, code, f"{node}: {reason}"))
