"""The checker of joint states over several links."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

from qstack.bell import NAMES
from qstack.codec import decode_body
from qstack.machine import Transmit
from qstack.messages.application import HalfReady, PairReady
from qstack.messages.circuits import CircuitTrack
from qstack.messages.common import Basis, PairId, Qubit
from qstack.messages.wire import KIND_OF
from qstack.sim.states import bell_projector
from qstack.sim.world.peek import born_at, pair_state, partners, qubit_state
from qstack.testing.checkers import SLACK, Seen, States
from qstack.testing.judge import Ledger
from qstack.testing.origins import Origins
from qstack.testing.truth import TruthError
from qstack.units import Instant, NodeName

_TRACK = KIND_OF[CircuitTrack].number


class RouteStates(States):
    """Each kept pair over several links is, in the world, what its ends were told.

    When the first end is told, its qubit is joint with one of the other end and nothing else: all
    swaps between are done. When the second is told, or the head-end, the state is looked at as in
    :class:`~qstack.testing.checkers.States`; with `exact` false, where gates fail now and then,
    single states are not judged. A prepared qubit points to where its head-end's outcome says.
    """

    def __init__(
        self, origins: Origins, ledger: Ledger, *, ages_hold: bool = True, exact: bool = True
    ) -> None:
        super().__init__(origins, ages_hold=ages_hold)
        self.routed = 0
        self._ledger = ledger
        self._exact = exact
        self._half: dict[PairId, tuple[NodeName, PairReady, Instant]] = {}
        self._across: dict[PairId, PairId] = {}
        self._early: set[tuple[NodeName, Qubit]] = set()
        self._complaints: list[tuple[PairReady, NodeName, str]] = []

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """Read in tracks which half at the other end each half is joined to."""
        for action in actions:
            if type(action) is Transmit:
                for frame in action.datagram.frames:
                    if frame.kind == _TRACK:
                        body = frame.body
                        track = decode_body(frame.kind, body) if type(body) is bytes else body
                        self._across[track.at] = track.origin

    def told(self, node: NodeName, message: Any, now: Instant) -> None:
        """Look at what is told of kept and of prepared pairs."""
        if type(message) is HalfReady:
            self._early.add((node, message.qubit))
        early = type(message) is PairReady and (node, message.qubit) in self._early
        if type(message) is not PairReady or (message.info.hops < 2 and not early):
            super().told(node, message, now)
        elif message.outcome is None:
            self._keep(node, message, now)
        else:
            self._prepared(node, message, now)

    def user_crashed(self, node: NodeName, now: Instant) -> None:
        """What a node held for a user that is gone is nothing to look at."""
        super().user_crashed(node, now)
        for holder, ready, _ in self._half.values():
            if holder == node:
                self._freed.add((node, ready.qubit.slot, ready.qubit.generation))

    def _keep(self, node: NodeName, ready: PairReady, now: Instant) -> None:
        pair, info = ready.info.pair, ready.info
        first = self._half.pop(pair, None)
        place = (self._memory[node], ready.qubit.slot)
        if first is None:
            self._half[pair] = (node, ready, now)
            # A user who has its half early may have used it: then the other half stands alone.
            if (node, ready.qubit) not in self._early:
                self._joined(node, ready, place, now)
            return
        other, theirs, since = first
        if info.bell != theirs.info.bell or ready.request != theirs.request:
            raise TruthError(f"{pair}: the ends were told {ready} and {theirs}")
        if info.origin == theirs.info.origin or other != ready.remote:
            raise TruthError(f"{pair}: its two ends are {node} and {other}: {ready}, {theirs}")
        ends = ((other, theirs.qubit), (node, ready.qubit))
        if any((name, qubit.slot, qubit.generation) in self._freed for name, qubit in ends):
            self.gone += 1
            return
        there = (self._memory[other], theirs.qubit.slot)
        self._judge(ready, (place, there), (node, other), (theirs, since, now))

    def _joined(self, node: NodeName, ready: PairReady, place: Any, now: Instant) -> None:
        """The first of both ends has it: the other half is at the other end already."""
        try:
            others = partners(self.net.world, place)
        except KeyError:
            others = ()
        far = self._memory[ready.remote]
        if [memory for memory, _ in others] != [far]:
            if not self._lost(place, (node, ready.remote), ready, now):
                what = f"{node} is told of it at {now} ns, when its qubit is joint with {others}"
                self._complain(ready, node, what)
            return
        self.routed += 1
        if ready.info.origin:
            ends = (node, ready.remote)
            self._judge(ready, (place, others[0]), ends, (ready, now, now))

    def _judge(self, ready: PairReady, places: Any, ends: Any, when: Any) -> None:
        told, since, now = when
        info = ready.info
        try:
            state = pair_state(self.net.world, places[0], places[1], now)
            born = min(born_at(self.net.world, place) for place in places)
        except KeyError as error:
            if not self._lost(places[0], ends, ready, now):
                self._complain(ready, ends[0], f"there is no qubit in {error} at {now} ns")
            return
        fidelity = float(np.real(np.trace(bell_projector(info.bell) @ state)))
        fades = (1 + self._coherence(ends[0], ends[1], now - since)) / 2
        expected = told.info.goodness * fades
        hops = f"{info.hops} hops"
        self.seen.append(Seen(info.pair, hops, 0, fidelity, expected, info.age_ns, now - since))
        half = told.info.goodness / 2
        least = (expected + half) / 2 if self._ages_hold else half
        if self._exact and fidelity < least - SLACK and not self._disturbed(ends, born):
            self._complain(
                ready,
                ends[0],
                f"it is told as {NAMES[info.bell]} at {places[0]} and {places[1]} at {now} ns, but "
                f"its fidelity to that is {fidelity:.3f}, and {expected:.3f} is expected",
            )

    def _prepared(self, node: NodeName, ready: PairReady, now: Instant) -> None:
        place, info = (self._memory[node], ready.qubit.slot), ready.info
        try:
            state, born = qubit_state(self.net.world, place, now), born_at(self.net.world, place)
        except KeyError:
            return
        axis = {Basis.Z: (0, 0, 1), Basis.X: (1, 0, 0), Basis.Y: (0, 1, 0)}.get(
            Basis.Z if ready.basis is None else ready.basis
        )
        if axis is None or not (self._exact and self._ages_hold) or info.goodness < 0.8:
            return
        x, z = info.bell >> 1, info.bell & 1
        flips = (z, 1 ^ x ^ z, x)[axis.index(1)] ^ (0 if ready.corrected else ready.outcome or 0)
        vector = (2 * state[1, 0].real, 2 * state[1, 0].imag, (state[0, 0] - state[1, 1]).real)
        along = float(sum(a * v for a, v in zip(axis, vector, strict=True))) * (1 - 2 * flips)
        if along < 0 and not self._disturbed((node, ready.remote), born):
            self._complain(ready, node, f"{node} holds {vector} for outcome {ready.outcome}")

    def _complain(self, ready: PairReady, node: NodeName, what: str) -> None:
        self._complaints.append((ready, node, what))

    def _lost(self, place: Any, ends: tuple[NodeName, NodeName], ready: Any, now: Instant) -> bool:
        """Whether an end may have lost its half since the first of both was made."""
        pair, since = ready.info.pair, [now - ready.info.age_ns]
        made = [self._origins.emitted_at(pair)]
        if pair in self._across:
            made.append(self._origins.emitted_at(self._across[pair]))
        since += [at for at in made if at is not None]
        with suppress(KeyError):
            since.append(born_at(self.net.world, place))
        return self._disturbed(ends, min(since))

    def _disturbed(self, ends: tuple[NodeName, NodeName], since: Instant) -> bool:
        return max(self._origins.disturbed.get(node, -1) for node in ends) >= since

    def finish(self, now: Instant) -> None:
        """What was never taken back at any end is as it was told.

        A node frees what it holds for a user that is gone, who was perhaps never told of it.
        """
        for ready, node, what in self._complaints:
            request, pair = ready.request, ready.info.pair
            both = self._ledger.accounts.get(request, {})
            void = any(pair in account.expired for account in both.values())
            if not void and not {node, ready.remote} & self._ledger.blind:
                raise TruthError(f"{request}, {pair}: {what}")
