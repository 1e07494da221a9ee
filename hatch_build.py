"""The build of the wheel, and with it the compiled build (ADR 0012).

``pip install .`` makes the wheel of Python files, as ever. With ``QSTACK_COMPILED=1`` in the
environment mypyc translates the modules of :func:`chosen` to machine code beside their Python
files, and the wheel is one of this system and this Python. What runs is the same source; a
C compiler and the headers of Python must be there.

``python hatch_build.py INTO PATTERN...`` compiles the modules of some patterns into a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
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


def copyable(text: str) -> str:
    """Return the source with its plain classes marked for the compiler as ones to be copied.

    Machines are values: replays and plugins copy them, which mypyc provides for only where it is
    told to. What is written takes the place of empty lines, so that line numbers stay.
    """
    imports = "from __future__ import annotations\n"
    if not PLAIN.search(text) or imports not in text:
        return text
    head, rest = text.split(imports, 1)
    # Imports for type checkers alone, which mypyc leaves out of what it makes.
    given = "MYPY = False\n" + rest.removeprefix("\n")
    after = re.search(r"\n\n(?!import |from )", given)
    if after is None:
        return text
    begun, body = given[: after.start() + 1], given[after.end() :]
    body = "if MYPY: from mypy_extensions import mypyc_attr\n" + body
    return head + imports + begun + PLAIN.sub(MARK, body)


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
            path.write_text(copyable(path.read_text()))
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
