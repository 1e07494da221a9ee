"""Keys: who may speak as whom on the peers' port.

A :class:`Keyring` holds one :class:`Cipher` for each peer and gives the codec its hooks. What
comes from a peer with a key must be sealed with it; what comes from one without must be in the
clear. An embedding program makes a Keyring and gives it to a :class:`~qstack.drivers.pump.Port`;
a network file names a cipher and a folder of keys, and :func:`keyring_of` reads them.

Ciphers are plugins of the group ``qstack.ciphers``: an entry point names a function that makes a
Cipher of the bytes of a key. ``aes-gcm`` comes with the extra ``qstack[keys]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from qstack.codec import Forged
from qstack.config import KeysFile, NetworkFile
from qstack.errors import ConfigError
from qstack.messages.wire import Header
from qstack.units import NodeName

KEY_ID = 1
"""The id of the one key that two parties share; 0 stands for none."""

KEY_BYTES = 32


class Cipher(Protocol):
    """Authenticated encryption with one key, shared by two parties.

    `nonce` (16 bytes) is different for each datagram of either of them; `associated` is
    authenticated and not encrypted. The sealed form is at most 32 bytes longer.
    """

    def seal(self, nonce: bytes, frames: bytes, associated: bytes) -> bytes:
        """Return the sealed frames."""

    def open(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the frames; Forged where they were not sealed with this key, or changed."""


class Keyring:
    """The keys of one process, by peer; see :class:`qstack.codec.Keys`."""

    def __init__(self, ciphers: Mapping[NodeName, Cipher]) -> None:
        self._ciphers = dict(ciphers)

    def key_id(self, peer: NodeName) -> int:
        """Return the id of the key for this peer, 0 for none."""
        return KEY_ID if peer in self._ciphers else 0

    def seal(self, header: Header, associated: bytes, frames: bytes) -> bytes:
        """Seal what leaves for a peer that has a key."""
        return self._ciphers[header.destination].seal(nonce_of(header), frames, associated)

    def open(self, header: Header, associated: bytes, frames: bytes) -> bytes:
        """Open what comes in; Forged where it is not what its sender's key would make."""
        cipher = self._ciphers.get(header.source)
        if header.key_id != self.key_id(header.source):
            sealed = f"sealed with key {header.key_id}" if header.key_id else "in the clear"
            raise Forged(f"a datagram of {header.source!r} is {sealed}")
        return frames if cipher is None else cipher.open(nonce_of(header), frames, associated)


def nonce_of(header: Header) -> bytes:
    """Return 16 bytes that no two datagrams under one key share.

    A life of either party is 64 random bits, and counts its datagrams to the other from 1.
    """
    return header.source_boot.to_bytes(8, "big") + header.number.to_bytes(8, "big")


def cipher_called(name: str, file: str) -> Callable[[bytes], Cipher]:
    """Return the function of this plugin; ConfigError naming the installed ones, or the cause."""
    found = {entry.name: entry for entry in entry_points(group="qstack.ciphers")}
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise ConfigError([f"{file}: keys.cipher: no cipher {name!r}: installed are {known}"])
    try:
        make: Callable[[bytes], Cipher] = found[name].load()
    except ImportError as error:
        reason = f"{name!r} cannot be imported: {error} (does qstack[keys] need installing?)"
        raise ConfigError([f"{file}: keys.cipher: {reason}"]) from error
    return make


def key_path(network: NetworkFile, keys: KeysFile, one: NodeName, other: NodeName) -> Path:
    """Return the file of the key that two parties share: ``first--second.key`` by name."""
    first, second = sorted((one, other))
    return Path(network.file).parent / keys.folder / f"{first}--{second}.key"


def keyring_of(network: NetworkFile, name: NodeName, peers: Iterable[NodeName]) -> Keyring | None:
    """Return the keys of a process for these peers; None where the network file asks for none.

    Each key file holds 64 hexadecimal digits. ConfigError names every one that does not.
    """
    keys = network.keys
    if keys is None:
        return None
    make = cipher_called(keys.cipher, network.file)
    ciphers, problems = {}, []
    for peer in sorted(peers):
        path = key_path(network, keys, name, peer)
        try:
            key = bytes.fromhex(path.read_text(encoding="ascii").strip())
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no hexadecimal digits"
            problems.append(f"{path}: {reason}")
            continue
        if len(key) != KEY_BYTES:
            problems.append(f"{path}: {len(key)} bytes, not {KEY_BYTES}")
        else:
            ciphers[peer] = make(key)
    if problems:
        raise ConfigError([f"{network.file}: keys: {problem}" for problem in problems])
    return Keyring(ciphers)
