"""The run report as one HTML file, for the data steward who has to judge it.

Guarantees:

- One file: no script, no network, no font; the page's own content security policy forbids all three.
- Every text from outside passes `esc`: markup is escaped, control and bidirectional override characters are shown
  as U+FFFD, so a name can neither add markup nor reorder the line it stands in.
- An epsilon stands beside its unit, delta, neighbouring relation and accountant, and is rounded up, never down.
- Equal reports give equal pages: nothing here reads a clock, a locale or a random number.

The wording is in `report_text`, plots in `report_svg`, the style sheet in `report_style`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aegis_flower.report_style import FOOTER, MARK, page
from aegis_flower.report_svg import Rule, Series, line_chart, meter, px
from aegis_flower.report_text import (
    DASH,
    THIN,
    UNKNOWN,
    asked_for,
    audit_totals,
    clean,
    denied,
    epsilon,
    epsilon_of_budget,
    esc,
    guarantee,
    guarantee_lines,
    most_spent,
    number,
    over_budget,
    percent,
    percent_short,
    person,
    plural,
    privacy_warning,
    run_epsilon,
    seconds,
    some,
    whole,
    whole_or_dash,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aegis_flower.report import Refusal, RoundReport, RunReport

PALETTE_SIZE: Final = 6  # colours for policies; the rest share one grey
MOST_ROWS: Final = 60  # clients drawn in the grid; report.json has the others
MOST_BARS: Final = 14  # clients drawn in the bars; the table has the others
MOST_EVENTS: Final = 12  # losses and refusals listed openly; more are folded
MOST_CELLS: Final = 1500  # cells with their own tooltip; more are drawn as one path a row


def _tiles(report: RunReport) -> str:
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


def _plots(report: RunReport) -> str:
    results = report.results
    rounds = report.rounds

    def points(pick: Callable[[RoundReport], float | None]) -> tuple[tuple[float, float | None], ...]:
        return tuple((float(each.round), pick(each)) for each in rounds)

    compare = [
        Rule(label, value, "quiet")
        for label, value in (("without DP", results.accuracy_without_dp), ("majority", results.majority_class_accuracy))
        if value is not None
    ]
    accuracy = line_chart(
        [Series("this run", points(lambda each: each.accuracy), "accent")],
        compare,
        title="Accuracy by round",
        x_label="round",
        show_x=whole,
        show_y=percent,
        show_tick=percent_short,
        whole_x=True,
        at_most=1.0,
    )
    loss = line_chart(
        [Series("loss", points(lambda each: each.loss), "c2")],
        title="Loss by round",
        x_label="round",
        show_x=whole,
        show_y=lambda value: number(value, 3),
        from_zero=True,
        whole_x=True,
    )
    budgets = sorted({each.budget_epsilon for each in report.clients if each.budget_epsilon is not None})
    named = [("budget", budgets[0])] if len(budgets) == 1 else [("least budget", each) for each in budgets[:1]]
    named += [("largest budget", budgets[-1])] if len(budgets) > 1 else []
    spent = line_chart(
        [Series("spent", points(lambda each: each.epsilon_max), "eps")],
        [Rule(label, value, "limit") for label, value in named],
        title="Largest epsilon by round against the budget",
        x_label="round",
        show_x=whole,
        show_y=epsilon,
        show_tick=number,
        from_zero=True,
        whole_x=True,
    )
    stated = "<br>".join(map(esc, guarantee_lines(report.clients)))
    return (
        '<div class="two">'
        + _measured(report, accuracy, loss)
        + card("Privacy loss by round", f"Largest ε of any client so far. {stated}", spent)
        + card("What was denied, and why", "Rows kept from training, by the policy that denied them.", _denied(report))
        + "</div>"
    )


def _measured(report: RunReport, accuracy: str, loss: str) -> str:
    """Curves where each round was measured; else what was measured, in numbers: a curve through one point is none."""
    results = report.results
    if sum(each.accuracy is not None for each in report.rounds) > 1:
        return card("Accuracy by round", "Accuracy of each round's model on held-out rows.", accuracy) + card(
            "Loss by round", "Mean loss on the same held-out rows.", loss
        )
    if results.accuracy is None:
        return card("Accuracy", "Nothing was measured on held-out rows.", "")
    rows = [("this run", results.accuracy, "accent"), ("without DP", results.accuracy_without_dp, "c2")]
    rows.append(("majority class", results.majority_class_accuracy, "rest"))
    note = "The final model alone was measured on held-out rows: each evaluation costs them ε."
    facts = _facts(
        [
            ("loss", number(results.loss, 3)),
            ("held-out rows", whole(results.test_rows)),
            *((("standard deviation of the accuracy", percent(results.accuracy_sd)),) if results.accuracy_sd else ()),
        ]
    )
    return card("Accuracy", note, _bars([(n, v, t) for n, v, t in rows if v is not None])) + card(
        "Measured once", "Held-out rows are people, too: what was asked of them.", facts
    )


def _bars(rows: list[tuple[str, float, str]]) -> str:
    """One bar a row, from 0 to 1."""
    label, room = 118.0, 488 - 118.0 - 74
    parts = [
        f'<svg viewBox="0 0 488 {px(len(rows) * 34 + 4)}" role="img" aria-label="Accuracy beside what it is compared with">'
    ]
    for index, (name, value, tone) in enumerate(rows):
        y = index * 34 + 4.0
        parts.append(_row_label(name, label - 10, y + 18, 16))
        _segment(parts, label, y, 25, room * value, tone, f"{name}: {percent(value)}")
        parts.append(f'<text class="tick" x="{px(label + room * value + 6)}" y="{px(y + 18)}">{percent(value)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def card(title: str, note: str, body: str) -> str:
    """A card. `note` and `body` are HTML; an empty body says so."""
    return (
        f'<section class="card"><h2>{esc(title)}</h2><p class="note">{note}</p>'
        f'<div class="plot">{body or "<p class=none>Nothing was recorded.</p>"}</div></section>'
    )


def _denied(report: RunReport) -> str:
    """Bars of rows denied: one a client, one colour a policy, the largest policies first."""
    totals: dict[str, int] = {}
    if report.clients and all(client.rows_denied is None for client in report.clients):
        return '<p class="none">Not known here: the nodes keep their rows to themselves.</p>'
    for client in report.clients:
        for policy, rows in (client.rows_denied or {}).items():
            totals[policy] = totals.get(policy, 0) + rows
    ranked = sorted((policy for policy in totals if totals[policy]), key=lambda policy: (-totals[policy], policy))
    if not ranked:
        return '<p class="none">No row was denied.</p>'
    named = ranked if len(ranked) <= PALETTE_SIZE else ranked[: PALETTE_SIZE - 1]
    clients = sorted(report.clients, key=lambda each: -(denied(each) or 0))[:MOST_BARS]
    shown = [each for each in report.clients if each in clients]
    label_width = 16 + 7.2 * min(max(len(clean(each.node)) for each in shown), 22)
    most = max(denied(each) or 0 for each in shown) or 1
    room = 488 - label_width - 56
    step = 30.0 if len(shown) <= 6 else 22.0  # noqa: PLR2004
    parts = [
        f'<svg viewBox="0 0 488 {px(len(shown) * step + 4)}" role="img" aria-label="Rows denied by client and policy">'
    ]
    for row, client in enumerate(shown):
        y, x = row * step + 4, label_width
        parts.append(_row_label(client.node, label_width - 10, y + step / 2 + 1, 22))
        rest = denied(client) or 0
        for index, policy in enumerate(named):
            rows = (client.rows_denied or {}).get(policy, 0)
            rest -= rows
            x += _segment(
                parts, x, y, step - 9, room * rows / most, f"c{index}", f"{client.node}: {whole(rows)} by {policy}"
            )
        x += _segment(
            parts, x, y, step - 9, room * rest / most, "rest", f"{client.node}: {whole(rest)} by other policies"
        )
        total = whole_or_dash(denied(client))
        parts.append(f'<text class="tick" x="{px(x + 6)}" y="{px(y + step / 2 + 1)}">{total}</text>')
    parts.append("</svg>")
    keys = [
        f'<li><i class="c{index}"></i>{esc(policy)} <b>{whole(totals[policy])}</b></li>'
        for index, policy in enumerate(named)
    ]
    if len(named) < len(ranked):
        others = ranked[len(named) :]
        rows = sum(totals[each] for each in others)
        keys.append(f'<li><i class="rest"></i>{len(others)} other policies <b>{whole(rows)}</b></li>')
    hidden = f'<p class="note">{len(report.clients) - len(shown)} more clients are in the table.</p>'
    return (
        "".join(parts)
        + f'<ul class="legend">{"".join(keys)}</ul>'
        + (hidden if len(shown) < len(report.clients) else "")
    )


def _segment(parts: list[str], x: float, y: float, height: float, width: float, tone: str, title: str) -> float:
    """Draw one part of a bar and give its width, so that the next begins where it ends."""
    if width > 0:
        parts.append(
            f'<rect class="bar {tone}" x="{px(x)}" y="{px(y)}" width="{px(max(width - 1.5, 0.75))}" '
            f'height="{px(height)}" rx="2">'
            f"<title>{esc(title)}</title></rect>"
        )
    return width


def _row_label(text: str, x: float, y: float, most: int) -> str:
    shown = clean(text)
    short = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    return f'<text class="row" x="{px(x)}" y="{px(y)}" text-anchor="end">{esc(short)}<title>{esc(shown)}</title></text>'


def _participation(report: RunReport) -> str:
    """The grid node x round, and every loss and refusal in words under it."""
    if not report.rounds:
        return ""
    nodes = [each.node for each in report.clients]
    nodes += sorted(
        {node for each in report.rounds for node in (*each.participants, *(lost.node for lost in each.lost))}
        - set(nodes)
    )
    troubled = {lost.node for each in report.rounds for lost in each.lost}
    troubled |= {each.node for each in report.clients if each.refusals}
    shown = nodes if len(nodes) <= MOST_ROWS else sorted(nodes, key=lambda node: node not in troubled)[:MOST_ROWS]
    label_width = 16 + 7.2 * min(max((len(clean(each)) for each in shown), default=0), 28)
    cell = min(72.0, max(8.0, (1016 - label_width - 74) / len(report.rounds)))
    width = max(1016.0, label_width + cell * len(report.rounds) + 74)
    step = 30.0 if len(shown) <= 20 else 20.0  # noqa: PLR2004
    size = f'viewBox="0 0 {px(width)} {px(26 + step * len(shown))}" width="{px(width)}"'
    parts = [f'<svg class="wide" {size} role="img" aria-label="Who took part in each round">']
    skip = next(each for each in (1, 2, 5, 10, 20, 50, 100) if each * cell >= 22 or each == 100)  # noqa: PLR2004
    compact = len(shown) * len(report.rounds) > MOST_CELLS
    for column, each in enumerate(report.rounds):
        if each.round % skip == 0:
            x = label_width + cell * (column + 0.5)
            parts.append(f'<text class="tick" x="{px(x)}" y="13" text-anchor="middle">{each.round}</text>')
    refused = {(each.node, one.round): one for each in report.clients for one in each.refusals}
    for row, node in enumerate(shown):
        y = 22 + row * step
        parts.append(_row_label(node, label_width - 10, y + step / 2 + 2, 28))
        taken, path = 0, []
        for column, each in enumerate(report.rounds):
            took = node in each.participants
            taken += took
            kind, mark, title = _state(node, each, refused.get((node, each.round)))
            x = label_width + cell * column
            if mark or not compact:
                parts.append(_cell(x, y, cell, step, kind, mark, title))
            elif took:
                path.append(f"M{px(x)} {px(y)}h{px(cell - 2)}v{px(step - 5)}h{px(2 - cell)}z")
        if path:
            parts.append(f'<path class="took" d="{"".join(path)}"/>')
        end = label_width + cell * len(report.rounds) + 10
        parts.append(
            f'<text class="tick" x="{px(end)}" y="{px(y + step / 2 + 2)}">{taken} of {len(report.rounds)}</text>'
        )
    parts.append("</svg>")
    legend = (
        '<ul class="legend"><li><i class="took"></i>in the sum</li><li><i class="lost"></i>lost, at the step named</li>'
        '<li><i class="said-no"></i>refused</li><li><i class="away"></i>not asked</li></ul>'
    )
    hidden = len(nodes) - len(shown)
    more = (
        f'<p class="note">{plural(hidden, "more client")} in report.json; losses and refusals are drawn first.</p>'
        if hidden
        else ""
    )
    return f'<div class="scroll">{"".join(parts)}</div>{legend}{more}{_events(report)}'


def _state(node: str, each: RoundReport, refusal: Refusal | None) -> tuple[str, str, str]:
    """What `node` did in a round: the cell's class, its mark, and the whole story."""
    took = node in each.participants
    lost = next((one for one in each.lost if one.node == node), None)
    where = f"round {each.round}: {node}"
    if lost is not None and lost.code and not took:
        return "said-no", "refused", f"{where} refused at {lost.step}, {lost.code}: {lost.reason}"
    if lost is not None:
        inside = "its update is in the sum" if took else "its update is not in the sum"
        return "took-lost" if took else "lost", lost.step, f"{where} lost at {lost.step}, {inside}: {lost.reason}"
    if refusal is not None:
        return "said-no", "refused", f"{where} refused, {refusal.code}: {refusal.reason}"
    return ("took", "", f"{where} is in the sum") if took else ("away", "", f"{where} was not asked")


