"""The bare relay graph: what a request for one pair costs where there is no protocol at all.

Five trio processes, one for each process of ``two_nodes`` and one for the program, pass
datagrams along the hops of a request for one kept pair, through the sockets of
:mod:`qstack.drivers.udp`: wait, drain, send on. They encode, decode and decide nothing. Hops,
sizes and order are those of traces of the real system (``qstack up --traces``), between the
program's CreateKeep and its PairReady; what it sends after the OK (closes, arms to rest,
RequestDone, FreeQubit) is not part of it, and acknowledgements ride on other datagrams.

:data:`HOPS` holds all sixteen messages. Nine of them follow one from another and are the critical
path, :data:`PATH`. The other seven (Created, the arm of the first end, both emitters, what both
report, the second end's herald) go beside it, to processes that the path needs next: where there
are fewer cores than processes they cost the path time whoever sends them. A request is compared
with all sixteen, as the same messages along the same hops; the nine alone are measured beside
them, as a floor under that floor.

A round can begin at once after the one before or, like a request that is asked alone, after a
rest in which every process has gone to sleep. What is compared with each other rests alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NamedTuple

import trio

from qstack.drivers.udp import Address, UdpSocket

USER = "user"
ROLES = ("alice", "bob", "midpoint", "world")
ROUND_S = 5.0
"""A round that takes longer than this is an error: loopback loses nothing."""


class Hop(NamedTuple):
    """A datagram of so many bytes; its arrival causes the hops of these numbers, in order."""

    message: str
    source: str
    target: str
    size: int
    causes: tuple[int, ...] = ()


HOPS = (
    Hop("CreateKeep", USER, "alice", 119, (1, 2)),
    Hop("Created", "alice", USER, 107),
    Hop("LinkAdd", "alice", "bob", 226, (3,)),
    Hop("LinkAnswer", "bob", "alice", 105, (4, 5, 6)),
    Hop("LinkCommit", "alice", "bob", 254, (7, 8)),
    Hop("Arm", "alice", "midpoint", 143),
    Hop("EmitterArm", "alice", "world", 140),
    Hop("Arm", "bob", "midpoint", 141, (9,)),
    Hop("EmitterArm", "bob", "world", 134),
    Hop("StationOpen", "midpoint", "world", 142, (10, 11, 12)),
    Hop("StationClicks", "world", "midpoint", 136, (13, 14)),
    Hop("EmitterHeralded", "world", "alice", 113),
    Hop("EmitterHeralded", "world", "bob", 107),
    Hop("Herald", "midpoint", "alice", 130, (15,)),
    Hop("Herald", "midpoint", "bob", 128),
    Hop("PairReady", "alice", USER, 176),
)
"""All that is sent for a pair; the last ends the round. A datagram's first byte is its number."""

PATH = (
    Hop("CreateKeep", USER, "alice", 119, (1,)),
    Hop("LinkAdd", "alice", "bob", 226, (2,)),
    Hop("LinkAnswer", "bob", "alice", 105, (3,)),
    Hop("LinkCommit", "alice", "bob", 254, (4,)),
    Hop("Arm", "bob", "midpoint", 141, (5,)),
    Hop("StationOpen", "midpoint", "world", 142, (6,)),
    Hop("StationClicks", "world", "midpoint", 136, (7,)),
    Hop("Herald", "midpoint", "alice", 130, (8,)),
    Hop("PairReady", "alice", USER, 176),
)
"""The critical path alone."""

GRAPHS = {"whole": HOPS, "path": PATH}

Places = Mapping[str, Address]
Graph = tuple[Hop, ...]


def open_socket(role: str) -> UdpSocket:
    """Open a port of loopback for a role."""
    return UdpSocket(("127.0.0.1", 0), owner=role, port_name="relay")


def _messages(graph: Graph) -> list[bytes]:
    return [bytes((number,)) + bytes(hop.size - 1) for number, hop in enumerate(graph)]


async def relay(socket: UdpSocket, places: Places, graph: Graph) -> None:
    """Send on what every datagram causes, until cancelled."""
    messages = _messages(graph)
    targets = [places[hop.target] for hop in graph]
    causes = [hop.causes for hop in graph]
    while True:
        await socket.readable()
        for data, _ in socket.receive():
            for hop in causes[data[0]]:
                socket.send(messages[hop], targets[hop])


async def ask(
    socket: UdpSocket, places: Places, graph: Graph, count: int, rest_s: float = 0.0
) -> list[float]:
    """Send `count` requests, each after a rest; return the microseconds that each took."""
    first, target, last = _messages(graph)[0], places[graph[0].target], len(graph) - 1
    took = []
    for _ in range(count):
        if rest_s:
            await trio.sleep(rest_s)
        with trio.fail_after(ROUND_S):
            begun = time.perf_counter()
            socket.send(first, target)
            over = False
            while not over:
                await socket.readable()
                for data, _ in socket.receive():
                    over = over or data[0] == last
            took.append((time.perf_counter() - begun) * 1e6)
    return took


# --- as processes -------------------------------------------------------------------------


def measure(
    count: int, graph: str = "whole", rest_s: float = 0.0, timeout_s: float = 60.0
) -> list[float]:
    """Start the five processes, take `count` rounds of a graph in microseconds, and stop them."""
    arguments = (graph, str(count), str(rest_s))
    children: dict[str, subprocess.Popen[str]] = {}
    try:
        for role in (*ROLES, USER):
            children[role] = subprocess.Popen(
                (sys.executable, "-m", "tests.benchmarks.relay", role, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        places = {role: int(_line(child)) for role, child in children.items()}
        for role in ROLES:
            _tell(children[role], places)
        # The others wait for their ports only once they have read where everybody is.
        for role in ROLES:
            _line(children[role])
        answer, _ = children[USER].communicate(json.dumps(places) + "\n", timeout=timeout_s)
        took: list[float] = json.loads(answer)
        return took
    finally:
        for child in children.values():
            child.kill()
            child.communicate()


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _tell(child: subprocess.Popen[str], places: dict[str, int]) -> None:
    assert child.stdin is not None
    child.stdin.write(json.dumps(places) + "\n")
    child.stdin.flush()


class Asked(NamedTuple):
    """What the command line of a process says."""

    graph: Graph
    rounds: int
    rest_s: float


async def _live(role: str, socket: UdpSocket, places: Places, asked: Asked) -> None:
    graph, rounds, rest_s = asked
    if role == USER:
        await ask(socket, places, graph, max(1, rounds // 10), rest_s)
        print(json.dumps(await ask(socket, places, graph, rounds, rest_s)), flush=True)
        return
    print("relaying", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, socket, places, graph)
        # The parent's end of the pipe closes when it is done, or dead.
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


def main() -> int:
    """Be one of the five processes."""
    role = sys.argv[1]
    asked = Asked(GRAPHS[sys.argv[2]], int(sys.argv[3]), float(sys.argv[4]))
    socket = open_socket(role)
    print(socket.address[1], flush=True)
    ports = json.loads(sys.stdin.readline())
    places = {name: ("127.0.0.1", port) for name, port in ports.items()}
    trio.run(_live, role, socket, places, asked)
    socket.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
