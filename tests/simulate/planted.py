"""Bugs that others had, planted one by one into our machines: each must be found by a checker.

The numbers are those of the pitfalls in the notes on protocol sources, section 5. Each bug is one
small patch; :data:`FOUND` holds the seed that finds it and who complains, and the test
replays those. ``python -m tests.simulate --bugs`` looks for them anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import attrs

from qstack.adjacency.flight import Received
from qstack.adjacency.inbox import ChannelIn, Inbox
from qstack.application.machine import Application
from qstack.link.agreement import Agreement
from qstack.link.harvest import Harvest
from qstack.link.pairs import Half, Pairs, Stage
from qstack.link.request import Request
from qstack.link.scheduler import virtual_now
from qstack.messages.application import RequestDone
from qstack.messages.common import Qubit
from qstack.messages.link import LinkCommit, LinkExpire
from qstack.physical.attempts import Attempts
from qstack.physical.conversation import Conversation
from qstack.physical.filling import Filling
from qstack.physical.heralding import StationEnd
from qstack.physical.matching import Matching, Resolved
from qstack.sim.world.heralds import Heralding

MOST_SEEDS = 2_000

Patch: TypeAlias = tuple[type, str, Callable[..., Any]]
"""(class, name of the method, what stands there instead)."""

BUGS: dict[str, Callable[[], tuple[Patch, ...]]] = {}


def bug(build: Callable[[], tuple[Patch, ...]]) -> Callable[[], tuple[Patch, ...]]:
    """Register a bug under its function's name."""
    BUGS[build.__name__] = build
    return build


FOUND: dict[str, tuple[int, str]] = {
    "pitfall_1_a_gap_in_the_successes_is_passed_over": (23, "SamePairs"),
    "pitfall_2_a_lost_last_success_is_never_noticed": (12, "liveness"),
    "pitfall_5_the_queues_diverge_after_an_add": (0, "liveness"),
    "pitfall_6_the_slave_computes_its_own_virtual_start": (20, "liveness"),
    "pitfall_8_emissions_are_matched_in_their_order": (553, "States"),
    "pitfall_9_soft_states_are_compared_without_their_wrap": (0, "liveness"),
    "pitfall_10_both_ends_correct": (6, "States"),
    "pitfall_13_a_slot_is_freed_whatever_its_generation": (36, "OneHand"),
    "pitfall_15_an_expiry_that_crosses_work_on_its_pair_is_lost": (0, "liveness"),
    "pitfall_16_a_combined_id_of_zero_stands_for_none": (0, "liveness"),
    "pitfall_26_a_new_life_of_the_station_is_taken_for_the_old_one": (2, "liveness"),
    "pitfall_36_a_very_late_duplicate_makes_a_ghost": (0, "liveness"),
    "ours_the_clock_of_a_former_station_is_believed": (17, "liveness"),
    "ours_a_qubit_is_freed_under_its_readout": (473, "Owners"),
    "ours_outcomes_are_flipped_at_one_end": (0, "Outcomes"),
    "ours_an_end_is_told_twice": (0, "Ends"),
    "ours_a_pair_is_told_twice": (0, "OneHand"),
    "ours_ended_requests_are_never_forgotten": (0, "Baseline"),
    "ours_pairs_are_told_as_they_become_ready": (24, "liveness"),
    "ours_heralds_overtake_the_light": (0, "Light"),
}
"""The seed at which each bug is found first, and who complains: a checker, or what never came."""


@contextmanager
def patched(patches: Iterable[Patch]) -> Iterator[None]:
    """Let these methods be others for a while."""
    former = []
    try:
        for owner, method, instead in patches:
            former.append((owner, method, owner.__dict__[method]))
            setattr(owner, method, instead)
        yield
    finally:
        for owner, method, plain in reversed(former):
            setattr(owner, method, plain)


def planted(name: str) -> AbstractContextManager[None]:
    """Let this bug be in our machines for a while."""
    return patched(BUGS[name]())


def changed(record: Any, **fields: Any) -> Any:
    """Return a record with other fields; Any, as the checker of types sees no attrs class."""
    return attrs.evolve(record, **fields)


@bug
def pitfall_1_a_gap_in_the_successes_is_passed_over() -> tuple[Patch, ...]:
    """A success that this end never heard of is skipped when a later one comes."""
    tell = Matching.tell

    def tell_and_skip(self: Matching, successes: Any, now: int) -> None:
        tell(self, successes, now)
        if self._told and self.seen + 1 not in self._told:
            self.seen = min(self._told) - 1
            self._know(self.seen)

    def only_the_latest(self: StationEnd, word: Any) -> Any:
        self.unconfirmed = self.unconfirmed[-1:]
        return heralds(self, word)

    heralds = StationEnd.heralds
    return (Matching, "tell", tell_and_skip), (StationEnd, "heralds", only_the_latest)