def _cell(x: float, y: float, cell: float, step: float, kind: str, mark: str, title: str) -> str:
    wide, tall = cell - (4 if cell > 24 else 2), step - 5  # noqa: PLR2004
    text = ""
    if mark:
        fits = 6.2 * len(clean(mark)) <= wide - 4
        middle, base = x + wide / 2, y + tall / 2 + 4
        text = (
            f'<text class="cell {kind}" x="{px(middle)}" y="{px(base)}" text-anchor="middle">'
            f"{esc(mark) if fits else '✕'}</text>"
        )
    return (
        f'<g><rect class="{kind}" x="{px(x)}" y="{px(y)}" width="{px(wide)}" height="{px(tall)}" rx="3"/>{text}'
        f"<title>{esc(title)}</title></g>"
    )


def _events(report: RunReport) -> str:
    """Losses and refusals as a table: what the grid shows, with its reasons, for readers and screen readers."""
    rows = [
        (
            each.round,
            lost.node,
            f"refused at {lost.step}, {lost.code}" if lost.code else f"lost at {lost.step}",
            lost.reason,
            lost.node in each.participants,
        )
        for each in report.rounds
        for lost in each.lost
    ]
    # A refusal is a loss with a code: those are told already.
    told = {(each.round, lost.node, lost.code) for each in report.rounds for lost in each.lost}
    rows += [
        (-1 if one.round is None else one.round, each.node, f"refused, {one.code}", one.reason, False)
        for each in report.clients
        for one in each.refusals
        if (one.round, each.node, one.code) not in told
    ]
    if not rows:
        return '<p class="note">No client was lost and none refused.</p>'
    body = "".join(
        f"<tr><td>{'before' if when < 0 else when}<td>{esc(node)}<td>{esc(what)}<td>{'yes' if inside else 'no'}"
        f"<td>{esc(why)}"
        for when, node, what, why, inside in sorted(rows)
    )
    table = (
        '<div class="scroll"><table class="events"><thead><tr><th>Round<th>Client<th>What happened<th>In the sum'
        f"<th>Reason<tbody>{body}</table></div>"
    )
    return table if len(rows) <= MOST_EVENTS else _details("Losses and refusals", whole(len(rows)), table)


