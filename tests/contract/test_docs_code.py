"""Code in the documents runs: Python as it stands, shell blocks too, every `aegis` command by its own options, TOML as TOML.

A block that needs a server, data or minutes says so in the line before it: ``<!-- not run: reason -->``. Shell blocks are then
still parsed.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import typer.main
from aegis.cli import app

from aegis_flower import compose

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "aegis_engine/README.md", "docs/index.md"]
PAGES += sorted(
    p.relative_to(ROOT).as_posix() for part in ("how-to", "guides") for p in (ROOT / f"docs/{part}").glob("*.md")
)
NOT_RUN = re.compile(r"<!-- not run: (\S.*\S) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: what it is in, where its first line is, and why it is not run (None: it is)."""

    language: str
    line: int
    text: str
    not_run: str | None


def blocks(markdown: str) -> list[Block]:
    found = []
    lines = markdown.splitlines()
    at = 0
    while at < len(lines):
        opened = re.fullmatch(r"(```+)(\w*)", lines[at])
        if not opened:
            at += 1
            continue
        end = lines.index(opened[1], at + 1)
        before = next((line for line in reversed(lines[:at]) if line.strip()), "")
        mark = NOT_RUN.fullmatch(before)
        assert mark or "not run" not in before, f"line {at}: a mark without a reason: {before}"
        text = "\n".join(lines[at + 1 : end]) + "\n"
        found.append(Block(opened[2], at + 2, text, mark[1] if mark else None))
        at = end + 1
    return found


def of(language: str, *, run: bool | None = None) -> list[tuple[str, Block]]:
    every = [(page, block) for page in PAGES for block in blocks((ROOT / page).read_text(encoding="utf-8"))]
    wanted = [(page, b) for page, b in every if b.language == language]
    return wanted if run is None else [(page, b) for page, b in wanted if (b.not_run is None) == run]


def _ids(found: list[tuple[str, Block]]) -> list[str]:
    return [f"{page}:{block.line}" for page, block in found]


@pytest.fixture
def scratch(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder with the file that the examples store, and an environment with this Python's `aegis`."""
    (tmp_path / "finance_data.csv").write_text("month,sum\n1,20\n2,22\n")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_", "HYDRA_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}"
    return tmp_path, {**clean, "PATH": path, "FLWR_TELEMETRY_ENABLED": "0"}


@pytest.mark.parametrize("page", sorted({page for page, _ in of("python", run=True)}))
def test_the_python_of_a_page_runs_from_its_first_block_to_its_last(
    page: str, scratch: tuple[Path, dict[str, str]]
) -> None:
    folder, environment = scratch
    # blank lines keep the page's line numbers in what goes wrong
    script = ""
    for _, block in (found for found in of("python", run=True) if found[0] == page):
        script += "\n" * (block.line - 1 - script.count("\n")) + block.text
    name = folder / page.replace("/", "_").replace(".md", ".py")
    name.write_text(script)
    done = subprocess.run(
        [sys.executable, name.name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{page}: {done.stderr}"


@pytest.mark.parametrize(("page", "block"), of("sh", run=True), ids=_ids(of("sh", run=True)))
def test_a_shell_block_runs(page: str, block: Block, scratch: tuple[Path, dict[str, str]]) -> None:
    folder, environment = scratch
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{page}, line {block.line}: {done.stderr}"


@pytest.mark.parametrize(("page", "block"), of("sh"), ids=_ids(of("sh")))
def test_a_shell_block_parses_and_its_aegis_commands_exist(page: str, block: Block) -> None:
    subprocess.run(["bash", "-n", "-c", block.text], check=True, capture_output=True)
    for words in commands(block.text):
        check_command(words)


@pytest.mark.parametrize(("page", "block"), of("toml"), ids=_ids(of("toml")))
def test_a_toml_block_is_toml(page: str, block: Block) -> None:
    assert tomllib.loads(block.text)


def commands(text: str) -> Iterator[list[str]]:
    """The `aegis` commands of a block, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["aegis"]:
            # What the shell takes for itself: `> FILE`, and a pipe.
            ends = [words.index(sign) for sign in (">", "|") if sign in words]
            yield words[1 : min(ends, default=len(words))]


@functools.cache
def aegis() -> click.Group:
    """The command `aegis` with the plugin's commands, as `aegis.cli.main` puts it together."""
    for entry in importlib.metadata.entry_points(group="aegis.commands"):
        entry.load()(app)
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group)
    return group


def check_command(words: list[str]) -> None:
    """Parses a command as `aegis` does, up to the point where it would begin."""
    command: click.Command = aegis()
    context = click.Context(command, info_name="aegis")
    while isinstance(command, click.Group):
        if words[:1] in ([], ["--help"], ["--version"]):
            return
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"No such command {name!r}"
        command = found
        context = click.Context(command, info_name=name, parent=context)
    if command.name == "run":
        sweep = "-m" in words
        # of a sweep, each override's first value, or the low end of its range; Hydra's own keys are none of ours
        mine = [w.replace("interval(", "") for w in words if "=" in w and not w.startswith(("hydra.", "hydra/"))]
        compose(overrides=[w.split(",")[0] if sweep and "[" not in w else w for w in mine])
        return
    try:
        command.make_context(str(command.name), list(words), parent=context.parent)
    except click.exceptions.Exit:
        assert "--help" in words


@pytest.mark.parametrize(
    "wrong", ["aegis vault nothing", "aegis vault init x --no-such", "aegis vault init", "aegis run privacy.epsilonn=3"]
)
def test_the_check_of_commands_refuses_what_aegis_refuses(wrong: str) -> None:
    (words,) = commands(wrong)
    with pytest.raises(Exception, match=r"No such|Missing|no such key"):
        check_command(words)


def test_blocks_are_found_with_their_reason_and_a_mark_needs_one() -> None:
    page = "```python\nx = 1\n```\n<!-- not run: needs a server -->\n```sh\nls\n```\n````md\n```sh\nls\n```\n````\n"
    assert [(b.language, b.line, b.not_run) for b in blocks(page)] == [
        ("python", 2, None),
        ("sh", 6, "needs a server"),
        ("md", 9, None),
    ]
    with pytest.raises(AssertionError, match="without a reason"):
        blocks("<!-- not run -->\n```sh\nls\n```\n")


def test_the_documents_have_code_and_every_reason_is_one() -> None:
    assert len(of("python", run=True)) >= 8
    assert len(of("sh")) >= 5
    for page in PAGES:
        for block in blocks((ROOT / page).read_text(encoding="utf-8")):
            assert block.language, f"{page}, line {block.line}: a block that says no language"
            assert block.not_run is None or len(block.not_run.split()) >= 2, f"{page}, line {block.line}"
