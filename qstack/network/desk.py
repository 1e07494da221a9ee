"""What the parts of a node's network layer share: links, memory, and the actions of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from qstack.bell import BellWeights
from qstack.hal.commands import CommandIds
from qstack.machine import Action, Device, Down, Note, Send, Up, record
from qstack.messages.circuits import CircuitId, CircuitTrack, Method
from qstack.messages.common import PairId, PairInfo, Qubit, RequestId
from qstack.network.advertise import storage_of
from qstack.network.budget import (
    ETERNAL,
    IDEAL,
    Correlators,
    Operations,
    Storage,
    coherence,
    correlators,
    fading,
    keep_of,
    population,
    relative,
    shrunk,
    swap_factor,
    weights_of,
)
from qstack.network.places import Parked, Side
from qstack.network.service import METHODS, RequestIds, TimeDivision
from qstack.physical.service import LinkParameters, MemoryModel
from qstack.physical.slots import Owner, Slots
from qstack.units import MILLISECOND, SECOND, BootId, Chance, Duration, Instant, LinkName, NodeName

ROOM = "network"


@record
class NetworkParameters:
    """What a node's network layer is told. Durations in lab ns.

    `memory` is the device whose qubits it swaps; a node whose memory cannot do that stands at ends
    only. `trust` as the operator judges the node. A circuit is forgotten `lease_ns` after the last
    word of its head-end, which keeps one without requests for `idle_ns`. `methods`: with which its
    pairs may be purified; none: never. `division`: None where no controller divides links in time.
    """

    links: tuple[LinkParameters, ...]
    memory: str = ""
    trust: int = 0
    lease_ns: Duration = 30 * SECOND
    idle_ns: Duration = 500 * MILLISECOND
    methods: tuple[Method, ...] = METHODS
    division: TimeDivision | None = None


@record
class OnLink:
    """A request for, or an indication of, the link of this name."""

    link: LinkName
    body: Any


@record
class Half:
    """A half that a link delivered for a circuit, and what is believed of its pair.

    `weights`: of the errors I, Z, X, Y relative to `bell`, when the link delivered it, `age_ns`
    after the emission, at `ready_at`. `doubt`: by how much the fidelity may be lower. `tilt`:
    weight of |00> less that of |11>, as far as it is known.
    """

    pair: PairId
    qubit: Qubit
    bell: int
    weights: BellWeights
    doubt: float
    age_ns: Duration
    ready_at: Instant
    tilt: float = 0.0


Answer: TypeAlias = Callable[[Any], None]
_Division: TypeAlias = tuple[float, float, float, float]


class Desk:
    """The shared state of a node's network layer, and the actions of the present step.

    Parts call :meth:`send`, :meth:`up`, :meth:`down` and :meth:`device`; the machine hands out
    what was collected with :meth:`take_actions`. The answer to a device command comes back
    through :meth:`answered` to whoever gave the command.
    """

    __slots__ = (
        *("_actions", "_answers", "_closed", "_coupled", "_ended", "_errors", "_owned"),
        *("_storages", "boot", "chance", "commands", "counters", "life_of", "links", "model"),
        *("node", "now", "operations", "operations_at", "parameters", "qubits_at", "requests"),
        *("slots", "storage_at", "swapping"),
    )

    def __init__(
        self,
        node: NodeName,
        boot: BootId,
        parameters: NetworkParameters,
        slots: Slots,
        commands: CommandIds,
        *,
        chance: Chance | None = None,
    ) -> None:
        self.node = node
        self.boot = boot
        self.commands = commands
        self.chance = Chance(boot) if chance is None else chance
        self.parameters = parameters
        self.links = {link.name: link for link in parameters.links}
        self._storages = {
            name: storage_of(each.end(node).model) for name, each in self.links.items()
        }
        self.slots = slots
        self.requests = RequestIds(node, boot)
        self.now: Instant = 0
        self.counters = dict.fromkeys(
            (
                *("swaps", "swaps_failed", "cutoffs", "trimmed", "tracks", "expired"),
                *("outlived", "unknown"),
            ),
            0,
        )
        self._owned: dict[RequestId, tuple[CircuitId, Side]] = {}
        self._ended: dict[RequestId, tuple[CircuitId, Side]] = {}
        self._closed: dict[RequestId, None] = {}
        self.storage_at: Callable[[NodeName], Storage] = eternal
        """How the qubits of another node fade, as it advertises."""
        self.operations_at: Callable[[NodeName], Operations] = ideal
        """How well another node's gates do, as it advertises."""
        self.qubits_at: Callable[[NodeName], int | None] = unknown
        """How many communication qubits another node has, as it advertises."""
        self.life_of: Callable[[NodeName], BootId | None] = unknown
        """In which life another node is, as far as routes tell."""
        self._answers: dict[int, Answer] = {}
        self._actions: list[Action] = []
        self._errors: dict[tuple[LinkName, str, int, Duration], _Division] = {}
        models = [link.end(node).model for link in parameters.links]
        self.model = models[0] if models else None
        """The node's memory as the stack believes it to be; all its links have the same."""
        self.operations = IDEAL if self.model is None else operations_of(self.model)
        self.swapping = swap_factor(self.operations)
        pairs = () if self.model is None else self.model.coupled
        self._coupled = frozenset(frozenset(pair) for pair in pairs)

    @property
    def swaps(self) -> bool:
        """Whether this node can stand between the ends of a circuit."""
        able = self.model is not None and self.model.bell_measurement
        return able and bool(self._coupled) and len(self.links) > 1

    # --- actions ---------------------------------------------------------------------------

    def take_actions(self) -> list[Action]:
        """Return what this step has to do, and begin the next."""
        actions, self._actions = self._actions, []
        return actions

    def close(self, request: RequestId) -> None:
        """A request ended here, as its tail-end, by agreement with its head-end."""
        self._closed[request] = None
        if len(self._closed) > _MOST_ENDED:
            del self._closed[next(iter(self._closed))]

    def is_closed(self, request: RequestId) -> bool:
        """Whether a request ended here so, lately: whoever asks again is late."""
        return request in self._closed

    def send(self, peer: NodeName, message: Any) -> None:
        """Send to a neighbour."""
        self._actions.append(Send(peer, message))

    def up(self, indication: Any) -> None:
        """Indicate something to the application layer."""
        self._actions.append(Up(indication))

    def down(self, link: LinkName, request: Any) -> None:
        """Ask something of a link."""
        self._actions.append(Down(OnLink(link, request)))

    def note(self, name: str, **fields: Any) -> None:
        """Record something under one of the fixed names."""
        self._actions.append(Note(name, tuple(fields.items())))

    def add(self, actions: list[Action]) -> None:
        """Take over the actions of a machine inside."""
        self._actions += actions

    def command(self) -> int:
        """Return the id of a new device command."""
        return self.commands.next()

    def device(self, command: Any, answer: Answer) -> None:
        """Give the memory a command; `answer` takes the event in which it ends."""
        self._answers[command.command] = answer
        self._actions.append(Device(self.parameters.memory, command))

    def answered(self, event: Any) -> None:
        """Take a terminal event of the memory."""
        answer = self._answers.pop(event.command, None)
        if answer is not None:
            answer(event)

    def own(self, request: RequestId, circuit: CircuitId, side: Side) -> None:
        """Set down for which circuit a link request is, and on which side."""
        self._owned[request] = (circuit, side)

    def disown(self, request: RequestId) -> None:
        """Such a request ended; it is remembered for a while, for pairs of its that expire."""
        owner = self._owned.pop(request, None)
        if owner is not None:
            self._ended[request] = owner
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    def owner_of(self, request: RequestId) -> tuple[CircuitId, Side] | None:
        """Return for which circuit a link request is, or was lately, and on which side.

        None if it is a user's.
        """
        found = self._owned.get(request) if self._owned else None
        return self._ended.get(request) if found is None and self._ended else found

    # --- qubits ----------------------------------------------------------------------------

    def free(self, qubit: Qubit) -> None:
        """Give back a qubit of the network layer's."""
        self.slots.release(qubit, ROOM)

    def hand_up(self, qubit: Qubit, request: RequestId) -> None:
        """Give a qubit to the application layer."""
        self.slots.give(qubit, ROOM, Owner("application", request))

    def joins(self, one: Qubit, other: Qubit) -> bool:
        """Whether the memory can act on these two together."""
        return frozenset((one.slot, other.slot)) in self._coupled

    # --- beliefs ---------------------------------------------------------------------------

    def half(self, link: LinkName, info: PairInfo, qubit: Qubit) -> Half:
        """Return what is believed of a half that this link delivered now."""
        rest = 1 - info.goodness
        z, x, y, tilt = self._errors_of(link, info)
        weights = (info.goodness, z * rest, x * rest, y * rest)
        doubt = max(0.0, info.goodness - info.goodness_low)
        tilt *= rest
        return Half(info.pair, qubit, info.bell, weights, doubt, info.age_ns, self.now, tilt)

    def _errors_of(self, link: LinkName, info: PairInfo) -> _Division:
        """How the errors Z, X, Y of such a pair are divided, of sum 1, and its tilt to them."""
        key = (link, info.setting, info.clicks, info.age_ns)
        found = self._errors.get(key)
        if found is None:
            if len(self._errors) > _MOST_KINDS:
                self._errors.clear()
            found = self._errors[key] = _division(self.links[link], info)
        return found

    def waited(self, link: LinkName, half: Half) -> Correlators:
        """Return what waiting from its delivery until now did to a half."""
        return self.held(link, half, half.age_ns + self.now - half.ready_at)

    def held(self, link: LinkName, half: Half, age_ns: Duration) -> Correlators:
        """Return what waiting did to a half from its delivery to this age, as hardware said."""
        return faded(self.storage(link), half.age_ns, age_ns)

    def unparked(self, parked: Parked, origin: NodeName) -> CircuitTrack:
        """Return a track as it is now: its origin's half, at `origin`, aged while it waited here.

        The sender knew the age when it sent; nobody but the node where a track waits knows how
        long that is, and it can be longer than all other waits of the pair.
        """
        track = parked.track
        if track.measured:
            return track
        age = track.age_ns + self.now - parked.since
        waited = faded(self.storage_at(origin), track.age_ns, age)
        weights = shrunk(track.weights, waited)
        return CircuitTrack(
            track.circuit,
            track.origin,
            track.at,
            track.bell,
            weights,
            track.doubt,
            age,
            track.request,
        )

    def parallel(self, link: LinkName) -> int:
        """Return with how many qubits at a time a link attempts, at least one."""
        parameters = self.links[link]
        return max(1, min(parameters.modes, *(len(end.communication) for end in parameters.ends)))

    def storage(self, link: LinkName) -> Storage:
        """Return how the qubits fade that this node has on a link."""
        return self._storages[link]


