"""The lab of circuits for ends that purify: strict links, and the errors of single halves.

Each half has an error of its own, and a pair is in the Bell state of both halves' errors together:
Phi+ stays Phi+ when both ends do the same to it. So rounds can be followed while the two ends
are at different steps of them. With `wrong` some pairs are not in the state that is announced:
rounds then fail, and what they pass may be wrong, which is not looked at.
"""

from __future__ import annotations

from typing import Any

from qstack.errors import ErrorCode
from qstack.link.service import LinkCreate
from qstack.messages.circuits import Method
from qstack.messages.common import PLAIN_Z, Basis, BasisPlan
from qstack.messages.devices import Completed, Faulted, Gate, MemoryGate
from qstack.units import Chance, NodeName
from tests.network.circuit_lab import Edge, Lab
from tests.network.circuit_links import FakeLink, evolve
from tests.network.circuit_truth import Half, Place, Truth

AXES = {Gate.RX: (0, 3, 2, 1), Gate.RY: (0, 2, 1, 3), Gate.RZ: (0, 1, 3, 2)}
"""Error (x, z) of a half after a quarter turn about each axis."""
GOOD = 0.97
"""What the links of the lab stand for."""


class Frames(Truth):
    """Truth of halves by their own errors. `wrong`: how often a pair is not as announced."""

    def __init__(self, chance: Chance, wrong: float) -> None:
        super().__init__(chance)
        self._wrong = wrong
        self.error = 0
        self._spent: set[Place] = set()
        self._bits: dict[frozenset[Place], int] = {}

    def pair(self, one: Place, other: Place, bell: int) -> None:
        self.states[one], self.states[other] = Half(other, 0), Half(one, bell ^ self.error)

    def draw(self) -> None:
        """The next pair is as announced, or not."""
        self.error = 1 + self.chance.below(3) if self.chance.uniform() < self._wrong else 0

    def move(self, old: Place, new: Place) -> None:
        state = self.states.pop(old)
        self.states[new] = state
        if isinstance(state, Half):
            theirs = self.own(state.partner)
            if theirs is not None:
                self.states[state.partner] = Half(new, theirs.bell)

    def own(self, place: Place) -> Half | None:
        return super().half(place)

    def half(self, place: Place) -> Half | None:
        """With the pair's Bell state, while both halves are there."""
        mine = self.own(place)
        theirs = None if mine is None else self.own(mine.partner)
        return (
            None if mine is None or theirs is None else Half(mine.partner, mine.bell ^ theirs.bell)
        )

    def turn(self, place: Place, pauli: int) -> None:
        self._change(place, lambda error: error ^ pauli)

    def quarter(self, place: Place, gate: Gate) -> None:
        self._change(place, lambda error: AXES[gate][error])

    def _change(self, place: Place, what: Any) -> None:
        half = self.own(place)
        if half is not None:
            self.states[place] = Half(half.partner, what(half.bell))

    def cnot(self, control: Place, target: Place) -> None:
        one, other = self.own(control), self.own(target)
        self._spent.add(target)
        if one is None or other is None:
            return  # void at the other end; what is read here does not matter
        self.states[target] = Half(other.partner, other.bell ^ (one.bell & 2))
        self.states[control] = Half(one.partner, one.bell ^ (other.bell & 1))

    def measure(self, place: Place, plan: BasisPlan) -> tuple[Basis, int]:
        half = self.own(place)
        if half is None:
            return super().measure(place, plan)
        if place not in self._spent:
            whole = self.half(place)
            if whole is None:
                return super().measure(place, plan)
            self.states[place] = whole
            return super().measure(place, plan)
        assert plan == PLAIN_Z
        del self.states[place]
        pair = frozenset((place, half.partner))
        return Basis.Z, self._bits.setdefault(pair, self.chance.below(2)) ^ half.bell >> 1


