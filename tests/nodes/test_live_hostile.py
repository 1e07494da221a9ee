"""Floods of senseless datagrams against a live node, while it serves those it knows."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from pathlib import Path

import trio

from qstack.adjacency.greeting import BURST
from qstack.codec import encode_body, encode_datagram
from qstack.config.records import Control
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode
from qstack.messages.control import Bye, Hello
from qstack.messages.link import LinkSync
from qstack.messages.wire import KIND_OF, VERSION, Datagram, Frame, Header, stream_of
from qstack.stack.hosting import MAX_USERS
from tests.nodes.live_rig import (
    LIMIT_S,
    Book,
    addresses,
    dropped,
    environment_for,
    on_own_ports,
    plain,
    processes,
    queued_bytes,
    resident_bytes,
    settled,
    with_mallory_text,
)

FLOOD = 100_000
WARM_UP = 4_000
BATCH = 64
GROWTH_BYTES = 5_000_000
REQUESTS = 50
PAIRS = 10

Forger = Callable[[], bytes]


class Forge:
    """Makes datagrams that no honest party sends, from a fixed seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def boot(self) -> int:
        """A life that nobody has."""
        return self._random.getrandbits(64) or 1

    def garbage(self) -> bytes:
        """No datagram at all."""
        return self._random.randbytes(self._random.randrange(1, 200))

    def as_bob(self) -> bytes:
        """What bob could say, but not from here."""
        return self._hello("bob", "node", 0)

    def as_anybody(self) -> bytes:
        """A program that nobody has heard of, and that never answers."""
        return self._hello(f"user-{self._random.getrandbits(48):012x}", "user", 0)

    def hello_of_mallory(self) -> bytes:
        """One more life of mallory's, which echoes no life of alice's."""
        return self._hello("mallory", "node", self._random.choice((0, self.boot())))

    def word_of_mallory(self) -> bytes:
        """Mallory in the middle of a conversation that never began."""
        body = LinkSync("alice-mallory", self._random.randbytes(16), (4, 0), ())
        reliable = Frame(KIND_OF[LinkSync].number, stream_of(body), 1, False, encode_body(body))
        bye = Frame(KIND_OF[Bye].number, "", 0, False, encode_body(Bye("so long")))
        return self._datagram("mallory", (self._random.choice((reliable, bye)),))

    def _hello(self, name: str, role: str, echo: int) -> bytes:
        body = encode_body(Hello((VERSION,), (), role, self.boot(), echo, ()))
        return self._datagram(name, (Frame(KIND_OF[Hello].number, "", 0, False, body),))

    def _datagram(self, source: str, frames: tuple[Frame, ...]) -> bytes:
        number = self._random.randrange(1, 1 << 40)
        to = self._random.choice((0, self.boot()))
        header = Header(VERSION, source, "alice", self.boot(), to, number, 0, 0, 0, 0)
        return encode_datagram(Datagram(header, frames))


def bound(address: tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    """A port of the test's own that never waits."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind(address)
    return made


def drain(sender: socket.socket) -> int:
    """Return how many datagrams have come back since the last time."""
    count = 0
    while True:
        try:
            sender.recv(2_048)
        except BlockingIOError:
            return count
        count += 1


class Flood:
    """Sends batch after batch; the next one only when the node has taken the last."""

    def __init__(self, node: LiveNode, ports: list[tuple[socket.socket, tuple[str, int]]]) -> None:
        self.answers = [0] * len(ports)
        self._node = node
        self._ports = ports

    async def pour(self, forgers: list[tuple[int, Forger]], total: int) -> None:
        """Send `total` datagrams, in turn from these forgers, each through its port."""
        for sent in range(1, total + 1):
            place, forger = forgers[sent % len(forgers)]
            sender, target = self._ports[place]
            sender.sendto(forger(), target)
            if sent % BATCH == 0 or sent == total:
                await self._taken()

    async def _taken(self) -> None:
        """Return when the node has read all; asking its status is the time that passes."""
        await trio.lowlevel.checkpoint()
        for place, (sender, _) in enumerate(self._ports):
            self.answers[place] += drain(sender)
        while any(queued_bytes(target[1]) for _, target in self._ports):
            assert (await self._node.status())["node"] == "alice"


async def test_a_flood_from_strangers_and_from_a_peers_address_harms_nobody(
    tmp_path: Path,
) -> None:
    """100,000 datagrams: mallory's port is the test's, and the other port is a stranger's."""
    file = on_own_ports(with_mallory_text(), tmp_path)
    place = addresses(file)
    names = ("world", "midpoint", "alice", "bob")
    with (
        trio.fail_after(3 * LIMIT_S),
        bound(place["mallory"]) as mallory,
        bound() as stranger,
        bound() as client,
    ):
        async with (
            processes(file, names, environment_for(tmp_path)) as children,
            connect(str(file), "alice", "bob") as (alice, bob),
            trio.open_nursery() as nursery,
        ):
            one, other = Book(alice), Book(bob)
            await nursery.start(other.receive)
            ports = [
                (mallory, place["alice"]),
                (stranger, place["alice"]),
                (client, place["alice.user"]),
            ]
            forge = Forge(1)
            forgers: list[tuple[int, Forger]] = [
                (0, forge.hello_of_mallory),
                (0, forge.word_of_mallory),
                (1, forge.as_bob),
                (1, forge.garbage),
                (2, forge.as_anybody),
            ]
            flood = Flood(alice, ports)
            await settled(alice, {"alice-bob": True})
            await one.fulfil(await alice.create_keep(plain("bob", 200)))
            await flood.pour(forgers, WARM_UP)
            pid = children["alice"].popen.pid
            before, lost = resident_bytes(pid), dropped(place["alice"][1])
            flood.answers = [0, 0, 0]
            began = trio.current_time()
            for _ in range(REQUESTS):
                async with trio.open_nursery() as both:
                    both.start_soon(flood.pour, forgers, FLOOD // REQUESTS)
                    await one.fulfil(await alice.create_keep(plain("bob", PAIRS)))
            took = trio.current_time() - began
            grown = resident_bytes(pid) - before
            await other.reaches(len(one.ids))
            lost = dropped(place["alice"][1]) - lost
            status = await alice.status()
            nursery.cancel_scope.cancel()
    assert one.ids == other.ids
    assert len(one.ids) == 200 + PAIRS * REQUESTS
    assert not one.void
    assert grown < GROWTH_BYTES
    assert lost < FLOOD / 100
    heard = status["neighbours"]["mallory"]
    assert heard["received"] > 2 * FLOOD / 5
    assert heard["ups"] == 0
    # Mallory's hellos are answered at a bounded rate; each new program, which is one in five, once.
    of_mallory, of_the_stranger, of_programs = flood.answers
    # A hello of alice's own and one in answer per interval, after a burst.
    assert of_mallory < BURST + 2 * took / (Control().hello_interval_ns / 1e9) + 10
    assert of_the_stranger == 0
    assert of_programs < FLOOD / 4
    # Besides bob, mallory, the two stations and the world there are programs alone.
    assert len(status["neighbours"]) <= MAX_USERS + 5
