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
import types
from collections import Counter
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Union, get_args, get_origin

from aegis_flower.errors import ReportError
from aegis_flower.files import write_atomically
from aegis_flower.report.check import conform, hints, require, shown
from aegis_flower.report.model import OLD_VERSIONS, SCHEMA_VERSION, RunReport
from aegis_flower.report.page import render

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


# What schema 2 added, as it is for a report of schema 1.
_ADDED: Final[dict[str, dict[str, Any]]] = {
    "RunInfo": {"warnings": []},
    "LostClient": {"code": None},
    "ClientReport": {
        **dict.fromkeys(
            ("source", "epsilon_total", "epsilon_person", "epsilon_total_person", "rows_per_person", "clip")
        ),
        "mechanisms": [],
        "evaluation": None,
    },
    "ResultsReport": {
        **dict.fromkeys(("accuracy_sd", "epsilon_total_max", "epsilon_person_max")),
        "noised_outputs": [],
    },
}
_OLD: ContextVar[bool] = ContextVar("aegis-old-report", default=False)


def _decode(hint: Any, value: Any, path: str) -> Any:
    """Give `value` the classes that `hint` names. Types of scalars are left to `conform`."""
    origin, args = get_origin(hint), get_args(hint)
    if value is None:
        return None
    if origin is Annotated:
        return _decode(args[0], value, path)
    if origin in {Union, types.UnionType}:
        (kind,) = (arg for arg in args if arg is not types.NoneType)
        return _decode(kind, value, path)
    if origin is tuple:
        require(isinstance(value, list), "a list", value, path)
        return tuple(_decode(args[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        require(isinstance(value, dict), "an object", value, path)
        kinds = hints(hint)
        if added := _ADDED.get(hint.__name__):
            value = {**added, **value} if _OLD.get() else value
        if value.keys() != kinds.keys():
            missing = ", ".join(sorted(kinds.keys() - value.keys())) or "none"
            unknown = ", ".join(sorted(map(shown, value.keys() - kinds.keys()))) or "none"
            raise ReportError(f"{path} has other fields than it must: missing {missing}, unknown {unknown}")
        return hint(
            **{
                name: _decode(kind, value[name], f"{path}.{name}".removeprefix("report."))
                for name, kind in kinds.items()
            }
        )
    return value


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
    conform(RunReport, report, "report")  # again: a mapping inside a frozen report can still be changed
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
        text = source.read_bytes().decode()
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_twice)
        require(isinstance(value, dict), "an object", value, "report")
        version = value.get("schema_version")
        old = version in OLD_VERSIONS and not isinstance(version, bool)
        if version != SCHEMA_VERSION and not old:
            raise ReportError(f"it has schema version {shown(version)}, this aegis-flower reads {SCHEMA_VERSION}")
        token = _OLD.set(old)
        try:
            report = _decode(RunReport, {**value, "schema_version": SCHEMA_VERSION}, "report")
        finally:
            _OLD.reset(token)
    except ReportError as error:
        raise ReportError(f"cannot read the report {source}: {error}") from None
    except OSError as error:
        raise ReportError(f"cannot read the report {source}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(f"cannot read the report {source}: it is not JSON in UTF-8 ({error})") from error
    assert isinstance(report, RunReport)
    return report


def write_reports(contents: Mapping[Path, bytes]) -> None:
    """Write report files as `write_atomically` does.

    Raises:
        ReportError: A file cannot be written. No temporary file stays behind.

    """
    try:
        write_atomically(contents)
    except OSError as error:
        raise ReportError(f"cannot write the report {error.filename}: {error.strerror or error}") from error