def _client_table(report: RunReport) -> str:
    if not report.clients:
        return ""
    body = []
    for client in report.clients:
        sampling = [
            clean(client.sampler).capitalize() if client.sampler else None,
            f"q{THIN}={THIN}{number(client.sample_rate)}" if client.sample_rate is not None else None,
            plural(client.steps, "step") if client.steps is not None else None,
        ]
        audit = client.audit
        over = bool(over_budget([client]))
        spent = run_epsilon(client) if client.epsilon is None else f"ε{THIN}{run_epsilon(client)}"
        beside = [f"all runs {epsilon_of_budget(client)}"] if client.epsilon_total is not None else []
        beside += [f"for a person {person(client)}"] if client.epsilon_person is not None else []
        if client.evaluation is not None and client.evaluation.epsilon is not None:
            beside.append(f"held-out rows {epsilon(client.evaluation.epsilon)}")
        noise = (
            f"\u03c3{THIN}={THIN}{number(client.noise_multiplier)}"
            if client.noise_multiplier is not None
            else "no noise stated"
        )
        cells = [
            (esc(client.node), plural(len(client.refusals), "refusal") if client.refusals else ""),
            (
                f'<b class="{"bad" if over else ""}">{spent}</b>',
                "<br>".join(map(esc, beside)) or esc(guarantee(client)),
            ),
            (
                noise + (f", {esc(client.noise)}" if client.noise else ""),
                esc(", ".join(each for each in sampling if each)),
            ),
            (f"{whole_or_dash(client.rows_allowed)} allowed", f"{whole_or_dash(denied(client))} denied"),
            (f"{client.rounds_taken_part} of {len(report.rounds)}", ""),
            ('<b class="bad">no log</b>', "")
            if audit is None
            else (
                "at the node"
                if audit.verified is None
                else '<b class="good">verified</b>'
                if audit.verified
                else '<b class="bad">not verified</b>',
                f'{plural(audit.records, "record")}<br><code title="{esc(audit.head)}">{esc(audit.head[:16])}…</code>',
            ),
        ]
        body.append("<tr>" + "".join(f"<td>{first}<small>{second}</small>" for first, second in cells))
    return (
        '<div class="scroll"><table class="clients"><thead><tr><th>Client<th>Privacy loss by this run'
        f"<th>Noise and sampling<th>Rows<th>Rounds<th>Audit log<tbody>{''.join(body)}</table></div>"
    )


