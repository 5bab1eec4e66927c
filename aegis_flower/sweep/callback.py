"""Sweeps: a Hydra callback that ends a multirun with one table and one plot, read back from the trials' folders."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from aegis_flower.configs import Config
from aegis_flower.console import console
from aegis_flower.sweep import plan, trials

# Sweeps of this process that have begun and not been summed up: an interrupt skips Hydra's own callbacks.
_open: list[Path] = []
exit_codes: list[int] = []
# Folders of sweeps that this process goes on with.
resuming: set[Path] = set()


def shared_vaults(sweep_dir: Path, cfg: Config) -> Path:
    """Folder of the vaults that all trials over the same data and terms share, so that each is charged to one budget."""
    from aegis_flower.simulations.provision import fingerprint

    return sweep_dir.resolve() / f"vaults-{hashlib.sha256(fingerprint(cfg).encode()).hexdigest()[:8]}"


class SweepSummary(Callback):
    """Shows the trials' reports together, in the table, the plot and the page."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Notes that there is a sweep to sum up, and what began it."""
        del kwargs
        folder = Path(config.hydra.sweep.dir)
        _open.append(folder)
        again = folder.resolve() in resuming
        made = plan.begin(sys.argv[1:], resumed=again)
        if again and (first := plan.read(folder)) is not None:
            made = dataclasses.replace(first, resumed=True)
        made.write(folder)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Writes and prints the summary."""
        del kwargs
        folder = Path(config.hydra.sweep.dir)
        if folder in _open:
            _open.remove(folder)
        summarise(folder)


def finish() -> None:
    """Sums up what an interrupt or an error left open."""
    while _open:
        summarise(_open.pop())


def summarise(folder: Path) -> None:
    """Writes ``sweep.json``, ``sweep.html`` and, with matplotlib, ``sweep.png``; prints the table, notes exit codes."""
    from aegis_flower.sweep.report import Trial, write_sweep

    every = trials.read(folder)
    if not every:
        return
    found, made = trials.newest(every), plan.read(folder)
    exit_codes.extend(note.exit_code for note, _ in found)
    overrides = [trials.pairs(note.overrides) for note, _ in found]
    fixed = set.intersection(*(set(o.items()) for o in overrides)) if len(overrides) > 1 else set()
    shown = [
        Trial(
            overrides={k: v for k, v in mine.items() if (k, v) not in fixed},
            report=report,
            folder=Path(note.folder),
            status=note.status,
            error=note.error,
        )
        for mine, (note, report) in zip(overrides, found, strict=True)
    ]
    out = console()
    paths = write_sweep(shown, folder, console=out, totals=trials.totals(every), plan=made)
    where = paths.png or "in the page; a PNG needs matplotlib: pip install 'aegis-flower[plots]'"
    out.print(f"plot: {where}", highlight=False, markup=False, soft_wrap=True)
    out.print(f"page: {paths.html}", highlight=False, soft_wrap=True)


def announce(configs: Sequence[Config]) -> None:
    """Says what a sweep will cost before it starts."""
    out = console()
    for line in trials.expected(configs):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
