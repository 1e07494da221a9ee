"""Sets at the doors of people who embed a network: what is asked, told and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from qstack_nodes.command import main

from qstack.errors import ErrorCode, LocalProtocolError, RequestFailed
from qstack.sim import Network


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of three whose ends have four qubits."""
    path: Path = tmp_path_factory.mktemp("sets") / "rich.toml"
    wanted = ("--nodes", "3", "--km", "2", "--qubits", "4", "--name", "rich")
    assert main(["topology", "chain", *wanted, "--output", str(path)]) == 0
    return path


@pytest.mark.parametrize("other", ["bob", "r1"])
def test_the_pairs_of_each_request_come_at_once_and_the_report_says_how_old_the_oldest_was(
    rich: Path, other: str
) -> None:
    report = Network.load(rich, seed=2).pairs(
        "alice", other, count=9, per_request=3, within_s=0.001
    )
    assert len(report) == 9
    requests = [report.records[first : first + 3] for first in (0, 3, 6)]
    for records in requests:
        assert len({record.latency_ns for record in records}) == 1, "in one instant"
    oldest = sorted(max(record.info.age_ns for record in records) for records in requests)
    assert report.found.oldest_ns == (oldest[1], oldest[2], oldest[2]), "of p50, p90, p99"
    assert oldest[-1] < 2_000_000, "not there for a millisecond, and on its way before"
    assert "oldest pair of a set" in str(report)


def test_a_set_that_the_memories_cannot_hold_is_refused(rich: Path) -> None:
    with pytest.raises(RequestFailed) as refusal:
        Network.load(rich, seed=2).pairs("alice", "bob", count=5, within_s=0.001)
    assert refusal.value.code is ErrorCode.NO_RESOURCES


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"within_s": -1.0}, "within_s is -1.0"), ({"within_s": 1.0, "kind": "measure"}, "to keep")],
)
def test_sets_that_make_no_sense_are_refused_before_anything_runs(
    rich: Path, wrong: dict[str, object], why: str
) -> None:
    with pytest.raises(LocalProtocolError, match=why):
        Network.load(rich, seed=2).pairs("alice", "bob", count=2, **wrong)  # type: ignore[arg-type]  # is the point
