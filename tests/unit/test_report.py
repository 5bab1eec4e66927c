"""The run report: strict JSON that agrees with its schema, and one page that shows it safely."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import math
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import jsonschema
import pytest
from rich.console import Console

from aegis_flower import report as subject
from aegis_flower.errors import AegisError, ReportError
from aegis_flower.files import write_atomically
from aegis_flower.report import (
    AuditReport,
    ClientReport,
    ConfigReport,
    EvaluationReport,
    LostClient,
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
    load_report,
    page,
    print_report,
    words,
    write_report,
)
from aegis_flower.report.page import charts as svg

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
        run=replace(base.run, id=text, name=text, experiment=text, runtime=text, status="failed", reason=text,
                    private=False, labels=(text, "NOT PRIVATE"), warnings=(text,)),
        config=replace(base.config, resolved={text: [text, {text: text}]}, overrides=(text,)),
        versions=VersionsReport(**{each.name: text for each in dataclasses.fields(VersionsReport)}),
        rounds=(
            replace(base.rounds[0], participants=(text,),
                    lost=(LostClient(node=text, step=text, reason=text),
                          LostClient(node=f"{text}2", step=text, reason=text, code=text)),
                    metrics={text: 1.0}),
        ),
        clients=(
            client(text, unit=text, neighbouring=text, sampler=text, accountant=text, noise=text,
                   mechanisms=(steps,), evaluation=EvaluationReport(epsilon=1.0, mechanisms=(steps,)),
                   rows_denied={text + str(number): 1 + number for number in range(9)},
                   refusals=(Refusal(round=1, code=text, reason=text),
                             Refusal(round=None, code=text, reason=text))),
        ),
        results=replace(base.results, unnoised_outputs=(text,), noised_outputs=(text,)),
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


# JSON


def test_round_trip(tmp_path: Path) -> None:
    paths = write_report(example(), tmp_path / "new" / "folder")
    assert load_report(paths.json) == example()
    assert load_report(paths.json.parent) == example()
    assert sorted(each.name for each in paths.json.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("report", [example(), hostile(), example(rounds=(), clients=(), results=ResultsReport())])
def test_json_satisfies_the_schema(report: RunReport, tmp_path: Path) -> None:
    value = json.loads(write_report(report, tmp_path).json.read_text())
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(value)


def bare(hint: Any) -> Any:
    """The class inside Annotated, Optional and tuple."""
    if get_origin(hint) is Annotated:
        return bare(get_args(hint)[0])
    if get_origin(hint) in {Union, types.UnionType, tuple}:
        return bare(next(each for each in get_args(hint) if each not in {types.NoneType, ...}))
    return hint


def pairs(kind: type, schema: Mapping[str, Any], path: str = "report") -> Iterator[tuple[str, type, Mapping[str, Any]]]:
    yield path, kind, schema
    for name, hint in get_type_hints(kind, include_extras=True).items():
        inner = bare(hint)
        if dataclasses.is_dataclass(inner) and isinstance(inner, type):
            field = schema["properties"][name]
            field = field["items"] if field.get("type") == "array" else field
            field = field["anyOf"][1] if "anyOf" in field else field
            yield from pairs(inner, field, f"{path}.{name}")


@pytest.mark.parametrize(("path", "kind", "schema"), list(pairs(RunReport, SCHEMA)))
def test_schema_names_the_fields_of_the_dataclasses(path: str, kind: type, schema: Mapping[str, Any]) -> None:
    names = [each.name for each in dataclasses.fields(kind)]
    assert sorted(schema["properties"]) == sorted(names), path
    assert sorted(schema["required"]) == sorted(names), path
    assert schema["additionalProperties"] is False, path


def test_schema_describes_each_field() -> None:
    def walk(value: Any) -> None:
        for name, field in value.get("properties", {}).items():
            assert len(field["description"]) > 8, name
        for inner in value.values():
            if isinstance(inner, dict):
                walk(inner)

    walk(SCHEMA)


def test_unknown_is_null(tmp_path: Path) -> None:
    value = json.loads(write_report(example(results=ResultsReport(epsilon_max=2.9)), tmp_path).json.read_text())
    assert value["results"]["accuracy_without_dp"] is None
    assert value["secagg"]["bytes_up_per_client"] is None
    assert value["versions"]["torch"] is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("path", "build"),
    [
        ("rounds[2].loss", lambda bad: example(rounds=(*example().rounds[:2], replace(example().rounds[2], loss=bad)))),
        ("rounds[0].metrics['x']", lambda bad: example(rounds=(replace(example().rounds[0], metrics={"x": bad}),))),
        ("results.accuracy", lambda bad: example(results=replace(example().results, accuracy=bad))),
        ("clients[0].epsilon", lambda bad: example(clients=(client("a", epsilon=bad),))),
        ("config.resolved['a'][1]['b']",
         lambda bad: example(config=ConfigReport(resolved={"a": [1, {"b": bad}]}, sha256="ab" * 32))),
    ],
)  # fmt: skip
def test_non_finite_is_refused(bad: float, path: str, build: Any) -> None:
    with pytest.raises(ReportError, match=re.escape(f"{path} is {bad}, which JSON cannot hold")):
        build(bad)


def test_non_finite_put_into_a_mapping_later_is_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rate": 1.0}
    report = example(config=ConfigReport(resolved=settings, sha256="ab" * 32))
    settings["rate"] = math.nan
    with pytest.raises(ReportError, match="rate"):
        write_report(report, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("message", "build"),
    [
        ("an epsilon without delta, accountant", lambda: example(clients=(client("a", delta=None, accountant=None),))),
        ("below 2.8713 of a client", lambda: example(results=ResultsReport(epsilon_max=2.87))),
        ("no client states its epsilon", lambda: example(clients=())),
        ("reported 2 times", lambda: example(clients=(client("a"), client("a")))),
        ("round 1 follows round 2", lambda: example(rounds=(example().rounds[1], example().rounds[0]))),
        ("drew test noise", lambda: example(clients=(client("a", noise="insecure_test"),))),
        ("beside the label NOT PRIVATE", lambda: example(run=replace(example().run, labels=("NOT PRIVATE",)))),
        ("run.status is 'done'", lambda: example(run=replace(example().run, status="done"))),
        ("run.started is 'today'", lambda: example(run=replace(example().run, started="today"))),
        ("run.private is of type int", lambda: example(run=replace(example().run, private=1))),
        ("run.name is ''", lambda: example(run=replace(example().run, name=""))),
        ("run.name is not valid Unicode at character 1", lambda: example(run=replace(example().run, name="a\udc80"))),
        ("results.accuracy is 86.1", lambda: example(results=replace(example().results, accuracy=86.1))),
        ("rounds is of type list", lambda: example(rounds=[])),
        ("clients[0].steps is of type float", lambda: example(clients=(client("a", steps=4.0),))),
        ("config.sha256", lambda: example(config=replace(example().config, sha256="AB" * 32))),
        ("clients[0].rows_denied['p'] is -1", lambda: example(clients=(client("a", rows_denied={"p": -1}),))),
        ("run.reason is not valid Unicode at character 0", lambda: example(run=replace(example().run, reason="\udc80"))),
        ("files['a'] is not valid Unicode", lambda: example(files={"a": "b\udc80"})),
        ("a key of files is not valid Unicode", lambda: example(files={"a\udc80": "b"})),
        ("a key of files is of type int", lambda: example(files={1: "model.npz"})),
        ("results.epsilon_max is -1.0, it must be at least 0",
         lambda: example(results=replace(example().results, epsilon_max=-1.0))),
        ("clients[0].steps is of type bool", lambda: example(clients=(client("a", steps=True),))),
        ("run is of type dict, it must be a RunInfo", lambda: example(run={"id": "a"})),
        ("of type object", lambda: example(config=replace(example().config, resolved={"a": object()}))),
    ],
)  # fmt: skip
def test_a_report_that_contradicts_itself_is_refused(message: str, build: Any) -> None:
    with pytest.raises(ReportError, match=re.escape(message)):
        build()


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("unknown 'extra'", lambda value: value["run"].update(extra=1)),
        ("missing seed", lambda value: value["run"].pop("seed")),
        ("run has other fields than it must: missing labels", lambda value: value["run"].pop("labels")),
        (
            "rounds[7].lost[0] has other fields than it must: missing code",
            lambda value: value["rounds"][7]["lost"][0].pop("code"),
        ),
        (
            "clients[4].refusals is of type dict, it must be a list",
            lambda value: value["clients"][4].update(refusals={}),
        ),
        ("it is not JSON", lambda value: value["run"].update(name="a\udc80")),
        ("schema version 3", lambda value: value.update(schema_version=3)),
        ("schema version True", lambda value: value.update(schema_version=True)),
        ("rounds is of type dict", lambda value: value.update(rounds={})),
        ("run is of type NoneType", lambda value: value.update(run=None)),
        ("run.name is of type NoneType", lambda value: value["run"].update(name=None)),
        ("clients[0] is of type int", lambda value: value.update(clients=[1])),
        ("results.epsilon_max is 1", lambda value: value["results"].update(epsilon_max=1)),
    ],
)
def test_load_refuses_another_shape(message: str, change: Any, tmp_path: Path) -> None:
    path = write_report(example(), tmp_path).json
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(ReportError, match=re.escape(message)) as caught:
        load_report(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 100_000])
def test_load_refuses_what_is_not_strict_json(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(text)
    with pytest.raises(ReportError, match=r"cannot read the report .*report\.json"):
        load_report(tmp_path)


def test_a_report_of_schema_1_is_read_and_what_it_lacks_is_unknown(tmp_path: Path) -> None:
    path = write_report(example(), tmp_path).json
    value = json.loads(path.read_text())
    value["schema_version"] = 1
    for name in ("warnings",):
        del value["run"][name]
    for name in ("accuracy_sd", "epsilon_total_max", "epsilon_person_max", "noised_outputs"):
        del value["results"][name]
    for one in value["clients"]:
        for name in ("source", "epsilon_total", "epsilon_person", "epsilon_total_person", "rows_per_person", "clip"):
            del one[name]
        del one["mechanisms"], one["evaluation"]
    for lost in (each for one in value["rounds"] for each in one["lost"]):
        del lost["code"]
    path.write_text(json.dumps(value))
    assert load_report(path) == example()


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


def test_what_a_server_cannot_know_is_shown_as_not_known_and_never_as_no_or_zero() -> None:
    html, text = render(deployment()), printed(deployment())
    assert "not verified" not in html.lower() + text.lower()
    assert "No row was denied" not in html
    assert "NOT VERIFIED" not in text
    assert "to be verified at the nodes" in html
    assert "≤ 2.88" in text
    rows = next(line for line in text.splitlines() if "rows denied" in line)
    assert "not known" in rows


def test_a_refusal_is_told_once_with_its_code_wherever_losses_are_told() -> None:
    lost = LostClient(node="hospital-1", step="masked", reason="no budget left", code="AEG-B001")
    first = replace(example().rounds[0], participants=HOSPITALS[1:], lost=(lost,))
    refusal = Refusal(round=1, code="AEG-B001", reason="no budget left")
    report = example(
        rounds=(first,),
        clients=(client("hospital-1", rounds_taken_part=0, refusals=(refusal,)), *example().clients[1:4]),
    )
    assert printed(report).count("no budget left") == 1
    assert "AEG-B001" in printed(report)
    assert Page(render(report)).text.count("no budget left") == 2  # in the table, and in the title of its cell


def test_run_and_total_record_and_person_stand_beside_each_other() -> None:
    clients = tuple(
        client(node, source="ledger", epsilon_total=5.49, epsilon_person=6.7, epsilon_total_person=11.0,
               rows_per_person=2, budget_epsilon=10.0)
        for node in HOSPITALS
    )  # fmt: skip
    results = replace(example().results, epsilon_total_max=5.49, epsilon_person_max=6.7, accuracy_sd=0.04)
    report = example(clients=clients, results=results)
    for shown in (printed(report), Page(render(report)).text):
        for number in ("2.88", "5.49", "6.70", "of 10", "± 4.0 %"):
            assert number in shown, number


def test_a_total_below_the_run_is_refused() -> None:
    with pytest.raises(ReportError, match="below this run's"):
        example(clients=(client("hospital-1", epsilon_total=1.0),))


def test_a_run_that_measured_its_last_model_alone_shows_no_curve_through_one_point() -> None:
    rounds = tuple(replace(each, accuracy=None, loss=None) for each in example().rounds[:-1])
    html = render(example(rounds=(*rounds, example().rounds[-1])))
    assert "Accuracy by round" not in html
    assert "majority class" in html


def test_warnings_stand_above_the_numbers() -> None:
    report = example(run=replace(example().run, warnings=("hospital-1: the ledger holds 20 steps",)))
    assert "the ledger holds 20 steps" in Page(render(report)).text
    assert printed(report).index("the ledger holds 20 steps") < printed(report).index("accuracy")


def test_load_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(AegisError, match="No such file"):
        load_report(tmp_path)


# Files


def test_a_failed_write_keeps_the_earlier_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(example(), tmp_path)
    kept = before.json.read_bytes(), before.html.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match="No space left"):
        write_report(example(files={}), tmp_path)
    assert (before.json.read_bytes(), before.html.read_bytes()) == kept
    assert len(list(tmp_path.iterdir())) == 2


def test_each_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("sync"), real_sync(file))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("rename"), real_replace(self, to))[1])
    write_atomically({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert calls == ["sync", "sync", "rename", "rename", "sync"]


def test_write_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ReportError, match="cannot write"):
        write_report(example(), tmp_path / "taken")


# The page


def test_html_is_deterministic(tmp_path: Path) -> None:
    first, second = write_report(example(), tmp_path / "a"), write_report(example(), tmp_path / "b")
    assert first.html.read_bytes() == second.html.read_bytes()
    assert first.json.read_bytes() == second.json.read_bytes()


@pytest.mark.parametrize("report", [example(), hostile()])
def test_html_refers_to_nothing_outside(report: RunReport) -> None:
    html = render(report)
    parsed = Page(html)
    assert not parsed.tags & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "a", "use", "image"}
    names = {name for name, _ in parsed.attributes}
    assert not names & {"src", "href", "srcset", "style", "action", "data", "xlink:href"}
    assert not [name for name in names if name.startswith("on")]
    for forbidden in ("http:", "https:", "src=", "url(", "@import", "file:"):
        assert forbidden not in html
    assert "default-src 'none'" in html


@pytest.mark.parametrize("html", [render(hostile()), render(hostile()).lower()])
def test_hostile_text_is_shown_not_obeyed(html: str) -> None:
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in html
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)


def test_policy_admits_exactly_this_style_sheet() -> None:
    html = render(example())
    style = re.search(r"<style>(.*)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in html


def test_html_names_the_json_it_stands_for(tmp_path: Path) -> None:
    paths = write_report(example(), tmp_path)
    assert hashlib.sha256(paths.json.read_bytes()).hexdigest() in paths.html.read_text()


def test_headline() -> None:
    text = Page(render(example())).text
    assert "86.1 %" in text
    assert "without DP 88.9 %" in text
    assert "majority class 23.4 %" in text
    assert "ε 2.88 of 3" in text  # rounded up
    assert "2 250" in text  # rows denied: 5 times 450
    assert "Audit logs verified yes 5 of 5" in text


def test_lost_client_is_visible_with_step_and_reason() -> None:
    html = render(example())
    assert 'class="lost"' in html
    assert "round 8: hospital-3 lost at unmask, its update is not in the sum: no answer within 120 s" in html
    assert "1 client lost on the way" in html
    assert "lost hospital-3 at unmask: no answer within 120 s" in printed(example())


def test_client_lost_after_its_update_arrived_counts_as_in_the_sum() -> None:
    last = example().rounds[7]
    html = render(example(rounds=(replace(last, participants=HOSPITALS),)))
    assert "hospital-3 lost at unmask, its update is in the sum" in html


def test_refusal_is_visible() -> None:
    for text in (render(example()), printed(example())):
        assert "AEG-P004" in text
        assert "the cohort is too small" in text


def test_unverified_log_is_not_called_verified() -> None:
    bad = client("hospital-1", audit=AuditReport(records=1, head="ab", verified=False))
    report = example(clients=(bad, client("hospital-2", audit=None)))
    text = Page(render(report)).text
    assert "Audit logs verified no 0 of 2" in text
    assert "not verified: hospital-1, hospital-2" in text
    assert "NOT VERIFIED" in printed(report)


def test_over_budget_is_said_even_of_a_client_with_less_epsilon() -> None:
    report = example(clients=(client("big"), client("small", epsilon=2.5, budget_epsilon=2.0)))
    assert "over budget: small" in render(report)
    assert "OVER BUDGET: small" in printed(report)


def test_not_private_is_said_first() -> None:
    report = example(run=replace(example().run, private=False, labels=("NOT PRIVATE", "test noise")))
    html = render(report)
    assert html.index("NOT PRIVATE: ") < html.index('class="tiles"')
    assert "everything this run released" in html
    assert "NOT PRIVATE" in printed(report)


def test_missing_numbers_are_not_made_up() -> None:
    report = example(clients=(), rounds=(), results=ResultsReport(), secagg=SecAggReport(enabled=False))
    text = Page(render(report)).text
    assert "Accuracy not known" in text
    assert "no ε" in text
    assert "the server could read it" in text
    assert "none stated" in printed(report)


@pytest.mark.parametrize("show", [lambda report: Page(render(report)).text, printed])
def test_epsilon_never_stands_alone(show: Any) -> None:
    text = show(example())
    for number in re.finditer(r"2\.88", text):
        near = text[max(0, number.start() - 900) : number.end() + 900]
        for word in ("unit record", "δ = 1e-5", "neighbouring add or remove one", "PLD accountant"):
            assert word in near


def test_clients_with_other_guarantees_are_told_apart() -> None:
    lines = words.guarantee_lines([client("a"), client("b", delta=1e-6), client("c", epsilon=None)])
    assert [line.replace(words.THIN, " ") for line in lines] == [
        "ε: unit record · δ = 1e-5 · neighbouring add or remove one · PLD accountant (a)",
        "ε: unit record · δ = 1e-6 · neighbouring add or remove one · PLD accountant (b)",
        "no ε stated by c",
    ]


def test_words() -> None:
    text = Page(render(example())).text.lower()
    assert "evidence for" in text
    assert "complian" not in text + json.dumps(SCHEMA).lower()


def test_terminal_shows_hostile_text_as_text() -> None:
    text = printed(hostile())
    assert "\x1b[31m" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "[red]" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_name_of_a_client_is_cut_in_a_terminal(width: int) -> None:
    node = "node-6101958825135798762"
    out = io.StringIO()
    report = example(clients=(*(client(name) for name in HOSPITALS), client(node)))
    print_report(report, Console(file=out, width=width, force_terminal=True, color_system=None))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    start = next(i for i, line in enumerate(lines) if line.startswith(" client "))
    column = lines[start].index("run") - (2 if "ε run" in lines[start] else 0)
    names = "".join(line[:column].strip() for line in lines[start + 2 : lines.index("", start)])
    assert names == "".join(HOSPITALS) + node
    assert "…" not in out.getvalue()


def test_the_loss_stands_where_a_number_is_predicted() -> None:
    results = replace(example().results, accuracy=None, loss=0.25)
    assert words.headline(example(results=results))[0] == ("loss", "0.25", f"10{words.THIN}000 test rows")


def test_many_clients_and_rounds_stay_a_page(tmp_path: Path) -> None:
    nodes = tuple(f"node-{number:03}" for number in range(200))
    lost = (LostClient(node=nodes[-1], step="masked", reason="late"),)
    rounds = tuple(
        replace(example().rounds[0], round=number, participants=nodes[:-1], lost=lost) for number in range(1, 101)
    )
    report = example(rounds=rounds, clients=tuple(client(node) for node in nodes))
    html = render(report)
    assert len(html) < 700_000
    assert "round 100: node-199 lost at masked" in html
    assert "140 more clients" in html


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.87, "2.87"), (2.8701, "2.88"), (3.0, "3.00"), (0.0, "0.00"), (0.0123456, "0.0124"), (1e-7, "0.000000100"),
     (1.234567e-12, "1.24e-12"), (12345.678, "12345.68")],
)  # fmt: skip
def test_epsilon_is_rounded_up(value: float, text: str) -> None:
    shown = words.epsilon(value)
    assert float(shown) >= value
    assert shown == text or math.isclose(float(shown), float(text))


@pytest.mark.parametrize(
    ("value", "text"), [(1e-5, "1e-5"), (2.5e-6, "2.5e-6"), (1e-4, "1e-4"), (0.05, "0.05"), (0.0, "0")]
)
def test_delta(value: float, text: str) -> None:
    assert words.delta_text(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.41, 0.89), (5, 5), (0, 0), (-3, 7), (1e-9, 2e-9), (0, 1e6)])
def test_ticks_cover_the_range(low: float, high: float) -> None:
    ticks = svg.nice_ticks(low, high)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-12
    assert ticks[-1] >= high - 1e-12


def test_gap_in_a_line_is_not_bridged() -> None:
    series = svg.Series("x", ((1, 0.5), (2, None), (3, 0.5)), "accent")
    drawn = svg.line_chart([series], title="t", x_label="round", show_x=words.whole, show_y=words.percent, whole_x=True)
    path = re.search(r'class="line" d="([^"]*)"', drawn)
    assert path is not None
    assert path[1].count("M") == 2


def test_no_torch_or_flower_is_imported() -> None:
    code = "import sys, aegis_flower.report.model; sys.exit(any(name in sys.modules for name in ('torch', 'flwr')))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0


def test_exported_names_exist() -> None:
    assert all(hasattr(subject, name) for name in subject.__all__)
