"""Seals for tests: whatever was changed on the way is found. Nothing is secret."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from qstack.codec import Forged
from qstack.drivers.keys import Keyring
from qstack.units import NodeName

_TAG_BYTES = 16


class Tag:
    """A cipher (:class:`qstack.drivers.keys.Cipher`) that hides nothing and lets nothing change.

    A keyed hash of 16 bytes over nonce, header and frames: a forged one is believed once in 2**128.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, nonce: bytes, frames: bytes, associated: bytes) -> bytes:
        """Return the frames with their tag."""
        return frames + self._tag(nonce, frames, associated)

    def open(self, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
        """Return the frames; Forged where they, or what goes with them, were changed."""
        frames, tag = sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:]
        if tag != self._tag(nonce, frames, associated):
            raise Forged("the tag is not that of this datagram")
        return frames

    def _tag(self, nonce: bytes, frames: bytes, associated: bytes) -> bytes:
        # The lengths are part of it: no byte can move from one piece to the next.
        lengths = len(associated).to_bytes(4, "big")
        text = nonce + lengths + associated + frames
        return blake2b(text, key=self._key, digest_size=_TAG_BYTES).digest()


def seals(parties: Iterable[NodeName]) -> dict[NodeName, Keyring]:
    """Return the keyrings of parties of which every two share a key; others have none."""
    names = sorted(parties)

    def key(one: NodeName, other: NodeName) -> bytes:
        return "--".join(sorted((one, other))).encode()

    return {
        name: Keyring({peer: Tag(key(name, peer)) for peer in names if peer != name})
        for name in names
    }
