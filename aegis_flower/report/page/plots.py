"""Plots of a run: accuracy and loss by round, what they compare with, rows denied by policy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from aegis_flower.report.page.bars import accuracy_bars, denied_bars
from aegis_flower.report.page.charts import Rule, Series, line_chart
from aegis_flower.report.page.view import EPSILON, Facts, Line, TwoWidths, in_two_widths
from aegis_flower.report.plain import interval, interval_text
from aegis_flower.report.words import THIN, denied, epsilon, measures, number, percent, percent_short, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from markupsafe import Markup

    from aegis_flower.report.model import RoundReport, RunReport

PALETTE_SIZE: Final = 6  # colours for policies; the rest share one grey
MOST_BARS: Final = 14  # clients drawn in the bars; the table has the others


@dataclass(frozen=True, slots=True)
class Card:
    """A plot in its frame.

    Attributes:
        title: of the frame.
        notes: lines under the title.
        drawing: the plot.
        facts: numbers instead of a plot.
        nothing: what is said where there is neither.
        keys: class, name and count of each colour.
        more: a note under the plot.
    """

    title: str
    notes: tuple[str | Line, ...]
    drawing: TwoWidths | None = None
    facts: Facts = ()
    nothing: str = "Nothing was recorded."
    keys: tuple[tuple[str, str, str], ...] = ()
    more: str = ""


def plots(report: RunReport) -> tuple[Card, ...]:
    """The plots and bars on top."""
    return (*_measured(report), _privacy(report), _denied(report))


def _points(report: RunReport, pick: Callable[[RoundReport], float | None]) -> tuple[tuple[float, float | None], ...]:
    return tuple((float(each.round), pick(each)) for each in report.rounds)


def _by_round(draw: Callable[..., Markup | None]) -> TwoWidths | None:
    by_round = partial(draw, x_label="round", show_x=whole, whole_x=True)
    return in_two_widths(lambda width: by_round(width=width))


_MEASURED = "Declared metrics of the final model over held-out rows; ± is the standard deviation that noise gives each."


def _measured(report: RunReport) -> tuple[Card, ...]:
    """Curves where each round was measured; else what was measured, in numbers: a curve through one point is none."""
    results = report.results
    told = measures(results)
    if sum(each.accuracy is not None for each in report.rounds) > 1:
        return (*_curves(report), *([Card("Measured", (_MEASURED,), facts=tuple(told))] if told else []))
    if results.accuracy is None and told:
        return (Card("Measured", (_MEASURED,), facts=(*told, ("held-out rows", whole(results.test_rows)))),)
    if results.accuracy is None:
        return (Card("Accuracy", ("Nothing was measured on held-out rows.",)),)
    rows = [
        (name, value, tone)
        for name, value, tone in (
            ("this run", results.accuracy, "accent"),
            ("without DP", results.accuracy_without_dp, "c2"),
            ("majority class", results.majority_class_accuracy, "rest"),
        )
        if value is not None
    ]
    facts = [("loss", number(results.loss, 3)), ("held-out rows", whole(results.test_rows))]
    if found := interval(results):
        facts.append((f"95{THIN}% interval of the accuracy", f"{interval_text(results)}, {found[2]}"))
    if results.accuracy_sd:
        facts.append(("standard deviation of the accuracy", percent(results.accuracy_sd)))
    facts += told
    return (
        Card(
            "Accuracy",
            ("The final model alone was measured on held-out rows: each evaluation costs them ε.",),
            in_two_widths(lambda width: accuracy_bars(rows, width)),
        ),
        Card("Measured once", ("Held-out rows are people, too: what was asked of them.",), facts=tuple(facts)),
    )


def _curves(report: RunReport) -> tuple[Card, Card]:
    results = report.results
    compare = [
        Rule(label, value, "quiet")
        for label, value in (("without DP", results.accuracy_without_dp), ("majority", results.majority_class_accuracy))
        if value is not None
    ]
    accuracy = partial(
        line_chart,
        [Series("this run", _points(report, lambda each: each.accuracy), "accent")],
        compare,
        title="Accuracy by round",
        show_y=percent,
        show_tick=percent_short,
        at_most=1.0,
    )
    loss = partial(
        line_chart,
        [Series("loss", _points(report, lambda each: each.loss), "c2")],
        title="Loss by round",
        show_y=lambda value: number(value, 3),
        from_zero=True,
    )
    return (
        Card("Accuracy by round", ("Accuracy of each round's model on held-out rows.",), _by_round(accuracy)),
        Card("Loss by round", ("Mean loss on the same held-out rows.",), _by_round(loss)),
    )


def _privacy(report: RunReport) -> Card:
    """The largest ε so far against the budgets, with what it is an ε of."""
    budgets = sorted({each.budget_epsilon for each in report.clients if each.budget_epsilon is not None})
    named = [("budget", budgets[0])] if len(budgets) == 1 else [("least budget", each) for each in budgets[:1]]
    named += [("largest budget", budgets[-1])] if len(budgets) > 1 else []
    spent = partial(
        line_chart,
        [Series("spent", _points(report, lambda each: each.epsilon_max), "eps")],
        [Rule(label, value, "limit") for label, value in named],
        title="Largest epsilon by round against the budget",
        show_y=epsilon,
        show_tick=number,
        from_zero=True,
    )
    return Card(
        "Privacy loss by round", (("Largest ε of any client so far. What that means: ", EPSILON),), _by_round(spent)
    )


def _denied(report: RunReport) -> Card:
    """Bars of rows denied: one per client, one colour per policy, the largest policies first."""
    card = partial(Card, "What was denied, and why", ("Rows kept from training, by the policy that denied them.",))
    if report.clients and all(client.rows_denied is None for client in report.clients):
        return card(nothing="Not known here: the nodes keep their rows to themselves.")
    totals: dict[str, int] = {}
    for client in report.clients:
        for policy, rows in (client.rows_denied or {}).items():
            totals[policy] = totals.get(policy, 0) + rows
    ranked = sorted((policy for policy in totals if totals[policy]), key=lambda policy: (-totals[policy], policy))
    if not ranked:
        return card(nothing="No row was denied.")
    named = ranked if len(ranked) <= PALETTE_SIZE else ranked[: PALETTE_SIZE - 1]
    most = sorted(report.clients, key=lambda each: -(denied(each) or 0))[:MOST_BARS]
    shown = [each for each in report.clients if each in most]
    keys = [(f"c{index}", policy, whole(totals[policy])) for index, policy in enumerate(named)]
    if others := ranked[len(named) :]:
        keys.append(("rest", f"{len(others)} other policies", whole(sum(totals[each] for each in others))))
    hidden = len(report.clients) - len(shown)
    return card(
        drawing=in_two_widths(lambda width: denied_bars(shown, named, width)),
        keys=tuple(keys),
        more=f"{hidden} more clients are in the table." if hidden else "",
    )
