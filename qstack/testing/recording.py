"""Traces of hosts in virtual time: the same files that live processes write, one for each life.

The header of such a trace says how the host was built, as JSON: role, links, timing, and whether
datagrams became bytes. So ``qstack trace`` shows it and ``qstack replay`` steps it like any other.
In a network whose datagrams never become bytes (`wire_bytes` false) bodies are encoded for the
file alone, and decoded again for the replay.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import attrs
import cattrs

from qstack import __version__
from qstack.codec import decode_body, encode_body, encode_datagram
from qstack.drivers.trace import MOST, START, TraceHeader, TraceWriter
from qstack.machine import Arrived, Transmit, record
from qstack.messages.wire import Datagram, Frame
from qstack.physical.service import LinkParameters
from qstack.sim.heap import WORLD
from qstack.sim.network import VirtualNetwork
from qstack.stack import Identity, LocalUser, Timing, UserHost
from qstack.stack.assembly import build, roles
from qstack.stack.policy import Policy
from qstack.units import Chance, Instant, NodeName

_CONVERTER = cattrs.Converter()


@record
class VirtualLife:
    """How a host of a virtual network was built; `nodes` are those that a user calls.

    `life` counts the host's lives from 1: its chance is that of the network's seed, the host's
    name and this number. `local`: a user in the process of its nodes.
    """

    role: str
    life: int
    wire: bool
    timing: Timing
    links: tuple[LinkParameters, ...]
    nodes: tuple[tuple[NodeName, str], ...]
    policy: Policy = Policy()
    local: bool = False


def virtual_host(header: TraceHeader) -> Any:
    """Build the host of a virtual trace again; it takes and gives bodies as bytes."""
    life = _CONVERTER.structure(json.loads(header.virtual), VirtualLife)
    host = _build(header.name, header.seed, life)
    return host if life.wire else Unwired(host)


def _build(name: NodeName, seed: int, life: VirtualLife) -> Any:
    chance = Chance(seed).fork(f"{name}/{life.life}")
    boot = chance.fork("boot").boot_id()
    identity = Identity(name, life.role, boot, life.timing, life.wire)
    if life.role == "user":
        return LocalUser(identity, life.nodes) if life.local else UserHost(identity, life.nodes)
    return build(identity, life.links, (), chance, policy=life.policy)


class Unwired:
    """A host whose datagrams hold messages, made to take and give bytes as others do."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.boot = host.boot

    def start(self, now: Instant) -> list[Any]:
        """Start the host."""
        return [_encoded(action) for action in self.host.start(now)]

    def handle(self, event: Any, now: Instant) -> list[Any]:
        """Step the host, with messages for bytes on the way in and bytes for messages out."""
        if type(event) is Arrived:
            event = Arrived(event.port, _with_bodies(event.datagram, _decoded))
        return [_encoded(action) for action in self.host.handle(event, now)]


def _decoded(frame: Frame) -> Any:
    return decode_body(frame.kind, frame.body)


def _as_bytes(frame: Frame) -> Any:
    return frame.body if type(frame.body) is bytes else encode_body(frame.body)


def _with_bodies(datagram: Datagram, body: Callable[[Frame], Any]) -> Datagram:
    # The type checker does not see that our records are attrs classes.
    frames = tuple(attrs.evolve(cast(Any, frame), body=body(frame)) for frame in datagram.frames)
    return Datagram(datagram.header, frames)


def _encoded(action: Any) -> Any:
    if type(action) is not Transmit:
        return action
    return Transmit(action.port, _with_bodies(action.datagram, _as_bytes))


class Recorder:
    """Writes a trace of every host of a network into a folder, from the first step on.

    To be made before the network's first step; whoever watches its heap goes on watching. A life's
    start is recorded by a twin, because nobody watches the step in which a host is added.
    """

    def __init__(self, net: VirtualNetwork, folder: Path) -> None:
        self.files: list[Path] = []
        self._net = net
        self._folder = folder
        self._writers: dict[NodeName, tuple[int, TraceWriter]] = {}
        self._lives: dict[NodeName, int] = {}
        self._watch = net.heap.watch
        folder.mkdir(parents=True, exist_ok=True)
        net.heap.watch = self.step

    def step(self, name: NodeName, event: Any, now: Instant, actions: list[Any]) -> None:
        """Record one step, and hand it on to who watched before."""
        if name != WORLD:
            writer = self._writer(name, now)
            if type(event) is Arrived:
                data = encode_datagram(_with_bodies(event.datagram, _as_bytes), most=MOST)
                writer.event(event, now, data)
            else:
                writer.event(event, now)
            self._actions(writer, actions, now)
            writer.flush()
        if self._watch is not None:
            self._watch(name, event, now, actions)

    def close(self) -> None:
        """End all files."""
        for _, writer in self._writers.values():
            writer.close()

    def _writer(self, name: NodeName, now: Instant) -> TraceWriter:
        host = self._net.host(name)
        known = self._writers.get(name)
        if known is not None and known[0] == host.boot:
            return known[1]
        if known is not None:
            known[1].close()
        life = self._lives[name] = self._lives.get(name, 0) + 1
        described = self._describe(name, host, life)
        text = json.dumps(_CONVERTER.unstructure(described))
        header = TraceHeader(__version__, name, host.boot, self._net.seed, "", text)
        path = self._folder / f"{name}-{life}.trace"
        writer = TraceWriter(path, header)
        self.files.append(path)
        self._writers[name] = (host.boot, writer)
        writer.event(START, now)
        self._actions(writer, _build(name, self._net.seed, described).start(now), now)
        return writer

    def _describe(self, name: NodeName, host: Any, life: int) -> VirtualLife:
        around = self._net.surroundings
        known = roles(self._net.links)
        nodes: tuple[tuple[NodeName, str], ...] = ()
        if isinstance(host, UserHost | LocalUser):
            nodes = host.nodes
        role = known.get(name, "user")
        wire, timing, policy = around.wire_bytes, around.timing, self._net.policy(name)
        local = isinstance(host, LocalUser)
        return VirtualLife(role, life, wire, timing, self._net.links, nodes, policy, local)

    @staticmethod
    def _actions(writer: TraceWriter, actions: list[Any], now: Instant) -> None:
        for action in actions:
            writer.action(_encoded(action), now)
