"""The command: one list says which commands there are, and importing a module of it registers nothing."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import aegis.cli
import click
import typer
from aegis import cli_base
from typer.testing import CliRunner

from aegis_flower.cli import register

CLI = Path(aegis.cli.__file__).parent
ROOT = Path(__file__).parents[2]


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


def test_every_command_that_opens_a_vault_takes_its_key_by_the_same_two_options() -> None:
    def commands(of: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
        for name, one in of.commands.items():
            if isinstance(one, click.Group):
                yield from commands(one, f"{above}{name} ")
            else:
                yield above + name, one

    app = aegis.cli.build()
    register(app)
    found = {}
    for name, one in commands(cast("click.Group", typer.main.get_command(app))):
        if any(p.human_readable_name == "VAULT" for p in one.params):
            keys = [p for p in one.params if p.name in ("key_file", "key")]
            found[name] = [(p.name, p.opts, p.envvar, getattr(p, "help", "")) for p in keys]
    without = {name for name, told in found.items() if not told}
    assert without == {"doctor", "vault doctor", "audit verify", "audit tail"}, "these read what is public"
    kinds = {str(told) for told in found.values() if told}
    assert len(kinds) == 1, kinds
    assert {"vault ls", "data terms", "consent lift", "privacy show"} <= found.keys()


def test_every_command_that_a_text_names_is_there() -> None:
    app = aegis.cli.build()
    register(app)
    groups = cast("click.Group", typer.main.get_command(app)).commands
    endings = {".md", ".py", ".rs", ".j2", ".yaml", ".toml"}
    told = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    lacking, seen = [], 0
    for name in told:
        if Path(name).suffix not in endings or name.startswith(("tests/", "CHANGELOG")):
            continue
        for words in re.findall(r"`aegis ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", (ROOT / name).read_text("utf-8")):
            first, _, second = words.partition(" ")
            group = groups.get(first)
            known = group is not None and (not second or not isinstance(group, click.Group) or second in group.commands)
            seen += 1
            if not known:
                lacking.append(f"{name}: aegis {words}")
    assert seen > 150
    assert not lacking, lacking
