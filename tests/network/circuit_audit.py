"""What must hold once a lab has finished: everything ended once, alike at both ends, and true."""

from __future__ import annotations

from qstack.messages.application import OutcomeReady, PairReady, RequestDone
from qstack.messages.common import Basis, PairId, PairKind, RequestId
from qstack.messages.link import LinkRequest
from qstack.units import NodeName
from tests.network.circuit_lab import Delivery, Lab, User
from tests.network.circuit_truth import SIGMA, Half, overlap, projected

PARITY = {Basis.Z: (0, 0, 1, 1), Basis.X: (0, 1, 0, 1), Basis.Y: (1, 0, 0, 1)}
"""Whether equal axes give unequal outcomes, of a pair in this Bell state."""


def audit(lab: Lab, *, broken: bool = False) -> None:
    """`broken`: adjacencies were lost, so the last pairs may be void at one end alone."""
    nothing_is_left(lab)
    for (name, request), user in lab.users.items():
        who = f"{request} at {name}"
        assert len(user.ends) == user.accepted, f"{who}: {user.ends}, taken {user.accepted} times"
        last = user.ends[-1] if user.ends else None
        if isinstance(last, RequestDone):
            assert last.delivered == len(user.pairs) - _expired_before(user, last), who
        twin = lab._twin(name, request)
        theirs = twin or User()
        for pair in user.valid:
            assert pair in theirs.pairs, f"{pair} of {who} was delivered at one end only"
        if not broken:
            assert user.valid == theirs.valid, f"{who}: {user.valid} and {theirs.valid}"
        assert not user.early, f"{who} never heard of {list(user.early)}"
        together = {delivery.at for delivery in user.pairs.values()}
        if lab.asked[request].within_ns:
            assert len(together) <= 1, f"{who}: a set in pieces, {together}"
        for pair in user.valid & theirs.valid:
            true(user.pairs[pair], theirs.pairs[pair], pair)


def _expired_before(user: User, done: RequestDone) -> int:
    return max(0, len(user.pairs) - done.delivered) if len(user.valid) <= done.delivered else 0


def true(one: Delivery, other: Delivery, pair: PairId) -> None:
    """The two ends say the same of a pair, and what they say is so."""
    assert one.event.info.bell == other.event.info.bell, f"{pair}: the ends differ"
    assert one.event.info.pair == other.event.info.pair
    bell = one.event.info.bell
    if isinstance(one.event, PairReady) and isinstance(other.event, PairReady):
        assert isinstance(one.seen, Half), f"{pair} was no pair any more"
        assert one.seen.bell == bell, f"{pair} is in {one.seen.bell}, {bell} was said"
        return
    measured = isinstance(one.event, OutcomeReady) and isinstance(other.event, OutcomeReady)
    if measured and one.event.basis == other.event.basis:
        differ = one.event.outcome ^ other.event.outcome
        assert differ == PARITY[one.event.basis][bell], f"{pair}: outcomes of Bell state {bell}"


def prepared(lab: Lab, tail: NodeName, request: LinkRequest) -> int:
    """PREPARE: what the tail-end holds is what it was told; return how often `corrected`."""
    assert request.kind is PairKind.PREPARE
    corrected = 0
    for pair, delivery in lab.users[tail, request.id].pairs.items():
        if delivery.expired:
            continue
        event = delivery.event
        outcome = 0 if event.corrected else event.outcome
        frame = event.info.bell
        wanted = SIGMA[frame] @ projected(request.origin_plan, event.basis, outcome).conj()
        assert abs(overlap(wanted, delivery.seen) - 1) < 1e-9, f"{pair}: another state"
        corrected += event.corrected
    return corrected


def nothing_is_left(lab: Lab) -> None:
    """No qubit, label, reservation, request or answer that somebody waits for."""
    for name, node in lab.nodes.items():
        circuits = node.demand.circuits
        assert not lab.slots[name].held(), f"{name} holds {lab.slots[name].held()}"
        assert circuits.members == (), f"{name}: {circuits.members}"
        assert not circuits._labels
        assert not node.demand._plans
        assert not node.demand.running
        assert not node.desk._answers, f"{name} waits for its memory"
        assert not node.desk._owned, f"{name} owns {node.desk._owned}"
        for link in lab.links.values():
            if name in link.ends:
                assert not node.reservations.circuits(link.name)
                assert not node.reservations.promises(link.name)
    for link in lab.links.values():
        assert not link.queue, f"{link.name} is still asked for pairs"


def ended(lab: Lab, name: NodeName, request: RequestId) -> object:
    """The one word with which a request ended at a node."""
    (last,) = lab.users[name, request].ends
    return last
