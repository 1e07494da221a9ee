"""A network of a file in one process, for people who embed it.

No event loop in sight::

    net = qstack.sim.Network.load("nv_lab", seed=7)
    report = net.pairs("alice", "bob", count=1000, fidelity_min=0.7)

Its lab time stands still between calls: a second call goes on where the first has ended. The same
file, seed and calls give the same history; load it again for the same history again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from qstack.config import (
    NetworkFile,
    expectation,
    link_parameters,
    parse,
    read_text,
    readouts,
)
from qstack.drivers.knowing import ignorance
from qstack.drivers.places import node_of, policy_of, timing_of
from qstack.errors import ConfigError, LocalProtocolError
from qstack.machine import record
from qstack.messages.application import Tried
from qstack.messages.common import PairKind
from qstack.programs.pairs import (
    PairRecord,
    PairsOptions,
    PairsReport,
    measure_pairs,
    try_pairs,
)
from qstack.sim import bridge
from qstack.sim.bridge import PATIENCE_NS, Session
from qstack.sim.from_file import world_parameters
from qstack.sim.heap import Wire
from qstack.sim.network import Surroundings, VirtualNetwork
from qstack.sim.report import Report
from qstack.units import MICROSECOND, SECOND, Instant, LinkName, NodeName

T = TypeVar("T")

KINDS = {kind.name.lower(): kind for kind in PairKind}
"""The kinds of pairs by the names that people use: keep, measure, prepare."""

CONTROL_NS = 50 * MICROSECOND
"""How long a datagram between two processes takes at least; longer where light does."""

_SEED = 1
_START_HELLOS = 600
"""A network that is not together after so many hello intervals is used as it is."""


@record
class Wanted:
    """What to ask for: see :class:`qstack.programs.pairs.PairsOptions`; times in lab seconds.

    `kind` is keep, measure or prepare; `timeout_s` of each request, 0 for none; `per_request`
    pairs in one request, 0 for all. `trust_min`: what nodes on the way must be trusted with.
    `within_s`: kept pairs of a request come all together, none of them there for longer; 0 for each
    as it comes. `early`: halves of kept pairs are measured when they come, before it is known
    whether they are of a pair.
    """

    count: int
    kind: str = "keep"
    fidelity_min: float = 0.0
    timeout_s: float = 0.0
    per_request: int = 0
    trust_min: int = 0
    within_s: float = 0.0
    early: bool = False


class Network:
    """See the module. `virtual` is what runs: its hosts, its wires, its world.

    `file` is what the network was made of, `seed` what all chance follows from.
    """

    def __init__(self, file: NetworkFile, seed: int | None = None) -> None:
        outside = [d.name for node in file.nodes for d in node.devices if not d.simulated]
        if outside:
            reason = "is no simulated device: it cannot run in virtual time"
            raise ConfigError([f"{file.file}: {name} {reason}" for name in outside])
        given = _SEED if file.world is None else file.world.seed
        self.file = file
        self.seed = given if seed is None else seed
        links = tuple(link_parameters(file, link.name) for link in file.links)
        policies = tuple((node.name, policy_of(file, node)) for node in file.nodes)
        around = Surroundings(
            Wire(CONTROL_NS), user_ns=0, timing=timing_of(file), policies=policies
        )
        self.virtual = VirtualNetwork(links, world_parameters(file), self.seed, around)
        self._sessions = 0
        self._in_use = False
        self._lay_wires()
        self._come_together()

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        seed: int | None = None,
        *,
        changes: Mapping[str, Any] | None = None,
    ) -> Network:
        """Make a network of a file, or of a shipped one by its bare name.

        `seed`: by default that of the file's world. `changes`: values by dotted key of the file,
        as ``{"links.alice-bob.arms.alice.km": 5.0}``; ``*`` stands for every name. ConfigError
        with everything that is wrong with the file.
        """
        file, text = read_text(name_or_path)
        return cls(parse(text, file, changes=changes), seed)

    @property
    def now(self) -> Instant:
        """The present instant of lab time, in nanoseconds; it stands still between calls."""
        return self.virtual.heap.now

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """The names of the end nodes."""
        return tuple(node.name for node in self.file.nodes if node.kind == "end")

    def status(self, name: NodeName) -> dict[str, Any]:
        """Return what a node or station knows and has counted; ConfigError for another name."""
        node_of(self.file, name)
        found: dict[str, Any] = self.virtual.host(name).status(self.now)
        return found

    # --- using it -------------------------------------------------------------------------

    def pairs(  # noqa: PLR0913  every option has a name; only the two nodes come without
        self,
        a: NodeName,
        b: NodeName,
        *,
        count: int,
        kind: str = "keep",
        fidelity_min: float = 0.0,
        timeout_s: float = 0.0,
        per_request: int = 0,
        trust_min: int = 0,
        within_s: float = 0.0,
        early: bool = False,
        on_pair: Callable[[PairRecord], None] | None = None,
    ) -> Report:
        """Deliver `count` pairs between two nodes, measure them, and report.

        Options as for :class:`Wanted`; `on_pair` is called with each complete pair. Raises
        ConfigError for a name that the network does not have, LocalProtocolError for options that
        make no sense, and RequestFailed where the network refuses, or delivers nothing at all; a
        run that delivers less than was wanted says why in the report's `error`.
        """
        wanted = Wanted(
            *(count, kind, fidelity_min, timeout_s, per_request, trust_min, within_s, early)
        )
        found = self.measure(a, b, wanted, on_pair)
        if found.failure is not None and not found.delivered[0]:
            raise found.failure
        return Report(a, b, found)

    def measure(
        self,
        a: NodeName,
        b: NodeName,
        wanted: Wanted,
        on_pair: Callable[[PairRecord], None] | None = None,
    ) -> PairsReport:
        """Do as :meth:`pairs` does, but leave every failed request to the report."""
        options = self._options(a, b, wanted, on_pair)

        async def program(asking: Any, other: Any) -> PairsReport:
            return await measure_pairs(asking, other, options)

        return self.run(program, a, b)

    def try_pairs(self, a: NodeName, b: NodeName, wanted: Wanted) -> Tried:
        """Return whether and how the first request for this would be served now: a dry run."""
        options = self._options(a, b, wanted, None)

        async def program(asking: Any) -> Tried:
            return await try_pairs(asking, b, options)

        return self.run(program, a)

    def drain(self, name: NodeName, link: LinkName | None = None, *, undo: bool = False) -> None:
        """Let a node take nothing new on a link of its (None: at all); `undo`: do so again.

        Returns when all nodes have heard of it; what runs is finished. RequestFailed for a link
        that the node does not have.
        """

        async def program(node: Any) -> None:
            await node.drain(link, undo=undo)

        self.run(program, name)
        self._wait_for(lambda: self._all_know(name, link, drains=not undo))

    def _options(
        self,
        a: NodeName,
        b: NodeName,
        wanted: Wanted,
        on_pair: Callable[[PairRecord], None] | None,
    ) -> PairsOptions:
        wrong = [name for name in (a, b) if node_of(self.file, name).kind != "end"]
        if wrong or a == b:
            ends = ", ".join(self.nodes)
            reason = f"pairs are between two end nodes of {ends}, not between {a} and {b}"
            raise ConfigError([f"{self.file.file}: {reason}"])
        check_wanted(wanted)
        kind, within_ns = KINDS[wanted.kind], round(wanted.within_s * SECOND)
        expected = expectation(
            self.file,
            *(a, b, wanted.fidelity_min),
            trust_min=wanted.trust_min,
            kind=kind,
            number=wanted.per_request or wanted.count,
            within_ns=within_ns,
        )
        return PairsOptions(
            count=wanted.count,
            now=lambda: self.now,
            kind=kind,
            fidelity_min=wanted.fidelity_min,
            timeout_ns=round(wanted.timeout_s * SECOND),
            per_request=wanted.per_request,
            predicted_rate_hz=expected.rate_hz,
            promised_fidelity=expected.fidelity,
            readouts=readouts(self.file, a, b),
            on_pair=on_pair,
            trust_min=wanted.trust_min,
            within_ns=within_ns,
            early=wanted.early,
        )

    def run(
        self,
        program: Callable[..., Awaitable[T]],
        *names: NodeName,
        patience_s: float = PATIENCE_NS / SECOND,
    ) -> T:
        """Run ``await program(node, ...)`` with these nodes to its end, and return its result.

        A :class:`qstack.application.service.Node` for each name. Runs trio by itself; where trio
        runs already, use :meth:`running`, which says what is raised.
        """
        for name in names:
            node_of(self.file, name)

        async def main() -> T:
            async with self.running(patience_s=patience_s) as session:
                return await program(*(session.node(name) for name in names))

        return trio.run(main)

    @asynccontextmanager
    async def running(self, *, patience_s: float = PATIENCE_NS / SECOND) -> AsyncIterator[Session]:
        """Let the present trio run use the network, in its lab time, while the block lasts.

        ``session.node("alice")`` is a node as its programs see it. In the block `trio.sleep`,
        deadlines and `trio.current_time` are those of lab time, which passes only while all tasks
        wait. A program that waits for what can never come, or longer than `patience_s` of lab time
        for its next delivery, ends in :class:`~qstack.sim.clock.Stalled`.
        """
        if self._in_use:
            raise LocalProtocolError(f"{self.file.name} is in use already: one block at a time")
        self._in_use = True
        self._sessions += 1
        try:
            patience_ns = round(patience_s * SECOND)
            async with bridge.running(self.virtual, self._sessions, patience_ns) as session:
                yield session
        finally:
            self._in_use = False

    # --- beginnings -----------------------------------------------------------------------

    def _lay_wires(self) -> None:
        """Let no datagram between parties of a link be faster than light in its fibres."""
        heap = self.virtual.heap
        for link in self.file.links:
            first, second = link.arms
            for one, other, delay_ns in (
                (first.node, link.station, first.delay_ns),
                (second.node, link.station, second.delay_ns),
                (first.node, second.node, first.delay_ns + second.delay_ns),
            ):
                heap.set_wire(one, other, Wire(max(CONTROL_NS, delay_ns)))

    def _come_together(self) -> None:
        """Let everybody find everybody, as `qstack up` does before it says that it is ready."""
        self._wait_for(self._together)

    def _wait_for(self, settled: Callable[[], bool]) -> None:
        """Let time pass until something is so, within reason."""
        heap = self.virtual.heap
        step_ns = self.virtual.surroundings.timing.hello_interval_ns
        for _ in range(_START_HELLOS):
            heap.run(heap.now + step_ns)
            if settled():
                break

    def _all_know(self, name: NodeName, link: LinkName | None, *, drains: bool) -> bool:
        """Whether all nodes that have heard of one know that it, or a link of it, drains or not."""
        for other in filter(self.virtual.heap.lives, self.nodes):
            said = self.virtual.host(other).network.flood.database.get(name)
            if said is not None:
                links = [each.draining for each in said.links if each.link == link]
                if (said.node.draining if link is None else any(links)) is not drains:
                    return False
        return True

    def _together(self) -> bool:
        """Whether all neighbours reach each other, and every node has heard of all others."""
        heap = self.virtual.heap
        hosts = {n.name: heap.host(n.name) for n in self.file.nodes if heap.lives(n.name)}
        for host in hosts.values():
            if not all(each["up"] for each in host.neighbours.report().values()):
                return False
        heard = {
            name: {
                origin: {
                    # One that is closed by its windows is known well enough.
                    link.link: link.up or bool(link.waits and link.windows)
                    for link in update.links
                }
                for origin, update in hosts[name].network.flood.database.items()
            }
            for name in self.nodes
            if name in hosts
        }
        return next(ignorance(self.file, heard), None) is None


def check_wanted(wanted: Wanted) -> None:
    """Raise LocalProtocolError with all that makes no sense."""
    wrong = []
    if isinstance(wanted.count, bool) or not isinstance(wanted.count, int) or wanted.count < 1:
        wrong.append(f"count is {wanted.count!r}: it is a whole number above 0")
    if wanted.kind not in KINDS:
        wrong.append(f"kind is {wanted.kind!r}: it is one of {', '.join(KINDS)}")
    if wanted.early and (wanted.kind != "keep" or wanted.within_s):
        wrong.append("early is for kept pairs that come one by one")
    if not 0.0 <= wanted.fidelity_min <= 1.0:
        wrong.append(f"fidelity_min is {wanted.fidelity_min}: it lies between 0 and 1")
    if not 0.0 <= wanted.timeout_s < 1e9:
        wrong.append(f"timeout_s is {wanted.timeout_s}: it is a number of seconds, 0 for none")
    if not 0.0 <= wanted.within_s < 1e9:
        wrong.append(f"within_s is {wanted.within_s}: it is a number of seconds, 0 for none")
    if wanted.within_s and wanted.kind != "keep":
        wrong.append(f"within_s is {wanted.within_s}: only pairs to keep come all together")
    if wanted.per_request < 0:
        wrong.append(f"per_request is {wanted.per_request}: it is 0 for all, or more")
    if wrong:
        raise LocalProtocolError("; ".join(wrong))
