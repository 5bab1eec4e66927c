"""Writing and reading a report: ``report.json`` of the shape in ``report.schema.json``, and ``report.html``.

Guarantees:

- ``report.json`` is strict JSON: every field present, an unknown value ``null`` and never made up, NaN and infinity refused.
- Both files are rendered before either is written, and each replaces its predecessor in one step (temporary file,
  ``fsync``, rename): a failure costs no earlier report.
- Equal reports give equal bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from aegis_flower.errors import ReportError
from aegis_flower.files import write_atomically
from aegis_flower.report.check import other_fields, refusal, shown
from aegis_flower.report.model import DRAWERS, OLD_VERSIONS, SCHEMA_VERSION, RunReport
from aegis_flower.report.page import render
from aegis_flower.report.page.markup import framed
from aegis_flower.report.records import ClientReport, LostClient, ResultsReport, RoundReport, RunInfo

JSON_NAME: Final = "report.json"
HTML_NAME: Final = "report.html"
NOTEBOOK_HEIGHT: Final = 640  # px; the page scrolls within
_MOST_BYTES, _MOST_LOOKED_AT = 2**23, 12  # of a report to compare with, and how many of the newest are read


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
    RunInfo: {"warnings", "stopped"},
    LostClient: {"code"},
    RoundReport: {"trips", "bytes_up", "public_metrics"},
    ClientReport: {
        "name",
        "source",
        "epsilon_total",
        "epsilon_person",
        "epsilon_total_person",
        "rows_per_person",
        "clip",
    }
    | {"mechanisms", "evaluation"},
    ResultsReport: {"accuracy_sd", "epsilon_total_max", "epsilon_person_max", "noised_outputs"} | {"public_metrics"},
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


def write_report(
    report: RunReport, folder: Path, *, html: bool = True, previous: RunReport | None = None
) -> ReportPaths:
    """Write ``report.json`` and, unless `html` is false, ``report.html`` into `folder`, which is made when missing.

    The page names the SHA-256 of the JSON file it was made from, and sets the run beside `previous`, if that is given.

    Raises:
        ReportError: `report` holds a value JSON cannot, or `folder` cannot be written; earlier files are untouched.

    """
    report = dataclasses.replace(report)  # checked again: a mapping inside a frozen report can still be changed
    data = _dump(report)
    paths = ReportPaths(json=folder / JSON_NAME, html=folder / HTML_NAME)
    files = {paths.json: data}
    if html:
        # The page first: whoever waits for the JSON file finds both.
        page = render(report, json_sha256=hashlib.sha256(data).hexdigest(), previous=previous)
        files = {paths.html: page.encode(), **files}
    write_reports(files)
    return paths


def _in_a_notebook(report: RunReport) -> str:
    """The page in a frame, for the cell of a notebook."""
    digest = hashlib.sha256(_dump(report)).hexdigest()
    return str(framed(render(report, json_sha256=digest), NOTEBOOK_HEIGHT))


DRAWERS[:] = [_in_a_notebook]


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


def previous_of(report: RunReport, folder: Path) -> RunReport | None:
    """The newest earlier report of the same experiment and runtime in the folders beside `folder`; None where there is none.

    A report of somebody else's, one that cannot be read and one of many megabytes are passed over: a comparison is a courtesy.
    """
    found: list[RunReport] = []
    with contextlib.suppress(OSError):
        files = [(f.stat(), f) for f in folder.resolve().parent.glob(f"*/{JSON_NAME}") if f.parent != folder.resolve()]
        mine = [(s, f) for s, f in files if s.st_uid == os.getuid() and s.st_size <= _MOST_BYTES]
        for _, file in sorted(mine, key=lambda pair: pair[0].st_mtime)[-_MOST_LOOKED_AT:]:
            with contextlib.suppress(ReportError):
                found.append(load_report(file))
    same = [r for r in found if (r.run.experiment, r.run.runtime) == (report.run.experiment, report.run.runtime)]
    earlier = [r for r in same if _instant(r) < _instant(report)]
    return max(earlier, key=_instant, default=None)


def _instant(report: RunReport) -> datetime:
    return datetime.fromisoformat(report.run.started)


def write_reports(contents: Mapping[Path, bytes]) -> None:
    """Write report files as `write_atomically` does.

    Raises:
        ReportError: A file cannot be written. No temporary file stays behind.

    """
    try:
        write_atomically(contents)
    except OSError as error:
        raise ReportError(f"cannot write the report {error.filename}: {error.strerror or error}") from error
