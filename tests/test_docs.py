"""The documentation holds: generated pages agree with the code, printed commands and snippets run.

A fenced block is run when the line before it is ``<!-- tested -->``. In a ``python`` block the
code runs as a program and what it prints must be the ``output`` block that follows, if one
does. In a ``console`` block each line that begins with ``$ `` is a command, and the lines
below it are its output, where a line of ``...`` stands for anything. A block after
``<!-- file NAME -->`` is a file that all snippets of its page find in their folder.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from qstack.machine import record

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if not {"_build", "parts"} & set(page.parts)),
]

BLOCK = re.compile(
    r"^<!-- tested -->\n+```(?P<language>\w+)\n(?P<body>.*?)^```\n"
    r"(?:\n*```output\n(?P<output>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"^<!-- file (?P<name>[\w.-]+) -->\n+```\w+\n(?P<body>.*?)^```\n", re.M | re.S)


@record
class Snippet:
    """A block that is run: where it stands, its language, its text, what it must print.

    `files`: names and texts of what its page puts beside it.
    """

    place: str
    language: str
    body: str
    output: str | None
    files: tuple[tuple[str, str], ...] = ()


def snippets(place: str, text: str) -> Iterator[Snippet]:
    files = tuple((found["name"], found["body"]) for found in FILE.finditer(text))
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Snippet(f"{place}:{line}", found["language"], found["body"], found["output"], files)


def run(command: str | list[str], folder: Path) -> str:
    """Run a command with the tools of this environment first; return all that it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=folder,
        env={**os.environ, "PATH": path, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def same(wanted: str, printed: str) -> bool:
    """Compare line by line without outer blanks; a line of ``...`` stands for any lines."""
    lines = [line.strip() for line in wanted.strip().split("\n")]
    pattern = "\n".join("(?:.*)" if line == "..." else re.escape(line) for line in lines)
    text = "\n".join(line.strip() for line in printed.strip().split("\n"))
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def expect_snippet_holds(snippet: Snippet, folder: Path) -> None:
    for name, text in snippet.files:
        (folder / name).write_text(text)
    if snippet.language == "python":
        printed = run([sys.executable, "-c", snippet.body], folder)
        assert snippet.output is None or same(snippet.output, printed), printed
        return
    assert snippet.language == "console", f"{snippet.place}: cannot run {snippet.language}"
    commands = re.split(r"^\$ ", snippet.body, flags=re.MULTILINE)
    assert commands[0].strip() == "", f"{snippet.place}: output before the first command"
    assert len(commands) > 1, f"{snippet.place}: no command"
    for each in commands[1:]:
        command, _, wanted = each.partition("\n")
        printed = run(command, folder)
        assert not wanted.strip() or same(wanted, printed), f"{command} printed:\n{printed}"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TESTED = [
    each for page in PAGES for each in snippets(str(page.relative_to(ROOT)), page.read_text())
]


@pytest.mark.parametrize("snippet", TESTED, ids=lambda each: each.place)
def test_each_printed_snippet_does_what_its_page_says(snippet: Snippet, tmp_path: Path) -> None:
    expect_snippet_holds(snippet, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- tested -->\n```python\nprint(1)\n```\n```output\n2\n```\n",
        "<!-- tested -->\n```python\nraise SystemExit(3)\n```\n",
        "<!-- tested -->\n```console\n$ echo one\ntwo\n```\n",
        "<!-- tested -->\n```console\n$ exit 1\n```\n",
        "<!-- tested -->\n```console\nonly output\n```\n",
    ],
)
def test_a_snippet_that_does_not_hold_is_found(text: str, tmp_path: Path) -> None:
    (snippet,) = snippets("planted.md", text)
    with pytest.raises(AssertionError):
        expect_snippet_holds(snippet, tmp_path)


def test_a_snippet_that_holds_passes_and_dots_stand_for_lines(tmp_path: Path) -> None:
    text = "<!-- tested -->\n```console\n$ printf 'a\\nb\\nc\\n'\na\n...\nc\n```\n"
    (snippet,) = snippets("planted.md", text)
    expect_snippet_holds(snippet, tmp_path)
    assert not same("a\n...\nd", "a\nb\nc")


