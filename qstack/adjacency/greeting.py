"""Hello: which life of the peer counts, who must be told of ours, and how often."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from qstack.adjacency.kinds import HELLO
from qstack.adjacency.service import AdjacencyParameters
from qstack.codec import FRAME_OVERHEAD, decode_body, encode_body
from qstack.errors import LocalProtocolError, RemoteProtocolError
from qstack.messages.control import Hello
from qstack.messages.wire import VERSION, Frame, Header
from qstack.units import BootId, Instant

VERSIONS: tuple[int, ...] = (VERSION,)
"""The versions that we speak."""

BURST = 4
"""Hellos that strangers can cause at once; after that one per hello interval."""

FORMER_LIVES = 8
"""Replaced lives of the peer that are remembered, so that a late hello cannot revive one."""

LIFE_STEP = 0x9E37_79B9_7F4A_7C15
"""Distance of my successive lives: odd, so that 2^64 of them differ."""

_MASK = (1 << 64) - 1


class Verdict(NamedTuple):
    """What a hello means: this life of the peer counts now, or can never."""

    confirmed: bool
    incompatible: bool
    reason: str


class Greeting:
    """Lives and hellos of one adjacency.

    `life` is mine, `peer_life` the confirmed one of the peer (0: none) and `peer_boot` the boot
    id of its process. `deadline` is when a hello is due that nothing else causes; `owed`, to whose
    life one must leave with the next flush. `sure`: the peer has confirmed my life too.
    """

    __slots__ = (
        *("_boot", "_former", "_incompatible", "_parameters", "_seen", "_token_at", "_tokens"),
        *("deadline", "life", "owed", "peer_boot", "peer_life", "size", "sure"),
    )

    def __init__(self, parameters: AdjacencyParameters, boot: BootId, room: int) -> None:
        self._parameters = parameters
        self._boot = boot
        self.life = boot
        self.peer_life: BootId = 0
        self.peer_boot: BootId = 0
        self.deadline: Instant | None = None
        self._seen: BootId = 0
        self.owed: BootId | None = None
        self.sure = False
        self._former: tuple[BootId, ...] = ()
        self._incompatible: BootId = 0
        self._tokens = BURST
        self._token_at: Instant = 0
        # The longest hello: a boot id of all ones is as long as any.
        body = encode_body(self._hello(_MASK, _MASK))
        self.size = FRAME_OVERHEAD + len(body)
        if self.size > room:
            raise LocalProtocolError(
                f"features and datasheets make a hello of {self.size} bytes, {room} are there"
            )

    # --- lives ----------------------------------------------------------------------------

    def open(self, now: Instant) -> None:
        """Begin to call, if it is for us to do so."""
        self._token_at = now
        self.deadline = now if self._parameters.initiate else None

    def knows(self, header: Header) -> bool:
        """Whether a datagram is from the confirmed life of the peer to my present one."""
        return (
            header.source_boot == self.peer_life
            and header.destination_boot == self.life
            and self.peer_life != 0
        )

    def confirm(self, life: BootId, boot: BootId, now: Instant) -> None:
        """This life of the peer counts from now on."""
        self.peer_life = life
        self.peer_boot = boot
        self._seen = life
        self.sure = False
        self.deadline = now + self._parameters.hello_interval_ns

    def assured(self) -> None:
        """The peer has confirmed my life too: no more hellos."""
        self.sure = True
        self.deadline = None

    def replaced(self) -> None:
        """The peer starts another life by a hello that echoes mine: mine can stay."""
        self._former = (*self._former, self.peer_life)[-FORMER_LIVES:]

    def lose(self, now: Instant) -> None:
        """The confirmed life of the peer ended for us, whether or not the peer knows."""
        replaced = self.peer_life in self._former
        self.peer_life = 0
        self.sure = False
        self.deadline = now if self._parameters.initiate else None
        if not replaced:
            # The peer may live on in the belief that all is well. Only a new life of mine makes
            # it drop what we shared, and makes whatever is still on its way worthless.
            self.life = (self.life + LIFE_STEP) & _MASK or 1

    def rest(self, now: Instant) -> None:
        """The peer left on purpose: give it time before it is called again."""
        if self._parameters.initiate:
            self.deadline = now + self._parameters.hello_interval_ns

    def shut(self) -> None:
        """Nothing more is sent."""
        self.owed = None
        self.deadline = None

    # --- hellos that come in --------------------------------------------------------------

    def find(self, frames: Iterable[Frame]) -> Hello | None:
        """Return the first readable hello of a datagram."""
        for frame in frames:
            if frame.kind != HELLO:
                continue
            body = frame.body
            if self._parameters.wire:
                try:
                    body = decode_body(HELLO, body)
                except RemoteProtocolError:
                    return None
            return body if type(body) is Hello else None
        return None

    def hear(self, header: Header, hello: Hello, now: Instant) -> Verdict:
        """Take a hello that is not between confirmed lives; owe an answer where one helps."""
        life = header.source_boot
        nothing = Verdict(False, False, "")
        if not life or life in self._former:
            self._owe(self.peer_life or self._seen, now)
            return nothing
        echoes = hello.echo == self.life
        if VERSION not in hello.versions:
            self._owe(life, now)
            if not echoes or life == self._incompatible:
                return nothing
            self._incompatible = life
            theirs = ", ".join(str(version) for version in hello.versions[:8])
            return Verdict(False, True, f"no common version: ours {VERSION}, theirs {theirs}")
        if header.destination_boot != self.life:
            self._owe(life, now)
        if not self.peer_life:
            self._seen = life
        return Verdict(echoes and life != self.peer_life, False, "")

    def answer_stranger(self, header: Header, now: Instant) -> None:
        """Someone sends as if we knew each other: at most a hello, never more."""
        if self.owed is None:
            former = header.source_boot in self._former
            self._owe(self.peer_life if former else header.source_boot, now)

    def _owe(self, echo: BootId, now: Instant) -> None:
        """Let a hello leave with the next flush, if the rate allows."""
        if self.owed is None:
            interval = self._parameters.hello_interval_ns
            earned = (now - self._token_at) // interval
            if earned > 0:
                self._tokens = min(BURST, self._tokens + earned)
                self._token_at += earned * interval
            if not self._tokens:
                return
            self._tokens -= 1
        self.owed = echo

    # --- hellos that leave ----------------------------------------------------------------

    def due(self, now: Instant) -> Frame | None:
        """Return the hello that must leave now, if any."""
        timed = self.deadline is not None and self.deadline <= now
        if self.owed is None and not timed:
            return None
        echo = self.owed if self.owed is not None else self.peer_life or self._seen
        self.owed = None
        if self.deadline is not None:
            self.deadline = now + self._parameters.hello_interval_ns
        hello = self._hello(self._boot, echo)
        body = encode_body(hello) if self._parameters.wire else hello
        return Frame(HELLO, "", 0, False, body)

    def _hello(self, boot: BootId, echo: BootId) -> Hello:
        p = self._parameters
        return Hello(VERSIONS, p.features, p.role, boot, echo, p.datasheets)