def _unprotected(report: RunReport) -> str:
    items = [f"<li>{esc(each)}" for each in report.results.unnoised_outputs]
    items += [f"<li>with noise of its own: {esc(each)}" for each in report.results.noised_outputs]
    if not report.run.private:
        items.insert(0, "<li><b>everything this run released</b>: it is labelled NOT PRIVATE")
    if not report.secagg.enabled:
        items.append("<li>each client's own update: secure aggregation was off, the server could read it")
    if not items:
        return '<p class="none">The run lists no output without noise.</p>'
    return f'<ul class="plain">{"".join(items)}</ul>'


def _masking(report: RunReport) -> str:
    agg = report.secagg
    if not agg.enabled:
        return '<p class="none">Off. The server received every update in the clear.</p>'
    return _facts(
        [
            ("profile", agg.profile or UNKNOWN),
            ("threshold", f"{whole(agg.threshold)} of {whole(agg.cohort)} clients"),
            ("ring", f"{whole(agg.ring_bits)} bits, values {whole(agg.value_bits)} bits"),
            ("sent per client and round", f"{whole(agg.bytes_up_per_client)} bytes"),
        ]
    )


def _facts(rows: Iterable[tuple[str, str]], tone: str = "") -> str:
    body = "".join(f"<dt>{esc(name)}<dd>{esc(value)}" for name, value in rows)
    return f'<dl class="{tone}">{body}</dl>'


