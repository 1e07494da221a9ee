"""Pairs of a circuit at a node between its ends: hold, swap, track, cut off, expire.

A pair that comes while one waits on the other side is swapped at once, the oldest first. What
became of each pair is kept: a track that arrives by it is passed on along the pair that it was
swapped with, or turned back as an expiry where there is none. A track that comes too early waits;
one that comes again meanwhile is its end's wish to have its half back. Since composition is XOR,
neither the order of swaps nor that of tracks and swaps matters. Only nodes between the ends discard
pairs for their age: what one end had discarded, the other could have delivered.
"""

from __future__ import annotations

from functools import partial
from typing import assert_never

from qstack.messages.circuits import CircuitExpire, CircuitTrack
from qstack.messages.common import PairId
from qstack.messages.devices import BellResult, MemoryBell
from qstack.network.budget import Correlators, correlators, product, shrunk
from qstack.network.desk import Desk, Half
from qstack.network.places import Gone, Ledger, Place, Side, Swapped
from qstack.units import Duration, Instant


class _Swap:
    """A Bell measurement that runs; `void` says why nothing will come of it."""

    __slots__ = ("halves", "void")

    def __init__(self, up: Half, down: Half) -> None:
        self.halves = (up, down)
        self.void = ["", ""]


class Between:
    """One circuit at one node between its ends."""

    __slots__ = ("_cutoff", "_desk", "_held", "_ledger", "_over", "_place", "_swaps")

    def __init__(self, desk: Desk, place: Place) -> None:
        self._desk = desk
        self._place = place
        self._held: tuple[dict[PairId, Half], dict[PairId, Half]] = ({}, {})
        self._swaps: dict[PairId, _Swap] = {}
        self._ledger = Ledger()
        self._over = False
        self._cutoff: Duration = place.leg(Side.UP).cutoff_ns

    @property
    def deadline(self) -> Instant | None:
        """When the oldest pair that waits has waited too long."""
        up, down = self._held
        if not self._cutoff or not (up or down):
            return None
        oldest = [next(iter(held.values())).ready_at for held in (up, down) if held]
        return min(oldest) + self._cutoff

    @property
    def held(self) -> int:
        """How many halves are here, those that are being swapped among them."""
        up, down = self._held
        return len(up) + len(down) + len(self._swaps)

    def held_on(self, side: Side) -> int:
        """How many halves of one side are here."""
        return len(self._held[side]) + len(self._swaps) // 2

    def tick(self) -> None:
        """Discard what has waited too long."""
        for side in Side:
            held = self._held[side]
            while held:
                half = next(iter(held.values()))
                if self._desk.now < half.ready_at + self._cutoff:
                    break
                del held[half.pair]
                self._desk.counters["cutoffs"] += 1
                self._discard(side, half, f"waited {self._cutoff} ns at {self._desk.node}")

    def trim(self, side: Side, limit: int) -> None:
        """Discard the oldest halves of a side that are more than `limit`: it has become less."""
        held = self._held[side]
        while len(held) > limit:
            half = held.pop(next(iter(held)))
            self._desk.counters["trimmed"] += 1
            self._discard(side, half, f"{self._desk.node} needs its qubit for another circuit")

    # --- pairs -----------------------------------------------------------------------------

    def pair(self, side: Side, half: Half) -> None:
        """A link delivered a half."""
        if self._over or self._ledger.fate(half.pair) is not None:
            self._desk.free(half.qubit)
            return
        self._held[side][half.pair] = half
        self._match()

    def refuse(self, side: Side, half: Half, reason: str) -> None:
        """A half that nobody wants any more came."""
        self._discard(side, half, reason)

    def _match(self) -> None:
        up, down = self._held
        while up and down:
            found = self._partners()
            if found is None:
                return
            self._swap(*found)

    def _partners(self) -> tuple[Half, Half] | None:
        """The two oldest that the memory can join."""
        for up in self._held[Side.UP].values():
            for down in self._held[Side.DOWN].values():
                if self._desk.joins(up.qubit, down.qubit):
                    return up, down
        return None

    def _swap(self, up: Half, down: Half) -> None:
        del self._held[Side.UP][up.pair], self._held[Side.DOWN][down.pair]
        swap = _Swap(up, down)
        self._swaps[up.pair] = self._swaps[down.pair] = swap
        desk = self._desk
        memory = desk.parameters.memory
        command = MemoryBell(memory, desk.command(), up.qubit.slot, down.qubit.slot)
        desk.device(command, partial(self._swapped, swap))

    def _swapped(self, swap: _Swap, event: object) -> None:
        """The Bell measurement ended, well or not: both qubits are free."""
        desk = self._desk
        for half in swap.halves:
            del self._swaps[half.pair]
            desk.free(half.qubit)
        outcome = event.bell if isinstance(event, BellResult) else None
        reason = swap.void[0] or swap.void[1]
        if outcome is None or not isinstance(event, BellResult) or reason or self._over:
            if outcome is None:
                desk.counters["swaps_failed"] += 1
                reason = reason or f"the swap at {desk.node} failed"
            self._void(swap, reason)
            return
        desk.counters["swaps"] += 1
        up, down = swap.halves
        place = self._place
        before = product(desk.swapping, desk.held(place.link(Side.UP), up, event.held_ns))
        after = desk.held(place.link(Side.DOWN), down, event.other_held_ns)
        factors = product(before, after)
        self._settle(Side.UP, up, down, outcome, factors)
        self._settle(Side.DOWN, down, up, outcome, factors)

    def _settle(
        self, side: Side, half: Half, other: Half, outcome: int, factors: Correlators
    ) -> None:
        joined = product(factors, correlators(other.weights))
        fate = Swapped(other.pair, outcome ^ other.bell, joined, other.doubt)
        parked = self._ledger.settle(half.pair, fate)
        if parked is not None:
            track = self._desk.unparked(parked, self._place.end(side))
            self._pass_on(side, track, fate)

    def _void(self, swap: _Swap, reason: str) -> None:
        """Both pairs lead nowhere; ends whose void came from the other side are told now."""
        for side, half in zip(Side, swap.halves, strict=True):
            parked = self._ledger.settle(half.pair, Gone(reason))
            if not self._over and (parked is not None or swap.void[side.other]):
                self._expire(side, half.pair, reason)

    def _discard(self, side: Side, half: Half, reason: str) -> None:
        """Free a half that waits; who asks for it later, or has asked, is told."""
        self._desk.free(half.qubit)
        if self._ledger.settle(half.pair, Gone(reason)) is not None:
            self._expire(side, half.pair, reason)

    # --- tracks ----------------------------------------------------------------------------

    def tracked(self, side: Side, track: CircuitTrack) -> None:
        """A track came from this side, by the pair `track.at` of the link there."""
        fate = self._ledger.fate(track.at)
        match fate:
            case Swapped():
                self._pass_on(side, track, fate)
            case Gone(reason):
                self._expire(side, track.at, reason)
            case None if self._ledger.waits(track.at):
                self._recalled(side, track.at)
            case None:
                lost = self._ledger.park(track, self._desk.now)
                if lost is not None:
                    self._expire(side, lost.track.at, f"{self._desk.node} keeps too many tracks")
            case _:
                assert_never(fate)

    def _recalled(self, side: Side, pair: PairId) -> None:
        """A track came again: its origin needs the qubit, for whatever is not joined yet."""
        half = self._held[side].pop(pair, None)
        if half is not None:
            self._desk.counters["trimmed"] += 1
            self._discard(
                side, half, f"{self._place.end(side)} needs its qubit for another circuit"
            )

    def _pass_on(self, side: Side, track: CircuitTrack, fate: Swapped) -> None:
        weights = shrunk(track.weights, fate.factors)
        self._desk.counters["tracks"] += 1
        passed = CircuitTrack(
            track.circuit,
            track.origin,
            fate.other,
            track.bell ^ fate.bell,
            weights,
            track.doubt + fate.doubt,
            track.age_ns,
            track.request,
            track.measured,
        )
        self._desk.send(self._place.neighbour(side.other), passed)

    def _expire(self, side: Side, pair: PairId, reason: str) -> None:
        self._desk.counters["expired"] += 1
        self._desk.send(self._place.neighbour(side), CircuitExpire(self._place.id, pair, reason))

    # --- expiry ----------------------------------------------------------------------------

    def expired(self, side: Side, pair: PairId, reason: str) -> None:
        """What `pair`, on this side, leads to is void: by its link, or by a node beyond it."""
        swap = self._swaps.get(pair)
        if swap is not None:
            swap.void[side] = swap.void[side] or reason
            return
        half = self._held[side].pop(pair, None)
        if half is not None:
            self._desk.free(half.qubit)
        fate = self._ledger.fate(pair)
        self._ledger.settle(pair, Gone(reason))
        if isinstance(fate, Swapped):
            self._ledger.settle(fate.other, Gone(reason))
            self._expire(side.other, fate.other, reason)

    # --- ends ------------------------------------------------------------------------------

    def stop(self) -> None:
        """No request runs on the circuit any more: what waits is given back."""
        for side in Side:
            held = self._held[side]
            for pair in list(held):
                self._discard(side, held.pop(pair), "its request ended")

    def end(self) -> None:
        """The circuit is over: nobody is told anything any more."""
        self._over = True
        for held in self._held:
            for half in held.values():
                self._desk.free(half.qubit)
            held.clear()
