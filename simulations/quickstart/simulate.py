"""Runs this app in one process, with vaults made from real data: ``python simulate.py [KEY=VALUE ...]``."""

import sys
from pathlib import Path

from quickstart.client_app import app
from rich.console import Console

from aegis_flower import compose, run_experiment
from aegis_flower.report import print_report

if __name__ == "__main__":
    overrides = sys.argv[1:]
    folder = Path("aegis-runs") / f"{len(list(Path('aegis-runs').glob('*'))) + 1:03d}"
    report = run_experiment(compose("quickstart", overrides), folder, overrides=overrides, client_app=app)
    print_report(report, Console())
    sys.stdout.write(f"report: {folder / 'report.html'}\n")