def _details(summary: str, beside: str, body: str) -> str:
    return f"<details><summary>{esc(summary)} <small>{esc(beside)}</small></summary>{body}</details>"


def _round_table(report: RunReport) -> str:
    metrics = sorted({name for each in report.rounds for name in each.metrics})
    head = "".join(
        f"<th>{esc(name)}"
        for name in (
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
            *metrics,
        )
    )
    body = []
    for each in report.rounds:
        spent = each.seconds
        cells = [
            str(each.round),
            percent(each.accuracy) if each.accuracy is not None else DASH,
            number(each.loss) if each.loss is not None else DASH,
            epsilon(each.epsilon_max) if each.epsilon_max is not None else DASH,
            str(len(each.participants)),
            str(len(each.lost)),
            number(each.weight_total, 6) if each.weight_total is not None else DASH,
            *map(seconds, (spent.share, spent.train, spent.unmask, spent.total)),
            *(number(value) if (value := each.metrics.get(name)) is not None else DASH for name in metrics),
        ]
        body.append("<tr>" + "".join(f"<td>{esc(cell)}" for cell in cells))
    stated = "".join(f'<p class="note">{esc(line)}</p>' for line in guarantee_lines(report.clients))
    return f'<div class="scroll"><table class="numbers"><thead><tr>{head}<tbody>{"".join(body)}</table></div>{stated}'