@bug
def pitfall_2_a_lost_last_success_is_never_noticed() -> tuple[Patch, ...]:
    """Only a later success reveals that one was lost: nobody reminds, and nobody asks."""

    def never_remind(self: StationEnd, now: int) -> None:
        self.remind_at = None

    def never_ask(self: Conversation, now: int) -> bool:
        self._asked_at = now
        return False

    return (
        (StationEnd, "remind", never_remind),
        (Conversation, "ask", never_ask),
    )


@bug
def pitfall_5_the_queues_diverge_after_an_add() -> tuple[Patch, ...]:
    """The add succeeds at one side only: the master forgets the item that the slave holds."""
    answered = Agreement.answered

    def forget(self: Agreement, message: Any, now: int) -> None:
        answered(self, message, now)
        self._board.queue.drop(message.request)

    return ((Agreement, "answered", forget),)


@bug
def pitfall_6_the_slave_computes_its_own_virtual_start() -> tuple[Patch, ...]:
    """Equal queues, unequal choices: the weighted fair order rests on local progress."""
    committed = Agreement.committed

    def with_own_start(self: Agreement, message: LinkCommit, now: int) -> None:
        own = virtual_now(self._board.queue.items, {}) + 1.0
        changed = LinkCommit(
            message.link,
            message.version,
            message.position,
            message.request,
            message.setting,
            own,
            message.cycles_per_pair,
        )
        committed(self, changed, now)

    return ((Agreement, "committed", with_own_start),)


@bug
def pitfall_8_emissions_are_matched_in_their_order() -> tuple[Patch, ...]:
    """The oldest emission is taken for the next success, whatever attempt that names."""
    resolve = Matching.resolve

    def oldest_first(self: Matching, now: int) -> Resolved | None:
        found = resolve(self, now)
        if found is None or found.emission is None or not self._emissions:
            return found
        attempt = min(self._emissions)
        oldest = self._emissions[attempt]
        mine = (found.emission.cycle, found.emission.mode)
        if oldest.work != found.emission.work or attempt > mine:
            return found
        self._emissions[attempt] = found.emission
        return Resolved(found.success, oldest, found.reason)

    return ((Matching, "resolve", oldest_first),)


@bug
def pitfall_9_soft_states_are_compared_without_their_wrap() -> tuple[Patch, ...]:
    """Sequences of soft states in four bits, compared with >: after the wrap all are stale."""
    newest = Inbox._newest

    def in_four_bits(self: Inbox, frame: Any) -> list[Any]:
        last = self._soft.get(frame.stream, 0)
        if frame.sequence & 15 < last & 15:
            self.duplicates += 1
            return []
        return newest(self, frame)

    return ((Inbox, "_newest", in_four_bits),)


@bug
def pitfall_10_both_ends_correct() -> tuple[Patch, ...]:
    """The Pauli that makes the wanted Bell state is applied twice."""
    plan = Harvest._plan

    def plan_twice(self: Harvest, half: Any, pauli: int) -> None:
        wanted = half.request.wanted
        if wanted.final_bell is not None and not half.info.origin and half.outcome is None:
            pauli = half.heralded ^ wanted.final_bell
        plan(self, half, pauli)

    return ((Harvest, "_plan", plan_twice),)


@bug
def pitfall_13_a_slot_is_freed_whatever_its_generation() -> tuple[Patch, ...]:
    """A late word about an earlier life of a slot takes the present one away from its owner."""

    def free(self: Application, user: str, qubit: Qubit) -> list[Any]:
        for owned in self._users[user].qubits:
            if owned.slot == qubit.slot and not self._busy(owned):
                self._users[user].qubits.discard(owned)
                self._slots.release(owned, "application")
                break
        return []

    return ((Application, "_free", free),)


@bug
def pitfall_15_an_expiry_that_crosses_work_on_its_pair_is_lost() -> tuple[Patch, ...]:
    """The delete crosses what is done to the pair: it finds it busy, and nothing remembers it."""
    expired = Harvest.expired

    def lose(self: Harvest, message: LinkExpire, now: int) -> None:
        named = range(message.low, message.high + 1)
        busy = [half for half in self._pairs.held() if half.now_doing is not None]
        if not any(half.key[1] in named for half in busy):
            expired(self, message, now)

    return ((Harvest, "expired", lose),)


@bug
def pitfall_16_a_combined_id_of_zero_stands_for_none() -> tuple[Patch, ...]:
    """Boot id and sequence combined in a few bits, of which zero means that there is no pair."""

    def both_complete(self: Request) -> bool:
        complete = self.reported == self.wanted.number
        if self._peer is None or not complete:
            return False
        mine, theirs = ((boot + sequence) % 8 for boot, sequence in (self.last, self._peer.last))
        return mine == theirs != 0

    return ((Request, "_both_complete", both_complete),)


