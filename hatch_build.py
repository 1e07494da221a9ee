"""The build of the wheel, and with it the compiled build (ADR 0012).

``pip install .`` makes the wheel of Python files, as ever. With ``QSTACK_COMPILED=1`` in the
environment mypyc translates the modules of :func:`chosen` to machine code beside their Python
files, and the wheel is one of this system and this Python. What runs is the same source; a
C compiler and the headers of Python must be there.

``python hatch_build.py INTO PATTERN...`` compiles the modules of some patterns into a folder.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiled by hand, or by a test: no wheel is made
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
SWITCH = "QSTACK_COMPILED"


def settings(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the patterns of what is compiled and of what is not, and what the compiler needs."""
    table = tomllib.loads((root / "pyproject.toml").read_text())
    found: dict[str, list[str]] = table["tool"]["qstack"]["compiled"]
    return found


def chosen(patterns: Iterable[str], without: Iterable[str], root: Path = ROOT) -> list[str]:
    """Return the files that some pattern names and none excepts, as paths below `root`.

    Packages themselves (``__init__.py``) stay Python files. Raises ValueError for a pattern that
    names no file: it would go unnoticed that something is not compiled any more.
    """
    files = sorted(path.relative_to(root).as_posix() for path in root.glob("qstack/**/*.py"))
    idle = [each for each in (*patterns, *without) if not any(fnmatchcase(f, each) for f in files)]
    if idle:
        raise ValueError(f"pyproject.toml, tool.qstack.compiled: no file is named by {idle}")
    return [
        each
        for each in files
        if not each.endswith("__init__.py")
        and any(fnmatchcase(each, pattern) for pattern in patterns)
        and not any(fnmatchcase(each, pattern) for pattern in without)
    ]


PLAIN = re.compile(
    r"(?<=\n)\n(?=class \w+(?:\((?!Protocol|NamedTuple|\w*Enum|\w*Error|Exception)\w+\))?:\n)"
)
"""The empty line before a class that mypyc makes its own: one without a decorator, whose base, if
there is one, is such a class too."""

MARK = "@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)\n"
"""The second because mypyc 2.4 else forgets to initialise a class of the first."""

OFTEN = "@mypyc_attr(free_list_len=1, acyclic=True)\n"
"""A class of values: one is often made just after another one was freed, and no value leads back to
itself, so that the collector need not see it: no links with others that are long out of the
processor's cache when it dies. See :func:`mend`."""

ASIDE = re.compile(
    r"\n *CPy_TRASHCAN_BEGIN\(self, \w+\)(.*?)\n *CPy_TRASHCAN_END\(self\)", re.DOTALL
)
"""Where mypyc lets CPython put aside what it frees."""

MADE = {
    "record": {"__init__", "__eq__", "__hash__"},
    "payload": {"__init__", "__eq__", "__hash__"},
    "attrs.frozen": {"__init__", "__eq__", "__hash__"},
    "attrs.define": {"__init__", "__eq__"},
    "attrs.define(eq=False)": {"__init__"},
    "attrs.frozen(eq=False)": {"__init__"},
}
"""By decorator: the methods that it would make."""


def staged(text: str) -> str:
    """Return the source as the compiler gets it; what stands on a line stays on that line.

    Records become plain classes (:func:`natives`), which are made in a tenth of the time, and
    plain classes are marked as ones to be copied: machines are values, replays and plugins copy
    them, which mypyc provides for only where it is told to. What is written takes the place of
    empty lines, of decorators and of the lines of fields.
    """
    imports = "from __future__ import annotations\n"
    if imports not in text:
        return text
    head, rest = text.split(imports, 1)
    # Imports for type checkers alone, which mypyc leaves out of what it makes.
    ours = "MYPY = False; from typing import ClassVar; from qstack.record import described\n"
    given = ours + rest.removeprefix("\n")
    after = re.search(r"\n\n(?!import |from )", given)
    if after is None:
        return text
    begun, body = given[: after.start() + 1], given[after.end() :]
    body = "if MYPY: from mypy_extensions import mypyc_attr\n" + body
    made = natives(head + imports + begun + body)
    marked = PLAIN.sub(MARK, made)
    return marked if "mypyc_attr(" in marked else text


