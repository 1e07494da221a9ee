"""The bare relay graph: what a request for one pair costs where there is no protocol at all.

Five trio processes, one for each process of ``two_nodes`` and one for the program, pass
datagrams along the critical path of a request for one kept pair, through the sockets of
:mod:`qstack.drivers.udp`: wait, drain, answer. They encode and decide nothing. Hops and sizes
are those of traces of the real system (``qstack up --traces``), between the program's
CreateKeep and its PairReady:

====  ==================  =========================================  =====
hop   from - to           message                                    bytes
====  ==================  =========================================  =====
1     user - alice        CreateKeep, FreeQubit of the pair before     128
2     alice - bob         LinkAdd                                      212
3     bob - alice         LinkAnswer                                    92
4     alice - bob         LinkCommit                                   239
5     bob - station       Arm                                          125
6     station - world     StationOpen                                  126
7     world - station     StationClicks                                124
8     station - alice     Herald                                       104
9     alice - user        PairReady                                    158
====  ==================  =========================================  =====

Everything else that the real system sends for this pair (the arms of both emitters, ArmReply,
EmitterHeralded, acknowledgements) goes beside this path, and is not in the floor.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping

import trio

from qstack.drivers.udp import Address, UdpSocket

USER = "user"
PATH: tuple[tuple[str, str, int], ...] = (
    (USER, "alice", 128),
    ("alice", "bob", 212),
    ("bob", "alice", 92),
    ("alice", "bob", 239),
    ("bob", "station", 125),
    ("station", "world", 126),
    ("world", "station", 124),
    ("station", "alice", 104),
    ("alice", USER, 158),
)
"""(from, to, bytes) of each hop. The first byte of a datagram is the number of its hop."""

ROLES = ("alice", "bob", "station", "world")
ROUND_S = 5.0
"""A round that takes longer than this is an error: loopback loses nothing."""

Places = Mapping[str, Address]


def open_socket(role: str) -> UdpSocket:
    """Open a port of loopback for a role."""
    return UdpSocket(("127.0.0.1", 0), owner=role, port_name="relay")


def _messages() -> list[bytes]:
    return [bytes((hop,)) + bytes(size - 1) for hop, (_, _, size) in enumerate(PATH)]


async def relay(socket: UdpSocket, places: Places) -> None:
    """Pass every datagram on to its next hop, until cancelled."""
    messages = _messages()
    targets = [places[to] for _, to, _ in PATH]
    while True:
        await socket.readable()
        while datagrams := socket.receive():
            for data, _ in datagrams:
                hop = data[0] + 1
                socket.send(messages[hop], targets[hop])


async def ask(socket: UdpSocket, places: Places, count: int) -> list[float]:
    """Send `count` requests, one after the other; return the microseconds that each took."""
    first, target = _messages()[0], places[PATH[0][1]]
    took = []
    for _ in range(count):
        with trio.fail_after(ROUND_S):
            begun = time.perf_counter()
            socket.send(first, target)
            answers: list[tuple[bytes, Address]] = []
            while not answers:
                await socket.readable()
                answers = socket.receive()
            took.append((time.perf_counter() - begun) * 1e6)
    return took


# --- as processes -------------------------------------------------------------------------


def measure(count: int, timeout_s: float = 60.0) -> list[float]:
    """Start the five processes, take `count` round trips in microseconds, and stop them."""
    children: dict[str, subprocess.Popen[str]] = {}
    try:
        for role in (*ROLES, USER):
            children[role] = subprocess.Popen(
                (sys.executable, "-m", "tests.benchmarks.relay", role, str(count)),
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


async def _live(role: str, socket: UdpSocket, places: Places, count: int) -> None:
    if role == USER:
        await ask(socket, places, max(1, count // 10))
        print(json.dumps(await ask(socket, places, count)), flush=True)
        return
    print("relaying", flush=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay, socket, places)
        # The parent's end of the pipe closes when it is done, or dead.
        await trio.lowlevel.wait_readable(sys.stdin)
        nursery.cancel_scope.cancel()


def main() -> int:
    """Be one of the five processes."""
    role, count = sys.argv[1], int(sys.argv[2])
    socket = open_socket(role)
    print(socket.address[1], flush=True)
    ports = json.loads(sys.stdin.readline())
    places = {name: ("127.0.0.1", port) for name, port in ports.items()}
    trio.run(_live, role, socket, places, count)
    socket.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