@bug
def pitfall_26_a_new_life_of_the_station_is_taken_for_the_old_one() -> tuple[Patch, ...]:
    """The sequence begins again, and is compared with that of the former life."""
    begin = Conversation.begin
    base = Matching.base

    def keep_the_sequence(self: Conversation) -> Any:
        seen = self.matching.seen
        void = begin(self)
        self.matching.base(seen)
        return void

    def never_back(self: Matching, seen: int) -> None:
        base(self, max(seen, self.seen))

    return (Conversation, "begin", keep_the_sequence), (Matching, "base", never_back)


@bug
def pitfall_36_a_very_late_duplicate_makes_a_ghost() -> tuple[Patch, ...]:
    """What lies behind the window and is not known there is taken as new."""

    def add(self: Received, number: int, now: int) -> bool:
        known = number == self.largest
        self.heard = max(self.heard, now)
        if number > self.largest:
            self.largest, self.largest_at = number, now
            self.bitmap = (1 << 64) - 1
        return not known

    reliable = Inbox._reliable

    def behind_is_new(self: Inbox, frame: Any) -> list[Any]:
        channel = self._channels.setdefault(frame.stream, ChannelIn())
        if frame.sequence < channel.expected - 4:
            return self._read(frame, frame.body)
        return reliable(self, frame)

    return (Received, "add", add), (Inbox, "_reliable", behind_is_new)


# --- our own: bugs that were, and such that show that one more checker bites --------------------


@bug
def ours_the_clock_of_a_former_station_is_believed() -> tuple[Patch, ...]:
    """Without a herald line attempts are aimed as far ahead as the station's former life lasted."""
    return ((Filling, "begin", lambda self: None),)


@bug
def ours_a_qubit_is_freed_under_its_readout() -> tuple[Patch, ...]:
    """A user's word frees a slot that a device still works on."""

    def free(self: Application, user: str, qubit: Qubit) -> list[Any]:
        owned = self._users[user].qubits
        if qubit in owned:
            owned.discard(qubit)
            self._slots.release(qubit, "application")
        return []

    return ((Application, "_free", free),)


@bug
def ours_outcomes_are_flipped_at_one_end() -> tuple[Patch, ...]:
    """A measured half is reported with the other outcome where its sequence is even."""
    take = Attempts.take

    def flipped(self: Attempts, event: Any, now: int) -> Any:
        emission = take(self, event, now)
        if emission is not None and emission.qubit is None and emission.cycle % 2 == 0:
            return changed(emission, outcome=1 - emission.outcome)
        return emission

    return ((Attempts, "take", flipped),)


@bug
def ours_an_end_is_told_twice() -> tuple[Patch, ...]:
    """The user of the end that did not ask hears of the end of a request twice."""
    handle = Application.handle

    def twice(self: Application, event: Any, now: int) -> list[Any]:
        actions = handle(self, event, now)
        if type(event) is RequestDone and event.request.origin != self.node:
            return actions * 2
        return actions

    return ((Application, "handle", twice),)


@bug
def ours_a_pair_is_told_twice() -> tuple[Patch, ...]:
    """The user of the end that did not ask gets each half as if it were two."""
    pair = Application._pair

    def twice(self: Application, event: Any) -> list[Any]:
        return pair(self, event) * (1 if event.info.origin else 2)

    return ((Application, "_pair", twice),)


@bug
def ours_ended_requests_are_never_forgotten() -> tuple[Patch, ...]:
    """A table of the application layer grows by an entry with every request."""
    return ((Application, "_forget", lambda self, request: None),)


@bug
def ours_pairs_are_told_as_they_become_ready() -> tuple[Patch, ...]:
    """Not in the order of their heralds: one that needs a gate is overtaken at its one end."""

    def any_ready(self: Pairs, request: Request) -> Half | None:
        order = self._order.get(request.wanted.id, deque())
        for half in order:
            if half.stage is Stage.READY:
                order.remove(half)
                if not order:
                    del self._order[request.wanted.id]
                self._halves.pop(half.key, None)
                half.stage = Stage.GONE
                return half
        return None

    return ((Pairs, "next_ready", any_ready),)


@bug
def ours_heralds_overtake_the_light() -> tuple[Patch, ...]:
    """The herald line of an end answers as soon as the photon has left."""
    begin = Heralding.__init__

    def early(self: Heralding, *given: Any) -> None:
        begin(self, *given)
        self.timing = changed(self.timing, heralded=self.timing.emitted)

    return ((Heralding, "__init__", early),)