def natives(text: str) -> str:
    """Return the source with its records as plain classes that say what attrs would have made."""
    lines = text.split("\n")
    body = ast.parse(text).body
    begins = [_first_line(each) for each in body]
    for at, each in enumerate(body):
        if isinstance(each, ast.ClassDef) and _is_plain(each):
            end = begins[at + 1] - 1 if at + 1 < len(body) else len(lines)
            lines[begins[at] - 1 : end] = _native(each, lines, begins[at], end)
    return "\n".join(lines)


def _first_line(each: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(each, "decorator_list", [])
    return min([each.lineno, *(decorator.lineno for decorator in decorators)])


def _is_plain(each: ast.ClassDef) -> bool:
    """Return whether this is a record, maybe a message, or a class of attrs whose fields are plain.

    That is one in which nothing else is asked of attrs than what :func:`_methods` makes.
    """
    *others, last = [ast.unparse(decorator) for decorator in each.decorator_list] or [""]
    return (
        last in MADE
        and all(other.startswith("message(") for other in others)
        and not each.bases
        and not any("attrs" in ast.unparse(s) for s in each.body)
        and all(isinstance(s, (ast.AnnAssign, ast.FunctionDef, ast.Expr)) for s in each.body)
    )


def _native(each: ast.ClassDef, lines: list[str], begin: int, end: int) -> list[str]:
    """Return the lines from `begin` to `end` with this class as a plain one."""
    by_attrs = MADE[ast.unparse(each.decorator_list[-1])]
    fields = [s for s in each.body if isinstance(s, ast.AnnAssign)]
    methods = [s for s in each.body if isinstance(s, ast.FunctionDef)]
    hints = {ast.unparse(s.target): ast.unparse(s.annotation) for s in fields}
    values = {ast.unparse(s.target): ast.unparse(s.value) for s in fields if s.value}
    said = each.body[0]
    doc = lines[said.lineno - 1 : said.end_lineno] if isinstance(said, ast.Expr) else ["    pass"]
    doc[-1] += "".join(f"; {name}: {hint}" for name, hint in hints.items())
    doc[-1] += f"; __match_args__: ClassVar = {tuple(hints)!r}"
    made = [OFTEN.strip(), f"class {each.name}:", *doc]
    if hints:
        wanted = by_attrs - {method.name for method in methods}
        made += [line for name, line in _methods(each.name, hints, values) if name in wanted]
    if methods:
        first = _first_line(methods[0])
        made += [""] * (first - begin - len(made))
        made += lines[first - 1 : each.end_lineno]
    defaults = ", ".join(f"{name!r}: {value}" for name, value in values.items())
    told = f"described({each.name}, {hints!r}, {{{defaults}}})"
    for decorator in each.decorator_list[:-1]:
        told += f"; {ast.unparse(decorator)}({each.name})"
    made.append(told)
    if len(made) > end - begin + 1 and end < len(lines):
        raise ValueError(f"no room for {each.name} as a plain class: one empty line more")
    return made + [""] * (end - begin + 1 - len(made))


def _methods(name: str, hints: dict[str, str], values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the methods of a record, each by name and as one line."""
    given = ", ".join(
        f"{each.lstrip('_')}: {hint}" + (f" = {values[each]}" if each in values else "")
        for each, hint in hints.items()
    )
    kept = "; ".join(f"self.{each} = {each.lstrip('_')}" for each in hints)
    yield "__init__", f"    def __init__(self, {given}) -> None: {kept}"
    same = " and ".join(f"self.{each} == other.{each}" for each in hints)
    test = f"isinstance(other, {name}) and {same}"
    yield "__eq__", f"    def __eq__(self, other: object) -> bool: return {test}"
    all_of = "".join(f"self.{each}, " for each in hints)
    yield "__hash__", f"    def __hash__(self) -> int: return hash(({all_of}))"


def compile_into(folder: Path, files: list[str], root: Path = ROOT) -> list[Path]:
    """Compile files into extension modules below `folder`; return their paths below it.

    In a process and a folder of its own: the compiler looks at where it stands, writes there and
    ends its process when it fails. Raises RuntimeError with what it said.
    """
    with tempfile.TemporaryDirectory(prefix="qstack-compiled-") as scratch:
        stage = Path(scratch, "stage")
        shutil.copytree(
            root / "qstack", stage / "qstack", ignore=shutil.ignore_patterns("__pycache__", "*.so")
        )
        for each in files:
            path = stage / each
            path.write_text(staged(path.read_text()))
        # Nobody's modules but those of the stage may be compiled against.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        ran = subprocess.run(
            [sys.executable, "-P", str(ROOT / "hatch_build.py"), "--here", scratch, *files],
            cwd=stage,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            said = "\n".join((ran.stdout + ran.stderr).splitlines()[-40:])
            raise RuntimeError(
                f"the compiled build failed (are a C compiler and Python.h there?)\n{said}"
            )
        made = Path(scratch, "made")
        found = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        for path in found:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(made / path, folder / path)
        return found


def mend(text: str) -> str:
    """Return C code of mypyc's without its error in freeing what the collector does not see.

    Where an object is freed deep inside of others, as routes of many hops are, CPython puts it
    aside until the outer ones are done, in a list that it links through the collector's head of the
    object. mypyc 2.4 lets it do so also with objects that have no such head: it writes over foreign
    memory. These are freed at once here; how deep they lie is bounded by what is in a message.
    """

    def freed(found: re.Match[str]) -> str:
        before = text[text.rindex("_dealloc(", 0, found.start()) : found.start()]
        return found[0] if "PyObject_GC_UnTrack" in before else found[1]

    return ASIDE.sub(freed, text)


def _compile_here(scratch: Path, files: list[str]) -> None:
    """Compile files of the current folder into ``made`` of the scratch folder."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    # As one group of several there might be: where mypyc believes that it sees the whole program,
    # it takes two records for equal only if they are the same object (ADR 0012).
    extensions = mypycify(
        ["--cache-dir", str(scratch / "cache"), "--ignore-missing-imports", *files],
        opt_level="3",
        debug_level="0",
        separate=[(files, "qstack")],
        multi_file=True,
        target_dir=str(scratch / "c"),
    )
    for path in (scratch / "c").rglob("*.c"):
        made = path.read_text(encoding="utf-8")
        if (mended := mend(made)) != made:
            path.write_text(mended, encoding="utf-8")
    command = build_ext(Distribution({"name": "qstack", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch / "made"), str(scratch / "objects")
    command.parallel = os.cpu_count()
    command.ensure_finalized()
    command.run()


class CompiledBuild(BuildHookInterface):  # type: ignore[misc, unused-ignore]  # may be absent
    """Adds the compiled modules to the wheel, where the environment asks for them."""

    def wanted(self, version: str) -> bool:
        """Return whether this build is one of a wheel that shall be compiled."""
        switch = os.environ.get(SWITCH, "") not in ("", "0")
        return switch and self.target_name == "wheel" and version != "editable"

    def dependencies(self) -> list[str]:
        """Return what the compiler needs in the environment of the build."""
        return settings(Path(self.root))["requires"] if self.wanted("standard") else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and hand over what was made."""
        if not self.wanted(version):
            return
        root = Path(self.root)
        table = settings(root)
        files = chosen(table["modules"], table["except"], root)
        self._made = tempfile.TemporaryDirectory(prefix="qstack-wheel-")
        into = Path(self._made.name)
        for path in compile_into(into, files, root):
            build_data["force_include"][str(into / path)] = path.as_posix()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        if made := getattr(self, "_made", None):
            made.cleanup()


if __name__ == "__main__":
    if sys.argv[1] == "--here":
        _compile_here(Path(sys.argv[2]), sys.argv[3:])
    else:
        compile_into(Path(sys.argv[1]), chosen(sys.argv[2:], ()))
