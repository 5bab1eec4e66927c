"""What a run did, as one frozen value: written as ``report.json`` and ``report.html``, shown in a terminal.

Guarantees:

- ``report.json`` is strict JSON of the shape in ``report.schema.json``: every field present, an unknown value
  ``null`` and never made up, NaN and infinity refused.
- An epsilon cannot be recorded without its delta, unit, neighbouring relation and accountant, and the run's largest
  epsilon cannot be below that of any of its clients.
- A run with test noise cannot be recorded as private.
- Both files are rendered before either is written, and each replaces its predecessor in one step (temporary file,
  ``fsync``, rename): a failure costs no earlier report.
- Equal reports give equal bytes.

A report is evidence for what a run did. It is not a judgement that a law or a policy is met.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import types
from collections import Counter
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from rich import box
from rich.table import Table
from rich.text import Text

from aegis_flower import report_html as page
from aegis_flower import report_text as words
from aegis_flower.errors import ReportError
from aegis_flower.files import write_atomically

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "AuditReport",
    "ClientReport",
    "ConfigReport",
    "EvaluationReport",
    "LostClient",
    "MechanismReport",
    "Refusal",
    "ReportPaths",
    "ResultsReport",
    "RoundReport",
    "RoundSeconds",
    "RunInfo",
    "RunReport",
    "SecAggReport",
    "TimingsReport",
    "VersionsReport",
    "load_report",
    "print_report",
    "write_report",
    "write_reports",
]

SCHEMA_VERSION: Final = 2
OLD_VERSIONS: Final = (1,)  # read as well: what they lack is unknown
NOT_PRIVATE: Final = "NOT PRIVATE"
JSON_NAME: Final = "report.json"
HTML_NAME: Final = "report.html"


@dataclass(frozen=True, slots=True)
class _Within:
    """The closed range a number lies in."""

    low: float = -math.inf
    high: float = math.inf

    def holds(self, value: Any) -> bool:
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        return f"at least {self.low:g}" if self.high == math.inf else f"between {self.low:g} and {self.high:g}"


@dataclass(frozen=True, slots=True)
class _Matches:
    """The form a text has."""

    pattern: str
    meaning: str

    def holds(self, value: Any) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.meaning


# The constraints travel with the types, so that building a report checks it; `report.schema.json` says the same.
Count = Annotated[int, _Within(low=0)]
Ratio = Annotated[float, _Within(low=0, high=1)]
Amount = Annotated[float, _Within(low=0)]
Name = Annotated[str, _Matches(r"(?s).+", "a text that is not empty")]
Hex = Annotated[str, _Matches(r"([0-9a-f]{2})*", "lower-case hex, whole bytes")]
Sha256 = Annotated[str, _Matches(r"[0-9a-f]{64}", "a SHA-256 in lower-case hex")]
Instant = Annotated[
    str,
    _Matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "an RFC 3339 time with its offset"),
]
Status = Literal["finished", "refused", "failed", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Which run this is and how it ended. ``warnings`` are what a reader must know before the numbers."""

    id: Name
    name: Name
    experiment: Name
    started: Instant
    runtime: Name
    seed: int | None
    status: Status
    reason: str | None = None
    private: bool
    labels: tuple[Name, ...] = ()
    warnings: tuple[Name, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReport:
    """The composed configuration; ``sha256`` is over its canonical form, as the caller computed it."""

    resolved: Mapping[str, Any]
    sha256: Sha256
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionsReport:
    """The software that ran; what was not loaded is ``None``."""

    aegis_flower: Name
    aegis_engine: str | None = None
    engine_digest: str | None = None
    engine_path: str | None = None
    flwr: str | None = None
    torch: str | None = None
    opacus: str | None = None
    dp_accounting: str | None = None
    python: Name
    platform: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class LostClient:
    """A client that fell silent or refused: ``step`` is the protocol step it did not finish, ``code`` that of its refusal."""

    node: Name
    step: Name
    reason: str
    code: Name | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSeconds:
    """Wall-clock seconds of a round by phase."""

    share: Amount | None = None
    train: Amount | None = None
    unmask: Amount | None = None
    total: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """One round. ``participants`` are the clients whose update is in the sum.

    A client lost after it sent its masked input is in both ``participants`` and ``lost`` (Bonawitz 2017 §4: its
    mask is taken off with the shares of the others).
    """

    round: Count
    accuracy: Ratio | None = None
    loss: float | None = None
    epsilon_max: Amount | None = None
    participants: tuple[Name, ...]
    lost: tuple[LostClient, ...] = ()
    weight_total: Amount | None = None
    seconds: RoundSeconds = RoundSeconds()
    metrics: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """A client's audit log at the end of the run.

    ``verified`` says that its chain was recomputed up to ``head``; ``None`` where nobody here could, as in a deployment.
    """

    records: Count
    head: Hex
    verified: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A client's refusal: the stable code of the error and its text."""

    round: Count | None
    code: Name
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MechanismReport:
    """Steps of one mechanism that a ledger holds for this run; ``kind`` is dpsgd, or counts of an evaluation."""

    kind: Name
    noise_multiplier: Amount
    sample_rate: Ratio
    clip: Amount
    steps: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """What evaluations were charged to the held-out rows' own ledger: by this run, and by all runs; for a record and a person."""

    epsilon: Amount | None = None
    epsilon_total: Amount | None = None
    epsilon_person: Amount | None = None
    epsilon_total_person: Amount | None = None
    delta: Ratio | None = None
    budget_epsilon: Amount | None = None
    rows_per_person: Count | None = None
    mechanisms: tuple[MechanismReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientReport:
    """One client (one vault): what it spent, allowed, denied and refused.

    ``epsilon`` is what this run charged to it, for one record; ``epsilon_total`` what all runs charged, both at the δ of the
    data's terms. Those of a ``person`` hold for whoever has most rows. ``source`` says where they come from: the vault's
    ledger, or an upper bound from what the server asked for. ``None`` without differential privacy, or where it is not known.
    """

    node: Name
    source: Literal["ledger", "upper_bound"] | None = None
    epsilon: Amount | None = None
    epsilon_total: Amount | None = None
    epsilon_person: Amount | None = None
    epsilon_total_person: Amount | None = None
    rows_per_person: Count | None = None
    delta: Ratio | None = None
    unit: Name | None = None
    neighbouring: Name | None = None
    sampler: Name | None = None
    accountant: Name | None = None
    noise_multiplier: Amount | None = None
    sample_rate: Ratio | None = None
    steps: Count | None = None
    clip: Amount | None = None
    mechanisms: tuple[MechanismReport, ...] = ()
    noise: Name | None = None
    budget_epsilon: Amount | None = None
    evaluation: EvaluationReport | None = None
    rows_allowed: Count | None = None
    rows_denied: Mapping[str, Count] | None = field(default_factory=dict)
    rounds_taken_part: Count
    audit: AuditReport | None = None
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsReport:
    """The released model on the held-out rows, and what it is to be compared with.

    ``accuracy_sd`` is the standard deviation that the noise of the counts gives it; ``None`` where they are exact or unknown.
    """

    accuracy: Ratio | None = None
    accuracy_sd: Amount | None = None
    majority_class_accuracy: Ratio | None = None
    accuracy_without_dp: Ratio | None = None
    loss: float | None = None
    test_rows: Count | None = None
    epsilon_max: Amount | None = None
    epsilon_total_max: Amount | None = None
    epsilon_person_max: Amount | None = None
    noised_outputs: tuple[str, ...] = ()
    unnoised_outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecAggReport:
    """How updates were masked. ``bytes_up_per_client`` is for one round."""

    enabled: bool
    profile: str | None = None
    threshold: Count | None = None
    cohort: Count | None = None
    ring_bits: Count | None = None
    value_bits: Count | None = None
    bytes_up_per_client: Count | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingsReport:
    """Wall-clock seconds of the run by phase."""

    provision: Amount | None = None
    train: Amount | None = None
    report: Amount | None = None
    total: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """Everything a run leaves for its readers. Building one checks it.

    Raises:
        ReportError: A field has another type, is out of its range or not finite, or two fields contradict each other.

    """

    run: RunInfo
    config: ConfigReport
    versions: VersionsReport
    rounds: tuple[RoundReport, ...]
    clients: tuple[ClientReport, ...]
    results: ResultsReport
    secagg: SecAggReport
    timings: TimingsReport = TimingsReport()
    files: Mapping[str, str] = field(default_factory=dict)
    schema_version: Literal[2] = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Check types and ranges, then what must agree across fields."""
        _conform(RunReport, self, "report")
        _agree(self)


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where a report was written."""

    json: Path
    html: Path


# Checking


def _conform(hint: Any, value: Any, path: str) -> None:  # noqa: C901, PLR0912 - one case a kind of type
    """Refuse `value` unless it is what the annotation `hint` says; `path` names it in the error."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        _conform_json(value, path)
    elif origin is Annotated:
        _conform(args[0], value, path)
        for rule in args[1:]:
            if not rule.holds(value):
                raise ReportError(f"{path} is {_shown(value)}, it must be {rule}")
    elif origin in {Union, types.UnionType}:
        if value is not None:
            (kind,) = (arg for arg in args if arg is not types.NoneType)
            _conform(kind, value, path)
    elif origin is Literal:
        if value not in args or isinstance(value, bool):
            raise ReportError(f"{path} is {_shown(value)}, it must be one of {', '.join(map(str, args))}")
    elif origin is tuple:
        _require(isinstance(value, tuple), "a tuple", value, path)
        for index, item in enumerate(value):
            _conform(args[0], item, f"{path}[{index}]")
    elif origin is Mapping:
        _require(isinstance(value, Mapping), "a mapping", value, path)
        for key, item in value.items():
            _conform(str, key, f"a key of {path}")
            _conform(args[1], item, f"{path}[{_shown(key)}]")
    elif isinstance(hint, type) and dataclasses.is_dataclass(hint):
        _require(isinstance(value, hint), f"a {hint.__name__}", value, path)
        for name, kind in _hints(hint).items():
            _conform(kind, getattr(value, name), f"{path}.{name}".removeprefix("report."))
    else:
        _conform_scalar(hint, value, path)


def _conform_scalar(hint: Any, value: Any, path: str) -> None:
    if hint is bool:
        _require(isinstance(value, bool), "true or false", value, path)
    elif hint is int:
        _require(isinstance(value, int) and not isinstance(value, bool), "a whole number", value, path)
    elif hint is float:
        _require(isinstance(value, int | float) and not isinstance(value, bool), "a Python float", value, path)
        if isinstance(value, float) and not math.isfinite(value):
            raise ReportError(
                f"{path} is {value}, which JSON cannot hold; record None when there is no value, and look at why "
                "the run produced it"
            )
    else:
        _require(isinstance(value, str), "a text", value, path)
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ReportError(f"{path} is not valid Unicode at character {error.start}; decode it first") from None


def _conform_json(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        _conform(Mapping[str, Any], value, path)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _conform_json(item, f"{path}[{index}]")
    elif value is not None and not isinstance(value, bool):
        _conform_scalar(float if isinstance(value, int | float) else str, value, path)


def _require(holds: bool, kind: str, value: object, path: str) -> None:
    if not holds:
        raise ReportError(f"{path} is of type {type(value).__name__}, it must be {kind}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - fits a line of a terminal


def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _agree(report: RunReport) -> None:
    """Refuse a report of which one field contradicts another: a guarantee must never look better than it is."""
    run, results = report.run, report.results
    if run.private and NOT_PRIVATE in run.labels:
        raise ReportError(f"run.private is true beside the label {NOT_PRIVATE}; set run.private to false")
    for previous, current in zip(report.rounds, report.rounds[1:], strict=False):
        if current.round <= previous.round:
            raise ReportError(f"round {current.round} follows round {previous.round}; give rounds in their order, once")
    nodes = Counter(client.node for client in report.clients)
    for node, times in nodes.items():
        if times > 1:
            raise ReportError(f"client {_shown(node)} is reported {times} times; report each client once")
    for client in report.clients:
        _agree_client(client, private=run.private)
    spent = [client.epsilon for client in report.clients if client.epsilon is not None]
    stated = [results.epsilon_max, *(each.epsilon_max for each in report.rounds)]
    if any(each is not None for each in stated) and not spent:
        raise ReportError("an epsilon_max is given but no client states its epsilon; record the clients' epsilon too")
    if results.epsilon_max is not None and results.epsilon_max < max(spent):
        raise ReportError(
            f"results.epsilon_max is {results.epsilon_max}, below {max(spent)} of a client; record the largest"
        )


def _agree_client(client: ClientReport, *, private: bool) -> None:
    if client.epsilon is not None:
        missing = [name for name in ("delta", "unit", "neighbouring", "accountant") if getattr(client, name) is None]
        if missing:
            raise ReportError(
                f"client {_shown(client.node)} has an epsilon without {', '.join(missing)}; alone it says nothing"
            )
    for name in ("epsilon", "epsilon_person"):
        run, total = getattr(client, name), getattr(client, name.replace("epsilon", "epsilon_total"))
        if run is not None and total is not None and total < run * (1 - 1e-3):
            raise ReportError(f"client {_shown(client.node)}: the total of {name} is {total}, below this run's {run}")
    if private and client.noise == "insecure_test":
        raise ReportError(
            f"client {_shown(client.node)} drew test noise but run.private is true; set it to false and add the "
            f"label {NOT_PRIVATE}"
        )


# JSON


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
    """Give `value` the classes that `hint` names. Types of scalars are left to `_conform`."""
    origin, args = get_origin(hint), get_args(hint)
    if value is None:
        return None
    if origin is Annotated:
        return _decode(args[0], value, path)
    if origin in {Union, types.UnionType}:
        (kind,) = (arg for arg in args if arg is not types.NoneType)
        return _decode(kind, value, path)
    if origin is tuple:
        _require(isinstance(value, list), "a list", value, path)
        return tuple(_decode(args[0], item, f"{path}[{index}]") for index, item in enumerate(value))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        _require(isinstance(value, dict), "an object", value, path)
        kinds = _hints(hint)
        if added := _ADDED.get(hint.__name__):
            value = {**added, **value} if _OLD.get() else value
        if value.keys() != kinds.keys():
            missing = ", ".join(sorted(kinds.keys() - value.keys())) or "none"
            unknown = ", ".join(sorted(map(_shown, value.keys() - kinds.keys()))) or "none"
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
            raise ReportError(f"it gives {_shown(name)} {times} times")
    return dict(pairs)


def write_report(report: RunReport, folder: Path, *, html: bool = True) -> ReportPaths:
    """Write ``report.json`` and, unless `html` is false, ``report.html`` into `folder`, which is made when missing.

    The page names the SHA-256 of the JSON file it was made from.

    Raises:
        ReportError: `report` holds a value JSON cannot, or `folder` cannot be written; earlier files are untouched.

    """
    _conform(RunReport, report, "report")  # again: a mapping inside a frozen report can still be changed
    data = _dump(report)
    paths = ReportPaths(json=folder / JSON_NAME, html=folder / HTML_NAME)
    files = {paths.json: data}
    if html:
        # The page first: whoever waits for the JSON file finds both.
        files = {paths.html: page.render(report, json_sha256=hashlib.sha256(data).hexdigest()).encode(), **files}
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
        _require(isinstance(value, dict), "an object", value, "report")
        version = value.get("schema_version")
        old = version in OLD_VERSIONS and not isinstance(version, bool)
        if version != SCHEMA_VERSION and not old:
            raise ReportError(f"it has schema version {_shown(version)}, this aegis-flower reads {SCHEMA_VERSION}")
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


# Terminal


def print_report(report: RunReport, console: Console) -> None:
    """Print a summary that fits a screen. Names from outside are shown as text: no markup, no control codes."""
    run, results = report.run, report.results
    colour = {"finished": "green", "refused": "yellow", "failed": "red", "interrupted": "yellow"}[run.status]
    console.print(Text.assemble((words.clean(run.name), "bold"), "  ", (run.status, colour)))
    if run.reason is not None:
        console.print(Text(words.clean(run.reason), colour))
    if not run.private:
        console.print(Text(words.privacy_warning(report), "bold red"))
    for warning in run.warnings:
        console.print(Text(words.clean(f"warning: {warning}"), "bold red"))
    console.print()
    facts = Table.grid(padding=(0, 3))
    facts.add_column(style="dim")
    facts.add_column()
    for name, value, note in words.headline(report):
        facts.add_row(name, Text.assemble((value, "bold"), f"  {note}" if note else ""))
    console.print(facts)
    console.print()
    if report.clients:
        console.print(_client_table(report))
        for line in words.guarantee_lines(report.clients) or ["no client states an ε"]:
            console.print(Text(line, "dim"))
    for line in _remarks(report):
        console.print(Text(line))
    for title, outputs in (("noised", results.noised_outputs), ("not protected by noise", results.unnoised_outputs)):
        if outputs:
            console.print(Text(f"{title}: {'; '.join(words.clean(each) for each in outputs)}"))


def _client_table(report: RunReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("client", overflow="fold")  # a name that was cut is no name
    for title in ("ε run", "ε total", "ε person", "allowed", "denied", "rounds"):
        table.add_column(title, justify="right", no_wrap=title != "ε total")
    table.add_column("audit", overflow="fold")
    for client in report.clients:
        state, colour = words.audit_state(client.audit)
        table.add_row(
            Text(words.clean(client.node)),
            words.run_epsilon(client),
            words.epsilon_of_budget(client),
            words.person(client),
            words.whole_or_dash(client.rows_allowed),
            words.whole_or_dash(words.denied(client)),
            f"{client.rounds_taken_part} of {len(report.rounds)}",
            Text(state, colour),
        )
    return table


def _remarks(report: RunReport) -> Iterable[str]:
    """Each loss once: a refusal is a loss with a code, so it is not told again among the refusals."""
    told = set()
    for each in report.rounds:
        for lost in each.lost:
            told.add((each.round, lost.node, lost.code))
            what = "refused" if lost.code else "lost"
            reason = " ".join(filter(None, (f"[{lost.code}]" if lost.code else "", lost.reason)))
            yield words.clean(f"round {each.round}: {what} {lost.node} at {lost.step}: {reason or 'unknown'}")
    for client in report.clients:
        for refusal in client.refusals:
            if (refusal.round, client.node, refusal.code) not in told:
                when = "before the first round" if refusal.round is None else f"round {refusal.round}"
                yield words.clean(f"{when}: {client.node} refused, {refusal.code}: {refusal.reason}")
