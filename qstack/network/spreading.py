"""When a node passes on what it heard: at once, or together with what comes a little later.

The first word of a node that begins is made when its first adjacency comes up, and says that none
of its links is: nobody can go there yet. Its neighbours keep it for two of its pauses, in which its
next word takes its place, so that a network which begins as a whole is flooded once and not twice.

Where a node has several others to tell, what comes within `pace_ns` of what it passed on waits for
the end of that time. So in a burst updates leave together, and none goes to a neighbour that sent
the same meanwhile. A single update waits nowhere, nor does any in a row of nodes, nor one that
takes ways away.
"""

from __future__ import annotations

import attrs

from qstack.units import Duration, Instant, NodeName, earliest


@attrs.define
class _Waiting:
    """An update is passed on at an instant, to all neighbours that are not known to have it."""

    at: Instant
    known: set[NodeName]


class Spreading:
    """What is yet to be passed on, by origin. Durations in lab ns.

    `keep_ns`: so long a first word is kept. `pace_ns`: at least this passes between two times at
    which several others are told.
    """

    __slots__ = ("_calm_at", "_keep_ns", "_pace_ns", "_waiting", "deadline")

    def __init__(self, keep_ns: Duration, pace_ns: Duration) -> None:
        self._keep_ns = keep_ns
        self._pace_ns = pace_ns
        self._waiting: dict[NodeName, _Waiting] = {}
        self._calm_at: Instant = 0
        self.deadline: Instant | None = None
        """When the first of it is passed on."""

    def __contains__(self, origin: NodeName) -> bool:
        return origin in self._waiting

    def keep(self, origin: NodeName, now: Instant) -> None:
        """Keep the first word of an origin, which came from there and leads nowhere."""
        self._wait(origin, origin, now + self._keep_ns)

    def paced(self, origin: NodeName, peer: NodeName, now: Instant) -> bool:
        """Whether an update that came from `peer`, for several others, waits; otherwise it goes."""
        if now < self._calm_at:
            self._wait(origin, peer, self._calm_at)
            return True
        self._calm_at = now + self._pace_ns
        return False

    def _wait(self, origin: NodeName, peer: NodeName, at: Instant) -> None:
        self._waiting[origin] = _Waiting(at, {peer})
        self.deadline = earliest(self.deadline, at)

    def drop(self, origin: NodeName) -> None:
        """Nothing that waits of an origin is passed on any more."""
        if origin in self._waiting:
            del self._waiting[origin]
            if not self._waiting:
                self.deadline = None

    def has(self, peer: NodeName, origin: NodeName) -> None:
        """A neighbour has what waits of an origin, or is sent it now."""
        waiting = self._waiting.get(origin)
        if waiting is not None:
            waiting.known.add(peer)

    def begins(self, peer: NodeName) -> None:
        """A neighbour may be in another life, which knows nothing of what the former one had."""
        for waiting in self._waiting.values():
            waiting.known.discard(peer)

    def due(self, now: Instant) -> list[tuple[NodeName, set[NodeName]]]:
        """Return what is passed on now: of which origins, and to whom it is not."""
        if self.deadline is None or now < self.deadline:
            return []
        found = [(name, each.known) for name, each in self._waiting.items() if each.at <= now]
        for name, _ in found:
            del self._waiting[name]
        self.deadline = min((each.at for each in self._waiting.values()), default=None)
        self._calm_at = now + self._pace_ns
        return found
