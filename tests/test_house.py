"""The house rules (DESIGN section 11) that ruff and mypy cannot check, each shown to bite."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest

from qstack.machine import record
from qstack.sim import devices

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("qstack", "nodes")
EVERYWHERE = (*PRODUCT, "tests", "docs")

FILE_LINES = 400
TEST_FILE_LINES = 600
FUNCTION_LINES = 70
POSITIONAL = 5
TEST_NAME_WORDS = 4

# The adapter of asynchronous plugins turns whatever they raise into HardwareFault; the loop around
# trio has the task that watches a descriptor raise what was raised for it.
MAY_CATCH_ANYTHING = {"qstack/drivers/devices.py", "qstack/drivers/loop.py"}
# Written in two pieces, so that this file does not break its own rules.
MARKS = re.compile(
    r"\b("
    + "TO"
    + r"DO|"
    + "FIX"
    + r"ME|"
    + "XX"
    + r"X|"
    + "HA"
    + r"CK|NotImplemented"
    + r"Error)\b"
)
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:" + r"work|farm|root|tmp|home)/\w")
ADDRESS = re.compile(r"https?://[^\s)>\"'`]*(?:" + r"pypi|pythonhosted|/simple)\b")

LAYERS = ("physical", "link", "network", "application")
OFFERED = ("service", "slots")
"""What a layer shows to others: its service, and physical's one book of memories."""
Rule = Callable[[str, str], Iterator[str]]
"""(path, text) of a file to the complaints about it, each with its line."""


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def comments(text: str) -> Iterator[tuple[int, str]]:
    """(line, comment) of each comment; good enough for lines without a '#' in a string."""
    for number, line in enumerate(text.split("\n"), 1):
        _, mark, comment = line.partition("# ")
        if mark:
            yield number, comment


def long_files(path: str, text: str) -> Iterator[str]:
    limit = TEST_FILE_LINES if path.startswith("tests/") else FILE_LINES
    if (lines := text.count("\n")) > limit:
        yield f"1: {lines} lines, the limit is {limit}"


def long_functions(_path: str, text: str) -> Iterator[str]:
    for node in functions(ast.parse(text)):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > FUNCTION_LINES:
            yield f"{node.lineno}: {node.name} has {lines} lines"


def many_parameters(_path: str, text: str) -> Iterator[str]:
    for node in functions(ast.parse(text)):
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > POSITIONAL:
            yield f"{node.lineno}: {node.name} has {count} positional parameters"


