"""The page as a browser draws it, at the widths of a desk and of a phone, light and dark: measured by headless Chromium.

Left out where there is no Chromium: it is no requirement of AEGIS, and `make setup` installs none.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_examples import HOSPITALS, client, deployment, example, page

from aegis_flower.report import LostClient, Refusal, ResultsReport, RunReport, SecAggReport

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: apt-get install chromium")
WIDTHS = (1280, 900, 700, 390, 360)
MEASURE = Path(__file__).with_name("measure_page.js").read_text()


def private() -> RunReport:
    """With noise everywhere, totals, persons and held-out rows."""
    clients = tuple(
        client(node, source="ledger", epsilon_total=5.49, epsilon_person=6.7, rows_per_person=4, budget_epsilon=10.0)
        for node in HOSPITALS
    )
    rounds = tuple(
        replace(each, accuracy=None, loss=None, trips=2, bytes_up=250_004, metrics={}) for each in example().rounds
    )
    results = replace(
        example().results, epsilon_total_max=5.49, epsilon_person_max=6.7, accuracy_sd=0.04, test_rows=107
    )
    return example(clients=clients, rounds=rounds, results=results)


def unknown() -> RunReport:
    """A deployment: ids of 19 digits, one node with a name of its own, one that refused."""
    ids = (6101958825135798762, 1234567890123456789, 999)
    lost = LostClient(node=f"node-{ids[1]}", step="masked", reason="the node's log has the reason", code="AEG-B001")
    names = (None, "St Mary's, department of oncology and haematology", None)
    base = deployment()
    clients = tuple(
        replace(each, node=f"node-{i}", name=name) for each, i, name in zip(base.clients, ids, names, strict=True)
    )
    told = replace(clients[1], refusals=(Refusal(round=1, code="AEG-B001", reason="the node's log has the reason"),))
    one = replace(base.rounds[0], participants=(f"node-{ids[0]}", f"node-{ids[2]}"), lost=(lost,), epsilon_max=1.2)
    run = replace(base.run, runtime="deployment")
    return replace(base, run=run, clients=(clients[0], told, clients[2]), rounds=(one, replace(one, round=2, lost=())))


def failed() -> RunReport:
    reason = "[AEG-S015] not enough clients: 2 remain, 3 are needed; nodes answer or refuse as their operators say"
    run = replace(example().run, status="failed", reason=reason, private=False, labels=("NOT PRIVATE", "TEST"))
    lost = tuple(LostClient(node=node, step="masked", reason="no reply within 400 s") for node in HOSPITALS[1:])
    rounds = (replace(example().rounds[0], participants=HOSPITALS[:1], lost=lost, epsilon_max=None, accuracy=None),)
    return example(
        run=run, rounds=rounds, results=ResultsReport(), secagg=SecAggReport(enabled=False), files={},
        clients=tuple(client(node, epsilon=None, audit=None, budget_epsilon=None) for node in HOSPITALS),
    )  # fmt: skip


def regression() -> RunReport:
    rounds = tuple(replace(each, accuracy=None) for each in example().rounds)
    return example(rounds=rounds, results=ResultsReport(loss=0.0213, test_rows=4_810, epsilon_max=2.8713))


def many() -> RunReport:
    nodes = tuple(f"hospital-of-the-north-{number:03}" for number in range(150))
    lost = (LostClient(node=nodes[-1], step="masked", reason="late"),)
    rounds = tuple(
        replace(example().rounds[0], round=number, participants=nodes[:-1], lost=lost, accuracy=0.5 + number / 300)
        for number in range(1, 101)
    )
    denied = {f"a-policy-with-a-long-name-{number}": 1_000_000 + number for number in range(9)}
    return example(rounds=rounds, clients=tuple(client(node, rows_denied=denied) for node in nodes))


REPORTS = {
    "private": private, "unknown": unknown, "failed": failed, "regression": regression, "many": many, "example": example,
}  # fmt: skip


def drawn(report: RunReport) -> str:
    """The page, to be measured by a script, which its own policy would not let run."""
    before = replace(example(), run=replace(example().run, started="2026-11-20T08:00:00+00:00"))
    text = page.render(report, json_sha256="00" * 32, previous=before)
    open_page, removed = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert removed == 1
    return open_page


def measured(pages: dict[str, str], folder: Path) -> list[dict[str, Any]]:
    """What Chromium finds in each page at each width, light and dark."""
    frames = [
        {"name": name, "width": width, "dark": dark, "html": text}
        for name, text in pages.items()
        for width in WIDTHS
        for dark in (False, True)
    ]
    quoted = json.dumps(frames).replace("</", "<\\/")  # or the first page's end would be the script's
    script = f"const frames = {quoted};\n{MEASURE}"
    file = folder / "measure.html"
    file.write_text(f'<!doctype html><meta charset="utf-8"><body><script>{script}</script>', encoding="utf-8")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
               "--virtual-time-budget=60000", "--dump-dom", file.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    results: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    assert [(each["name"], each["width"], each["dark"]) for each in results] == [
        (each["name"], each["width"], each["dark"]) for each in frames
    ]
    return results


@needs_browser
@pytest.mark.timeout(600)
def test_no_label_is_cut_off_too_small_or_hard_to_see_at_any_width(tmp_path: Path) -> None:
    results = measured({name: drawn(build()) for name, build in REPORTS.items()}, tmp_path)
    assert all(each["texts"] > 5 for each in results if each["name"] != "failed")
    found = {f"{r['name']} {r['width']}{' dark' * r['dark']}": r["found"] for r in results if r["found"]}
    assert not found, json.dumps(found, ensure_ascii=False, indent=1)


@needs_browser
@pytest.mark.timeout(600)
def test_the_measure_sees_a_label_cut_off_small_text_overflow_and_pale_ink(tmp_path: Path) -> None:
    broken = drawn(example()).replace(
        "</style>", ".tick{font-size:9px}.note{color:#bbb;background:#fff}h1{white-space:nowrap}</style>"
    )
    broken = broken.replace("Five hospitals <", f"{'Five hospitals ' * 9}<").replace(">88.9", f">{'8' * 40}88.9")
    (first, *_) = [each for each in measured({"broken": broken}, tmp_path) if each["width"] == 390]
    said = " ".join(first["found"])
    for finding in ("is cut off in", "has 9", "the page is", "has a contrast of 1"):
        assert finding in said, first["found"]
