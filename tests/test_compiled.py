"""The compiled build: what it takes in, and that what it makes does what the source says."""

from __future__ import annotations

import ast
import copy
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, get_type_hints

import attrs
import pytest

import hatch_build

ROOT = Path(__file__).parent.parent
FEW = (
    *("qstack/physical/matching.py", "qstack/adjacency/flight.py", "qstack/messages/common.py"),
    "qstack/adjacency/service.py",
)
"""Few, so that it is quick; the first compares records of the third, the last holds anything."""

COPY = """
import copy
from qstack.physical.matching import Matching
first = Matching(4, 1_000)
second = copy.deepcopy(first)
second.base(7)
first.lose(5)
print(first.seen, second.seen, first.known)
"""

RECORDS = """
import copy, pickle, attrs
from typing import get_type_hints
from qstack.messages.common import PairId, PairInfo
first, same, other = PairId("l", 1, 2), PairId("l", 1, 2), PairId("l", 1, 3)
info = PairInfo(first, 3, 1, "a", 0.5, 0.25, 7, 9, True)
print(first == same, first == other, first == 3, {first: 1}[same], hash(PairId("l", 1, 1 << 64)))
print(repr(info), str(first), attrs.evolve(info, hops=2).hops, attrs.asdict(first))
print(copy.deepcopy(info) == info, pickle.loads(pickle.dumps(info)) == info)
print(PairInfo.__match_args__)
print([field.name for field in attrs.fields(PairInfo)], get_type_hints(PairInfo))
"""

DEEP = """
import gc
from qstack.adjacency.service import Post
kept = [Post(number) for number in range(1000)]
for _ in range(100):
    value = straight = Post(None)
    for _ in range(400):
        value, straight = Post((value, [Post(1)])), Post(straight)
    value = straight = None
    kept += [Post((number,)) for number in range(100)]
gc.collect()
print(len(kept), sum(one.message for one in kept[:1000]), {one.message for one in kept[-100:]})
"""

EACH_WAY = '''
"""Two records and a class of attrs."""

from __future__ import annotations

from typing import Any

import attrs

from qstack.record import record


@record
class Mark:
    """Without a field."""


@record
class Reading:
    """One value, and where from."""

    channel: str
    value: float = 0.5
    """In volts."""

    @property
    def line(self) -> int:
        raise RuntimeError(self.channel)


@attrs.define(eq=False)
class _Held:
    reading: Reading
    _since: int = 3

    def age(self, now: int) -> int:
        return now - self._since


EXAMPLE: Any = _Held(Reading("a"), since=1)
'''


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
    # Records are machine code, and are to their users what attrs makes of the source.
    assert ran(tmp_path, "-c", RECORDS) == ran(ROOT, "-c", RECORDS)
    how = "from qstack.messages.common import PairId; print(type(PairId.sequence).__name__)"
    assert (ran(tmp_path, "-c", how), ran(ROOT, "-c", how)) == (
        "getset_descriptor\n",
        "member_descriptor\n",
    )
    # Values are freed as deep inside of others as they lie, without the collector (`mend`).
    assert ran(tmp_path, "-c", DEEP) == ran(ROOT, "-c", DEEP)
    tracked = "import gc; from qstack.adjacency import Post; print(gc.is_tracked(Post([])))"
    assert (ran(tmp_path, "-c", tracked), ran(ROOT, "-c", tracked)) == ("False\n", "True\n")
    # Replays and plugins copy machines; a copy goes its own way.
    assert ran(tmp_path, "-c", COPY).split() == ["0", "7", "5"]


def executed(text: str) -> dict[str, Any]:
    """Return what a module of this text defines. What is for the compiler alone means nothing."""
    made = {"__name__": __name__, "mypyc_attr": lambda **_: lambda cls: cls}
    exec(compile(text, "example.py", "exec"), made)  # noqa: S102  # the text stands here
    return made


def test_a_record_as_a_plain_class_is_what_attrs_makes_of_it() -> None:
    staged = hatch_build.staged(EACH_WAY)
    assert "@record" not in staged
    assert "@attrs" not in staged
    for defined in executed(EACH_WAY), executed(staged):
        mark, reading, held = defined["Mark"], defined["Reading"], defined["EXAMPLE"]
        assert mark() == mark()
        assert hash(mark()) == hash(mark())
        assert mark() != reading("a")
        assert reading("a") == reading("a", 0.5) != reading("a", 1.0)
        assert len({reading("a"), reading("a"), reading("b")}) == 2
        assert repr(reading("a")) == "Reading(channel='a', value=0.5)"
        assert (repr(mark()), reading.__match_args__) == ("Mark()", ("channel", "value"))
        assert attrs.evolve(reading("a"), value=2.0) == reading("a", 2.0)
        assert [(f.name, f.default) for f in attrs.fields(reading)][1] == ("value", 0.5)
        assert get_type_hints(reading) == {"channel": str, "value": float}
        assert copy.deepcopy(held).reading == held.reading
        assert (held.age(5), held == copy.deepcopy(held)) == (4, False)
        with pytest.raises(RuntimeError) as caught:
            reading("a").line  # noqa: B018  # what raises is asked for
        line = EACH_WAY.splitlines()[caught.traceback[-1].lineno]
        assert line.strip() == "raise RuntimeError(self.channel)"


def test_every_module_keeps_its_lines_on_its_way_to_the_compiler() -> None:
    table = hatch_build.settings()
    for each in hatch_build.chosen(table["modules"], table["except"]):
        text = (ROOT / each).read_text()
        staged = hatch_build.staged(text)
        places = [
            {
                (node.name, node.lineno)
                for node in ast.walk(ast.parse(version))
                if isinstance(node, ast.FunctionDef)
            }
            for version in (text, staged)
        ]
        assert places[0] <= places[1], each


def test_a_record_without_room_for_its_methods_is_named() -> None:
    text = EACH_WAY.replace('    """In volts."""\n', "").replace(
        "\n\n    @property", "\n    @property"
    )
    squeezed = text.replace('."""\n\n    channel: str\n', '."""\n    channel: str\n')
    with pytest.raises(ValueError, match="Reading"):
        hatch_build.staged(squeezed.replace("    value: float = 0.5\n", ""))


def test_what_is_compiled_is_named_by_the_project_file_and_all_of_it_exists() -> None:
    table = hatch_build.settings()
    files = hatch_build.chosen(table["modules"], table["except"])
    assert "qstack/sim/heap.py" in files
    assert "qstack/stack/policy.py" not in files
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
