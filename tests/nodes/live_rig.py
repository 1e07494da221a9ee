"""Live networks for tests: files on ports of their own, processes, programs that keep books."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs
import trio

from qstack.application.service import Delivery
from qstack.drivers.live import LiveNode, LiveRequest
from qstack.messages.application import OutcomeReady, PairExpired, PairReady, Terms
from qstack.messages.common import PairId

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 100
QSTACK = (sys.executable, "-m", "qstack_nodes.command")
NETWORKS = ROOT / "nodes/qstack_nodes/networks"


# --- files --------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Ports that nobody had a moment ago."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def on_own_ports(text: str, folder: Path) -> Path:
    """Write a network file with every port replaced by one that is free."""
    old = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", text)))
    # All at once: a port that is free may be one that the file names.
    new = dict(zip(old, free_ports(len(old)), strict=True))
    text = re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda found: str(new[found.group()]), text)
    file = folder / "two.toml"
    file.write_text(text)
    return file


def two_nodes(folder: Path) -> Path:
    """The shipped network of two nodes, on ports of its own."""
    return on_own_ports((NETWORKS / "two_nodes.toml").read_text(), folder)


def with_mallory_text() -> str:
    """Two nodes, and a second link of alice's to mallory by way of the station nowhere."""
    text = (NETWORKS / "two_nodes.toml").read_text()
    nodes, link = text[: text.index("[links.")], text[text.index("[links.") :]
    alice = nodes[nodes.index("[nodes.alice]") : nodes.index("[nodes.bob]")]
    station = nodes[nodes.index("[nodes.midpoint]") :]
    more = alice.replace("alice", "mallory").replace("47001", "47007").replace("47002", "47008")
    more += station.replace("midpoint", "nowhere").replace("47005", "47009")
    more = more.replace("47006", "47010")
    more += link.replace("bob", "mallory").replace('"midpoint"', '"nowhere"')
    return text + more


def addresses(file: Path) -> dict[str, tuple[str, int]]:
    """The peers' and, as NAME.user, the users' ports of a network file."""
    network = tomllib.loads(file.read_text())
    found = {"world": network["world"]["address"]}
    for name, node in network["nodes"].items():
        found[name] = node["address"]
        if "user" in node:
            found[f"{name}.user"] = node["user"]
    return {
        name: (text.rpartition(":")[0], int(text.rpartition(":")[2]))
        for name, text in found.items()
    }


def environment_for(folder: Path) -> dict[str, str]:
    """This process's environment, with the plugins of a source tree that is not installed."""
    # Networks that are up elsewhere on this machine are none of a test's.
    found = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    if not entry_points(group="qstack.emitters"):
        place = folder / "installed" / "qstack-0.dist-info"
        place.mkdir(parents=True)
        (place / "METADATA").write_text("Metadata-Version: 2.1\nName: qstack\nVersion: 0\n")
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        lines: list[str] = []
        for group, entries in project["entry-points"].items():
            lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
        (place / "entry_points.txt").write_text("\n".join(lines))
        found["PYTHONPATH"] = os.pathsep.join((str(place.parent), found.get("PYTHONPATH", "")))
        sys.path.insert(0, str(place.parent))
    return found


