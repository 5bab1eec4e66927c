"""Plots of a run: accuracy and loss by round, what they compare with, rows denied by policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from aegis_flower.report.model import ClientReport, RoundReport, RunReport
from aegis_flower.report.page.charts import Rule, Series, in_two_widths, line_chart, px
from aegis_flower.report.page.parts import card, facts, row_label, segment
from aegis_flower.report.words import (
    clean,
    denied,
    epsilon,
    esc,
    guarantee_lines,
    number,
    percent,
    percent_short,
    whole,
    whole_or_dash,
)

PALETTE_SIZE: Final = 6  # colours for policies; the rest share one grey
MOST_BARS: Final = 14  # clients drawn in the bars; the table has the others


def plots(report: RunReport) -> str:
    """The plots and bars on top."""
    results = report.results
    rounds = report.rounds

    def points(pick: Callable[[RoundReport], float | None]) -> tuple[tuple[float, float | None], ...]:
        return tuple((float(each.round), pick(each)) for each in rounds)

    compare = [
        Rule(label, value, "quiet")
        for label, value in (("without DP", results.accuracy_without_dp), ("majority", results.majority_class_accuracy))
        if value is not None
    ]
    accuracy = partial(
        line_chart,
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
    loss = partial(
        line_chart,
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
    spent = partial(
        line_chart,
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
        + _measured(report, _sized(accuracy), _sized(loss))
        + card("Privacy loss by round", f"Largest ε of any client so far. {stated}", _sized(spent))
        + card("What was denied, and why", "Rows kept from training, by the policy that denied them.", _denied(report))
        + "</div>"
    )


def _sized(draw: Callable[..., str]) -> str:
    return in_two_widths(lambda width: draw(width=width))


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
    measured = facts(
        [
            ("loss", number(results.loss, 3)),
            ("held-out rows", whole(results.test_rows)),
            *((("standard deviation of the accuracy", percent(results.accuracy_sd)),) if results.accuracy_sd else ()),
        ]
    )
    return card(
        "Accuracy", note, in_two_widths(lambda width: _bars([(n, v, t) for n, v, t in rows if v is not None], width))
    ) + card("Measured once", "Held-out rows are people, too: what was asked of them.", measured)


def _bars(rows: list[tuple[str, float, str]], width: float) -> str:
    """One bar per row, from 0 to 1."""
    label, room = 118.0, width - 118.0 - 74
    size = f"0 0 {px(width)} {px(len(rows) * 34 + 4)}"
    parts = [f'<svg viewBox="{size}" role="img" aria-label="Accuracy beside what it is compared with">']
    for index, (name, value, tone) in enumerate(rows):
        y = index * 34 + 4.0
        parts.append(row_label(name, label - 10, y + 18, 16))
        segment(parts, label, y, 25, room * value, tone, f"{name}: {percent(value)}")
        parts.append(f'<text class="tick" x="{px(label + room * value + 6)}" y="{px(y + 18)}">{percent(value)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _denied(report: RunReport) -> str:
    """Bars of rows denied: one per client, one colour per policy, the largest policies first."""
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
    drawn = in_two_widths(lambda width: _denied_bars(shown, named, width))
    keys = [
        f'<li><i class="c{index}"></i>{esc(policy)} <b>{whole(totals[policy])}</b></li>'
        for index, policy in enumerate(named)
    ]
    if len(named) < len(ranked):
        others = ranked[len(named) :]
        rows = sum(totals[each] for each in others)
        keys.append(f'<li><i class="rest"></i>{len(others)} other policies <b>{whole(rows)}</b></li>')
    hidden = f'<p class="note">{len(report.clients) - len(shown)} more clients are in the table.</p>'
    return drawn + f'<ul class="legend">{"".join(keys)}</ul>' + (hidden if len(shown) < len(report.clients) else "")


def _denied_bars(shown: list[ClientReport], named: list[str], width: float) -> str:
    label_width = 16 + 7.2 * min(max(len(clean(each.node)) for each in shown), 22)
    most = max(denied(each) or 0 for each in shown) or 1
    room = width - label_width - 56
    step = 30.0 if len(shown) <= 6 else 22.0  # noqa: PLR2004
    size = f"0 0 {px(width)} {px(len(shown) * step + 4)}"
    parts = [f'<svg viewBox="{size}" role="img" aria-label="Rows denied by client and policy">']
    for row, client in enumerate(shown):
        y, x = row * step + 4, label_width
        parts.append(row_label(client.node, label_width - 10, y + step / 2 + 1, 22))
        rest = denied(client) or 0
        for index, policy in enumerate(named):
            rows = (client.rows_denied or {}).get(policy, 0)
            rest -= rows
            x += segment(
                parts, x, y, step - 9, room * rows / most, f"c{index}", f"{client.node}: {whole(rows)} by {policy}"
            )
        x += segment(
            parts, x, y, step - 9, room * rest / most, "rest", f"{client.node}: {whole(rest)} by other policies"
        )
        total = whole_or_dash(denied(client))
        parts.append(f'<text class="tick" x="{px(x + 6)}" y="{px(y + step / 2 + 1)}">{total}</text>')
    parts.append("</svg>")
    return "".join(parts)
