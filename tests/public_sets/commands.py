"""The commands that lead from a file to a trained model, as somebody types them, and the edits of the drafts between them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aegis import cli
from declared import PublicSet
from packaged import Packaged

from aegis_flower.report import RunReport, load_report

CLIENTS, RATE, STEPS = 3, 0.25, 4
EPSILON, BUDGET = 3.0, 10.0
WITHOUT_DP = ("privacy=off", "policy.require_dp=false")


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: exit code.
        out, err: what it printed.
    """

    code: int
    out: str
    err: str


Aegis = Callable[..., Done]  # of the folder and the arguments


def by_process(folder: Path, *arguments: str) -> Done:
    """`aegis ARGUMENTS` in a folder, as a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AEGIS_", "FLWR_", "HYDRA_"))}
    done = subprocess.run(
        [sys.executable, "-m", "aegis", *arguments],
        cwd=folder,
        env={**environment, "NO_COLOR": "1", "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def in_this_process(folder: Path, *arguments: str) -> Done:
    """The same entry point with the same arguments, without the seconds in which a process imports torch."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["aegis", *arguments])
        patch.setattr(cli, "app", cli.build())  # as at a process's start: the plugin puts its commands there anew
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Day:
    """A set's way from its file to reports.

    Attributes:
        folder: where everything lies.
        public: what is declared.
        packaged: where the rows come from.
        aegis: how a command is run.
    """

    folder: Path
    public: PublicSet
    packaged: Packaged
    aegis: Aegis

    def must(self, *arguments: str) -> str:
        """Runs a command that has to end well; gives what it printed."""
        done = self.aegis(self.folder, *arguments)
        assert done.code == 0, f"aegis {' '.join(arguments)}\n{done.out}{done.err}"
        return done.out

    def prepared(self) -> Path:
        """From the file to a reviewed schema, terms and plan, all in the folder; gives the path of the file."""
        file = self.packaged.written(self.folder)
        drafted = self.must("data", "schema", file.name, *self.public.draft)
        (self.folder / "schema.toml").write_text(with_keys(drafted, self.public.schema))
        (self.folder / "terms.toml").write_text(self.must("data", "terms", "--draft"))
        plan = self.must("data", "features", "schema.toml")
        (self.folder / "plan.yaml").write_text(with_lines(plan, self.public.plan))
        return file

    def imported(self, file: Path) -> dict[str, Any]:
        """The file as a governed data set of a vault; gives what the vault says of its training rows and of the held-out ones."""
        key = ("--key-file", "steward.key")
        self.must("vault", "init", "steward", *key, "--make-key", "--govern", "core")
        also = ("--schema", "schema.toml", "--terms", "terms.toml", "--consent-given")
        self.must("data", "add", "steward", file.name, "--name", "rows", *also, *key)
        cards = json.loads(self.must("data", "ls", "steward", *key, "--json"))
        return {card["name"]: card for card in cards}

    def run(self, file: Path, name: str, rounds: int, rows: int, *more: str) -> RunReport:
        """A federation of three nodes on the file, with masks, and with DP unless `more` says otherwise; gives its report.

        Args:
            file: of the rows.
            name: of the folder of the run.
            rounds: how many.
            rows: of the file, which is public: what a step is expected to draw follows from it.
            more: further overrides.
        """
        expected = max(8, round(rows * 0.8 / CLIENTS * RATE))
        self.must(
            "run",
            "data=table",
            f"data.path={file.name}",
            "data.schema=schema.toml",
            "data.features=plan.yaml",
            f"data.clients={CLIENTS}",
            "data.partition=iid",
            *self.public.model,
            f"privacy.epsilon={EPSILON}",
            f"privacy.sample_rate={RATE}",
            f"privacy.steps_per_round={STEPS}",
            f"privacy.expected_batch={expected}",
            f"evaluation.metrics=[{self.public.metric},loss]",
            f"policy.budget_epsilon={BUDGET}",
            f"strategy.rounds={rounds}",
            "tracking.html=false",
            f"name={self.packaged.name}",
            f"hydra.run.dir={name}",
            *more,
        )
        return load_report(self.folder / name)


def with_keys(draft: str, edits: Mapping[str, Mapping[str, Any]]) -> str:
    """A drafted schema with the keys of some columns as a person wrote them; other lines stay as they are.

    Raises:
        KeyError: the draft has no such column.
    """
    parts = re.split(r"(?m)^(?=\[)", draft)
    for name, keys in edits.items():
        heads = ("[source]",) if name == "source" else (f"[columns.{name}]", f'[columns."{name}"]')
        at = next((i for i, part in enumerate(parts) if part.startswith(heads)), None)
        if at is None:
            raise KeyError(f"the draft has no column {name!r}")
        kept = [line for line in parts[at].splitlines() if line.partition(" = ")[0] not in keys]
        if keys.get("role") == "leave out" or "kind" in keys:  # what went with the drafted kind goes with it
            kept = [line for line in kept if line.partition(" = ")[0] not in ("item", "shape", "format")]
        while kept and not kept[-1]:
            kept.pop()
        # JSON's texts, numbers, flags and lists are TOML's.
        written = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        comments = [line for line in kept if line.startswith("#")]  # notes of the next column
        lines = [line for line in kept if not line.startswith("#")]
        parts[at] = "\n".join([*lines, *written, "", *comments, ""])
    return "".join(parts)


def with_lines(draft: str, edits: Mapping[str, str | None]) -> str:
    """A drafted plan with some lines as a person wrote them: of columns, or of the label; comments of what is lacking go."""
    lines = draft.splitlines()
    for name, line in edits.items():
        indent = "" if name == "label" else "  "
        found = re.compile(rf"{indent}['\"]?{re.escape(name)}['\"]?: |# TODO {re.escape(name)}: ")
        lines = [one for one in lines if not found.match(one)]
        if line is not None:
            at = len(lines) if name == "label" else lines.index("columns:") + 1
            lines.insert(at, f"{indent}{name}: {line}")
    label = [one for one in lines if one.startswith("label:")]
    # Of a label that the schema alone does not declare the draft has a comment on one of its columns.
    lines = [one for one in lines if one not in label and not (label and re.match(r"# TODO .*label", one))]
    return "\n".join([*lines, *label]) + "\n"
