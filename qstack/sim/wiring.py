"""All paths of a network: which wire each one is at present, and what became of datagrams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from qstack.codec import Keys
from qstack.machine import record
from qstack.sim.wires import Path, Wire, check_wire
from qstack.units import Chance, NodeName

Matches: TypeAlias = Callable[[NodeName, NodeName], bool]
"""Tells of (source, destination) whether something holds on that path."""


@record
class WireCounts:
    """Datagrams of one path: how many were sent, and (fate, how many) by the names of `wires`."""

    sent: int
    fates: tuple[tuple[str, int], ...]


class Wiring:
    """Wires by pair of hosts, a default for the others, and the faults that are on.

    A path exists from the first datagram on; `paths` lists them in that order. `keys`: those of
    the hosts that have some, by which datagrams that become bytes are sealed and opened.
    """

    def __init__(self, chance: Chance, default: Wire, *, as_bytes: bool) -> None:
        check_wire(default)
        self.paths: list[Path] = []
        self.keys: dict[NodeName, Keys] = {}
        self._chance = chance
        self._as_bytes = as_bytes
        self._default = default
        self._wires: dict[tuple[NodeName, NodeName], Wire] = {}
        self._between: dict[tuple[NodeName, NodeName], list[Path]] = {}
        self._cut: set[NodeName] = set()
        self._cuts: dict[int, Matches] = {}
        self._disturbed: dict[int, tuple[Matches, dict[str, Any]]] = {}
        self._handles = 0

    def set_wire(self, one: NodeName, other: NodeName, wire: Wire) -> None:
        """Set both directions between two hosts; ConfigError for what no wire can be."""
        check_wire(wire)
        self._wires[one, other] = self._wires[other, one] = wire
        for ends in ((one, other), (other, one)):
            for path in self._between.get(ends, ()):
                self._set(path)

    def set_default(self, wire: Wire) -> None:
        """Set what holds between hosts without a wire of their own; ConfigError as there."""
        check_wire(wire)
        self._default = wire
        self._set_all()

    def cut(self, name: NodeName, cut: bool) -> None:
        """Cut a host off from all others, or join it again."""
        (self._cut.add if cut else self._cut.discard)(name)
        self._set_all()

    def part(self, matches: Matches) -> int:
        """Cut all paths that match, until :meth:`calm` is told the number returned."""
        self._handles += 1
        self._cuts[self._handles] = matches
        self._set_all()
        return self._handles

    def disturb(self, matches: Matches, **changes: Any) -> int:
        """Change fields of the wires of all paths that match, until :meth:`calm`.

        Returns the number to tell it. Of two changes of a field the later one holds.
        ConfigError for what no wire can be.
        """
        check_wire(_changed(self._default, changes))
        self._handles += 1
        self._disturbed[self._handles] = (matches, changes)
        self._set_all()
        return self._handles

    def calm(self, handle: int) -> None:
        """End what :meth:`part` or :meth:`disturb` began."""
        self._cuts.pop(handle, None)
        self._disturbed.pop(handle, None)
        self._set_all()

    def path(self, source: NodeName, destination: NodeName, target: Any) -> Path:
        """Return a new path between two hosts; `target` is handed through."""
        ends, number = (source, destination), -1 - len(self.paths)
        path = Path(ends, target, number, self._chance, as_bytes=self._as_bytes, keys=self.keys)
        self.paths.append(path)
        self._between.setdefault(ends, []).append(path)
        self._set(path)
        return path

    @property
    def counts(self) -> dict[tuple[NodeName, NodeName], WireCounts]:
        """What became of the datagrams of every path, by (source, destination), sorted."""
        return {
            (path.source, path.destination): WireCounts(
                path.sent, tuple(sorted(path.counts.items()))
            )
            for path in sorted(self.paths, key=lambda path: (path.source, path.destination))
        }

    def _set_all(self) -> None:
        for path in self.paths:
            self._set(path)

    def _set(self, path: Path) -> None:
        ends = path.source, path.destination
        wire = self._wires.get(ends, self._default)
        for matches, changes in self._disturbed.values():
            if matches(*ends):
                wire = _changed(wire, changes)
        cut = any(name in self._cut for name in ends)
        path.set(wire, cut or any(matches(*ends) for matches in self._cuts.values()))


def _changed(wire: Wire, changes: dict[str, Any]) -> Wire:
    # Untyped on purpose: the type checker does not see that our records are attrs classes.
    untyped: Any = wire
    changed: Wire = attrs.evolve(untyped, **changes)
    return changed
