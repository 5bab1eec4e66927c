"""Weights & Biases, offline: a run under ``wandb/``. `wandb sync` sends it, when somebody who may decides so."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported

import wandb

from aegis_flower.configs import Config
from aegis_flower.report import RunReport
from aegis_flower.tracking.protocol import Measured, Run

# W&B adds these to a run by itself: code, commit, machine, user, load, packages, output. The report has none of them.
_SILENT: dict[str, Any] = {
    "silent": True,
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "host": "aegis",
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class WandB:
    """History goes by round; the configuration is the resolved one."""

    def __init__(self) -> None:
        self._run: Any = None

    def start(self, config: Config, run: Run) -> None:
        """Makes the run."""
        run.store.mkdir(parents=True, exist_ok=True)
        known = wandb.Settings.model_fields
        self._run = wandb.init(
            mode="offline",
            dir=str(run.store),
            project=run.name,
            name=run.id,
            config={"aegis": dict(run.tags), **config.to_dict()},
            tags=[f"config {run.tags['config_sha256'][:12]}", f"epsilon {run.tags['epsilon']}"],
            reinit="create_new",  # a run of the user's in this process stays as it is
            settings=wandb.Settings(**{name: value for name, value in _SILENT.items() if name in known}),
        )

    def round(self, measured: Measured) -> None:
        """Adds to the history."""
        self._run.log(dict(measured.values), step=measured.round)

    def end(self, report: RunReport) -> None:
        """Notes the result, and ends the run."""
        results = report.results
        found = {"final/accuracy": results.accuracy, "final/loss": results.loss, "final/epsilon": results.epsilon_max}
        for name, value in {**found, "status": report.run.status}.items():
            if value is not None:
                self._run.summary[name] = value
        self._run.finish(exit_code=0 if report.run.status == "finished" else 1)
