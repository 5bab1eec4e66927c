"""`aegis report`: a run's report in the terminal or the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from aegis_flower.console import console, tolerate
from aegis_flower.errors import ReportError


def _find_report(path: Path | None) -> Path:
    from aegis_flower.report import JSON_NAME

    if path is None:
        found = sorted(Path("outputs").glob(f"**/{JSON_NAME}"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ReportError("no report under ./outputs; run something first, or name a report")
        return found[-1]
    return path / JSON_NAME if path.is_dir() else path


ReportPath = Annotated[Path | None, typer.Argument(metavar="[REPORT]", help="folder of a run; the newest by default")]


def report_show(report: ReportPath = None) -> None:
    """Prints a report in the terminal."""
    from aegis_flower.report import load_report, print_report

    tolerate()
    print_report(load_report(_find_report(report)), console())


def report_open(report: ReportPath = None) -> None:
    """Opens a report's page in the browser, or says where it is."""
    from aegis_flower.report import HTML_NAME

    page = _find_report(report).with_name(HTML_NAME)
    if not page.is_file():
        raise ReportError(f"{page} is missing; the run had tracking.html=false")
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"no browser here; the report is {page}")
