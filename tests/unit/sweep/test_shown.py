"""`aegis report` after a sweep: what ran last is the sweep, not its last trial."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_examples import example

from aegis_flower.cli import report as commands
from aegis_flower.errors import ReportError
from aegis_flower.report import write_report
from aegis_flower.sweep.report import Trial, write_sweep


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep of two trials under ``outputs``, in whose parent the commands run."""
    folder = tmp_path / "outputs" / "sweep_1"
    for number in ("0", "1"):
        write_report(example(), folder / number)
    write_sweep([Trial(overrides={}, report=example(), folder=folder / n) for n in ("0", "1")], folder)
    monkeypatch.chdir(tmp_path)
    return folder.relative_to(tmp_path)


def test_the_page_that_opens_after_a_sweep_is_that_of_the_sweep(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(commands.webbrowser, "open", lambda page: bool(opened.append(page)) or True)
    for asked, page in ((None, "sweep.html"), (sweep, "sweep.html"), (sweep / "0", "0/report.html")):
        commands.report_open(asked)
        assert opened.pop() == (sweep / page).resolve().as_uri()
    commands.report_show(None)
    assert f"of a sweep, whose table is in {sweep / 'sweep.html'}" in capsys.readouterr().out
    with pytest.raises(ReportError, match=r"is a sweep: `aegis report open outputs/sweep_1`"):
        commands.report_show(sweep)


def test_a_run_of_its_own_opens_its_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(example(), tmp_path / "outputs" / "one")
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(commands.webbrowser, "open", lambda page: bool(opened.append(page)) or True)
    commands.report_open(None)
    assert opened == [(tmp_path / "outputs" / "one" / "report.html").as_uri()]
