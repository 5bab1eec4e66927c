"""Submits an experiment to Flower: its own simulation engine (``runtime=ray``) or a federation (``runtime=deployment``)."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from aegis_flower.config import Config
from aegis_flower.errors import RunFailed

APP = Path(__file__).parent / "quickstart"


def run_config(overrides: Sequence[str], folder: Path) -> dict[str, str]:
    """What an AEGIS app's run config carries: the experiment's name, the overrides, where the server writes."""
    name = next((o.partition("=")[2] for o in overrides if o.startswith("experiment=")), "")
    rest = [o for o in overrides if not o.startswith("experiment=")]
    return {
        "aegis-experiment": name,
        "aegis-overrides": shlex.join(rest),
        "aegis-output": str(folder.resolve()),
    }


def submit(cfg: Config, folder: Path, overrides: Sequence[str]) -> None:
    """Runs the packaged app by ``flwr run`` and waits for it. The report is the server's: what it can know.

    Args:
        cfg: the validated configuration.
        folder: where the server app writes ``report.json``; the SuperLink's machine must see it.
        overrides: the overrides the configuration was composed of; composed again inside the app.

    Raises:
        RunFailed: the run did not finish; the text has the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if cfg.runtime.kind == "ray":
        _ray(cfg, folder, overrides)
        return
    config = " ".join(f"{key}={_toml(value)}" for key, value in run_config(overrides, folder).items())
    flwr = Path(sys.executable).with_name("flwr")
    command = [str(flwr), "run", str(APP), *([cfg.runtime.superlink] if cfg.runtime.superlink else []), "--stream"]
    done = subprocess.run([*command, "--run-config", config], check=False)  # noqa: S603 - flwr of this environment
    if done.returncode != 0 or not (folder / "report.json").is_file():
        raise RunFailed(
            f"`flwr run` ended with exit code {done.returncode} and no report in {folder}; its output above says why. "
            "runtime.superlink names the SuperLink connection of your Flower configuration"
        )


def _toml(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _ray(cfg: Config, folder: Path, overrides: Sequence[str]) -> None:
    from aegis_flower.ingest import provision
    from aegis_flower.simulations.deployment import ray_run

    root = Path(cfg.vault.root) if cfg.vault.root else folder.resolve() / "vaults"
    cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=str(root)))
    provision(cfg, root)
    mine = [o for o in overrides if not o.startswith("vault.root=")] + [f"vault.root={root}"]
    seconds = cfg.runtime.round_deadline * (3 * cfg.strategy.rounds + 5)
    done = ray_run(APP, run_config(mine, folder), cfg.data.clients, timeout=seconds)
    for line in done.log.splitlines():
        if "aegis:" in line:
            sys.stdout.write(line[line.index("aegis:") :] + os.linesep)
    if not done.ok:
        raise RunFailed(f"run {done.status}: {done.details or done.log[-2000:]}")
