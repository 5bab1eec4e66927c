"""MLflow: a run in a store of files, ``mlruns/``. Nothing goes over a network, whatever ``MLFLOW_TRACKING_URI`` says."""

from __future__ import annotations

import os
import time
from typing import Any

# Both are read when MLflow is imported or used: no telemetry, and files in place of a database, which the slim package has not.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from aegis_flower.configs import Config
from aegis_flower.report import RunReport
from aegis_flower.tracking.protocol import Measured, Run

_PARAM_MAX, _BATCH = 500, 100
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED"}


class MLflow:
    """Parameters are the resolved configuration, metrics go by round, the experiment has the run's name."""

    def __init__(self) -> None:
        self._client: Any = None
        self._id = ""

    def start(self, config: Config, run: Run) -> None:
        """Makes the run."""
        self._client = MlflowClient(tracking_uri=(run.store / "mlruns").resolve().as_uri())
        tags = {f"aegis.{name}": value for name, value in {**run.tags, "run": run.id}.items()}
        self._id = self._client.create_run(self._experiment(run.name), tags=tags, run_name=run.id).info.run_id
        params = [Param(name, str(value)[:_PARAM_MAX]) for name, value in _flat("", config.to_dict())]
        for at in range(0, len(params), _BATCH):
            self._client.log_batch(self._id, params=params[at : at + _BATCH])

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is None:
            try:
                return str(self._client.create_experiment(name))
            except MlflowException:  # another trial was quicker
                known = self._client.get_experiment_by_name(name)
                if known is None:
                    raise
        return str(known.experiment_id)

    def round(self, measured: Measured) -> None:
        """Logs the metrics."""
        self._log(measured.values.items(), measured.round)

    def end(self, report: RunReport) -> None:
        """Logs the result and how the run ended."""
        results, rounds = report.results, report.rounds
        found = {"final/accuracy": results.accuracy, "final/loss": results.loss, "final/epsilon": results.epsilon_max}
        self._log([(k, v) for k, v in found.items() if v is not None], rounds[-1].round if rounds else 0)
        self._client.set_tag(self._id, "aegis.status", report.run.status)
        self._client.set_terminated(self._id, status=_STATUS.get(report.run.status, "FAILED"))

    def _log(self, values: Any, round_: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, round_) for name, value in sorted(values)]
        self._client.log_batch(self._id, metrics=metrics)


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            found += _flat(f"{prefix}{name}.", value)
        else:
            found.append((f"{prefix}{name}", value))
    return found
