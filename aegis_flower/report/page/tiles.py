"""The four tiles on top: accuracy, privacy loss, rows denied, audit logs."""

from __future__ import annotations

from aegis_flower.report.model import RunReport
from aegis_flower.report.page.charts import meter
from aegis_flower.report.words import (
    THIN,
    UNKNOWN,
    asked_for,
    audit_totals,
    epsilon,
    esc,
    guarantee,
    most_spent,
    number,
    over_budget,
    percent,
    plural,
    some,
    whole,
)


def tiles(report: RunReport) -> str:
    """The four tiles."""
    results = report.results
    tiles = []
    marks = [
        (value, label)
        for value, label in (
            (results.accuracy_without_dp, "without DP"),
            (results.majority_class_accuracy, "majority class"),
        )
        if value is not None
    ]
    tiles.append(
        _tile(
            "Accuracy",
            percent(results.accuracy),
            f"± {percent(min(results.accuracy_sd, 1.0))}"
            if results.accuracy is not None and results.accuracy_sd
            else "",
            meter(results.accuracy, marks) if results.accuracy is not None else meter(0),
            f"without DP <b>{percent(results.accuracy_without_dp)}</b><br>"
            f"majority class <b>{percent(results.majority_class_accuracy)}</b>"
            + (f"<br>{plural(results.test_rows, 'test row')}" if results.test_rows is not None else "")
            + ("<br>± is the standard deviation of the noise of the counts" if results.accuracy_sd else ""),
        )
    )
    tiles.append(_privacy_tile(report))
    tiles.append(_denied_tile(report))
    tiles.append(_audit_tile(report))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _denied_tile(report: RunReport) -> str:
    """Rows denied; in a deployment the nodes keep that to themselves, and nothing is known."""
    if any(client.rows_denied is None for client in report.clients):
        return _tile(
            "Rows denied", UNKNOWN, "", meter(0), "the nodes keep their rows to themselves; their audit logs say it"
        )
    by_client = [client.rows_denied or {} for client in report.clients]
    denied = sum(sum(each.values()) for each in by_client)
    policies = {policy for each in by_client for policy, rows in each.items() if rows}
    known = [client.rows_allowed for client in report.clients]
    asked = denied + sum(rows or 0 for rows in known)
    return _tile(
        "Rows denied",
        whole(denied),
        f"by {len(policies)} {'policy' if len(policies) == 1 else 'policies'}" if policies else "",
        meter(denied / asked if asked and None not in known else 0, tone="c1"),
        f"of <b>{asked_for(report.clients)}</b> rows asked for<br>kept from training by policy",
    )


def _audit_tile(report: RunReport) -> str:
    """Red only where a log is known to be wrong: that nobody here could verify it is no finding."""
    verified, bad, unknown = audit_totals(report.clients)
    records = [client.audit.records for client in report.clients if client.audit is not None]
    value = "no" if bad else "yes" if verified else UNKNOWN
    notes = [f"<b>{whole(sum(records))}</b> records, chained by hash"]
    if bad:
        notes.append(f'<b class="bad">not verified: {esc(some(bad))}</b>')
    elif verified:
        notes.append("each chain recomputed to its head")
    if unknown:
        notes.append(f"{plural(len(unknown), 'log')} to be verified at the nodes, with the heads below")
    return _tile(
        "Audit logs verified",
        value,
        f"{verified} of {len(report.clients)}" if verified or bad else "",
        meter(verified / len(report.clients) if report.clients else 0, tone="bad" if bad else "good"),
        "<br>".join(notes),
        tone="bad" if bad else "",
    )


def _privacy_tile(report: RunReport) -> str:
    worst = most_spent(report.clients)
    if worst is None or worst.epsilon is None:
        note = "no client states an ε: nothing here bounds what the model tells about one record"
        return _tile("Privacy loss", "no ε", "", meter(0), note, tone="bad")
    results = report.results
    spent = results.epsilon_max if results.epsilon_max is not None else worst.epsilon
    total = results.epsilon_total_max
    budget = worst.budget_epsilon
    over = over_budget(report.clients)
    lines = [esc(guarantee(worst)), f"largest of all clients, at {esc(worst.node)}"]
    if total is not None:
        of = f" of {number(budget)}" if budget is not None else ""
        lines.insert(0, f"all runs on these people: <b>ε{THIN}{epsilon(total)}{of}</b>")
    if results.epsilon_person_max is not None:
        lines.insert(0, f"for the person with most rows: <b>ε{THIN}{epsilon(results.epsilon_person_max)}</b>")
    if worst.source == "upper_bound":
        lines.append("an upper bound, from what the server asked for; the ledgers are at the nodes")
    if over:
        lines.append(f'<b class="bad">over budget: {esc(some(over))}</b>')
    if len({guarantee(each) for each in report.clients}) > 1:
        lines.append("clients differ: see the table")
    return _tile(
        "Privacy loss",
        f"{'≤ ' if worst.source == 'upper_bound' else ''}ε{THIN}{epsilon(spent)}",
        "by this run" if total is not None or budget is None else f"of {number(budget)}",
        meter((total if total is not None else spent) / budget if budget else 0, tone="bad" if over else "eps"),
        "<br>".join(lines),
        tone="bad" if over or not report.run.private else "",
    )


def _tile(name: str, value: str, beside: str, meter: str, note: str, tone: str = "") -> str:
    """A tile. `note` is HTML, the rest is text."""
    return (
        f'<div class="tile"><h3>{esc(name)}</h3><p class="value {tone}">{esc(value)} <small>{esc(beside)}</small></p>'
        f'{meter}<p class="note">{note}</p></div>'
    )