def test_a_file_of_a_page_is_there_for_its_snippets(tmp_path: Path) -> None:
    text = (
        "<!-- file grid.toml -->\n```toml\na = 1\n```\n"
        "<!-- tested -->\n```console\n$ cat grid.toml\na = 1\n```\n"
    )
    (snippet,) = snippets("planted.md", text)
    expect_snippet_holds(snippet, tmp_path)


def test_an_unmarked_block_is_not_run_but_the_pages_have_marked_ones() -> None:
    assert list(snippets("planted.md", "```python\nraise SystemExit(3)\n```\n")) == []
    assert TESTED


def test_generated_reference_pages_agree_with_the_code() -> None:
    # In a process of its own: the pages list what an import of every room defines.
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_page_that_was_edited_by_hand_is_reported(tmp_path: Path) -> None:
    module = generator()
    pages = {"errors": module.errors_page}
    assert module.outdated(pages, tmp_path, write=True)
    assert module.outdated(pages, tmp_path, write=False) == []
    (tmp_path / "errors.md").write_text((tmp_path / "errors.md").read_text() + "more\n")
    (difference,) = module.outdated(pages, tmp_path, write=False)
    assert "-more" in difference


def test_the_table_of_a_verb_lists_flags_choices_and_defaults() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("network", help="a file or a name")
    parser.add_argument("--kind", choices=("keep", "measure"), default="keep", help="what for.")
    parser.add_argument("--json", action="store_true", help="one object per line")
    lines = generator().arguments(parser).strip().split("\n")[2:]
    assert lines == [
        "| `NETWORK` | a file or a name |  |",
        "| `--kind` `KIND` | what for. One of keep, measure. | `keep` |",
        "| `--json` | one object per line |  |",
    ]


def test_a_state_table_is_drawn_with_one_arrow_for_several_events() -> None:
    class Go: ...

    class Run: ...

    rows = {"still": {Go: frozenset({"moving"}), Run: frozenset({"moving"})}, "moving": {}}
    module = generator()
    assert module.is_state_table(rows)
    assert not module.is_state_table({"still": {"go": frozenset({"moving"})}})
    assert "  still --> moving: Go, Run" in module.diagram(rows).split("\n")


def test_every_registered_message_has_its_section_in_the_wire_reference() -> None:
    from qstack.messages.wire import KIND_OF

    generator().modules("qstack.messages")
    text = (DOCS / "reference" / "wire.md").read_text()
    assert KIND_OF
    assert [each.__name__ for each in KIND_OF if f"\n### {each.__name__}\n" not in text] == []


def test_requirement_numbers_are_unique_and_their_words_are_those_of_the_rfc() -> None:
    text = (DOCS / "reference" / "requirements.md").read_text()
    sentences = re.findall(r"^([WAPLNUD]-\d+)\. (.*?)\n\n", text + "\n\n", re.MULTILINE | re.DOTALL)
    numbers = [number for number, _ in sentences]
    assert len(numbers) == len(set(numbers)) == len(re.findall(r"^[A-Z]-\d+", text, re.MULTILINE))
    assert len(numbers) > 80
    words = re.compile(r"\b(MUST|SHOULD|MAY)\b")
    assert [number for number, sentence in sentences if not words.search(sentence)] == []


def test_requirements_name_only_messages_and_fields_that_exist() -> None:
    import attrs

    from qstack.messages.wire import KIND_OF, Header

    generator().modules("qstack.messages")
    pages = [DOCS / "reference" / name for name in ("requirements.md", "wire.md")]
    requirements, reference = (page.read_text() for page in pages)
    fields = {field.name for cls in (*KIND_OF, Header) for field in attrs.fields(cls)}
    known = {cls.__name__ for cls in KIND_OF} | fields
    named = set(re.findall(r"`([A-Za-z]\w*)`", requirements))
    assert {name for name in named if name not in known and f"`{name}`" not in reference} == set()


def test_every_relative_link_between_pages_leads_to_a_file() -> None:
    broken = []
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "reference" / "wire.html").exists()
