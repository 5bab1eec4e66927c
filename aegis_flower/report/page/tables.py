"""Tables of a run: clients, rounds, what noise does not protect, masking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegis_flower.report.page.view import Facts, Line, Strong
from aegis_flower.report.words import (
    DASH,
    THIN,
    UNKNOWN,
    clean,
    denied,
    epsilon,
    epsilon_of_budget,
    number,
    over_budget,
    percent,
    person,
    plural,
    run_epsilon,
    seconds,
    whole,
    whole_or_dash,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aegis_flower.report.model import AuditReport, ClientReport, RunReport


@dataclass(frozen=True, slots=True)
class LogCell:
    """What is known of a client's audit log; `tone` is a class of the style sheet."""

    state: str
    tone: str
    records: str = ""
    head: str = ""


@dataclass(frozen=True, slots=True)
class ClientRow:
    """A client in words: what it spent, let into training and put on record. `beside` are lines under its ε."""

    node: str
    number: str
    refusals: str
    spent: str
    over: bool
    beside: tuple[str, ...]
    noise: str
    sampling: str
    allowed: str
    denied: str
    rounds: str
    log: LogCell


@dataclass(frozen=True, slots=True)
class RoundTable:
    """Every round in numbers."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def client_rows(report: RunReport, nodes: Sequence[str]) -> tuple[ClientRow, ...]:
    """What each client spent, let into training and put on record; `nodes` are what the report calls them by itself."""
    return tuple(
        _client_row(client, node, len(report.rounds)) for client, node in zip(report.clients, nodes, strict=True)
    )


def _client_row(client: ClientReport, node: str, rounds: int) -> ClientRow:
    sampling = [clean(client.sampler).capitalize()] if client.sampler else []
    sampling += [f"q{THIN}={THIN}{number(client.sample_rate)}"] if client.sample_rate is not None else []
    sampling += [plural(client.steps, "step")] if client.steps is not None else []
    beside = [f"all runs {epsilon_of_budget(client)}"] if client.epsilon_total is not None else []
    beside += [f"for a person {person(client)}"] if client.epsilon_person is not None else []
    if client.evaluation is not None and client.evaluation.epsilon is not None:
        beside.append(f"held-out rows {epsilon(client.evaluation.epsilon)}")
    sigma = client.noise_multiplier
    noise = f"\u03c3{THIN}={THIN}{number(sigma)}" if sigma is not None else "no noise stated"
    return ClientRow(
        node=client.node,
        number="" if node in client.node else node,
        refusals=plural(len(client.refusals), "refusal") if client.refusals else "",
        spent=run_epsilon(client) if client.epsilon is None else f"ε{THIN}{run_epsilon(client)}",
        over=bool(over_budget([client])),
        beside=tuple(beside),
        noise=f"{noise}, {client.noise}" if client.noise else noise,
        sampling=", ".join(sampling),
        allowed=f"{whole_or_dash(client.rows_allowed)} allowed",
        denied=f"{whole_or_dash(denied(client))} denied",
        rounds=f"{client.rounds_taken_part} of {rounds}",
        log=_log_cell(client.audit),
    )


def _log_cell(audit: AuditReport | None) -> LogCell:
    if audit is None:
        return LogCell("no log", "bad")
    state, tone = {None: ("at the node", ""), True: ("verified", "good"), False: ("not verified", "bad")}[
        audit.verified
    ]
    return LogCell(state, tone, plural(audit.records, "record"), audit.head)


def unprotected(report: RunReport) -> tuple[Line, ...]:
    """What left without noise, or with noise of its own."""
    items: list[Line] = []
    if not report.run.private:
        items.append((Strong("everything this run released"), ": it is labelled NOT PRIVATE"))
    items += [(each,) for each in report.results.unnoised_outputs]
    items += [(f"with noise of its own: {each}",) for each in report.results.noised_outputs]
    if not report.secagg.enabled:
        items.append(("each client's own update: secure aggregation was off, the server could read it",))
    return tuple(items)


def masking(report: RunReport) -> Facts:
    """How the updates were hidden from the server; nothing where they were not."""
    agg = report.secagg
    if not agg.enabled:
        return ()
    return (
        ("profile", agg.profile or UNKNOWN),
        ("threshold", f"{whole(agg.threshold)} of {whole(agg.cohort)} clients"),
        ("ring", f"{whole(agg.ring_bits)} bits, values {whole(agg.value_bits)} bits"),
    )


def round_table(report: RunReport) -> RoundTable:
    """Every round in numbers."""
    metrics = sorted({name for each in report.rounds for name in each.metrics})
    public = sorted({name for each in report.rounds for name in each.public_metrics})
    head = (
        "Round",
        "Accuracy",
        "Loss",
        "ε largest",
        "In the sum",
        "Lost",
        "Weight",
        "Share",
        "Train",
        "Unmask",
        "Total",
        "Trips",
        "Bytes up",
    )
    rows = []
    for each in report.rounds:
        spent = each.seconds
        rows.append(
            (
                str(each.round),
                percent(each.accuracy) if each.accuracy is not None else DASH,
                number(each.loss) if each.loss is not None else DASH,
                epsilon(each.epsilon_max) if each.epsilon_max is not None else DASH,
                str(len(each.participants)),
                str(len(each.lost)),
                number(each.weight_total, 6) if each.weight_total is not None else DASH,
                *map(seconds, (spent.share, spent.train, spent.unmask, spent.total)),
                *map(whole_or_dash, (each.trips, each.bytes_up)),
                *(number(value) if (value := each.metrics.get(name)) is not None else DASH for name in metrics),
                *(number(value) if (value := each.public_metrics.get(name)) is not None else DASH for name in public),
            )
        )
    return RoundTable((*head, *metrics, *(f"public test set: {name}" for name in public)), tuple(rows))