def broad_exceptions(path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and path not in MAY_CATCH_ANYTHING:
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {ast.unparse(each) if each else "everything" for each in caught}
            if names & {"everything", "Exception", "BaseException"}:
                yield f"{node.lineno}: catches {', '.join(sorted(names))}"
        if isinstance(node, ast.Raise) and node.exc is not None:
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if ast.unparse(raised) in ("Exception", "BaseException"):
                yield f"{node.lineno}: raises {ast.unparse(raised)}"


def open_marks(_path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if found := MARKS.search(line):
            yield f"{number}: {found.group()}"


def merge_marks(_path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(r"(<{7}|>{7}|\|{7}) |={7}$", line):
            yield f"{number}: a mark of a merge"


def unexplained_ignores(_path: str, text: str) -> Iterator[str]:
    for number, comment in comments(text):
        if comment.startswith("type: " + "ignore"):
            if not re.match(r"type: ignore\[[\w, -]+\]\s+# \w+", comment):
                yield f"{number}: a type ignore needs its code and a reason"
        elif comment.startswith("no" + "qa") and not re.match(
            r"noqa: [A-Z]+\d+(?:, ?[A-Z]+\d+)*\s+(?:[#:-] )?[a-z]", comment
        ):
            yield f"{number}: a noqa needs its code and a reason"


def machine_paths(_path: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if found := MACHINE_PATH.search(line) or ADDRESS.search(line):
            yield f"{number}: {found.group()}"


def foreign_state(_path: str, text: str) -> Iterator[str]:
    """`state` is assigned by its own object only, and only where a TABLE says what may follow."""
    tree = ast.parse(text)
    tabled = any(isinstance(node, ast.Name) and "TABLE" in node.id for node in ast.walk(tree))
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "state":
                if ast.unparse(target.value) != "self":
                    yield f"{target.lineno}: {ast.unparse(target)} is another's to set"
                elif not tabled:
                    yield f"{target.lineno}: a state without a TABLE"


def methods_by_name(_path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) == "getattr"
            and ast.unparse(node.args[0]) == "self"
            and not isinstance(node.args[1], ast.Constant)
        ):
            yield f"{node.lineno}: a string names a method"


def foreign_machines(path: str, text: str) -> Iterator[str]:
    """A layer imports the service of another layer; the import contracts hold the other rooms."""
    parts = Path(path).with_suffix("").parts
    if parts[0] != "qstack" or parts[1] not in LAYERS:
        return
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not node.module:
            continue
        names = node.module.split(".")
        if names[0] != "qstack" or len(names) < 2 or names[1] not in LAYERS or names[1] == parts[1]:
            continue
        inner = names[2:3] or [alias.name for alias in node.names]
        if not set(inner) <= set(OFFERED):
            yield f"{node.lineno}: imports {node.module} ({', '.join(inner)})"


def sleeping_tests(path: str, text: str) -> Iterator[str]:
    if "benchmarks" in Path(path).parts:
        return  # no tests: what they measure may have to come after a rest
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.rpartition(".")[2] == "sleep":
                yield f"{node.lineno}: {name}"


def mocks(_path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names.append(getattr(node, "module", None) or "")
            if any(name.split(".")[-1] in ("mock", "Mock", "MagicMock") for name in names):
                yield f"{node.lineno}: a mock"


def skipped_tests(_path: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "pytest.skip", "pytest.xfail", "pytest.mark.skip", "pytest.mark.xfail",
            "pytest.mark.skipif",
        ):  # fmt: skip
            yield f"{node.lineno}: {ast.unparse(node)}"


def short_test_names(_path: str, text: str) -> Iterator[str]:
    for node in functions(ast.parse(text)):
        words = node.name.removeprefix("test_").split("_")
        if node.name.startswith("test_") and len(words) < TEST_NAME_WORDS:
            yield f"{node.lineno}: {node.name} is not a sentence"


def idle_tests(_path: str, text: str) -> Iterator[str]:
    """A test asserts, expects an exception, or calls a helper that is named for checking."""
    checking = re.compile(r"(^|\.|_)(assert|check|raises|expect|run_state_machine|verify)", re.I)
    for node in functions(ast.parse(text)):
        if not node.name.startswith("test_"):
            continue
        inner = list(ast.walk(node))
        called = (ast.unparse(each.func) for each in inner if isinstance(each, ast.Call))
        if not any(isinstance(each, ast.Assert) for each in inner) and not any(
            checking.search(name) for name in called
        ):
            yield f"{node.lineno}: {node.name} checks nothing"


@record
class House:
    """A rule, the folders where it holds, and a snippet (with its path) that breaks it."""

    rule: Rule
    where: tuple[str, ...]
    broken: str
    path: str = "qstack/link/planted.py"


LINES = "    x = 1\n"
RULES = (
    House(long_files, EVERYWHERE, "x = 1\n" * 401),
    House(long_files, EVERYWHERE, "x = 1\n" * 601, "tests/planted.py"),
    House(long_functions, EVERYWHERE, "def f():\n" + LINES * 70),
    House(many_parameters, EVERYWHERE, "def f(self, a, b, c, d, e, g): pass"),
    House(broad_exceptions, EVERYWHERE, "try:\n    f()\nexcept (ValueError, Exception):\n    pass"),
    House(broad_exceptions, EVERYWHERE, "try:\n    f()\nexcept:\n    pass"),
    House(broad_exceptions, EVERYWHERE, "raise Exception('no')"),
    House(merge_marks, EVERYWHERE, "a = 1\n" + "=" * 7 + "\nb = 2"),
    House(open_marks, EVERYWHERE, "x = 1  # TO" + "DO: later"),
    House(unexplained_ignores, EVERYWHERE, "x = 1  # type: " + "ignore"),
    House(unexplained_ignores, EVERYWHERE, "x = 1  # type: " + "ignore[arg-type]"),
    House(unexplained_ignores, EVERYWHERE, "x = 1  # no" + "qa"),
    House(unexplained_ignores, EVERYWHERE, "x = 1  # no" + "qa: S311"),
    House(machine_paths, EVERYWHERE, "open('/ho" + "me/me/x')"),
    House(foreign_state, PRODUCT, "def f(self, peer):\n    TABLE\n    peer.state = 1"),
    House(foreign_state, PRODUCT, "def f(self):\n    self.state = 1"),
    House(methods_by_name, PRODUCT, "def f(self, name):\n    getattr(self, 'on_' + name)()"),
    House(foreign_machines, PRODUCT, "from qstack.physical.machine import Physical"),
    House(foreign_machines, PRODUCT, "from qstack.physical import machine"),
    House(sleeping_tests, ("tests",), "async def f():\n    await trio.sleep(1)"),
    House(mocks, ("tests",), "from unittest.mock import Mock"),
    House(skipped_tests, ("tests",), "@pytest.mark.skip\ndef f(): pass"),
    House(short_test_names, ("tests",), "def test_it_works(): assert f()"),
    House(idle_tests, ("tests",), "def test_a_call_returns_at_all(): f()"),
)


def python_files(folders: tuple[str, ...]) -> list[Path]:
    return [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "_build" not in path.parts
    ]


@pytest.mark.parametrize("house", RULES, ids=lambda house: house.rule.__name__)
def test_each_rule_complains_about_a_planted_breach(house: House) -> None:
    assert list(house.rule(house.path, house.broken))


@pytest.mark.parametrize("house", RULES, ids=lambda house: house.rule.__name__)
def test_each_rule_is_silent_about_an_honest_file(house: House) -> None:
    honest = (
        '"""A room."""\n\nfrom qstack.physical.service import Serve\n\nTABLE = {0: 1}\n\n\n'
        "class Life:\n    def handle(self, a, b, c, d, e):\n"
        "        self.state = TABLE[0]  # no" + "qa: S311  drawn for a test\n"
        "        x = f(a)  # type: " + "ignore[arg-type]  # the library says Any\n\n\n"
        "def test_a_life_ends_where_it_should():\n    assert Life()\n"
    )
    assert list(house.rule(house.path, honest)) == []


@pytest.mark.parametrize("rule", dict.fromkeys(house.rule for house in RULES))
def test_no_file_of_the_house_breaks_the_rule(rule: Rule) -> None:
    where = next(house.where for house in RULES if house.rule is rule)
    complaints = [
        f"{path.relative_to(ROOT)}:{complaint}"
        for path in python_files(where)
        for complaint in rule(str(path.relative_to(ROOT)), path.read_text())
    ]
    assert complaints == []


def test_texts_and_tables_name_no_path_of_a_machine() -> None:
    places = ("*.md", "*.toml", "*.txt", "Makefile", ".ci/*", "docs/**/*.md", "nodes/**/*.toml")
    files = [
        path for pattern in places for path in ROOT.glob(pattern) if "_build" not in path.parts
    ]
    found = [
        f"{path.name}:{each}" for path in files for each in machine_paths("", path.read_text())
    ]
    assert files
    assert found == []


def test_every_requirement_is_pinned_to_one_version_without_an_address() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    lines = (ROOT / "constraints.txt").read_text().split("\n")
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.!+]+", pin)] == []
    pinned = {pin.partition("==")[0].lower().replace("_", "-") for pin in pins}
    assert {re.split(r"[\[><=~! ]", each)[0].lower() for each in wanted} - pinned == set()


def test_every_device_of_the_simulated_world_is_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for group, plugins in devices.PLUGINS.items():
        written = project["entry-points"][group]
        assert {plugin.name for plugin in plugins} <= set(written)
        for plugin in plugins:
            module, _, name = written[plugin.name].partition(":")
            assert module == devices.__name__
            assert getattr(devices, name) is plugin


def lint_imports(place: Path) -> subprocess.CompletedProcess[str]:
    """Run the import contracts of `place`, with its packages before the installed ones."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=place,
        env={"PYTHONPATH": f"{place}:{place / 'nodes'}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_import_follows_the_contracts_of_the_house() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("room", "line", "contract"),
    [
        ("physical/service.py", "import qstack.link.service", "Rooms import downward only"),
        ("bell.py", "import time", "Pure rooms know no clock"),
        ("link/service.py", "import msgpack", "Only the codec knows msgpack"),
        ("hal/plugins.py", "import trio", "Only drivers, servers, programs and the command"),
        ("drivers/planted.py", "import qstack.sim", "Nobody but testing and the command"),
        ("sim/states.py", "import logging", "Pure rooms know no clock"),
        ("network/service.py", "import qstack.link.queue", "Others import the service of link"),
        ("errors.py", "import qstack_nodes", "The package knows nothing of the command"),
        ("planted.py", "import math", "Rooms import downward only"),
    ],
)
def test_a_planted_import_breaks_its_contract_by_name(
    tmp_path: Path, room: str, line: str, contract: str
) -> None:
    for folder in PRODUCT:
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = tmp_path / "qstack" / room
    target.touch()
    target.write_text(target.read_text() + f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1, result.stdout + result.stderr
    verdicts = [each for each in result.stdout.split("\n") if each.startswith(contract)]
    assert any("BROKEN" in each for each in verdicts), result.stdout