_MOST_KINDS = 4_096
_MOST_ENDED = 1_024


def eternal(node: NodeName) -> Storage:
    """Return that of a node of which nothing is known."""
    return ETERNAL


def unknown(node: NodeName) -> int | None:
    """Return that of a node of which nothing is known."""
    return None


def ideal(node: NodeName) -> Operations:
    """Return those of a node of which nothing is known."""
    return IDEAL


def operations_of(model: MemoryModel) -> Operations:
    """Return how well a memory swaps, as budgets and tracks reckon."""
    return Operations(
        keep_of(model.two_qubit_fidelity, 2),
        sum(model.readout) / 2,
        model.swap_success,
        keep_of(model.gate_fidelity, 1),
    )


def faded(storage: Storage, before_ns: Duration, after_ns: Duration) -> Correlators:
    """Return what ageing does between two ages; a stretched exponential does not compose."""
    phase, level = coherence(storage, before_ns), population(storage, before_ns)
    later, lower = coherence(storage, after_ns), population(storage, after_ns)
    across = later / phase if phase > 0 else 0.0
    return across, across, lower / level if level > 0 else 0.0


def _division(link: LinkParameters, info: PairInfo) -> _Division:
    patterns = [
        pattern
        for setting in link.settings
        if setting.id == info.setting
        for pattern in setting.patterns
        if pattern.clicks == info.clicks
    ]
    if not patterns:
        return 1 / 3, 1 / 3, 1 / 3, 0.0
    tilt = 0.0
    x, y, z = correlators(relative(patterns[0].weights, patterns[0].bell))
    for end in link.ends:
        phase, _, level = fading(storage_of(end.model), info.age_ns)
        x, y, z = x * phase, y * phase, z * level
        tilt += patterns[0].tilt * level / 2
    _, *errors = weights_of((x, y, z))
    total = sum(errors)
    if total <= 0:
        return 1 / 3, 1 / 3, 1 / 3, 0.0
    first, second, third = (max(0.0, error) / total for error in errors)
    return first, second, third, tilt / total
