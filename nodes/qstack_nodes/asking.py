"""``qstack pairs`` and ``qstack status``: programs that use a live network."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

import trio

from qstack.config import NetworkFile, load, predicted_rate_hz, readouts
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode, Unreachable
from qstack.drivers.places import WORLD, address_of
from qstack.drivers.serving import DONE, FAILED, UNREACHABLE
from qstack.drivers.udp import format_address
from qstack.machine import record
from qstack.messages.common import PairKind
from qstack.programs.pairs import PairRecord, PairsOptions, PairsReport, measure_pairs
from qstack.units import SECOND, NodeName
from qstack_nodes import report

CONNECT_S = 3.0
"""How long the two nodes may take to answer, in wall seconds."""

CONTACT_S = 2.0
"""How long a node may miss a party that it needs, in wall seconds: a restart takes about one."""

WATCH_S = 0.5
"""How often that is looked at, in wall seconds."""

KINDS = {"keep": PairKind.KEEP, "measure": PairKind.MEASURE, "prepare": PairKind.PREPARE}


@record
class PairsArguments:
    """The arguments of ``qstack pairs``; times in lab seconds, 0 for none."""

    network: str
    a: NodeName
    b: NodeName
    count: int
    kind: str
    fidelity_min: float
    timeout_s: float
    per_request: int
    json: bool


def pairs(arguments: PairsArguments) -> int:
    """Deliver and measure pairs; print the report; return the exit code."""
    return conclude(trio.run(deliver, load(arguments.network), arguments), arguments)


def conclude(found: PairsReport, arguments: PairsArguments) -> int:
    """Print what came of a run, live or in virtual time; return the exit code."""
    if arguments.json:
        print(json.dumps({"summary": report.pairs_summary(found)}), flush=True)
    else:
        report.show_pairs(found, f"{arguments.a} - {arguments.b}, {arguments.kind}")
    if found.error:
        print(f"qstack: {found.error}", file=sys.stderr)
        return FAILED
    return DONE


async def deliver(network: NetworkFile, arguments: PairsArguments) -> PairsReport:
    """Ask a running network for pairs, show the progress, and return what came of it."""
    ends = (arguments.a, arguments.b)
    async with connect(network, *ends, timeout_s=CONNECT_S) as (a, b), watched(network, a, b):
        with watcher(arguments) as on_pair:
            options = PairsOptions(
                count=arguments.count,
                now=a.now,
                kind=KINDS[arguments.kind],
                fidelity_min=arguments.fidelity_min,
                timeout_ns=round(arguments.timeout_s * SECOND),
                per_request=arguments.per_request,
                predicted_rate_hz=predicted_rate_hz(
                    network, arguments.a, arguments.b, arguments.fidelity_min
                ),
                readouts=readouts(network, arguments.a, arguments.b),
                on_pair=on_pair,
            )
            return await measure_pairs(a, b, options)


@asynccontextmanager
async def watched(network: NetworkFile, a: LiveNode, b: LiveNode) -> AsyncIterator[None]:
    """Raise Unreachable in the block when `a` or `b` misses a party of their link for long.

    A request waits for a station or a device to come back, and rightly so: it may be restarted.
    A person is told instead who is missing.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch, network, a, b)
        yield
        nursery.cancel_scope.cancel()


async def _watch(network: NetworkFile, a: LiveNode, b: LiveNode) -> None:
    needed = _parties(network, a.name, b.name)
    since: dict[tuple[NodeName, NodeName], float] = {}
    while needed:
        now = trio.current_time()
        for node in (a, b):
            neighbours = (await node.status())["neighbours"]
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
    """Return whom two ends need for pairs over their common link; nobody without one."""
    for link in network.links:
        ends = {arm.node for arm in link.arms}
        if ends == {a, b}:
            return {link.station, WORLD, *ends}
    return set()


def watcher(arguments: PairsArguments) -> AbstractContextManager[report.OnPair]:
    """Return what shows every pair as it comes: as a JSON line, or as progress."""
    if arguments.json:
        return report.json_lines(_print_pair)
    return report.progress(f"pairs {arguments.a} - {arguments.b}", arguments.count)


def _print_pair(item: PairRecord) -> None:
    print(json.dumps(report.pair_fields(item)), flush=True)


# --- status -------------------------------------------------------------------------------

STATUS_S = 2.0


def status(network_name: str, *, as_json: bool) -> int:
    """Show the status of every node that has a user port; 3 if one does not answer."""
    network = load(network_name)
    names = [node.name for node in network.nodes if node.user is not None]
    answers: dict[NodeName, dict[str, Any] | str] = {}
    trio.run(ask_all, network, names, answers)
    if as_json:
        for name in names:
            answer = answers[name]
            known = answer if isinstance(answer, dict) else {"node": name, "error": answer}
            print(json.dumps(known), flush=True)
        silent = [name for name in names if isinstance(answers[name], str)]
        print(json.dumps({"summary": {"nodes": len(names), "silent": silent}}), flush=True)
    else:
        report.show_status(answers)
    failed = any(isinstance(answer, str) for answer in answers.values())
    return UNREACHABLE if failed else DONE


async def ask_all(
    network: NetworkFile,
    names: list[NodeName],
    answers: dict[NodeName, dict[str, Any] | str],
) -> None:
    """Put each node's status, or why there is none, into `answers`."""
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(_ask, network, name, answers)


async def _ask(
    network: NetworkFile, name: NodeName, answers: dict[NodeName, dict[str, Any] | str]
) -> None:
    answers[name] = f"{name} does not answer"
    try:
        async with connect(network, name, timeout_s=STATUS_S) as (node,):
            with trio.move_on_after(STATUS_S):
                answers[name] = await node.status()
    except Unreachable as error:
        answers[name] = str(error)
