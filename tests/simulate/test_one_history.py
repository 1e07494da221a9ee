"""One seed, one history: again, with strings hashed otherwise, and by another Python."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from tests.other_pythons import ROOT, others
from tests.simulate.history import SEEDS, history

LIMIT_S = 300
LIBRARIES = "import trio, attrs, cattrs, numpy, msgpack"


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


def test_a_run_repeated_in_the_same_process_is_the_same_and_another_seed_is_not() -> None:
    assert [history(seed) for seed in SEEDS] == here()
    assert len(set(here())) == len(SEEDS)


@pytest.mark.parametrize("hash_seed", ["1", "4242"])
def test_histories_do_not_depend_on_how_strings_are_hashed(hash_seed: str) -> None:
    assert told_by(sys.executable, hash_seed) == here()


@pytest.mark.parametrize("another_python_with_all_that_qstack_needs", others(LIBRARIES))
def test_histories_do_not_depend_on_the_version_of_python(
    another_python_with_all_that_qstack_needs: str,
) -> None:
    """Skipped, with the parameter's name as the word, where none is installed."""
    assert told_by(another_python_with_all_that_qstack_needs, "0") == here()
