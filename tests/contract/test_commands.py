"""The command: one list says which commands there are, and importing a module of it registers nothing."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import aegis.cli
from aegis import cli_base
from typer.testing import CliRunner

CLI = Path(aegis.cli.__file__).parent


def test_the_list_has_every_command_and_the_help_shows_them_all() -> None:
    listed = {function for _, _, function, _ in aegis.cli.COMMANDS}
    assert len(listed) == len(aegis.cli.COMMANDS) == 29
    for group in ("", *aegis.cli.GROUPS):
        shown = CliRunner().invoke(aegis.cli.app, [*([group] if group else []), "--help"], env={"COLUMNS": "200"})
        assert shown.exit_code == 0
        for of, name, _, _ in aegis.cli.COMMANDS:
            assert of != group or f" {name} " in shown.output, (group, name)


def test_no_module_of_the_command_registers_anything() -> None:
    for file in CLI.glob("*.py"):
        functions = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.FunctionDef)]
        assert not [n.name for n in functions if any("command" in ast.unparse(d) for d in n.decorator_list)], file


def test_the_bench_measures_the_cipher_and_takes_the_options_of_before() -> None:
    done = CliRunner().invoke(aegis.cli.app, ["vault", "bench", "--size", "16MiB", "--json"])
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == ["seal of a chunk / aws-lc raw", "open of a chunk / aws-lc raw"]
    assert all(row["ratio"] > 0 for row in rows)


def test_the_old_address_of_what_commands_share_still_has_it() -> None:
    for name in cli_base.__all__:
        assert getattr(cli_base, name) is not None
