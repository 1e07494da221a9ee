"""``qstack pairs``: a program that uses a live network."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any

import trio

from qstack.config import NetworkFile, common_links, expectation, load, readouts
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode, Unreachable
from qstack.drivers.places import WORLD, address_of, node_of
from qstack.drivers.serving import DONE, FAILED
from qstack.drivers.udp import format_address
from qstack.errors import ConfigError
from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.programs.pairs import PairRecord, PairsOptions, PairsReport, measure_pairs
from qstack.units import SECOND, Instant, NodeName
from qstack.windows import in_words
from qstack_nodes import report

CONNECT_S = 3.0
"""How long the two nodes may take to answer, in wall seconds."""

CONTACT_S = 2.0
"""How long a node may miss a party that it needs, in wall seconds: a restart takes about one."""

WATCH_S = 0.5
"""How often that is looked at, in wall seconds."""

WAY_S = 0.02
"""How often a node is asked whether it knows a way yet, in wall seconds."""

KINDS = {"keep": PairKind.KEEP, "measure": PairKind.MEASURE, "prepare": PairKind.PREPARE}


@record
class PairsArguments:
    """The arguments of ``qstack pairs``; times in lab seconds, 0 for none. `each`: list them."""

    network: str
    a: NodeName
    b: NodeName
    count: int
    kind: str
    fidelity_min: float
    timeout_s: float
    per_request: int
    each: bool
    json: bool
    trust_min: int = 0
    within_s: float = 0.0
    early: bool = False


def options_of(arguments: PairsArguments, now: Callable[[], Instant], **more: Any) -> PairsOptions:
    """Return what to ask for, and `more` of it; `now` tells lab time."""
    return PairsOptions(
        count=arguments.count,
        now=now,
        kind=KINDS[arguments.kind],
        fidelity_min=arguments.fidelity_min,
        timeout_ns=round(arguments.timeout_s * SECOND),
        per_request=arguments.per_request,
        trust_min=arguments.trust_min,
        within_ns=round(arguments.within_s * SECOND),
        early=arguments.early,
        **more,
    )


def pairs(arguments: PairsArguments) -> int:
    """Deliver and measure pairs; print the report; return the exit code."""
    return conclude(trio.run(deliver, load(arguments.network), arguments), arguments)


def conclude(found: PairsReport, arguments: PairsArguments) -> int:
    """Print what came of a run, live or in virtual time; return the exit code."""
    if arguments.json:
        print(json.dumps({"summary": report.pairs_summary(found)}), flush=True)
    else:
        if arguments.each:
            report.show_each(found)
        report.show_pairs(found, f"{arguments.a} - {arguments.b}, {arguments.kind}")
    if found.error:
        print(f"qstack: {found.error}", file=sys.stderr)
        return FAILED
    return DONE


async def deliver(network: NetworkFile, arguments: PairsArguments) -> PairsReport:
    """Ask a running network for pairs, show the progress, and return what came of it.

    ConfigError for names of which one is no end node, Unreachable where a node does not answer, or
    no way leads from one to the other.
    """
    ends = (arguments.a, arguments.b)
    check_ends(network, *ends)
    async with connect(network, *ends, timeout_s=CONNECT_S) as (a, b):
        await way_known(network, a, b)
        async with watched(network, a, b):
            expected = expectation(
                network,
                *(*ends, arguments.fidelity_min),
                trust_min=arguments.trust_min,
                kind=KINDS[arguments.kind],
                number=arguments.per_request or arguments.count,
                within_ns=round(arguments.within_s * SECOND),
            )
            with watcher(arguments) as on_pair:
                options = options_of(
                    arguments,
                    a.now,
                    predicted_rate_hz=expected.rate_hz,
                    promised_fidelity=expected.fidelity,
                    readouts=readouts(network, *ends),
                    on_pair=on_pair,
                )
                return await measure_pairs(a, b, options)


def check_ends(network: NetworkFile, a: NodeName, b: NodeName) -> None:
    """ConfigError for names that are not those of two end nodes."""
    wrong = [name for name in (a, b) if node_of(network, name).kind != "end"]
    if wrong or a == b:
        known = ", ".join(node.name for node in network.nodes if node.kind == "end")
        reason = f"pairs are between two end nodes of {known}, not between {a} and {b}"
        raise ConfigError([f"{network.file}: {reason}"])


async def way_known(network: NetworkFile, a: LiveNode, b: LiveNode) -> None:
    """Return once `a` knows a way to `b`; Unreachable where it has found none for CONTACT_S.

    Neighbours need none. What nodes say of their links takes a few milliseconds to get around,
    and longer where one of them has just been started.
    """
    if common_links(network, a.name, b.name):
        return
    status = await a.status()
    with trio.move_on_after(CONTACT_S):
        while not has_way(status, b.name):
            await trio.sleep(WAY_S)
            status = await a.status()
        return
    raise Unreachable(no_way(status, b.name))


def has_way(status: dict[str, Any], remote: NodeName) -> bool:
    """Whether a node knows a way to another, by its status."""
    return "way" in status["network"]["routes"].get(remote, {})


def on_circuit(status: dict[str, Any], remote: NodeName) -> bool:
    """Whether a node has requests on a circuit to another, none of whose links is missed.

    No way leads over what drains or is closed for the night, but what runs there is finished, or
    waits for the morning.
    """
    network = status["network"]
    routes = network["routes"]
    for circuit in network["circuits"]:
        path, used = circuit["path"], circuit["requests"]
        if circuit["role"] != "head" or path[-1] != remote or not used:
            continue
        views = [
            view
            for one, other in pairwise(path)
            for view in routes.get(one, {"links": {}})["links"].values()
            if view["peer"] == other
        ]
        if views and all(v["up"] or v["draining"] or v.get("closed_ns") for v in views):
            return True
    return False


def no_way(status: dict[str, Any], remote: NodeName) -> str:
    """Return why a node knows no way to another, for people."""
    name, routes = status["node"], status["network"]["routes"]
    down: dict[str, list[str]] = {}
    for said in sorted(routes):
        for link, view in routes[said]["links"].items():
            if not view["up"]:
                closed_ns = view.get("closed_ns")
                lost = f"is closed for {in_words(closed_ns)}" if closed_ns else "is down"
                state = "drains" if view["draining"] else lost
                down.setdefault(f"{link} {state}", []).append(said)
    reasons = [f"link {what} at {' and '.join(who)}" for what, who in sorted(down.items())]
    reasons += [f"node {name} drains" for name in sorted(routes) if routes[name]["draining"]]
    if remote not in routes:
        reasons.append(f"nothing was heard of {remote}")
    why = ", ".join(reasons) or "no sequence of links that keep pairs leads there"
    return (
        f"{name} has found no way to {remote} for {CONTACT_S:g} s: {why}; see qstack routes, and "
        "with qstack check which process is missing"
    )


@asynccontextmanager
async def watched(network: NetworkFile, a: LiveNode, b: LiveNode) -> AsyncIterator[None]:
    """Raise Unreachable in the block when `a` or `b` misses a party of their link for long.

    Where they have no common link: when they miss the simulated world, or `a` knows no way to `b`.

    A request waits for a station or a device to come back, and rightly so: it may be restarted.
    A person is told instead who is missing.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, network, a, b)
        yield
        nursery.cancel_scope.cancel()


