"""Sweeps: a Hydra callback that ends a multirun with one table and one plot."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from aegis_flower.config import Config


def shared_vaults(sweep_dir: Path, cfg: Config) -> Path:
    """Folder of the vaults that all trials over the same data share, so that each trial is charged to one budget."""
    from aegis_flower.ingest import fingerprint

    return sweep_dir / f"vaults-{hashlib.sha256(fingerprint(cfg).encode()).hexdigest()[:8]}"


class SweepSummary(Callback):
    """Collects the trials' reports and shows them together."""

    def __init__(self) -> None:
        self._done: list[tuple[dict[str, str], Path]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Notes the trial's overrides and folder."""
        del config, kwargs
        if (
            job_return.status == JobStatus.COMPLETED
            and isinstance(job_return.return_value, dict)
            and "folder" in job_return.return_value
        ):
            pairs = (o.lstrip("+").partition("=") for o in job_return.overrides or ())
            self._done.append(({k: v for k, _, v in pairs}, Path(job_return.return_value["folder"])))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes and prints the summary."""
        del kwargs
        if not self._done:
            return
        from rich.console import Console

        from aegis_flower.report import load_report
        from aegis_flower.sweep_report import Trial, write_sweep

        console = Console()
        fixed = set.intersection(*(set(o.items()) for o, _ in self._done)) if len(self._done) > 1 else set()
        trials = [
            Trial(
                overrides={k: v for k, v in overrides.items() if (k, v) not in fixed},
                report=load_report(folder / "report.json"),
                folder=folder,
            )
            for overrides, folder in self._done
        ]
        folder = Path(config.hydra.sweep.dir)
        paths = write_sweep(trials, folder, console=console, charged_epsilon=self._charged(trials))
        console.print(f"plot: {paths.png}", highlight=False, soft_wrap=True)
        console.print(f"page: {paths.html}", highlight=False, soft_wrap=True)

    @staticmethod
    def _charged(trials: list[Any]) -> float | None:
        """ε that all trials together cost the vault that paid most, from its ledger."""
        from aegis_engine import Vault
        from aegis_flower.ledger import Ledger

        charged = []
        for root in {Path(t.report.config.resolved["vault"]["root"]) for t in trials}:
            for key in sorted((root / "keys").glob("*.key")):
                vault = Vault.open(str(root / key.stem), key_file=str(key))
                for name in vault.datasets():
                    delta = float(trials[0].report.config.resolved["privacy"]["delta"])
                    charged.append(Ledger(vault, name).spent(delta).epsilon)
        return max(charged) if charged and max(charged) > 0 else None
