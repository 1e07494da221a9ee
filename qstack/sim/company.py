"""Who takes part in an event heap, and the wires between them."""

from __future__ import annotations

from typing import Any

from qstack.sim.targets import Target
from qstack.sim.wires import Path, Wire
from qstack.sim.wiring import WireCounts, Wiring
from qstack.units import Instant, NodeName

WORLD: NodeName = "world"


class Company:
    """All parties of a network by name, and `wiring`; `now` is the true instant."""

    def __init__(self, wiring: Wiring) -> None:
        self.now: Instant = 0
        self.wiring = wiring
        self._targets: dict[NodeName, Target] = {}

    def host(self, name: NodeName) -> Any:
        """Return the machine of this name; KeyError where no such host lives."""
        if not self.lives(name):
            raise KeyError(name)
        return self._targets[name].machine

    def lives(self, name: NodeName) -> bool:
        """Whether a host of this name lives."""
        target = self._targets.get(name)
        return target is not None and target.machine is not None

    def time_of(self, name: NodeName) -> Instant:
        """Return what the clock of a host shows now."""
        return self._local(self._target(name))

    def _target(self, name: NodeName) -> Target:
        target = self._targets.get(name)
        if target is None:
            target = self._targets[name] = Target(name, drains=name != WORLD)
        return target

    def _local(self, target: Target) -> Instant:
        return self.now if target.clock is None else target.clock.local(self.now)

    # --- wires ---------------------------------------------------------------------------

    def set_wire(self, one: NodeName, other: NodeName, wire: Wire) -> None:
        """Set both directions between two hosts; ConfigError for what no wire can be."""
        self.wiring.set_wire(one, other, wire)

    def set_default(self, wire: Wire) -> None:
        """Set what holds between hosts without a wire of their own; ConfigError as there."""
        self.wiring.set_default(wire)

    def cut(self, name: NodeName, cut: bool = True) -> None:
        """Cut a host off the control network, or join it again."""
        self.wiring.cut(name, cut)

    @property
    def wires(self) -> dict[tuple[NodeName, NodeName], WireCounts]:
        """What became of the datagrams of every path, by (source, destination), sorted."""
        return self.wiring.counts

    def _path(self, source: Target, destination: NodeName) -> Path:
        path = self.wiring.path(source.name, destination, self._target(destination))
        source.paths[destination] = path
        return path
