"""The seals of swarm runs find every change, whoever makes it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qstack.codec import Forged, decode_datagram, encode_datagram
from qstack.errors import RemoteProtocolError
from qstack.messages.wire import Datagram, Frame, Header
from qstack.testing.seals import Tag, seals

NONCE = bytes(16)


def test_what_was_sealed_is_opened_by_the_same_key_alone() -> None:
    sealed = Tag(b"one").seal(NONCE, b"frames", b"header")
    assert Tag(b"one").open(NONCE, sealed, b"header") == b"frames"
    for key, nonce, text, associated in (
        (b"two", NONCE, sealed, b"header"),
        (b"one", bytes(15) + b"1", sealed, b"header"),
        (b"one", NONCE, sealed[:-1], b"header"),
        (b"one", NONCE, sealed[:3], b"header"),
        (b"one", NONCE, sealed, b"leader"),
        # A byte that moves from the header to the frames.
        (b"one", NONCE, b"r" + sealed, b"heade"),
    ):
        with pytest.raises(Forged):
            Tag(key).open(nonce, text, associated)


@given(st.sets(st.integers(0, 1 << 16), min_size=1, max_size=8))
def test_no_flipped_bit_of_a_datagram_is_believed(flips: set[int]) -> None:
    rings = seals(("alice", "bob", "station"))
    header = Header(1, "alice", "bob", 1 << 40, 1 << 50, 7, 3, 5, 0, 0)
    sent = encode_datagram(Datagram(header, (Frame(3, "", 0, False, b"body"),)), rings["alice"])
    assert decode_datagram(sent, rings["bob"]).frames[0].body == b"body"
    bits = int.from_bytes(sent, "big")
    for place in {flip % (8 * len(sent)) for flip in flips}:
        bits ^= 1 << place
    with pytest.raises(RemoteProtocolError):
        decode_datagram(bits.to_bytes(len(sent), "big"), rings["bob"])


def test_users_have_no_keys_and_every_two_parties_have_one_of_their_own() -> None:
    rings = seals(("alice", "bob"))
    assert set(rings) == {"alice", "bob"}
    assert rings["alice"].key_id("bob") == 1
    assert rings["alice"].key_id("user-alice") == 0