class StrictLink(FakeLink):
    """A link that refuses at once what it does not stand for."""

    def asked(self, node: NodeName, body: Any) -> None:
        if isinstance(body, LinkCreate) and body.request.fidelity_min > GOOD:
            self.open[node][body.request.id] = None
            self._end(node, body.request.id, ErrorCode.UNSUPPORTED, "too much", 0)
            return
        super().asked(node, body)

    def emit(self, wanted: Any, bell: int, now: int = 0) -> Any:
        truth = self.truth
        assert isinstance(truth, Frames)
        truth.draw()
        try:
            return super().emit(wanted, bell, now)
        finally:
            truth.error = 0


class PurifyLab(Lab):
    """A lab whose requests may ask for more than its links give.

    `on_links`: nodes with two links can join the qubits of one side, and not only swap. `clicks`:
    links herald with one click, Psi alone, and their errors are of bright ends.
    """

    def __init__(
        self,
        edges: list[Edge],
        seed: int,
        wrong: float = 0.0,
        on_links: bool = False,
        clicks: bool = False,
        **options: Any,
    ) -> None:
        self.wrong = wrong
        self.clicks = clicks
        if clicks:
            options["methods"] = (Method.NESTED_LOSS,)
        self.on_links = on_links
        super().__init__(edges, seed, **options)

    def _layout(self, comm: int, storage: int, shared: bool) -> None:
        self.truth = Frames(self.truth.chance, self.wrong)
        super()._layout(comm, storage, shared)
        self.links = {
            name: StrictLink(self._swapping(link.parameters), self.slots, self.truth)
            for name, link in self.links.items()
        }

    def _swapping(self, link: Any) -> Any:
        """The link's parameters, of nodes that can only swap where they stand between."""
        if self.clicks:
            (setting,) = link.settings
            pattern = evolve(setting.patterns[0], tilt=-2 * setting.patterns[0].weights[0])
            link = evolve(link, settings=(evolve(setting, patterns=(pattern,)),))
        if self.on_links:
            return link
        sides = [each.parameters for each in self.links.values()]
        ends = []
        for end in link.ends:
            sets = [set(one.end(end.node).communication) for one in sides if end.node in names(one)]
            apart = [
                (a, b) for a, b in end.model.coupled if not any({a, b} <= each for each in sets)
            ]
            ends.append(evolve(end, model=evolve(end.model, coupled=tuple(apart))))
        between = [sum(end.node in names(one) for one in sides) > 1 for end in link.ends]
        chosen = (new if b else old for new, old, b in zip(ends, link.ends, between, strict=True))
        return evolve(link, ends=tuple(chosen))

    def _emit(self, link: FakeLink, wanted: Any) -> None:
        bell = self.random.randrange(4)
        link.emit(wanted, bell | 2 if self.clicks else bell, self.now)

    def _delivered(self, name: NodeName, event: Any, place: Place | None) -> None:
        super()._delivered(name, event, place)
        user = self.users[name, event.request]
        twin = self._twin(name, event.request)
        mine = user.pairs[event.info.pair]
        theirs = None if twin is None else twin.pairs.get(event.info.pair)
        if not self.wrong or theirs is None:
            return
        for each in (mine, theirs):
            if isinstance(each.seen, Half):
                each.seen = Half(each.seen.partner, each.event.info.bell)

    def work(self, name: NodeName, which: int) -> None:
        command, truth = self.pending[name][which], self.truth
        assert isinstance(truth, Frames)
        rotation = isinstance(command, MemoryGate) and command.gate in (*AXES, Gate.CNOT)
        if not rotation:
            super().work(name, which)
            return
        assert isinstance(command, MemoryGate)
        self.pending[name].pop(which)
        slots = [command.slot] + ([] if command.other is None else [command.other])
        places = [self._place(name, slot) for slot in slots]
        if self.random.random() < self.chances.device_fails:
            for place in places:
                truth.gone(place)
            self.step(name, Faulted(command.device, command.command, "broken"))
            return
        if command.gate is Gate.CNOT:
            truth.cnot(places[0], places[1])
        else:
            truth.quarter(places[0], command.gate)
        self.step(name, Completed(command.device, command.command))


def names(link: Any) -> set[NodeName]:
    return {end.node for end in link.ends}