def _evidence(report: RunReport, json_sha256: str) -> str:
    config, versions, timings = report.config, report.versions, report.timings
    overrides = _facts([("overrides", ", ".join(config.overrides) or "none"), ("SHA-256", config.sha256)], "mono")
    resolved = esc_block(json.dumps(config.resolved, ensure_ascii=False, indent=2, default=_plain))
    heads = [
        (each.node, "no log" if each.audit is None else f"{each.audit.head}  ({plural(each.audit.records, 'record')})")
        for each in report.clients
    ]
    software = [
        ("aegis-flower", versions.aegis_flower),
        ("engine", versions.aegis_engine or UNKNOWN),
        ("engine digest", versions.engine_digest or UNKNOWN),
        ("engine path", versions.engine_path or UNKNOWN),
        *(
            (name.replace("_", "-"), getattr(versions, name) or "not loaded")
            for name in ("flwr", "torch", "opacus", "dp_accounting")
        ),
        ("python", versions.python),
        ("platform", versions.platform),
    ]
    clock = [(name, seconds(getattr(timings, name))) for name in ("provision", "train", "report", "total")]
    files = [*report.files.items(), ("SHA-256 of report.json", json_sha256)]
    return "".join(
        [
            _details("Every round in numbers", plural(len(report.rounds), "round"), _round_table(report)),
            _details("Configuration", f"SHA-256 {config.sha256[:16]}…", f"{overrides}<pre>{resolved}</pre>"),
            _details("Audit log heads", "to compare with the clients' own logs", _facts(heads, "mono")),
            _details("Software", f"aegis-flower {versions.aegis_flower}", _facts(software, "mono")),
            _details("Time", f"{seconds(timings.total)} in all", _facts(clock, "mono")),
            _details("Files", plural(len(report.files), "file"), _facts(files, "mono")),
        ]
    )


def _plain(value: object) -> object:
    """Mappings of any class, as the report lets them in, for `json.dumps`."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def esc_block(text: str) -> str:
    """Like `esc`, and keeps the line breaks."""
    return "\n".join(esc(line) for line in text.split("\n"))


def _lead(report: RunReport) -> str:
    run = report.run
    lost = {each.node for one in report.rounds for each in one.lost}
    words = [f"{plural(len(report.clients), 'client')}, {plural(len(report.rounds), 'round')}"]
    if lost:
        words.append(f"{plural(len(lost), 'client')} lost on the way")
    refusals = sum(len(each.refusals) for each in report.clients)
    if refusals:
        words.append(plural(refusals, "refusal"))
    words.append(f"experiment {run.experiment}")
    words.append(f"started {run.started.replace('T', ' ')}")
    words.append(f"{run.runtime} runtime")
    words.append("no seed" if run.seed is None else f"seed {run.seed}")
    return " · ".join(map(esc, words))


def render(report: RunReport, *, json_sha256: str) -> str:
    """The page for `report`; `json_sha256` is the digest of the ``report.json`` it stands for."""
    run = report.run
    tone = {"finished": "good", "refused": "warn", "failed": "bad", "interrupted": "warn"}[run.status]
    pills = [f'<span class="pill {tone}">{esc(run.status)}</span>']
    pills += [f'<span class="pill {"bad" if each == "NOT PRIVATE" else ""}">{esc(each)}</span>' for each in run.labels]
    banners = []
    if not run.private:
        banners.append(f'<p class="banner bad">{esc(privacy_warning(report))}.</p>')
    banners += [f'<p class="banner bad">{esc(each)}</p>' for each in run.warnings]
    if run.status != "finished":
        why = run.reason or "no reason was recorded"
        verb = {"refused": "was refused", "interrupted": "was interrupted"}.get(run.status, "failed")
        banners.append(f'<p class="banner {tone}">This run {verb}: {esc(why)}</p>')
    body = "".join(
        [
            f'<header><p class="over">{MARK} AEGIS run report <code>{esc(run.id)}</code></p>',
            f"<h1>{esc(run.name)} {''.join(pills)}</h1>",
            f'<p class="lead">{_lead(report)}</p>{"".join(banners)}</header>',
            _tiles(report),
            _plots(report),
            card("Who took part", "One cell a client and round. Hover for the reason.", _participation(report)),
            card("Clients", "What each client spent, let into training and put on record.", _client_table(report)),
            '<div class="two">',
            card("What is not protected by noise", "The ε above says nothing about these.", _unprotected(report)),
            card("Secure aggregation", "The server learns the sum of the updates, not one of them.", _masking(report))
            if report.secagg.enabled
            else card("Secure aggregation", "How updates were hidden from the server.", _masking(report)),
            "</div>",
            f'<section class="card evidence"><h2>Evidence</h2>{_evidence(report, json_sha256)}</section>',
            FOOTER,
        ]
    )
    return page(f"{run.name}: AEGIS run report", body)
