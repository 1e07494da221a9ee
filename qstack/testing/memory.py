"""Checkers of memory: whose a qubit is while a device works on it, and what is left at the end."""

from __future__ import annotations

from typing import Any

from qstack.machine import Device, FromDevice
from qstack.messages.devices import (
    EmitterArm,
    EmitterOutcome,
    MemoryBell,
    MemoryGate,
    MemoryInitialise,
    MemoryMeasure,
    MemoryMove,
    StationClicks,
    Tags,
)
from qstack.sim.network import VirtualNetwork
from qstack.stack import EndNode, StationNode
from qstack.testing.judge import Checker
from qstack.testing.truth import TruthError
from qstack.units import Instant, NodeName

_PROGRESS = (EmitterOutcome, StationClicks, Tags)


def slots_of(command: Any) -> tuple[int, ...]:
    """Return the memory slots that a device command touches."""
    match command:
        case EmitterArm() | MemoryMeasure() | MemoryInitialise():
            return (command.slot,)
        case MemoryMove():
            return (command.slot, command.target)
        case MemoryBell():
            return (command.slot, command.other)
        case MemoryGate():
            return (command.slot,) if command.other is None else (command.slot, command.other)
        case _:
            return ()


class Owners(Checker):
    """No qubit is used without an owner, and none by two commands at once.

    A slot that a command touches is taken when the command leaves the node and until its
    terminal event is back: who frees it earlier lets somebody else's photon into it.
    """

    def __init__(self) -> None:
        self._busy: dict[tuple[NodeName, int], int] = {}
        self._running: dict[tuple[NodeName, int], tuple[tuple[int, int], ...]] = {}

    def begin(self, net: VirtualNetwork) -> None:
        """Note which nodes have memories."""
        super().begin(net)
        self._nodes = {end.node for link in net.links for end in link.ends}

    def crashed(self, name: NodeName, now: Instant) -> None:
        """What a process had running ends with it."""
        self._busy = {where: c for where, c in self._busy.items() if where[0] != name}
        self._running = {key: s for key, s in self._running.items() if key[0] != name}

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """Follow the commands of a node, and ask its book of memories whose the slots are."""
        if name not in self._nodes:
            return
        if type(event) is FromDevice and hasattr(event.event, "command"):
            body = event.event
            if not isinstance(body, _PROGRESS) or getattr(body, "last", False):
                for slot, _ in self._running.pop((name, body.command), ()):
                    self._busy.pop((name, slot), None)
        for action in actions:
            if type(action) is Device:
                slots = slots_of(action.command)
                if slots:
                    self._commanded(name, action.command, slots)

    def _commanded(self, name: NodeName, command: Any, slots: tuple[int, ...]) -> None:
        book = self.net.host(name).slots
        held = book.held()
        for slot in slots:
            if slot not in held:
                raise TruthError(f"{name}: {command} touches slot {slot}, which nobody holds")
            other = self._busy.get((name, slot))
            if other is not None:
                raise TruthError(
                    f"{name}: {command} touches slot {slot}, on which command {other} still runs"
                )
            self._busy[name, slot] = command.command
        self._running[name, command.command] = tuple((slot, 0) for slot in slots)


class Baseline(Checker):
    """At the end every memory is what it was in the beginning: no slot, no table, no buffer grew.

    To be asked when all users have given everything back and the network had the time to confirm
    what was open.
    """

    def finish(self, now: Instant) -> None:
        """Look into every party."""
        left: list[str] = []
        for link in self.net.links:
            for name in (link.station, *(end.node for end in link.ends)):
                left += [f"{name}: {each}" for each in leftovers(self.net.host(name))]
        if left:
            raise TruthError("not given back: " + "; ".join(sorted(set(left))))


def leftovers(host: Any) -> list[str]:
    """Return what a party's tables hold that an idle one does not."""
    found: dict[str, int] = {}
    if isinstance(host, EndNode):
        found["slots in use"] = len(host.slots.held())
        found["requests of the network layer"] = host.network.running
        application = host.application
        found["requests of users"] = len(application._user_of)
        found["device commands of users"] = len(application._work)
        found["qubits of users"] = sum(len(user.qubits) for user in application._users.values())
        for name, link in host.link.items():
            found[f"requests of link {name}"] = len(link._board.requests)
            found[f"items of the queue of {name}"] = len(link._board.queue)
            found[f"halves in hand of {name}"] = len(link._harvest._pairs.held())
            found[f"progress of {name}"] = len(link._board.progress)
        for name, physical in host.physical.items():
            matching = physical._matching
            found[f"emissions of {name}"] = len(matching._emissions)
            found[f"successes of {name}"] = len(matching._told)
            found[f"attempts of {name}"] = len(physical._attempts.running)
    elif isinstance(host, StationNode):
        for name, report in host.physical.report().items():
            found[f"clicks that wait on {name}"] = report["pending"]
            for node, count in report["unconfirmed"].items():
                found[f"successes of {name} unconfirmed at {node}"] = count
    for peer, adjacency in host.neighbours.adjacencies().items():
        found[f"datagrams to {peer} in flight"] = len(adjacency._flight)
        found[f"frames to {peer} that wait"] = 0 if adjacency._outbox.idle else 1
        channels = adjacency._inbox._channels.values()
        found[f"frames of {peer} that came early"] = sum(len(c.early or ()) for c in channels)
        found[f"unfinished messages of {peer}"] = sum(len(c.part or b"") for c in channels)
    return [f"{count} {what}" for what, count in found.items() if count]
