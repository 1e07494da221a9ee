"""One seed, one history: again, with strings hashed otherwise, and by another Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulate.history import SEEDS, history

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 300
RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [name for name in ("python3.11", "python3.13") if name != RUNNING]
"""Looked for beside this repository's own environment (``.venv-3.13``) and on the path."""


@cache
def here() -> list[str]:
    return [history(seed) for seed in SEEDS]


def told_by(python: str, hash_seed: str) -> list[str]:
    command = (python, "-m", "tests.simulate.history", *map(str, SEEDS))
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    told = subprocess.run(
        command, cwd=ROOT, env=environment, text=True, stdout=-1, timeout=LIMIT_S, check=True
    )
    return told.stdout.split()


def others() -> list[str]:
    """The paths of other Pythons that have what qstack needs."""
    found = []
    for name in OTHERS:
        own = ROOT / f".venv-{name.removeprefix('python')}/bin/python"
        for path in (str(own), shutil.which(name) or name):
            probe = (path, "-c", "import trio, attrs, cattrs, numpy, msgpack")
            try:
                fails = subprocess.run(probe, capture_output=True, check=False).returncode
            except FileNotFoundError:
                continue
            if not fails:
                found.append(path)
                break
    return found


def test_a_run_repeated_in_the_same_process_is_the_same_and_another_seed_is_not() -> None:
    assert [history(seed) for seed in SEEDS] == here()
    assert len(set(here())) == len(SEEDS)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_histories_do_not_depend_on_how_strings_are_hashed(hash_seed: str) -> None:
    assert told_by(sys.executable, hash_seed) == here()


@pytest.mark.parametrize("another_python_with_all_that_qstack_needs", others())
def test_histories_do_not_depend_on_the_version_of_python(
    another_python_with_all_that_qstack_needs: str,
) -> None:
    """Skipped, with the parameter's name as the word, where none is installed."""
    assert told_by(another_python_with_all_that_qstack_needs, "0") == here()
