"""One program on live processes and in virtual time: the same source, the same interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from qstack.application.service import Node
from qstack.config import load
from qstack.drivers.client import connect
from qstack.drivers.live import LiveNode
from qstack.errors import LocalProtocolError, RequestFailed
from qstack.messages.application import PairReady
from qstack.messages.common import PLAIN_Z
from qstack.programs.pairs import PairsOptions, PairsReport, measure_pairs
from qstack.sim import Network
from tests.nodes.live_rig import LIMIT_S, environment_for, plain, two_nodes, up

PAIRS = 120


async def program(alice: LiveNode, bob: LiveNode) -> tuple[PairsReport, int]:
    """Measures pairs, then uses its nodes by hand: well, and wrongly."""
    report = await measure_pairs(alice, bob, PairsOptions(PAIRS, alice.now, per_request=40))
    incoming = await bob.listen(3)
    terms = plain("bob", 1)
    untyped: tuple[Node, Node] = (alice, bob)
    request = await untyped[0].create_keep(terms)
    with pytest.raises(RequestFailed, match="purpose"):
        await anext(aiter(request))
    await incoming.close()
    incoming = await bob.listen(0)
    request = await untyped[0].create_keep(terms)
    mine, theirs = await anext(aiter(request)), await anext(aiter(incoming))
    assert isinstance(mine, PairReady)
    assert isinstance(theirs, PairReady)
    first = await alice.measure(mine.qubit, PLAIN_Z)
    second = await bob.measure(theirs.qubit, PLAIN_Z)
    with pytest.raises(LocalProtocolError, match="already"):
        await alice.measure(mine.qubit, PLAIN_Z)
    await incoming.close()
    return report, first.outcome + second.outcome


async def live(file: Path, environment: dict[str, str]) -> tuple[PairsReport, int]:
    with trio.fail_after(LIMIT_S):
        async with up(file, environment), connect(load(file), "alice", "bob") as (alice, bob):
            return await program(alice, bob)


def test_one_program_runs_on_live_processes_and_in_virtual_time(tmp_path: Path) -> None:
    """120 pairs, fidelity within five of its standard errors in both (false alarm 1e-6)."""
    file = two_nodes(tmp_path)
    on_processes = trio.run(live, file, environment_for(tmp_path))
    on_the_heap = Network(load(file), seed=8).run(program, "alice", "bob")
    for report, outcomes in (on_processes, on_the_heap):
        assert report.error == ""
        assert report.delivered == (PAIRS, PAIRS)
        assert len(report.records) == report.complete == PAIRS
        assert report.fidelity is not None
        assert report.fidelity_error is not None
        assert report.predicted_fidelity is not None
        # Nothing corrects the readout here: 1 % at either end.
        away = abs(report.fidelity - report.predicted_fidelity)
        assert away < 5 * report.fidelity_error + 0.04
        assert outcomes in (0, 1, 2)
    assert type(on_processes[0]) is type(on_the_heap[0])
