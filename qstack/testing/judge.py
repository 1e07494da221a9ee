"""The judge of a virtual network: it watches every step from outside and hands it to checkers.

A checker is an object with some of the hooks of :class:`Checker`; the judge calls only those that
it overrides, so that a run of ten thousand steps costs little more than without. A checker says
that something is wrong by raising :class:`~qstack.testing.truth.TruthError` at the very step,
while the whole network can still be looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from qstack.hal.server import OwnerGone
from qstack.machine import Up
from qstack.messages.application import (
    HalfConfirmed,
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import PairId, RequestId
from qstack.sim.heap import WORLD
from qstack.sim.network import VirtualNetwork
from qstack.stack import FromNode, NodeLost, NodeReached, ToNode
from qstack.units import Instant, LinkName, NodeName

Hook: TypeAlias = Callable[..., None]


class Checker:
    """What a checker may want to see; each hook does nothing until it is overridden.

    `net` is the network under the judge's eyes, from :meth:`begin` on.
    """

    net: VirtualNetwork

    def begin(self, net: VirtualNetwork) -> None:
        """The network stands; nothing was asked of it yet."""
        self.net = net

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """A user hears this from its node."""

    def asked(self, node: NodeName, message: Any, now: Instant) -> None:
        """A user says this to its node."""

    def contact(self, event: NodeReached | NodeLost, now: Instant) -> None:
        """A user reaches its node, or has lost it."""

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """A node or a station took an event and acts so."""

    def world(self, event: Any, now: Instant, actions: list[Any]) -> None:
        """The simulated world took an event and reports so."""

    def crashed(self, name: NodeName, now: Instant) -> None:
        """A party's process ends now, without a word."""

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """The process of this node's user ends now, without a word."""

    def finish(self, now: Instant) -> None:
        """The run is over: nothing is asked any more, and everybody had time to come to rest."""


class Judge:
    """Shows every step of a network to its checkers. `users`: of which node each user's host is."""

    def __init__(
        self, net: VirtualNetwork, users: Mapping[NodeName, NodeName], checkers: Iterable[Checker]
    ) -> None:
        self.net = net
        self.checkers = tuple(checkers)
        self._users = dict(users)
        self._told = self._hooks("told")
        self._asked = self._hooks("asked")
        self._contact = self._hooks("contact")
        self._step = self._hooks("step")
        self._world = self._hooks("world")
        for checker in self.checkers:
            checker.begin(net)
        net.heap.watch = self.watch

    def _hooks(self, name: str) -> tuple[Hook, ...]:
        plain = getattr(Checker, name)
        overridden = (c for c in self.checkers if getattr(type(c), name) is not plain)
        return tuple(getattr(checker, name) for checker in overridden)

    def watch(self, name: NodeName, event: Any, _local: Instant, actions: list[Any]) -> None:
        """Take one step of the heap, see :attr:`EventHeap.watch`; checkers are told true time."""
        now = self.net.heap.now
        if name in self._users:
            self._user(event, now, actions)
        elif name == WORLD:
            if type(event) is OwnerGone:
                self._gone(event.owner, now)
            for hook in self._world:
                hook(event, now, actions)
        else:
            for hook in self._step:
                hook(name, event, now, actions)

    def _user(self, event: Any, now: Instant, actions: list[Any]) -> None:
        if type(event) is ToNode:
            for hook in self._asked:
                hook(event.node, event.message, now)
        for action in actions:
            if type(action) is Up:
                said = action.event
                if type(said) is FromNode:
                    message = as_ready(said.message)
                    for hook in self._told:
                        hook(said.node, message, now)
                else:
                    for hook in self._contact:
                        hook(said, now)

    def _gone(self, name: NodeName, now: Instant) -> None:
        node = self._users.get(name)
        for checker in self.checkers:
            if node is None:
                checker.crashed(name, now)
            else:
                checker.user_crashed(node, now)

    def finish(self) -> None:
        """Let every checker conclude; raises TruthError."""
        for checker in self.checkers:
            checker.finish(self.net.heap.now)


def as_ready(message: Any) -> Any:
    """Return what a user is told, a confirmation of a half that it has as if it had it now."""
    if type(message) is not HalfConfirmed:
        return message
    who = message.request, message.remote, message.purpose
    return PairReady(*who, message.info, message.qubit, None, None, False)


# --- what users were told -----------------------------------------------------------------


class Account:
    """What the user of one node was told of one request, in order.

    `sure` is false where the life of the node, or the adjacency of the two ends, ended while the
    request ran or its pairs could expire: then the other end may know more. `blind`: some of what
    the node said may never have come to the user. `former`: the node has begun another life,
    which knows nothing of what the one before told.
    """

    __slots__ = ("blind", "end", "ended_at", "expired", "former", "node", "request", "sure", "told")

    def __init__(self, node: NodeName, request: RequestId) -> None:
        self.node = node
        self.request = request
        self.told: dict[PairId, Instant] = {}
        self.expired: dict[PairId, Instant] = {}
        self.end: RequestDone | RequestEnded | None = None
        self.ended_at: Instant = 0
        self.sure = True
        self.blind = False
        self.former = False

    def begin_anew(self, now: Instant) -> None:
        """Another life of the node serves the request: what the former one told of is gone."""
        self.former = False
        for pair in self.valid:
            self.expired[pair] = now

    @property
    def valid(self) -> list[PairId]:
        """The pairs that were told and not taken back, in order."""
        return [pair for pair in self.told if pair not in self.expired]


