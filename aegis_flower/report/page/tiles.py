"""The four tiles on top: accuracy, privacy loss, rows denied, audit logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegis_flower.report.page.charts import meter
from aegis_flower.report.page.view import EPSILON, Key, Line, Strong
from aegis_flower.report.plain import interval, interval_text
from aegis_flower.report.words import (
    THIN,
    UNKNOWN,
    asked_for,
    audit_totals,
    epsilon,
    most_spent,
    number,
    over_budget,
    percent,
    plural,
    public_metrics,
    some,
    whole,
)

if TYPE_CHECKING:
    from markupsafe import Markup

    from aegis_flower.report.model import RunReport


@dataclass(frozen=True, slots=True)
class Tile:
    """A number to look at first.

    Attributes:
        name: what it is.
        value: as words.
        beside: smaller, after the value.
        meter: the value as a bar.
        lines: what it must be read with.
        tone: a class of the style sheet for the value.
    """

    name: str
    value: str
    beside: str
    meter: Markup
    lines: tuple[Line, ...]
    tone: str = ""

    @property
    def size(self) -> str:
        """A class of the style sheet: a long value is smaller."""
        return "long" if len(self.value) > 10 else ""  # noqa: PLR2004


def tiles(report: RunReport) -> tuple[Tile, ...]:
    """The four tiles."""
    return _accuracy_tile(report), _privacy_tile(report), _denied_tile(report), _audit_tile(report)


def _accuracy_tile(report: RunReport) -> Tile:
    results = report.results
    marks = [
        (value, label, size)
        for value, label, size in (
            (results.accuracy_without_dp, "without DP", "long"),
            (results.majority_class_accuracy, "majority class", "short"),
        )
        if value is not None
    ]
    lines: list[Line] = []
    if found := interval(results):
        lines.append((f"95{THIN}% interval ", Strong(interval_text(results)), f", {found[2]}"))
    if results.test_rows is not None:
        lines.append((plural(results.test_rows, "test row"),))
    if results.accuracy_sd:
        lines.append(("± is the standard deviation of the noise of the counts",))
    if public := public_metrics(results):
        lines.append(("public test set at the server, no ε: ", Strong(public)))
    lines += [
        (Key("long"), "without DP ", Strong(percent(results.accuracy_without_dp))),
        (Key("short"), "majority class ", Strong(percent(results.majority_class_accuracy))),
    ]
    noisy = results.accuracy is not None and results.accuracy_sd
    return Tile(
        "Accuracy",
        percent(results.accuracy),
        f"± {percent(min(results.accuracy_sd or 0.0, 1.0))}" if noisy else "",
        meter(results.accuracy, marks) if results.accuracy is not None else meter(0),
        tuple(lines),
    )


def _denied_tile(report: RunReport) -> Tile:
    """Rows denied; in a deployment the nodes keep that to themselves, and nothing is known."""
    if any(client.rows_denied is None for client in report.clients):
        kept = "the nodes keep their rows to themselves; their audit logs say it"
        return Tile("Rows denied", UNKNOWN, "", meter(0), ((kept,),))
    by_client = [client.rows_denied or {} for client in report.clients]
    denied = sum(sum(each.values()) for each in by_client)
    policies = {policy for each in by_client for policy, rows in each.items() if rows}
    known = [client.rows_allowed for client in report.clients]
    asked = denied + sum(rows or 0 for rows in known)
    return Tile(
        "Rows denied",
        whole(denied),
        f"by {len(policies)} {'policy' if len(policies) == 1 else 'policies'}" if policies else "",
        meter(denied / asked if asked and None not in known else 0, tone="c1"),
        (("of ", Strong(asked_for(report.clients)), " rows asked for"), ("kept from training by policy",)),
    )


def _audit_tile(report: RunReport) -> Tile:
    """Red only where a log is known to be wrong: that nobody here could verify it is no finding."""
    verified, bad, unknown = audit_totals(report.clients)
    records = [client.audit.records for client in report.clients if client.audit is not None]
    lines: list[Line] = [(Strong(whole(sum(records))), " records, chained by hash")]
    if bad:
        lines.append((Strong(f"not verified: {some(bad)}", "bad"),))
    elif verified:
        lines.append(("each chain recomputed to its head",))
    if unknown:
        lines.append((f"{plural(len(unknown), 'log')} to be verified at the nodes, with the heads below",))
    return Tile(
        "Audit logs verified",
        "no" if bad else "yes" if verified else UNKNOWN,
        f"{verified} of {len(report.clients)}" if verified or bad else "",
        meter(verified / len(report.clients) if report.clients else 0, tone="bad" if bad else "good"),
        tuple(lines),
        tone="bad" if bad else "",
    )


def _privacy_tile(report: RunReport) -> Tile:
    worst = most_spent(report.clients)
    if worst is None or worst.epsilon is None:
        silent = "no client states an ε: nothing here bounds what the model tells about one record"
        return Tile("Privacy loss", "no ε", "", meter(0), ((silent,),), tone="bad")
    results = report.results
    spent = results.epsilon_max if results.epsilon_max is not None else worst.epsilon
    total = results.epsilon_total_max
    budget = worst.budget_epsilon
    over = over_budget(report.clients)
    bound = worst.source == "upper_bound"
    lines: list[Line] = []
    if results.epsilon_person_max is not None:
        person = f"ε{THIN}{epsilon(results.epsilon_person_max)}"
        lines.append(("for the person with most rows: ", Strong(person)))
    if total is not None:
        of = f" of {number(budget)}" if budget is not None else ""
        lines.append(("all runs on these people: ", Strong(f"ε{THIN}{epsilon(total)}{of}")))
    lines.append((f"largest of all clients, at {worst.node}",) if not bound else ("an upper bound for every client",))
    lines.append(("what that means: ", EPSILON))
    if over:
        lines.append((Strong(f"over budget: {some(over)}", "bad"),))
    return Tile(
        "Privacy loss",
        f"{'≤ ' if bound else ''}ε{THIN}{epsilon(spent)}",
        "by this run" if total is not None or budget is None else f"of {number(budget)}",
        meter((total if total is not None else spent) / budget if budget else 0, tone="bad" if over else "eps"),
        tuple(lines),
        tone="bad" if over or not report.run.private else "",
    )
