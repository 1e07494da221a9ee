"""The compiled build: what it takes in, and that what it makes does what the source says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import hatch_build

ROOT = Path(__file__).parent.parent
FEW = ("qstack/physical/matching.py", "qstack/adjacency/flight.py", "qstack/messages/common.py")
"""Few, so that it is quick; the first compares records of the last."""

COPY = """
import copy
from qstack.physical.matching import Matching
first = Matching(4, 1_000)
second = copy.deepcopy(first)
second.base(7)
first.lose(5)
print(first.seen, second.seen, first.known)
"""


def can_compile() -> bool:
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return shutil.which(compiler) is not None and headers.is_file()


def ran(folder: Path, *words: str) -> str:
    """Return what Python prints with the modules of a folder before those of the source."""
    path = os.pathsep.join((str(folder), str(ROOT)))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_compiled_modules_give_the_history_of_the_source_byte_for_byte(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "qstack", tmp_path / "qstack")
    if not can_compile():
        with pytest.raises(RuntimeError, match="C compiler"):
            hatch_build.compile_into(tmp_path, list(FEW))
        return
    made = hatch_build.compile_into(tmp_path, list(FEW))
    stems = {path.name.split(".")[0] for path in made}
    assert {"matching", "flight", "common"} <= stems
    where = "import sys, qstack.physical.matching as m; sys.stdout.write(m.__file__)"
    assert ran(tmp_path, "-c", where).endswith(("so", "pyd"))
    # Under losses and corruption records come out of datagrams: equal ones are not the same one.
    program = str(ROOT / "tests" / "simulate" / "history.py")
    compiled, source = ran(tmp_path, program, "1", "4"), ran(ROOT, program, "1", "4")
    assert compiled == source
    assert len(source.split()) == 2
    # Replays and plugins copy machines; a copy goes its own way.
    assert ran(tmp_path, "-c", COPY).split() == ["0", "7", "5"]


def test_what_is_compiled_is_named_by_the_project_file_and_all_of_it_exists() -> None:
    table = hatch_build.settings()
    files = hatch_build.chosen(table["modules"], table["except"])
    assert "qstack/sim/heap.py" in files
    assert "qstack/link/service.py" not in files
    assert not [each for each in files if each.endswith("__init__.py")]


def test_a_pattern_that_names_no_file_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"qstack/gone\.py"):
        hatch_build.chosen(["qstack/units.py", "qstack/gone.py"], ())
    with pytest.raises(ValueError, match=r"qstack/lost/"):
        hatch_build.chosen(["qstack/units.py"], ["qstack/lost/*.py"])


def test_a_module_that_does_not_compile_says_why(tmp_path: Path) -> None:
    (tmp_path / "qstack").mkdir()
    (tmp_path / "qstack" / "wrong.py").write_text("amount: int = 'many'\n")
    with pytest.raises(RuntimeError, match="Incompatible types in assignment"):
        hatch_build.compile_into(tmp_path / "made", ["qstack/wrong.py"], tmp_path)
