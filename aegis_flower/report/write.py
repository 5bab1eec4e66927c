"""Writing and reading a report: ``report.json`` of the shape in ``report.schema.json``, and ``report.html``.

Guarantees:

- ``report.json`` is strict JSON: every field present, an unknown value ``null`` and never made up, NaN and infinity refused.
- Both files are rendered before either is written, and each replaces its predecessor in one step (temporary file,
  ``fsync``, rename): a failure costs no earlier report.
- Equal reports give equal bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from aegis_flower.errors import ReportError
from aegis_flower.files import write_atomically
from aegis_flower.report.check import other_fields, refusal, shown
from aegis_flower.report.model import OLD_VERSIONS, SCHEMA_VERSION, RunReport
from aegis_flower.report.page import render
from aegis_flower.report.records import ClientReport, LostClient, ResultsReport, RunInfo

JSON_NAME: Final = "report.json"
HTML_NAME: Final = "report.html"


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    json: Path
    html: Path


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {each.name: _encode(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


_READER: Final = TypeAdapter(RunReport)
# What schema 2 added: a report of schema 1 may lack it, and then it is unknown.
_ADDED: Final = {
    RunInfo: {"warnings"},
    LostClient: {"code"},
    ClientReport: {"source", "epsilon_total", "epsilon_person", "epsilon_total_person", "rows_per_person", "clip"}
    | {"mechanisms", "evaluation"},
    ResultsReport: {"accuracy_sd", "epsilon_total_max", "epsilon_person_max", "noised_outputs"},
}
# What came since: a report of schema 2 may lack it as well.
_SINCE: Final[dict[type[Any], set[str]]] = {ResultsReport: {"metrics"}}


def _read(text: str) -> RunReport:
    value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
    if not isinstance(value, dict):
        raise ReportError(f"report is of type {type(value).__name__}, it must be an object")
    version = value.get("schema_version")
    old = version in OLD_VERSIONS and not isinstance(version, bool)
    if (version != SCHEMA_VERSION and not old) or isinstance(version, bool):
        raise ReportError(f"it has schema version {shown(version)}, this aegis-flower reads {SCHEMA_VERSION}")
    try:
        report = _READER.validate_json(json.dumps({**value, "schema_version": SCHEMA_VERSION}))
    except ValidationError as error:
        raise refusal(RunReport, error, array="a list") from None
    _lacks_nothing(report, value, "report", old=old)
    return report


def _lacks_nothing(part: Any, given: Any, path: str, *, old: bool) -> None:
    """A report says everything: a field may be null, never absent, though in Python it has a default."""
    if isinstance(part, tuple):
        for index, (each, its) in enumerate(zip(part, given, strict=True)):
            _lacks_nothing(each, its, f"{path}[{index}]", old=old)
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        names = {each.name for each in dataclasses.fields(part)}
        needed = names - _SINCE.get(type(part), set()) - (_ADDED.get(type(part), set()) if old else set())
        if missing := needed - given.keys():
            raise other_fields(path, sorted(missing), [])
        for name in names & given.keys():
            _lacks_nothing(getattr(part, name), given[name], f"{path}.{name}".removeprefix("report."), old=old)


def _dump(report: RunReport) -> bytes:
    encoded = {"schema_version": report.schema_version, **_encode(report)}
    return (json.dumps(encoded, allow_nan=False, ensure_ascii=False, indent=2) + "\n").encode()


def _refuse_constant(constant: str) -> float:
    raise ReportError(f"it holds {constant}, which is not JSON")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1:
            raise ReportError(f"it gives {shown(name)} {times} times")
    return dict(pairs)


def write_report(report: RunReport, folder: Path, *, html: bool = True) -> ReportPaths:
    """Write ``report.json`` and, unless `html` is false, ``report.html`` into `folder`, which is made when missing.

    The page names the SHA-256 of the JSON file it was made from.

    Raises:
        ReportError: `report` holds a value JSON cannot, or `folder` cannot be written; earlier files are untouched.

    """
    report = dataclasses.replace(report)  # checked again: a mapping inside a frozen report can still be changed
    data = _dump(report)
    paths = ReportPaths(json=folder / JSON_NAME, html=folder / HTML_NAME)
    files = {paths.json: data}
    if html:
        # The page first: whoever waits for the JSON file finds both.
        files = {paths.html: render(report, json_sha256=hashlib.sha256(data).hexdigest()).encode(), **files}
    write_reports(files)
    return paths


def load_report(path: Path) -> RunReport:
    """Read a ``report.json`` (or the one in the folder `path`) back into a checked `RunReport`.

    Raises:
        ReportError: The file is missing, is not strict JSON, has another schema version, or is not a valid report.

    """
    source = path / JSON_NAME if path.is_dir() else path
    try:
        return _read(source.read_bytes().decode())
    except ReportError as error:
        raise ReportError(f"cannot read the report {source}: {error}") from None
    except OSError as error:
        raise ReportError(f"cannot read the report {source}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"cannot read the report {source}: it is not JSON in UTF-8 ({error})") from error


def write_reports(contents: Mapping[Path, bytes]) -> None:
    """Write report files as `write_atomically` does.

    Raises:
        ReportError: A file cannot be written. No temporary file stays behind.

    """
    try:
        write_atomically(contents)
    except OSError as error:
        raise ReportError(f"cannot write the report {error.filename}: {error.strerror or error}") from error