def qstack(words: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        (*QSTACK, *words),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


# --- processes ----------------------------------------------------------------------------


def children_of(pid: int) -> list[int]:
    """The processes that this one has started and that have not been waited for."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def child_called(pid: int, name: str) -> int:
    """The child of a running `qstack up` that is this node, or the world."""
    words = [b"qstack.sim"] if name == "world" else [b"node", name.encode()]
    for child in children_of(pid):
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if all(word in command for word in words):
            return child
    raise LookupError(f"no child of {pid} is {name}")


def alive(pids: Iterable[int]) -> list[int]:
    """Those of these processes that still exist."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"process {pid} has no memory")


def queued_bytes(port: int) -> int:
    """What waits in the kernel for this UDP port of the loopback."""
    return _udp_row(port)[0]


def dropped(port: int) -> int:
    """How many datagrams the kernel threw away at this UDP port."""
    return _udp_row(port)[1]


def _udp_row(port: int) -> tuple[int, int]:
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port:
            return int(words[4].rpartition(":")[2], 16), int(words[-1])
    raise LookupError(f"nobody has port {port}")


def nobody_has(file: Path) -> bool:
    """Whether every port of the network file can be taken; raises OSError otherwise."""
    for address in addresses(file).values():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(address)
    return True


class Child:
    """A process of ours whose lines are read as they come."""

    def __init__(self, command: Iterable[str], environment: dict[str, str]) -> None:
        # Not by trio, which forks in a helper thread: a watched process dies with its parent.
        self.popen = subprocess.Popen(
            tuple(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=ROOT,
            bufsize=0,
        )
        self.lines: list[str] = []
        self.ended = False
        self._changed = trio.Event()
        self._read = 0

    async def follow(self) -> None:
        """Read every line until the process closes its output."""
        assert self.popen.stdout is not None
        rest = b""
        async with trio.lowlevel.FdStream(os.dup(self.popen.stdout.fileno())) as stream:
            async for data in stream:
                *lines, rest = (rest + data).split(b"\n")
                self.lines += [line.decode() for line in lines]
                self._tell()
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, accept: Callable[[str], bool]) -> str:
        """Return the next line, after those returned before, that is accepted.

        EOFError where the process ends without one.
        """
        while True:
            while self._read < len(self.lines):
                line = self.lines[self._read]
                self._read += 1
                if accept(line):
                    return line
            if self.ended:
                raise EOFError(f"{self.popen.args!r} ended after {self.lines}")
            changed = self._changed
            await changed.wait()

    def close(self) -> None:
        """End the process, and wait until it has."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(LIMIT_S)
        finally:
            for pipe in (self.popen.stdin, self.popen.stdout):
                assert pipe is not None
                pipe.close()


@asynccontextmanager
async def processes(
    file: Path, names: Iterable[str], environment: dict[str, str]
) -> AsyncIterator[dict[str, Child]]:
    """Run single processes of a network; each has its ports when the block begins."""
    children: dict[str, Child] = {}
    try:
        async with trio.open_nursery() as nursery:
            for name in names:
                module = "qstack.sim" if name == "world" else "qstack_nodes.command"
                words = () if name == "world" else ("node",)
                called = () if name == "world" else (name,)
                command = (sys.executable, "-m", module, *words, str(file), *called, "--watched")
                children[name] = Child(command, environment)
                nursery.start_soon(children[name].follow)
            for child in children.values():
                await child.until(lambda line: line.startswith("ready "))
            yield children
            nursery.cancel_scope.cancel()
    finally:
        for child in children.values():
            child.close()


@asynccontextmanager
async def up(file: Path, environment: dict[str, str]) -> AsyncIterator[Child]:
    """Run `qstack up --json`, which starts again what dies; it is up when the block begins."""
    child = Child((*QSTACK, "up", str(file), "--json"), environment)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child.follow)
            await child.until(lambda line: '"event": "up"' in line)
            yield child
            nursery.cancel_scope.cancel()
    finally:
        child.close()


# --- links ------------------------------------------------------------------------------


def views(status: dict[str, Any], link: str) -> dict[str, bool]:
    """Which ends say, as far as this node has heard, that a link is up."""
    routes = status["network"]["routes"]
    return {
        name: said["links"][link]["up"] for name, said in routes.items() if link in said["links"]
    }


async def settled(node: LiveNode, links: dict[str, bool]) -> dict[str, Any]:
    """Return a node's status once it has heard of these links as up, or not, from both ends.

    A process that says `ready` has its ports; its links are up a moment later, and what is asked
    for before is refused.
    """
    while True:
        status: dict[str, Any] = await node.status()
        if all(list(views(status, name).values()) == [up, up] for name, up in links.items()):
            return status


# --- programs -----------------------------------------------------------------------------


def plain(remote: str, number: int, timeout_ns: int = 0) -> Terms:
    """The terms of a plain request."""
    return Terms(remote, number, 0.0, timeout_ns, 0, 0, 1.0, False, False)


@attrs.define(eq=False)
class Book:
    """A program at one node that gives every half back at once and remembers its pair's id."""

    node: LiveNode
    ids: list[PairId] = attrs.field(factory=list)
    void: set[PairId] = attrs.field(factory=set)
    changed: trio.Event = attrs.field(factory=trio.Event)

    @property
    def valid(self) -> list[PairId]:
        """The ids that were delivered and not expired, in order."""
        return [pair for pair in self.ids if pair not in self.void]

    async def take(self, delivery: Delivery) -> None:
        """Enter one delivery."""
        match delivery:
            case PairReady():
                self.ids.append(delivery.info.pair)
                await self.node.free(delivery.qubit)
            case OutcomeReady():
                self.ids.append(delivery.info.pair)
            case PairExpired():
                self.void.add(delivery.pair)
        self.changed.set()
        self.changed = trio.Event()

    async def receive(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take what others ask for, until cancelled or until the node is lost."""
        incoming = await self.node.listen(0)
        task_status.started()
        async for delivery in incoming:
            await self.take(delivery)

    async def fulfil(self, request: LiveRequest) -> None:
        """Take all of a request; RequestFailed or Unreachable where it ends so."""
        async for delivery in request:
            await self.take(delivery)

    async def reaches(self, count: int) -> None:
        """Return when so many pairs have been delivered here."""
        while len(self.ids) < count:
            changed = self.changed
            await changed.wait()
