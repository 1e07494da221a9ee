"""Checkers of global truth: what users were told, against each other and against the world."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from qstack.bell import NAMES
from qstack.machine import record
from qstack.messages.application import (
    Answer,
    Created,
    CreateKeep,
    CreateMeasure,
    CreatePrepare,
    FreeQubit,
    HalfReady,
    Measured,
    MeasureQubit,
    OutcomeReady,
    PairExpired,
    PairReady,
    RequestDone,
    RequestEnded,
)
from qstack.messages.common import PairId, Qubit, RequestId
from qstack.sim.network import VirtualNetwork
from qstack.sim.states import bell_projector
from qstack.sim.world.peek import pair_state
from qstack.stack import NodeLost, NodeReached
from qstack.testing.judge import Account, Checker, Ledger
from qstack.testing.origins import Origins
from qstack.testing.truth import TruthError
from qstack.units import Duration, Instant, NodeName


class SamePairs(Checker):
    """Both ends of a request were told the same pairs in the same order, and agree how it ended.

    Where they lost each other, or one of them died, what one end still counts as valid must at
    least have been told to the other one. How it ended an end that waited too long may say alone.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def finish(self, now: Instant) -> None:
        """Compare the accounts of every request."""
        for request, both in self._ledger.accounts.items():
            links = {pair.link for account in both.values() for pair in account.told}
            ends = sorted(both) if not links else self._ledger.ends[min(links)]
            if len(links) > 1:
                raise TruthError(f"{request} was served by several links: {sorted(links)}")
            if len(ends) == 2:
                one, other = (self._ledger.look(node, request) for node in ends)
                self._compare(one, other)

    def _compare(self, one: Account, other: Account) -> None:
        request = one.request
        if one.sure and other.sure:
            if one.valid != other.valid:
                raise TruthError(
                    f"{request}: {one.node} was told {_pairs(one.valid)} and {other.node} "
                    f"{_pairs(other.valid)}"
                )
            same = type(one.end) is type(other.end)
            if not same and not self._ledger.may_differ(one, other):
                raise TruthError(
                    f"{request} ended at {one.node} with {one.end} and at {other.node} "
                    f"with {other.end}"
                )
            return
        for mine, theirs in ((one, other), (other, one)):
            # One whose own life ended may have missed what was taken back.
            if not theirs.blind and mine.sure:
                self._within(mine, theirs)

    @staticmethod
    def _within(mine: Account, theirs: Account) -> None:
        order = [pair for pair in theirs.told if pair in set(mine.valid)]
        if order != mine.valid:
            raise TruthError(
                f"{mine.request}: valid at {mine.node} are {_pairs(mine.valid)}, but "
                f"{theirs.node} was only ever told {_pairs(theirs.told)}"
            )


def _pairs(pairs: Any) -> str:
    return "[" + " ".join(str(pair.sequence) for pair in pairs) + "]"


@record
class Seen:
    """One pair whose joint state was looked at when both ends had it.

    `fidelity` to the announced Bell state; `late_ns` how much older it was than its report says;
    `expected`: what its goodness has become by then.
    """

    pair: PairId
    setting: str
    clicks: int
    fidelity: float
    expected: float
    age_ns: Duration
    late_ns: Duration


Half: TypeAlias = tuple[NodeName, PairReady]
"""What the user of a node was told of a pair."""

AGAIN_NS: Duration = 200_000
"""A pair that grew older by less than this since it was told is not looked at again."""

SLACK = 0.02
"""Goodness is an estimate, and timing hardware that is wrong costs visibility."""


