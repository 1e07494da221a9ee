"""Keys: sealed between those who share one, refused and counted otherwise."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from qstack.adjacency import PeerLost, PeerUp
from qstack.codec import Forged
from qstack.config import Control, KeysFile, NetworkFile
from qstack.drivers.keys import Keyring, keyring_of, nonce_of
from qstack.drivers.pump import LabClock, Port, Pump
from qstack.drivers.udp import Address, UdpSocket
from qstack.errors import ConfigError
from qstack.machine import Arrived, Drained, Tick
from qstack.messages.physical import Beacon
from qstack.messages.wire import VERSION, Header
from qstack.sim.heap import EventHeap, Wire
from qstack.stack import Identity, Timing
from qstack.stack.hosting import Neighbours
from qstack.units import MILLISECOND, Chance, Instant, NodeName
from tests.drivers.hosts import LOOPBACK

LIMIT_S = 30
QUICK = Timing(200 * MILLISECOND, 2 * MILLISECOND, MILLISECOND, 5 * MILLISECOND, 1.0)
HELLOS = 8


@attrs.frozen
class Toy:
    """A cipher of the standard library, for tests alone: a hash stream and a truncated HMAC."""

    key: bytes

    def _mix(self, nonce: bytes, data: bytes) -> bytes:
        stream = hashlib.shake_256(self.key + nonce).digest(len(data))
        return bytes(a ^ b for a, b in zip(data, stream, strict=True))

    def _tag(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        return hmac.digest(self.key, nonce + associated + sealed, "sha256")[:16]

    def seal(self, nonce: bytes, frames: bytes, associated: bytes) -> bytes:
        sealed = self._mix(nonce, frames)
        return sealed + self._tag(nonce, sealed, associated)

    def open(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        inner, tag = sealed[:-16], sealed[-16:]
        if not hmac.compare_digest(tag, self._tag(nonce, inner, associated)):
            raise Forged("not of this key")
        return self._mix(nonce, inner)


class Talker:
    """A station and a node that greet each other; the station then sends a beacon."""

    def __init__(self, name: NodeName, others: dict[NodeName, str]) -> None:
        self.name = name
        self.others = others
        role = "station" if name == "station" else "node"
        who = Identity(name, role, Chance(name).boot_id(), QUICK, True)
        self.boot = who.boot
        self.neighbours = Neighbours(who, self._deliver, self._changed)
        self.up: dict[NodeName, trio.Event] = {other: trio.Event() for other in others}
        self.got: list[Any] = []
        self.told = trio.Event()

    @property
    def deadline(self) -> Instant | None:
        return self.neighbours.deadline

    def start(self, now: Instant) -> list[Any]:
        out: list[Any] = []
        for other, role in self.others.items():
            out += self.neighbours.open(other, role, "peer", initiate=True, now=now)
        return out

    def handle(self, event: Any, now: Instant) -> list[Any]:
        match event:
            case Arrived():
                return self.neighbours.arrived(event, now)
            case Tick():
                return self.neighbours.tick(now)
            case Drained():
                return self.neighbours.drain(now)
        raise TypeError(type(event).__name__)

    def _changed(self, event: PeerUp | PeerLost, now: Instant) -> list[Any]:
        if not isinstance(event, PeerUp):
            return []
        self.up[event.peer].set()
        if self.name != "station":
            return []
        return self.neighbours.post(event.peer, Beacon("a-b", 3, 10, 0, 1, 2), now)

    def _deliver(self, peer: NodeName, role: str, message: Any, now: Instant) -> list[Any]:
        self.got.append(message)
        self.told.set()
        return []


def parties() -> tuple[Talker, Talker, Talker]:
    """A station with two nodes."""
    nodes = {"alice": "node", "bob": "node"}
    station = Talker("station", nodes)
    return station, *(Talker(name, {"station": "station"}) for name in nodes)  # type: ignore[return-value]  # two


def keyrings(alice: bytes) -> dict[NodeName, Keyring]:
    """The keyrings of the station, of bob, and of alice, whose key this is."""
    right = {name: Toy(name.encode() * 8) for name in ("alice", "bob")}
    return {
        "station": Keyring(right),
        "alice": Keyring({"station": Toy(alice)}),
        "bob": Keyring({"station": right["bob"]}),
    }


RIGHT, WRONG = b"alice" * 8, b"mallory" * 8


@asynccontextmanager
async def live(keys: dict[NodeName, Keyring]) -> AsyncIterator[dict[NodeName, tuple[Talker, Pump]]]:
    """The three parties over real sockets, those named in `keys` with their keyring."""
    sockets: dict[NodeName, UdpSocket] = {}
    made: dict[NodeName, tuple[Talker, Pump]] = {}
    try:
        for party in parties():
            sockets[party.name] = UdpSocket(LOOPBACK, owner=party.name, port_name="peer")
        places: dict[NodeName, Address] = {n: s.address for n, s in sockets.items()}
        async with trio.open_nursery() as nursery:
            for party in parties():
                known = {other: places[other] for other in party.others}
                port = Port("peer", sockets[party.name], known, keys=keys.get(party.name))
                pump = Pump(party, (port,), LabClock())
                made[party.name] = (party, pump)
                await nursery.start(pump.run)
            with trio.fail_after(LIMIT_S):
                yield made
            nursery.cancel_scope.cancel()
    finally:
        for socket in sockets.values():
            socket.close()


async def test_who_share_a_key_talk_and_nothing_is_forged() -> None:
    async with live(keyrings(RIGHT)) as made:
        for name in ("alice", "bob"):
            await made[name][0].told.wait()
        assert all(pump.counters.forged == 0 for _, pump in made.values())
        assert made["alice"][0].got == [Beacon("a-b", 3, 10, 0, 1, 2)]


@pytest.mark.parametrize("stripped", [False, True])
async def test_a_wrong_key_or_none_is_counted_at_both_ends_and_others_go_on(
    stripped: bool,
) -> None:
    keys = keyrings(WRONG)
    if stripped:
        # Whoever leaves the seal off altogether gets no further.
        del keys["alice"]
    async with live(keys) as made:
        await made["bob"][0].told.wait()
        station, alice = made["station"], made["alice"]
        while min(pump.counters.forged for _, pump in (station, alice)) < HELLOS:
            await trio.lowlevel.checkpoint()
        assert not station[0].up["alice"].is_set()
        assert not alice[0].up["station"].is_set()
        assert station[0].neighbours.report()["alice"]["received"] == 0
        assert station[0].neighbours.is_up("bob")
        assert made["bob"][1].counters.forged == 0


@pytest.mark.parametrize("key", [RIGHT, WRONG])
def test_keys_hold_in_virtual_time_as_they_do_live(key: bytes) -> None:
    heap = EventHeap(Chance(5), Wire(100_000, loss=0.05, duplicate=0.05), wire_bytes=True)
    heap.wiring.keys.update(keyrings(key))
    made = {party.name: party for party in parties()}
    for name, party in made.items():
        heap.add(name, party)
    heap.run(500 * MILLISECOND)
    right = key == RIGHT
    assert made["alice"].neighbours.is_up("station") is right
    assert made["bob"].neighbours.is_up("station")
    forged = sum(dict(counts.fates).get("forged", 0) for counts in heap.wiring.counts.values())
    assert (forged == 0) is right
    if not right:
        # Both call every 5 ms for 500 ms; each call is one that is refused.
        assert forged > 150
        assert made["alice"].neighbours.report()["station"]["received"] == 0


def header(source: str, number: int, boot: int = 7, key_id: int = 1) -> Header:
    return Header(VERSION, source, "me", boot, 9, number, 0, 0, 0, key_id)


def test_no_two_datagrams_of_any_life_share_a_nonce() -> None:
    nonces = {nonce_of(header("a", n, boot)) for n in (1, 2, 2**64 - 1) for boot in (1, 2, 2**63)}
    assert len(nonces) == 9
    assert {len(nonce) for nonce in nonces} == {16}


def test_a_keyring_refuses_the_clear_from_who_has_a_key_and_seals_of_who_has_none() -> None:
    ring = Keyring({"alice": Toy(RIGHT)})
    sealed = Toy(RIGHT).seal(nonce_of(header("alice", 4)), b"frames", b"head")
    assert ring.open(header("alice", 4), b"head", sealed) == b"frames"
    assert ring.open(header("bob", 4, key_id=0), b"head", b"clear") == b"clear"
    for wrong, frames in (
        (header("alice", 4, key_id=0), b"clear"),
        (header("bob", 4), sealed),
        (header("alice", 4, key_id=2), sealed),
        (header("alice", 5), sealed),
        (header("alice", 4, boot=8), sealed),
    ):
        with pytest.raises(Forged):
            ring.open(wrong, b"head", frames)


def test_aes_gcm_opens_what_it_sealed_and_nothing_that_was_changed_or_cut() -> None:
    pytest.importorskip("cryptography")
    from qstack.drivers.aes_gcm import AesGcm

    key, nonce = bytes(range(32)), bytes(range(16))
    cipher = AesGcm(key)
    sealed = cipher.seal(nonce, b"frames", b"head")
    assert len(sealed) == len(b"frames") + 16
    assert cipher.open(nonce, sealed, b"head") == b"frames"
    cut = [(nonce, sealed[:end], b"head") for end in range(len(sealed))]
    bits = [
        (nonce, bytes(b ^ (i == place) for i, b in enumerate(sealed)), b"head")
        for place in range(len(sealed))
    ]
    for bad in (*cut, *bits, (nonce[::-1], sealed, b"head"), (nonce, sealed, b"heat")):
        with pytest.raises(Forged):
            cipher.open(*bad)
    with pytest.raises(Forged):
        AesGcm(bytes(32)).open(nonce, sealed, b"head")


def test_aes_gcm_is_the_one_of_the_standard() -> None:
    """Test case 16 of McGrew and Viega's GCM specification (256-bit key, 96-bit nonce)."""
    pytest.importorskip("cryptography")
    from qstack.drivers.aes_gcm import AesGcm

    key = "feffe9928665731c6d6a8f9467308308" * 2
    plain = (
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    wanted = (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )
    associated = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
    nonce = "cafebabefacedbaddecaf888"
    cipher = AesGcm(bytes.fromhex(key))
    found = cipher.seal(*(bytes.fromhex(each) for each in (nonce, plain, associated)))
    assert found.hex() == wanted


def network_in(folder: Path, cipher: str = "aes-gcm") -> NetworkFile:
    file = str(folder / "lab.toml")
    keys = KeysFile(cipher, "keys")
    return NetworkFile(file, "lab", 1.0, None, Control(), None, (), (), (), keys)


def test_every_key_that_is_missing_or_no_key_is_named_at_once(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "alice--bob.key").write_text("5a" * 32 + "\n")
    (tmp_path / "keys" / "alice--short.key").write_text("5a")
    (tmp_path / "keys" / "alice--text.key").write_text("a secret")
    with pytest.raises(ConfigError) as caught:
        keyring_of(network_in(tmp_path), "alice", ("world", "bob", "text", "short"))
    assert [problem.rpartition("/")[2] for problem in caught.value.problems] == [
        "alice--short.key: 1 bytes, not 32",
        "alice--text.key: no hexadecimal digits",
        "alice--world.key: No such file or directory",
    ]
    ring = keyring_of(network_in(tmp_path), "bob", ("alice",))
    assert ring is not None
    assert (ring.key_id("alice"), ring.key_id("carol")) == (1, 0)


def test_a_cipher_that_is_not_installed_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"keys\.cipher: no cipher 'rot13': installed are aes-gcm"
    ):
        keyring_of(network_in(tmp_path, "rot13"), "alice", ("bob",))
    assert keyring_of(attrs.evolve(network_in(tmp_path), keys=None), "alice", ("bob",)) is None  # type: ignore[misc]  # a record
