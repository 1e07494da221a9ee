"""A network in one process, as people use it who embed it: no event loop in sight."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qstack.sim
from qstack.config import read_text
from qstack.errors import ConfigError, ErrorCode, LocalProtocolError, QstackError, RequestFailed
from qstack.programs.pairs import PairRecord
from qstack.sim import Durations, Network
from qstack.units import SECOND


@pytest.fixture(scope="module")
def two() -> Network:
    return Network.load("two_nodes", seed=5)


def test_pairs_of_a_published_experiment_come_at_the_rate_of_its_closed_form() -> None:
    """The fine point of the shipped nv_lab, 300 pairs; four standard errors of a Poisson rate.

    ``p = 2 a (1-a) e + a^2 (2 e - e^2)`` with the darks of two detectors, per cycle of 6.18 us;
    ``e`` is emitter times detector times the share of a decay in the window, and a second
    excitation gives a second chance (4 %). False alarm: one in 15,000.
    """
    net = Network.load("nv_lab", seed=7)
    report = net.pairs("alice", "bob", count=300, fidelity_min=0.7)
    assert len(report) == len(report.latency_ns) == len(report.records) == 300
    e = 5.15e-4 * 0.8 * (1 - math.exp(-30 / 12)) * 1.04
    alpha = 0.05
    p = 2 * alpha * (1 - alpha) * e + alpha**2 * (2 * e - e**2) + 2 * 20.0 * 30e-9
    assert report.rate_per_s is not None
    assert report.rate_per_s == pytest.approx(p / 6.18e-6, rel=4 / math.sqrt(300))
    assert report.fidelity is not None
    assert report.fidelity_error is not None
    assert report.fidelity_error < 0.06
    # 0.81 was published; 0.02 its uncertainty.
    assert abs(report.fidelity - 0.81) < 4 * math.hypot(report.fidelity_error, 0.02)
    # The memory holds one pair: each OK comes after the one before.
    assert report.latency_ns.quantile(1.0) == sum(report.interval_ns) + report.latency_ns.values[0]
    assert report.elapsed_ns >= report.latency_ns.quantile(1.0)


@pytest.mark.parametrize("kind", ["keep", "measure", "prepare"])
def test_every_kind_of_pairs_is_delivered_and_reported(two: Network, kind: str) -> None:
    seen: list[Any] = []
    report = two.pairs("alice", "bob", count=30, kind=kind, per_request=10, on_pair=seen.append)
    assert len(report) == 30
    assert tuple(seen) == report.records
    assert report.error == ""
    assert {record.info.setting for record in report.records} == {"fast"}


def test_the_same_seed_gives_the_same_report_and_another_seed_another() -> None:
    first, same, other = (
        Network.load("two_nodes", seed=seed).pairs("alice", "bob", count=40) for seed in (1, 1, 2)
    )
    assert first == same
    assert first.records != other.records


def test_calls_follow_each_other_in_one_lab_time(two: Network) -> None:
    begun = two.now
    first = two.pairs("alice", "bob", count=5)
    second = two.pairs("alice", "bob", count=5)
    assert first.records != second.records
    assert two.now - begun >= first.elapsed_ns + second.elapsed_ns


def test_a_report_prints_what_it_holds(two: Network) -> None:
    report = two.pairs("alice", "bob", count=60)
    text = str(report)
    assert "60 of 60" in text
    assert f"{report.fidelity:.4f}" in text
    assert f"{report.rate_per_s:,.1f}" in text
    assert f"{report.latency_ns.quantile(0.99) / 1e6:.3f}" in text
    assert repr(report).startswith("<Report alice - bob: 60 pairs, fidelity 0.")


def test_quantiles_are_those_of_the_nearest_rank() -> None:
    spans = Durations((30, 10, 20, 40))
    assert [spans.quantile(share) for share in (0.0, 0.25, 0.26, 0.5, 0.99, 1.0)] == [
        10, 10, 20, 20, 40, 40,
    ]  # fmt: skip
    assert spans.mean == 25
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="from 0 to 1"):
            spans.quantile(share)
    with pytest.raises(ValueError, match="no spans"):
        Durations(()).quantile(0.5)


def test_a_run_that_falls_short_says_why_and_keeps_what_came() -> None:
    net = Network.load("two_nodes", seed=5)

    def power_cut(_: PairRecord) -> None:
        if net.virtual.heap.lives("midpoint"):
            net.virtual.crash("midpoint")

    report = net.pairs("alice", "bob", count=1_000, timeout_s=2.0, on_pair=power_cut)
    assert report.error.startswith("TIMEOUT")
    assert 0 < len(report) < 1_000
    assert report.error in str(report)
    assert report.error in repr(report)


Ask = Callable[[Network], Any]


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda n: n.pairs("alice", "carol", count=1), ConfigError, "'carol'.*alice, bob"),
        (lambda n: n.pairs("alice", "midpoint", count=1), ConfigError, "end nodes of alice, bob"),
        (lambda n: n.pairs("bob", "bob", count=1), ConfigError, "end nodes of alice, bob"),
        (lambda n: n.pairs("alice", "bob", count=0), LocalProtocolError, "count is 0"),
        (lambda n: n.pairs("alice", "bob", count=True), LocalProtocolError, "count is True"),
        (
            lambda n: n.pairs("alice", "bob", count=-1, fidelity_min=1.1, kind="x"),
            LocalProtocolError,
            "count is -1.*kind is 'x'.*fidelity_min is 1.1",
        ),
        (
            lambda n: n.pairs("alice", "bob", count=1, fidelity_min=float("nan")),
            LocalProtocolError,
            "fidelity_min is nan",
        ),
        (lambda n: n.pairs("alice", "bob", count=1, fidelity_min=0.9999), RequestFailed, "0.9999"),
        (lambda n: n.status("carol"), ConfigError, "'carol'"),
        (lambda _: Network.load("nowhere"), ConfigError, "no such network"),
        (lambda _: Network.load("nowhere.toml"), ConfigError, "cannot be read"),
    ],
)
def test_wrong_use_gets_one_clear_exception(
    two: Network, ask: Ask, error: type[QstackError], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(two)


def test_an_impossible_fidelity_is_unsupported_and_the_network_goes_on(two: Network) -> None:
    with pytest.raises(RequestFailed) as caught:
        two.pairs("alice", "bob", count=1, fidelity_min=0.9999)
    assert caught.value.code is ErrorCode.UNSUPPORTED
    assert len(two.pairs("alice", "bob", count=3)) == 3


def test_a_wrong_file_is_refused_with_every_error(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text("name = 'lab'\ntime_scale = -1.0\nfoo = 3\n[nodes]\n[links]\n")
    with pytest.raises(ConfigError) as caught:
        Network.load(file)
    assert any("time_scale" in line for line in caught.value.problems)
    assert any("foo" in line for line in caught.value.problems)


def test_a_file_of_ones_own_may_be_changed_by_dotted_keys(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(read_text("two_nodes")[1])
    changes = {"links.alice-bob.arms.*.km": 100.0, "links.alice-bob.settings.2.alpha": 0.02}
    net = Network.load(str(file), seed=1, changes=changes)
    assert [arm.km for arm in net.file.links[0].arms] == [100.0, 100.0]
    assert net.file.links[0].settings[2].alpha == (0.02, 0.02)
    assert len(net.pairs("alice", "bob", count=2)) == 2
    # No message is faster than light in a vacuum, there and back over one arm and over two.
    trip_ns = 2 * 100e3 / 299_792_458 * SECOND
    neighbours = net.status("alice")["neighbours"]
    assert neighbours["midpoint"]["rtt_ns"] >= trip_ns
    assert neighbours["bob"]["rtt_ns"] >= 2 * trip_ns


@pytest.mark.parametrize("key", ["links.alice-bob.arm.alice.km", "nodes.carol.kind", "", "a.b"])
def test_a_change_that_leads_nowhere_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match="leads to nothing"):
        Network.load("two_nodes", changes={key: 1.0})


def test_a_change_to_what_cannot_be_is_found_with_the_rest_of_the_file() -> None:
    changes = {"links.*.arms.bob.km": "far", "time_scale": -2.0, "nodes.bob.knd": "end"}
    with pytest.raises(ConfigError) as caught:
        Network.load("two_nodes", changes=changes)
    for part in ("arms.bob.km", "time_scale", "knd"):
        assert any(part in line for line in caught.value.problems)


def test_importing_the_package_loads_no_scheduler_before_a_network_is_asked_for() -> None:
    """The processes of live worlds are started from this package."""
    program = (
        "import sys, qstack.sim\n"
        "assert 'trio' not in sys.modules and 'numpy' not in sys.modules\n"
        "assert qstack.sim.Network and 'trio' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="nothing"):
        _ = qstack.sim.nothing