class States(Checker):
    """Each kept pair is, in the world, in the Bell state that both ends were told.

    It looks when the second end is told and the first still holds its half. What is told has its
    promised fidelity, which dephasing brings down to one half of that; a pair of wrong halves, or
    of the wrong sign, stays below the half. So the middle between what is expected and that half
    tells them apart at a single pair. Where the devices' ages do not hold (`ages_hold` false: slow
    hardware, wrong clocks) nothing is expected, and the half itself is the limit. Pairs that users
    keep for long are looked at again when the first of the two gives its half back.

    `seen` are all looks, for statistics.
    """

    def __init__(self, origins: Origins, *, ages_hold: bool = True) -> None:
        self.seen: list[Seen] = []
        self.gone = 0
        self._origins = origins
        self._ages_hold = ages_hold
        self._first: dict[PairId, tuple[NodeName, PairReady]] = {}
        self._freed: set[tuple[NodeName, int, int]] = set()
        self._whole: dict[PairId, tuple[Half, Half]] = {}
        self._kept: dict[tuple[NodeName, int, int], PairId] = {}

    def begin(self, net: VirtualNetwork) -> None:
        """Note which memory each node has."""
        super().begin(net)
        self._memory = {end.node: end.memory for link in net.links for end in link.ends}
        self._t2_ns = {end.node: end.model.t2_ns for link in net.links for end in link.ends}

    def asked(self, node: NodeName, message: Any, now: Instant) -> None:
        """A half that is given back, or measured, is nothing to look at afterwards."""
        qubit = getattr(message, "qubit", None)
        if qubit is not None:
            key = (node, qubit.slot, qubit.generation)
            if key in self._kept:
                self._look_again(self._kept[key], now)
            self._freed.add(key)

    def contact(self, event: NodeReached | NodeLost, now: Instant) -> None:
        """What a node held for a user that lost it is the node's again."""
        self.user_crashed(event.node, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """What a node held for a user that is gone is nothing to look at."""
        for holder, ready in self._first.values():
            if holder == node:
                self._freed.add((node, ready.qubit.slot, ready.qubit.generation))
        for place, pair in list(self._kept.items()):
            if place[0] == node:
                self._forget(pair)

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Compare at the second report of a pair."""
        if type(message) is PairExpired:
            self._forget(message.pair)
        if type(message) is not PairReady or message.outcome is not None:
            return
        pair = message.info.pair
        first = self._first.pop(pair, None)
        if first is None:
            self._first[pair] = (node, message)
            return
        mine, theirs = (message, first[1])
        if mine.info.bell != theirs.info.bell or mine.request != theirs.request:
            raise TruthError(f"{pair}: the ends were told {mine} and {theirs}")
        if mine.info.origin == theirs.info.origin:
            raise TruthError(f"{pair}: both ends, or none, count as its origin")
        qubit = theirs.qubit
        if (first[0], qubit.slot, qubit.generation) in self._freed:
            self.gone += 1
            return
        if self._look((node, mine), first, now):
            self._whole[pair] = ((node, mine), first)
            for holder, ready in self._whole[pair]:
                self._kept[holder, ready.qubit.slot, ready.qubit.generation] = pair

    def _forget(self, pair: PairId) -> tuple[Half, Half] | None:
        """Look at this pair no more."""
        both = self._whole.pop(pair, None)
        for holder, ready in both or ():
            self._kept.pop((holder, ready.qubit.slot, ready.qubit.generation), None)
        return both

    def _look_again(self, pair: PairId, now: Instant) -> None:
        both = self._forget(pair)
        emitted = self._origins.emitted_at(pair)
        if both is None or emitted is None:
            return
        for holder, ready in both:
            # A node that has lost its user takes back what that held.
            if not self.net.heap.lives(holder):
                return
            if not self.net.host(holder).slots.holds(ready.qubit, "application"):
                return
        if now - emitted - both[0][1].info.age_ns > AGAIN_NS:
            self._look(*both, now)

    def _look(self, one: Half, other: Half, now: Instant) -> bool:
        """Judge the joint state; return whether there was one."""
        pair, info = one[1].info.pair, one[1].info
        places = [(self._memory[node], ready.qubit.slot) for node, ready in (one, other)]
        try:
            state = pair_state(self.net.world, places[0], places[1], now)
        except KeyError as error:
            if self._may_be_gone(pair, one[0], other[0]):
                self.gone += 1
                return False
            raise TruthError(f"{pair}: there is no qubit in {error} at {now} ns") from error
        fidelity = float(np.real(np.trace(bell_projector(info.bell) @ state)))
        emitted = self._origins.emitted_at(pair)
        late = 0 if emitted is None else now - emitted - info.age_ns
        before = self._coherence(one[0], other[0], info.age_ns)
        since = self._coherence(one[0], other[0], late)
        expected = info.goodness * (1 + before * since) / (1 + before)
        seen = Seen(pair, info.setting, info.clicks, fidelity, expected, info.age_ns, late)
        self.seen.append(seen)
        half = info.goodness / 2
        least = (expected + half) / 2 if self._ages_hold else half
        if fidelity < least - SLACK and not self._may_be_gone(pair, one[0], other[0]):
            raise TruthError(
                f"{pair} is told as {NAMES[info.bell]} at {places[0]} and {places[1]}, but its "
                f"fidelity to that is {fidelity:.3f}, and {expected:.3f} is expected"
            )
        return True

    def _coherence(self, one: NodeName, other: NodeName, late_ns: Duration) -> float:
        """What dephasing leaves of a coherence in this time: exp(-t / T2) at each end.

        These pairs have no weight in the state that dephasing leads to, and no relaxation: their
        fidelity goes down with the coherence to one half of what it was.
        """
        rates = [1 / self._t2_ns[node] for node in (one, other) if self._t2_ns[node]]
        return math.exp(-late_ns * sum(rates))

    def _may_be_gone(self, pair: PairId, one: NodeName, other: NodeName) -> bool:
        """Whether a memory broke, or an owner died, since the halves were made."""
        emitted = self._origins.emitted_at(pair)
        since = [self._origins.disturbed.get(node, -1) for node in (one, other)]
        return max(since) >= (0 if emitted is None else emitted)


class OneHand(Checker):
    """No pair and no qubit is in two hands: each is told once, and a slot once until it is free."""

    def __init__(self) -> None:
        self._told: set[tuple[NodeName, PairId]] = set()
        self._early: set[tuple[NodeName, Qubit]] = set()
        self._held: dict[tuple[NodeName, int], int] = {}
        self._measuring: dict[tuple[NodeName, int], Qubit] = {}

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """A pair comes once; its qubit is in a slot that nobody else holds."""
        if type(message) is PairReady or type(message) is OutcomeReady:
            key = (node, message.info.pair)
            if key in self._told:
                raise TruthError(f"{node} told its user of {message.info.pair} twice")
            self._told.add(key)
        if type(message) is PairReady and (node, message.qubit) in self._early:
            self._early.discard((node, message.qubit))
        elif type(message) is PairReady or type(message) is HalfReady:
            place, generation = (node, message.qubit.slot), message.qubit.generation
            if type(message) is HalfReady:
                self._early.add((node, message.qubit))
            if place in self._held:
                raise TruthError(
                    f"{node} gives away slot {place[1]} in generation {generation}, but its user "
                    f"still holds generation {self._held[place]} of it"
                )
            self._held[place] = generation
        elif type(message) is Measured:
            self._free(node, message.qubit)
        elif type(message) is Answer:
            # Where a readout failed the qubit is gone too; where it was refused it was so before.
            measured = self._measuring.pop((node, message.reference), None)
            if measured is not None:
                self._free(node, measured)

    def asked(self, node: NodeName, message: Any, now: Instant) -> None:
        """What is given back may be given away again; a stale word changes nothing."""
        if type(message) is FreeQubit:
            self._free(node, message.qubit)
        elif type(message) is MeasureQubit:
            self._measuring[node, message.reference] = message.qubit

    def contact(self, event: NodeReached | NodeLost, now: Instant) -> None:
        """What a node held for a user that lost it is the node's again."""
        self.user_crashed(event.node, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """What a node held for a user that is gone is the node's again."""
        self._held = {place: gen for place, gen in self._held.items() if place[0] != node}

    def _free(self, node: NodeName, qubit: Qubit) -> None:
        if self._held.get((node, qubit.slot)) == qubit.generation:
            del self._held[node, qubit.slot]


class Ends(Checker):
    """Every request ends exactly once at its user, with all its OKs or with one error.

    After the end no pair is told; `delivered` is what the user can count. A call whose node was
    lost ends with that loss.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._calls: dict[tuple[NodeName, int], Any] = {}
        self._wanted: dict[RequestId, int] = {}
        self._open: set[tuple[NodeName, RequestId]] = set()

    @property
    def open(self) -> int:
        """How many calls and requests have not ended."""
        return len(self._calls) + len(self._open)

    def describe(self) -> str:
        """Say which requests have not ended."""
        names = [f"{request} at {node}" for node, request in sorted(self._open, key=str)]
        return ", ".join([*names, *(f"call {call}" for call in self._calls.values())])

    def asked(self, node: NodeName, message: Any, now: Instant) -> None:
        """A call is open until it is named, and then until it ends."""
        creates = isinstance(message, CreateKeep | CreateMeasure | CreatePrepare)
        if creates and node in self._up:
            self._calls[node, message.reference] = message

    def begin(self, net: VirtualNetwork) -> None:
        """Nobody is reached yet."""
        super().begin(net)
        self._up: set[NodeName] = set()

    def contact(self, event: NodeReached | NodeLost, now: Instant) -> None:
        """What was asked of a lost node ends with it."""
        node = event.node
        if type(event) is NodeReached:
            self._up.add(node)
            return
        self.user_crashed(node, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """What nobody waits for any more need not end."""
        self._up.discard(node)
        self._calls = {call: what for call, what in self._calls.items() if call[0] != node}
        self._open = {each for each in self._open if each[0] != node}

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Follow the life of each request at each user."""
        match message:
            case Created(reference, request):
                call = self._calls.pop((node, reference), None)
                if call is None:
                    raise TruthError(f"{node} created {request}, which nobody asked for")
                self._wanted[request] = call.terms.number
                self._open.add((node, request))
            case PairReady() | OutcomeReady():
                self._may_come(node, message.request, message.info.pair)
                self._open.add((node, message.request))
            case RequestDone() | RequestEnded():
                self._ended(node, message)

    def _may_come(self, node: NodeName, request: RequestId, pair: PairId) -> None:
        account = self._ledger.account(node, request)
        if account.end is not None:
            raise TruthError(f"{node}: {pair} came after the end of {request}: {account.end}")

    def _ended(self, node: NodeName, message: RequestDone | RequestEnded) -> None:
        account = self._ledger.account(node, message.request)
        if account.end is not message:
            raise TruthError(f"{node}: {message.request} ended twice: {account.end}, {message}")
        self._open.discard((node, message.request))
        if message.delivered != len(account.valid):
            raise TruthError(f"{node}: {message}, but its user has {len(account.valid)} pairs")
        wanted = self._wanted.get(message.request)
        if type(message) is RequestDone and wanted not in (None, message.delivered):
            raise TruthError(f"{node}: {message}, but {wanted} pairs were asked for")

    def finish(self, now: Instant) -> None:
        """Nothing may be open."""
        if self.open:
            raise TruthError(f"never ended: {self.describe()}")