async def _watch(network: NetworkFile, a: LiveNode, b: LiveNode) -> None:
    needed = _parties(network, a.name, b.name)
    distant = not common_links(network, a.name, b.name)
    since: dict[tuple[NodeName, NodeName], float] = {}
    while True:
        now = trio.current_time()
        for node in (a, b):
            status = await node.status()
            if distant and node is a:
                if has_way(status, b.name) or on_circuit(status, b.name):
                    since.pop((a.name, b.name), None)
                elif now - since.setdefault((a.name, b.name), now) >= CONTACT_S:
                    raise Unreachable(no_way(status, b.name))
            neighbours = status["neighbours"]
            for peer in sorted(needed & set(neighbours)):
                if neighbours[peer]["up"]:
                    since.pop((node.name, peer), None)
                elif now - since.setdefault((node.name, peer), now) >= CONTACT_S:
                    where = format_address(address_of(network, peer))
                    raise Unreachable(
                        f"{node.name} has had no contact with {peer} at {where} for "
                        f"{CONTACT_S:g} s: see with qstack check whether its process runs, and "
                        "start it again"
                    )
        await trio.sleep(WATCH_S)


def _parties(network: NetworkFile, a: NodeName, b: NodeName) -> set[NodeName]:
    """Return whom two ends need for pairs, besides what is between them where they are far."""
    for link in network.links:
        ends = {arm.node for arm in link.arms}
        if ends == {a, b}:
            return {link.station, WORLD, *ends}
    return {WORLD}


def watcher(arguments: PairsArguments) -> AbstractContextManager[report.OnPair]:
    """Return what shows every pair as it comes: as a JSON line, or as progress."""
    if arguments.json:
        return report.json_lines(_print_pair)
    return report.progress(f"pairs {arguments.a} - {arguments.b}", arguments.count)


def _print_pair(item: PairRecord) -> None:
    print(json.dumps(report.pair_fields(item)), flush=True)
