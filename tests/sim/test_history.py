"""One seed, one history, bit for bit, also in another process that hashes strings otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.sim.history import history

ROOT = Path(__file__).resolve().parents[2]
SEED = 8


def test_the_trace_hash_of_a_faulty_network_does_not_depend_on_pythonhashseed() -> None:
    told = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.sim.history", str(SEED)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for hash_seed in ("1", "2")
    ]
    digest, pairs = history(SEED)
    assert pairs > 20, "a run that moves no traffic shows nothing"
    for process in told:
        out, _ = process.communicate(timeout=120)
        assert out.split() == [digest, str(pairs)]


def test_another_seed_makes_another_history_and_the_same_one_the_same() -> None:
    assert history(SEED + 1)[0] != history(SEED)[0] == history(SEED)[0]
