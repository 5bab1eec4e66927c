"""What a run says while it runs: nothing for a second, then what it does; a last line with what it came to."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_examples import HOSTILE, deployment, example, hostile
from rich.console import Console

from aegis_flower.cli import progress, trial
from aegis_flower.configs import compose
from aegis_flower.report import ResultsReport, words
from aegis_flower.strategies import RoundRecord


class Heard(io.StringIO):
    """A stream that says when a line has come."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        self.came.set()
        return written


def test_a_phase_that_lasts_is_told_and_one_that_is_over_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Heard()
    with progress.Progress(compose("quickstart"), Console(file=out, width=80)) as shown:
        monkeypatch.setattr(progress, "PATIENCE", 3600)
        shown.phase("calibrating the noise")
        over = shown._waiting
        assert over is not None
        monkeypatch.setattr(progress, "PATIENCE", 0)
        shown.phase("loading torch")
        assert out.came.wait(60)
        shown.phase("training, first round")
        shown(RoundRecord(1, participants=[1, 2]))
        assert shown._waiting is None
    over.join(60)
    assert not over.is_alive()
    assert "loading torch …" in out.getvalue()
    assert "calibrating" not in out.getvalue()
    assert "round   1: 2 in the sum" in out.getvalue()


def test_without_progress_no_phase_is_told() -> None:
    out = io.StringIO()
    with progress.Progress(compose("quickstart", ["tracking.progress=false"]), Console(file=out)) as shown:
        shown.phase("loading torch")
        assert shown._waiting is None
    assert out.getvalue() == ""


def test_the_last_line_has_accuracy_epsilon_and_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = trial._last_line(example(), tmp_path / "out").replace(words.THIN, " ")
    assert line == ("finished: accuracy 86.1 % (95 % interval 85.4 % to 86.8 %), ε 2.88 a record, model out/model.npz")
    bound = trial._last_line(deployment(), tmp_path)
    assert "ε ≤ 2.88 a record" in bound
    silent = example(
        run=replace(example().run, status="failed"), results=ResultsReport(), clients=(), rounds=(), files={}
    )
    assert trial._last_line(silent, tmp_path) == "failed: accuracy not known, no ε, no model"


class Frame(HTMLParser):
    """Elements of a cell, and the page in its frame."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append({"": tag, **dict(attrs)})


@pytest.mark.parametrize("report", [example(), hostile()])
def test_a_notebook_shows_the_page_in_a_frame_that_may_do_nothing(report: object) -> None:
    cell = report._repr_html_()  # type: ignore[attr-defined]
    (frame,) = Frame(cell).elements
    assert (frame[""], frame["sandbox"]) == ("iframe", None)
    page = frame["srcdoc"] or ""
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert HOSTILE not in cell
    assert "<script" not in page
