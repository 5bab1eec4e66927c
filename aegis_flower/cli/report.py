"""`aegis report`: a run's report in the terminal or the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Final

import typer

from aegis_flower.console import console, tolerate
from aegis_flower.errors import ReportError

SWEEP: Final = "sweep.html"  # in the folder of a sweep; those of its trials lie in it


def _find_report(path: Path | None) -> Path:
    from aegis_flower.report import JSON_NAME

    if path is None:
        found = sorted(Path("outputs").glob(f"**/{JSON_NAME}"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ReportError("no report under ./outputs; run something first, or name a report")
        return found[-1]
    if path.is_dir() and not (path / JSON_NAME).is_file() and (path / SWEEP).is_file():
        raise ReportError(
            f"{path} is a sweep: `aegis report open {path}` has its table, `aegis report show {path}/TRIAL` one trial"
        )
    return path / JSON_NAME if path.is_dir() else path


def _sweep(report: Path) -> Path | None:
    """The page of the sweep that a report is a trial of; None where it is of none."""
    page = report.parent.parent / SWEEP
    return page if page.is_file() else None


ReportPath = Annotated[Path | None, typer.Argument(metavar="[REPORT]", help="folder of a run; the newest by default")]


def report_show(report: ReportPath = None) -> None:
    """Prints a report in the terminal."""
    from aegis_flower.report import load_report, print_report

    tolerate()
    found = _find_report(report)
    print_report(load_report(found), console())
    if (page := _sweep(found)) is not None:
        typer.echo(f"trial {found.parent.name} of a sweep, whose table is in {page}")


def report_open(report: ReportPath = None) -> None:
    """Opens the page of a report or a sweep in the browser, or says where it is."""
    from aegis_flower.report import HTML_NAME

    if report is not None and (report / SWEEP).is_file():
        page = report / SWEEP
    else:
        found = _find_report(report)
        # Who names nothing means what ran last: all of a sweep, not its last trial.
        page = (_sweep(found) if report is None else None) or found.with_name(HTML_NAME)
    if not page.is_file():
        raise ReportError(f"{page} is missing; the run had tracking.html=false")
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"no browser here; the report is {page}")
