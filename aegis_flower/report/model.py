"""What a run did, as one frozen value.

Guarantees:

- An epsilon cannot be recorded without its delta, unit, neighbouring relation and accountant, and the run's largest
  epsilon cannot be below that of any of its clients.
- A run with test noise cannot be recorded as private.

A report is evidence for what a run did. It is not a judgement that a law or a policy is met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from aegis_flower.errors import ReportError
from aegis_flower.report.check import Matches, Within, conform, shown

SCHEMA_VERSION: Final = 2
OLD_VERSIONS: Final = (1,)  # read as well: what they lack is unknown
NOT_PRIVATE: Final = "NOT PRIVATE"


# The constraints travel with the types, so that building a report checks it; `report.schema.json` says the same.
Count = Annotated[int, Within(low=0)]
Ratio = Annotated[float, Within(low=0, high=1)]
Amount = Annotated[float, Within(low=0)]
Name = Annotated[str, Matches(r"(?s).+", "a text that is not empty")]
Hex = Annotated[str, Matches(r"([0-9a-f]{2})*", "lower-case hex, whole bytes")]
Sha256 = Annotated[str, Matches(r"[0-9a-f]{64}", "a SHA-256 in lower-case hex")]
Instant = Annotated[
    str,
    Matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "an RFC 3339 time with its offset"),
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
        conform(RunReport, self, "report")
        _agree(self)


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
            raise ReportError(f"client {shown(node)} is reported {times} times; report each client once")
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
                f"client {shown(client.node)} has an epsilon without {', '.join(missing)}; alone it says nothing"
            )
    for name in ("epsilon", "epsilon_person"):
        run, total = getattr(client, name), getattr(client, name.replace("epsilon", "epsilon_total"))
        if run is not None and total is not None and total < run * (1 - 1e-3):
            raise ReportError(f"client {shown(client.node)}: the total of {name} is {total}, below this run's {run}")
    if private and client.noise == "insecure_test":
        raise ReportError(
            f"client {shown(client.node)} drew test noise but run.private is true; set it to false and add the "
            f"label {NOT_PRIVATE}"
        )
