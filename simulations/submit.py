"""Submits an experiment to Flower: its own simulation engine (``runtime=ray``) or a federation (``runtime=deployment``)."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aegis_flower.configs import CARRIED, Config, carry
from aegis_flower.console import Tolerant
from aegis_flower.errors import AppError, ConfigError, RunFailed

APP = Path(__file__).parent / "quickstart"


def run_config(cfg: Config, overrides: Sequence[str], folder: Path) -> dict[str, str]:
    """What an AEGIS app's run config carries: the resolved configuration, the overrides as written, where the server writes.

    One word of ASCII, which Flower's text form of a run config cannot bend: quotes, spaces and letters of any script arrive as
    they were, and so do experiments of the user's own ``--config-dir``.
    """
    return {CARRIED: carry(cfg, overrides, str(folder.resolve()))}


def submit(cfg: Config, folder: Path, overrides: Sequence[str], app: Path = APP, client: Any = None) -> None:
    """Runs an app by ``flwr run`` and waits for it. The report is the server's: what it can know.

    Args:
        cfg: the validated configuration, which the app gets as it is.
        folder: where the server app writes ``report.json``; the SuperLink's machine must see it.
        overrides: what the user wrote, for the report.
        app: folder of the Flower App: the packaged one, or a project's.
        client: its `ClientApp`, where it is loaded here.

    Raises:
        ConfigError: ``runtime=ray`` without Ray.
        AppError: ``runtime=ray``, and the client holds what cannot be sent to Ray's workers; nothing has started then.
        RunFailed: the run did not finish; the text has the end of its log.
    """
    if cfg.runtime.kind == "ray" and importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "runtime.kind", "ray is not installed: pip install 'aegis-flower[ray]', or take runtime=inprocess"
        )
    if cfg.runtime.kind == "ray" and client is not None:
        _check_sendable(client)
    folder.mkdir(parents=True, exist_ok=True)
    if cfg.runtime.kind == "ray":
        _ray(cfg, folder, overrides, app)
        return
    config = " ".join(f'{key}="{value}"' for key, value in run_config(cfg, overrides, folder).items())
    command = [_flwr(), "run", str(app), *([cfg.runtime.superlink] if cfg.runtime.superlink else []), "--stream"]
    # Flower starts helpers of its own by name: those of this environment, whatever PATH says.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    environment = {**os.environ, "PATH": path}
    done = subprocess.run([*command, "--run-config", config], check=False, env=environment)  # noqa: S603 - flwr of this environment
    if done.returncode != 0 or not (folder / "report.json").is_file():
        raise RunFailed(
            f"`flwr run` ended with exit code {done.returncode} and no report in {folder}; its output above says why. "
            "runtime.superlink names the SuperLink connection of your Flower configuration"
        )


def _flwr() -> str:
    return str(Path(sys.executable).with_name("flwr"))


def _check_sendable(client: Any) -> None:
    """Flower sends the loaded client to Ray's workers by pickle. One that does not pickle gives no answer in any round."""
    from ray import cloudpickle

    try:
        cloudpickle.dumps(client)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise AppError(
            f"runtime=ray sends the app's client to workers by pickle, and this one holds what cannot be sent: "
            f"{type(error).__name__}: {error}. Open files, locks and the like inside the function that uses them, or take "
            "runtime=inprocess"
        ) from error


def _ray(cfg: Config, folder: Path, overrides: Sequence[str], app: Path) -> None:
    from aegis_flower.simulations.flower.deployment import ray_run
    from aegis_flower.simulations.provision import provision

    # Flower's processes have working folders of their own.
    root = (Path(cfg.vault.root) if cfg.vault.root else folder / "vaults").resolve()
    cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=str(root)))
    provision(cfg, root)
    seconds = cfg.runtime.round_deadline * (3 * cfg.strategy.rounds + 5)
    done = ray_run(app, run_config(cfg, overrides, folder), cfg.data.clients, timeout=seconds)
    out = Tolerant(sys.stdout)
    for line in done.log.splitlines():
        if "aegis:" in line:
            out.write(line[line.index("aegis:") :] + os.linesep)
    if not done.ok:
        raise RunFailed(f"run {done.status}: {done.details or done.log[-2000:]}")
