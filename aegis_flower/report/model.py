"""What a run did, as one frozen value.

Guarantees:

- An epsilon cannot be recorded without its delta, unit, neighbouring relation and accountant, and the run's largest
  epsilon cannot be below that of any of its clients.
- A run with test noise cannot be recorded as private.

A report is evidence for what a run did. It is not a judgement that a law or a policy is met.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Annotated, Final, Literal

from pydantic.dataclasses import dataclass

from aegis_flower.errors import ReportError
from aegis_flower.report.check import RULES, Kept, checked, holds_json, says, shown
from aegis_flower.report.records import (
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
    SecAggReport,
    TimingsReport,
    VersionsReport,
)

__all__ = [
    "NOT_PRIVATE",
    "OLD_VERSIONS",
    "SCHEMA_VERSION",
    "AuditReport",
    "ClientReport",
    "ConfigReport",
    "EvaluationReport",
    "LostClient",
    "MeasuredReport",
    "MechanismReport",
    "Refusal",
    "ResultsReport",
    "RoundReport",
    "RoundSeconds",
    "RunInfo",
    "RunReport",
    "SecAggReport",
    "TimingsReport",
    "VersionsReport",
]

SCHEMA_VERSION: Final = 2
OLD_VERSIONS: Final = (1,)  # read as well: what they lack is unknown
NOT_PRIVATE: Final = "NOT PRIVATE"


DRAWERS: Final[list[Callable[[RunReport], str]]] = []  # what draws a report for a notebook; `write` puts it there


@checked
@dataclass(frozen=True, slots=True, kw_only=True, config=RULES)
class RunReport:
    """Everything a run leaves for its readers. Building one checks it.

    Raises:
        ReportError: A field has another type, is out of its range or not finite, or two fields contradict each other.

    """

    run: Annotated[RunInfo, says("Which run this is and how it ended.")]
    config: Annotated[ConfigReport, says("The configuration that ran.")]
    versions: Annotated[VersionsReport, says("The software that ran. Null: not installed or not loaded.")]
    rounds: Annotated[tuple[RoundReport, ...], says("The rounds in their order.")]
    clients: Annotated[tuple[ClientReport, ...], says("One entry per client, whether it finished or not.")]
    results: Annotated[ResultsReport, says("The released model on the test rows, and what to compare it with.")]
    secagg: Annotated[SecAggReport, says("How updates were masked.")]
    timings: Annotated[TimingsReport, says("Wall-clock seconds by phase of the run.")] = TimingsReport()
    files: Annotated[
        Mapping[str, str], Kept, says("Other files of the run: what it is, and its path relative to this file.")
    ] = field(default_factory=dict)
    schema_version: Annotated[
        Literal[2], says("Version of this schema. A reader refuses versions it does not know.")
    ] = SCHEMA_VERSION

    def __post_init__(self) -> None:
        """Check what must agree across fields. Types and ranges are checked by then."""
        holds_json(self, "")
        _agree(self)

    def _repr_html_(self) -> str | None:
        """The page, as notebooks show it."""
        return DRAWERS[0](self) if DRAWERS else None


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