class Ledger(Checker):
    """All accounts of a run, kept for other checkers: it comes first and complains of nothing.

    `anew`: a request may begin anew at its tail-end after it ended there without a valid pair,
    because its head-end found another way for it.
    """

    def __init__(self, *, anew: bool = False) -> None:
        self._anew = anew
        self.accounts: dict[RequestId, dict[NodeName, Account]] = {}
        self.delivered = 0
        self.blind: set[NodeName] = set()
        """Nodes whose user may have missed something at some time."""
        self._dead: set[NodeName] = set()
        self.alone: set[str] = set()
        """Requests that some end ended without the last words of the other (requirement L-37)."""

    def begin(self, net: VirtualNetwork) -> None:
        """Note who stands at the ends of each link, and for how long pairs can expire."""
        super().begin(net)
        self.ends: dict[LinkName, tuple[NodeName, NodeName]] = {}
        self.horizon_ns = 0
        for link in net.links:
            self.ends[link.name] = (link.ends[0].node, link.ends[1].node)
            self.horizon_ns = max(self.horizon_ns, link.horizon_ns)
        self._pairs_of_ends = {frozenset(ends) for ends in self.ends.values()}

    def look(self, node: NodeName, request: RequestId) -> Account:
        """Return the account of a request at a node, an empty one where there is none."""
        found = self.accounts.get(request, {}).get(node)
        if found is None:
            found = Account(node, request)
            found.blind = node in self.blind
            found.sure = not found.blind
        return found

    def account(self, node: NodeName, request: RequestId) -> Account:
        """Return the account of a request at a node, opened where there is none."""
        both = self.accounts.setdefault(request, {})
        found = both.get(node)
        if found is None:
            found = both[node] = Account(node, request)
        return found

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Enter what concerns a request; pairs are entered once, whatever else is wrong."""
        kind = type(message)
        if kind is PairReady or kind is OutcomeReady:
            self.delivered += 1
            account = self._account_now(node, message.request, now)
            if self._may_begin_anew(account):
                account.end = None
            account.told.setdefault(message.info.pair, now)
        elif kind is PairExpired:
            self.account(node, message.request).expired.setdefault(message.pair, now)
        elif kind is RequestDone or kind is RequestEnded:
            account = self._account_now(node, message.request, now)
            if account.end is None or self._may_begin_anew(account):
                account.end, account.ended_at = message, now

    def may_differ(self, one: Account, other: Account) -> bool:
        """Whether one end may call done what the other one says failed (requirement L-37).

        That is where an end waited too long for the last words of the other, and the one for which
        the request failed had not delivered all of it.
        """
        failed, done = (one, other) if isinstance(one.end, RequestEnded) else (other, one)
        if not isinstance(failed.end, RequestEnded) or not isinstance(done.end, RequestDone):
            return False
        return str(one.request) in self.alone and failed.end.delivered < done.end.delivered

    def _account_now(self, node: NodeName, request: RequestId, now: Instant) -> Account:
        account = self.account(node, request)
        if self._anew and account.former and node != request.origin:
            account.begin_anew(now)
        return account

    def _may_begin_anew(self, account: Account) -> bool:
        """Whether what was told of the end of a request at this node need not be the last word.

        Pairs that its user was told of are void by then: the head-end's user has none.
        """
        fruitless = type(account.end) is RequestEnded and not account.valid
        return self._anew and fruitless and account.node != account.request.origin

    def crashed(self, name: NodeName, now: Instant) -> None:
        """What the other end of its requests knows may be more than its user was told."""
        self._dead.add(name)
        self.blind.add(name)
        for both in self.accounts.values():
            if name in both:
                both[name].former = True
        for account in self._young(now):
            if account.node == name:
                account.sure = False

    def contact(self, event: NodeReached | NodeLost, now: Instant) -> None:
        """Where a node was lost that did not crash, its user may have missed something."""
        if type(event) is NodeReached:
            self._dead.discard(event.node)
            return
        self._blinded(event.node, event.node not in self._dead, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """What the node says meanwhile nobody hears."""
        self._blinded(node, True, now)

    def _blinded(self, node: NodeName, blind: bool, now: Instant) -> None:
        self.blind.add(node)
        for account in self._young(now):
            if account.node == node:
                account.sure = False
                account.blind = account.blind or blind

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """Notice when the two ends of a link lose each other, or one waits no longer."""
        for action in actions:
            said = getattr(action, "name", "")
            if said == "link-grace-over":
                self.alone.add(dict(action.fields)["request"])
            elif said == "peer-lost":
                peer = dict(action.fields)["peer"]
                if frozenset((name, peer)) in self._pairs_of_ends:
                    self.parted(name, peer, now)

    def parted(self, one: NodeName, other: NodeName, now: Instant) -> None:
        """The ends lost each other: of what is young neither knows what the other does."""
        for account in self._young(now):
            if account.node in (one, other):
                for each in self.accounts[account.request].values():
                    each.sure = False

    def _young(self, now: Instant) -> list[Account]:
        """The accounts that are open, or whose pairs can still expire."""
        return [
            account
            for both in self.accounts.values()
            for account in both.values()
            if account.end is None or account.ended_at + 2 * self.horizon_ns >= now
        ]
