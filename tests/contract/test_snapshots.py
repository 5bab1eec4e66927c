"""What people see: every ``--help``, and a report's page. ``pytest --snapshot-update`` with this file renews them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from aegis.cli import build
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from report_examples import example

from aegis_flower.cli import register
from aegis_flower.report.page import render

WIDTH = 100


def commands(group: Any, name: str) -> list[list[str]]:
    """The words of every command and group."""
    found = [name.split()[1:]]
    for child, command in getattr(group, "commands", {}).items():
        found += commands(command, f"{name} {child}")
    return found


app = build()
register(app)
ALL = commands(typer.main.get_command(app), "aegis")


def test_there_are_commands_of_the_engine_and_of_the_plugin() -> None:
    assert {"vault ls", "run", "report show"} <= {" ".join(words) for words in ALL}


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words) or "aegis")
def test_help(words: list[str], snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setenv("TERMINAL_WIDTH", str(WIDTH))
    monkeypatch.setenv("NO_COLOR", "1")
    shown = CliRunner().invoke(app, [*words, "--help"], prog_name="aegis")
    assert shown.exit_code == 0, shown.output
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.output)
    assert "\n".join(line.rstrip() for line in text.splitlines()) == snapshot


def test_report_page(snapshot: Any) -> None:
    """One tag per line, so that a difference shows where it is."""
    page = render(example(), json_sha256="00" * 32)
    assert re.sub(r">\s*<", ">\n<", page) == snapshot
