"""The messages between adjacencies themselves."""

from __future__ import annotations

from qstack.messages.control import Hello, KeepAlive, Refusal
from qstack.messages.wire import KIND_OF, Layer

OURS = frozenset(cls for cls, kind in KIND_OF.items() if kind.layer is Layer.CONTROL)
"""What adjacencies say to each other: nobody else's to post or to take."""

REASON_LENGTH = 200
"""Characters of a reason that we send: what a peer sent must not come back at length."""

HELLO = KIND_OF[Hello].number
REFUSAL = KIND_OF[Refusal].number

ASKING = (HELLO, KIND_OF[KeepAlive].number)
"""Timed kinds that ask for an acknowledgement."""
