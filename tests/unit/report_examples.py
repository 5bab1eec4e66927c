"""Reports to test with, one whose every text is hostile, and what is read of a page and of a terminal."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

from rich.console import Console

from aegis_flower.report import (
    AuditReport,
    ClientReport,
    ConfigReport,
    EvaluationReport,
    LostClient,
    MeasuredReport,
    MechanismReport,
    Refusal,
    ResultsReport,
    RoundReport,
    RoundSeconds,
    RunInfo,
    RunReport,
    SecAggReport,
    TimingsReport,
    VersionsReport,
    page,
    print_report,
    words,
)

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x1b[31m\x00[red]"
SCHEMA: dict[str, Any] = json.loads((files("aegis_flower") / "report.schema.json").read_text())
HOSPITALS = tuple(f"hospital-{number}" for number in range(1, 6))


def client(node: str, **changes: Any) -> ClientReport:
    base = ClientReport(
        node=node,
        epsilon=2.8713,
        delta=1e-5,
        unit="record",
        neighbouring="add_remove",
        sampler="poisson",
        accountant="pld",
        noise_multiplier=1.1,
        sample_rate=0.02,
        steps=480,
        noise="secure",
        budget_epsilon=3.0,
        rows_allowed=11_804,
        rows_denied={"consent-withdrawn": 412, "retention-expired": 38},
        rounds_taken_part=12,
        audit=AuditReport(records=842, head="9f3ac09d" * 8, verified=True),
    )
    return replace(base, **changes)


def example(**changes: Any) -> RunReport:
    """Five hospitals, twelve rounds, hospital-3 lost in round 8 and hospital-5 refusing round 4."""
    rounds = tuple(
        RoundReport(
            round=number,
            accuracy=0.86 - 0.4 / number,
            loss=0.3 + 1.5 / number,
            epsilon_max=2.8713 * math.sqrt(number / 12),
            participants=tuple(
                node for node in HOSPITALS if (number, node) not in {(8, "hospital-3"), (4, "hospital-5")}
            ),
            lost=(LostClient(node="hospital-3", step="unmask", reason="no answer within 120 s"),)
            if number == 8
            else (),
            weight_total=4.0 if number in {4, 8} else 5.0,
            seconds=RoundSeconds(share=0.4, train=3.2, unmask=0.2, total=3.9),
            metrics={"update_norm": 1.25, "clipped": None},
        )
        for number in range(1, 13)
    )
    clients = tuple(client(node) for node in HOSPITALS[:4])
    refusal = Refusal(round=4, code="AEG-P004", reason="the cohort is too small")
    base = RunReport(
        run=RunInfo(
            id="8f2c61",
            name="Five hospitals",
            experiment="breast_cancer",
            started="2026-11-23T21:14:05+00:00",
            runtime="inprocess",
            seed=7,
            status="finished",
            private=True,
        ),
        config=ConfigReport(
            resolved={"privacy": {"epsilon": 3.0}, "tags": ["a", None]}, sha256="ab" * 32, overrides=("a=1",)
        ),
        versions=VersionsReport(aegis_flower="0.1.0", python="3.11.2", platform="Linux"),
        rounds=rounds,
        clients=(*clients, client("hospital-5", rounds_taken_part=11, refusals=(refusal,))),
        results=ResultsReport(
            accuracy=0.8612,
            majority_class_accuracy=0.2341,
            accuracy_without_dp=0.8893,
            loss=0.52,
            test_rows=10_000,
            epsilon_max=2.8713,
            unnoised_outputs=("rows denied at each client",),
        ),
        secagg=SecAggReport(enabled=True, profile="S", threshold=4, cohort=5, ring_bits=32, value_bits=20),
        timings=TimingsReport(provision=6.2, train=54.8, report=1.4, total=62.4),
        files={"model": "model.npz"},
    )
    return replace(base, **changes)


def hostile(text: str = HOSTILE) -> RunReport:
    """Every free text of the report is `text`."""
    base = example()
    steps = MechanismReport(kind=text, noise_multiplier=1.0, sample_rate=0.1, clip=1.0, steps=3)
    return example(
        run=replace(base.run, id=text, name=text, experiment=text, runtime=text, status="failed", reason=text, stopped=text,
                    private=False, labels=(text, "NOT PRIVATE"), warnings=(text,)),
        config=replace(base.config, resolved={text: [text, {text: text}]}, overrides=(text,)),
        versions=VersionsReport(**{each.name: text for each in dataclasses.fields(VersionsReport)}),
        rounds=(
            replace(base.rounds[0], participants=(text,),
                    lost=(LostClient(node=text, step=text, reason=text),
                          LostClient(node=f"{text}2", step=text, reason=text, code=text)),
                    metrics={text: 1.0}, public_metrics={text: 1.0}),
        ),
        clients=(
            client(text, name=text, unit=text, neighbouring=text, sampler=text, accountant=text, noise=text,
                   mechanisms=(steps,), evaluation=EvaluationReport(epsilon=1.0, mechanisms=(steps,)),
                   rows_denied={text + str(number): 1 + number for number in range(9)},
                   refusals=(Refusal(round=1, code=text, reason=text),
                             Refusal(round=None, code=text, reason=text))),
        ),
        results=replace(
            base.results,
            unnoised_outputs=(text,),
            noised_outputs=(text,),
            public_metrics={text: 1.0},
            metrics=(MeasuredReport(name=text, value=0.5, sd=0.1, group=text),),
        ),
        secagg=SecAggReport(enabled=True, profile=text),
        files={text: text},
    )  # fmt: skip


class Page(HTMLParser):
    """Elements, attributes and text of a page; text as it is shown, with one blank for any white space."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.structure: list[tuple[str, ...]] = []  # elements in their order, with the names of their attributes
        self.data = ""
        self.feed(html)
        self.close()
        self.text = " ".join(self.data.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.structure.append((tag, *(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.structure.append((f"/{tag}",))

    def handle_data(self, data: str) -> None:
        self.data += data.replace(words.THIN, " ")

    def handle_comment(self, data: str) -> None:
        self.structure.append(("comment",))

    def handle_decl(self, decl: str) -> None:
        self.structure.append((decl,))

    def handle_pi(self, data: str) -> None:
        self.structure.append(("instruction",))

    def unknown_decl(self, data: str) -> None:
        self.structure.append(("declaration",))


def render(report: RunReport) -> str:
    return page.render(report, json_sha256="00" * 32)


def printed(report: RunReport) -> str:
    out = io.StringIO()
    print_report(report, Console(file=out, width=200, force_terminal=True, color_system=None))
    return out.getvalue().replace(words.THIN, " ")


def deployment() -> RunReport:
    """What a server can know: bounds, heads of logs it cannot verify, no rows, no budgets."""
    base = example()
    clients = tuple(
        client(
            f"node-{i}",
            source="upper_bound",
            budget_epsilon=None,
            rows_allowed=None,
            rows_denied=None,
            audit=AuditReport(records=7, head="ab" * 32, verified=None),
        )
        for i in (1, 2, 3)
    )
    rounds = (RoundReport(round=1, participants=("node-1", "node-2", "node-3")),)
    return replace(base, clients=clients, rounds=rounds)
