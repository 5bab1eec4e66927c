"""The run report: strict JSON that agrees with its schema, and files that are whole or not there."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import jsonschema
import pytest
from report_examples import SCHEMA, client, example, hostile

from aegis_flower import report as subject
from aegis_flower.errors import AegisError, ReportError
from aegis_flower.files import write_atomically
from aegis_flower.report import ConfigReport, ResultsReport, RunReport, load_report, write_report

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


def test_a_total_below_the_run_is_refused() -> None:
    with pytest.raises(ReportError, match="below this run's"):
        example(clients=(client("hospital-1", epsilon_total=1.0),))


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


# The package


def test_no_torch_or_flower_is_imported() -> None:
    code = "import sys, aegis_flower.report.model; sys.exit(any(name in sys.modules for name in ('torch', 'flwr')))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert done.returncode == 0


def test_exported_names_exist() -> None:
    assert all(hasattr(subject, name) for name in subject.__all__)
