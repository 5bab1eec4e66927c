"""The run report as one HTML file, for the data steward who has to judge it.

Guarantees:

- One file: no script, no network, no font; the page's own content security policy forbids all three.
- Every text from outside passes `esc`: markup is escaped, control and bidirectional override characters are shown
  as U+FFFD, so a name can neither add markup nor reorder the line it stands in.
- An epsilon stands beside its unit, delta, neighbouring relation and accountant, and is rounded up, never down.
- Equal reports give equal pages: nothing here reads a clock, a locale or a random number.

Plots are written as SVG by hand: they follow the page's colours in light and dark, and weigh a few kilobytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aegis_flower.report import ClientReport, Refusal, RoundReport, RunReport

__all__ = ["Rule", "Series", "card", "clean", "esc", "headline", "line_chart", "page", "render"]

DASH: Final = "\u2013"  # stands for a number there is none of, in tables
THIN: Final = "\u202f"  # narrow no-break space: groups digits, joins a number to its unit
UNKNOWN: Final = "not known"
PALETTE_SIZE: Final = 6  # colours for policies; the rest share one grey
MOST_ROWS: Final = 60  # clients drawn in the grid; report.json has the others
MOST_BARS: Final = 14  # clients drawn in the bars; the table has the others
MOST_EVENTS: Final = 12  # losses and refusals listed openly; more are folded
MOST_CELLS: Final = 1500  # cells with their own tooltip; more are drawn as one path a row
INVISIBLE: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


# Text


def clean(text: str) -> str:
    """`text` with every control, format and surrogate character shown as U+FFFD; a line break becomes a space."""
    spaced = text.replace("\n", " ").replace("\t", " ")
    return "".join("\ufffd" if unicodedata.category(each) in INVISIBLE else each for each in spaced)


def esc(text: str) -> str:
    """`text` made safe for an element's content and for a quoted attribute."""
    return html.escape(clean(text), quote=True)


def whole(value: float | None) -> str:
    """A count with its digits in groups of three: 60 000."""
    return UNKNOWN if value is None else f"{value:,.0f}".replace(",", THIN)


def percent(value: float | None, digits: int = 1) -> str:
    """A ratio as a percentage."""
    return UNKNOWN if value is None else f"{100 * value:.{digits}f}{THIN}%"


def percent_short(value: float) -> str:
    """A percentage for an axis: whole where it is whole."""
    return percent(value, 0 if math.isclose(100 * value, round(100 * value), abs_tol=1e-6) else 1)


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` significant digits, an exponent without padding: 1e-5."""
    if value is None:
        return UNKNOWN
    mantissa, mark, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if mark else mantissa


def delta_text(value: float | None) -> str:
    """A δ: a power of ten where it is small."""
    if value is None or value >= 0.01 or value == 0:  # noqa: PLR2004
        return number(value)
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def seconds(value: float | None) -> str:
    """A duration in seconds, to a hundredth below ten."""
    if value is None:
        return DASH
    return f"{value:,.{2 if value < 10 else 1}f}{THIN}s".replace(",", THIN)  # noqa: PLR2004


def epsilon(value: float | None) -> str:
    """An ε rounded up to two decimals (three significant digits below 0.1): a reader is never told less."""
    if value is None:
        return UNKNOWN
    exact = Decimal(repr(float(value)))
    places = 2 if value == 0 or value >= 0.1 else 2 - exact.adjusted()  # noqa: PLR2004
    if places > 8:  # noqa: PLR2004
        return number(
            float(exact.scaleb(-exact.adjusted()).quantize(Decimal("0.01"), ROUND_CEILING).scaleb(exact.adjusted())), 3
        )
    return str(exact.quantize(Decimal(1).scaleb(-places), ROUND_CEILING))


def guarantee(client: ClientReport) -> str:
    """What the client's ε is an ε of. Empty without one."""
    if client.epsilon is None:
        return ""
    return basis(client)


class _Basis(Protocol):
    """What an ε needs beside it. `Any` admits fields that are optional where their ε is."""

    @property
    def delta(self) -> Any: ...
    @property
    def unit(self) -> Any: ...
    @property
    def neighbouring(self) -> Any: ...
    @property
    def accountant(self) -> Any: ...


def basis(of: _Basis) -> str:
    """Unit, delta, neighbouring relation and accountant in words."""
    relation = {"add_remove": "add or remove one", "replace_one": "replace one"}.get(of.neighbouring, of.neighbouring)
    return (
        f"unit {clean(of.unit)} · δ{THIN}={THIN}{delta_text(of.delta)} · neighbouring {clean(relation)} · "
        f"{clean(of.accountant).upper()} accountant"
    )


def guarantee_lines(clients: Sequence[ClientReport]) -> list[str]:
    """Each distinct guarantee once; with the clients it holds for when they differ, and who states none."""
    groups: dict[str, list[str]] = {}
    for client in clients:
        groups.setdefault(guarantee(client), []).append(clean(client.node))
    silent = groups.pop("", [])
    if not groups:
        return []
    lines = [text if len(groups) == 1 else f"{text} ({_some(nodes)})" for text, nodes in groups.items()]
    return ([f"ε: {lines[0]}", *(f"ε: {each}" for each in lines[1:])]) + (
        [f"no ε stated by {_some(silent)}"] if silent else []
    )


def epsilon_of_budget(client: ClientReport) -> str:
    """``2.88 of 3``; the budget as configured."""
    if client.epsilon is None:
        return "none stated"
    budget = "no budget" if client.budget_epsilon is None else f"of {number(client.budget_epsilon)}"
    return f"{epsilon(client.epsilon)} {budget}"


def privacy_warning(report: RunReport) -> str:
    """What a run that is not private says first."""
    others = [clean(each) for each in report.run.labels if each != "NOT PRIVATE"]
    return "NOT PRIVATE: the numbers of this run protect nobody" + (f" ({'; '.join(others)})" if others else "")


def headline(report: RunReport) -> list[tuple[str, str, str]]:
    """The facts a reader looks for first: name, value, note."""
    results = report.results
    beside = (
        f"without DP {percent(results.accuracy_without_dp)}, majority class {percent(results.majority_class_accuracy)}"
    )
    rows = beside + (f", {_plural(results.test_rows, 'test row')}" if results.test_rows is not None else "")
    worst = _worst(report.clients)
    if worst is None:
        privacy = ("ε largest", "none stated", "no client states an ε")
    else:
        spent = results.epsilon_max if results.epsilon_max is not None else worst.epsilon
        of = "" if worst.budget_epsilon is None else f" of {number(worst.budget_epsilon)}"
        over = _over_budget(report.clients)
        warning = f"; OVER BUDGET: {_some(over)}" if over else ""
        privacy = ("ε largest", f"{epsilon(spent)}{of}", f"{clean(worst.node)}: {guarantee(worst)}{warning}")
    denied = sum(sum(client.rows_denied.values()) for client in report.clients)
    verified, bad = _audit(report.clients)
    return [
        ("accuracy", percent(results.accuracy), rows),
        privacy,
        ("rows denied", whole(denied), f"of {_asked_for(report.clients)} rows asked for"),
        ("audit", f"{verified} of {len(report.clients)} verified", f"not verified: {_some(bad)}" if bad else ""),
    ]


def _worst(clients: Iterable[ClientReport]) -> ClientReport | None:
    """The client with the largest ε; of equals, the one with the least budget left."""
    stated = [each for each in clients if each.epsilon is not None]
    return max(stated, key=lambda each: (each.epsilon or 0, -(each.budget_epsilon or math.inf)), default=None)


def _over_budget(clients: Iterable[ClientReport]) -> list[str]:
    return [
        clean(each.node)
        for each in clients
        if each.epsilon is not None and each.budget_epsilon is not None and each.epsilon > each.budget_epsilon
    ]


def _audit(clients: Iterable[ClientReport]) -> tuple[int, list[str]]:
    bad = [clean(each.node) for each in clients if each.audit is None or not each.audit.verified]
    return sum(1 for each in clients if each.audit is not None and each.audit.verified), bad


def _asked_for(clients: Sequence[ClientReport]) -> str:
    """Rows allowed and denied together; unknown as soon as one client does not say what it allowed."""
    total = 0
    for client in clients:
        if client.rows_allowed is None:
            return "an unknown number of"
        total += client.rows_allowed + sum(client.rows_denied.values())
    return whole(total)


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _plural(count: int, thing: str) -> str:
    return f"{whole(count)} {thing}" + ("" if count == 1 else "s")


# Plots


@dataclass(frozen=True, slots=True)
class Series:
    """Points joined in their order; a gap where y is ``None``. `tone` is a class of the page's style sheet."""

    label: str
    points: tuple[tuple[float, float | None], ...]
    tone: str
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A horizontal line to compare with."""

    label: str
    value: float
    tone: str


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most about `most` round numbers that cover [low, high], in steps of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    if span <= 0:
        span = abs(high) or 1.0
        low, high = low - span / 2, high + span / 2
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


def line_chart(
    series: Sequence[Series],
    rules: Sequence[Rule] = (),
    *,
    title: str,
    x_label: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
    show_tick: Callable[[float], str] | None = None,
    from_zero: bool = False,
    whole_x: bool = False,
    at_most: float = math.inf,
    width: float = 488,
    height: float = 236,
) -> str:
    """An SVG of `series` against x, labelled at the line's end. The empty string when there is no point."""
    drawn = [(x, y) for each in series for x, y in each.points if y is not None]
    if not drawn:
        return ""
    ys = [y for _, y in drawn] + [rule.value for rule in rules] + ([0.0] if from_zero else [])
    y_ticks = [each for each in nice_ticks(min(ys), max(ys), 4) if each <= at_most + 1e-9]
    top_value = max(y_ticks[-1], *ys)
    xs = [x for each in series for x, _ in each.points]
    x_ticks = _x_ticks(xs, whole_x=whole_x)
    x_low, x_high = min(*x_ticks, *xs), max(*x_ticks, *xs)
    tick_text = show_tick or show_y
    ends = _end_labels(series, rules, show_y, tick_text)
    left = 14 + 6.4 * max(len(tick_text(each)) for each in y_ticks)
    right = width - 14 - 6.3 * max(len(text) for text, _, _ in ends)
    top, bottom = 12.0, height - 40.0
    y_span = (top_value - y_ticks[0]) or 1.0
    x_span = (x_high - x_low) or 1.0

    def at_x(value: float) -> float:
        return left + (right - left) * ((value - x_low) / x_span if x_high > x_low else 0.5)

    def at_y(value: float) -> float:
        return bottom - (bottom - top) * (value - y_ticks[0]) / y_span

    parts = [f'<svg viewBox="0 0 {_c(width)} {_c(height)}" role="img" aria-label="{esc(title)}">']
    for tick in y_ticks:
        y = at_y(tick)
        parts.append(f'<line class="grid" x1="{_c(left)}" y1="{_c(y)}" x2="{_c(right)}" y2="{_c(y)}"/>')
        parts.append(
            f'<text class="tick" x="{_c(left - 8)}" y="{_c(y + 4)}" text-anchor="end">{esc(tick_text(tick))}</text>'
        )
    for tick in x_ticks:
        x = at_x(tick)
        parts.append(
            f'<text class="tick" x="{_c(x)}" y="{_c(bottom + 18)}" text-anchor="middle">{esc(show_x(tick))}</text>'
        )
    middle = (left + right) / 2
    parts.append(
        f'<text class="tick" x="{_c(middle)}" y="{_c(bottom + 35)}" text-anchor="middle">{esc(x_label)}</text>'
    )
    for rule in rules:
        y = at_y(rule.value)
        parts.append(
            f'<line class="rule {rule.tone}" x1="{_c(left)}" y1="{_c(y)}" x2="{_c(right)}" y2="{_c(y)}">'
            f"<title>{esc(rule.label)}: {esc(tick_text(rule.value))}</title></line>"
        )
    parts += [_line(each, at_x, at_y, x_label, show_x, show_y) for each in series]
    for (text, _, tone), y in zip(ends, _spread([at_y(value) for _, value, _ in ends], top, bottom), strict=True):
        parts.append(f'<text class="end {tone}" x="{_c(right + 9)}" y="{_c(y + 4)}">{esc(text)}</text>')
    return "".join([*parts, "</svg>"])


def _line(
    series: Series,
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
    x_label: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
) -> str:
    path, dots, pen_up = [], [], True
    small = len(series.points) > 40  # noqa: PLR2004 - closer than that, dots hide the line
    radius = "1.4" if small else "3"
    for x, y in series.points:
        if y is None:
            pen_up = True
            continue
        path.append(f"{'M' if pen_up else 'L'}{_c(at_x(x))} {_c(at_y(y))}")
        pen_up = False
        where = f"{series.label}, {x_label} {show_x(x)}: {show_y(y)}"
        dots.append(f'<circle cx="{_c(at_x(x))}" cy="{_c(at_y(y))}" r="{radius}"><title>{esc(where)}</title></circle>')
    line = f'<path class="line" d="{"".join(path)}"/>' if series.joined else ""
    fine = " fine" if small else ""
    return f'<g class="{series.tone}{fine}">{line}{"".join(dots)}</g>'


def _end_labels(
    series: Sequence[Series],
    rules: Sequence[Rule],
    show_y: Callable[[float], str],
    show_rule: Callable[[float], str],
) -> list[tuple[str, float, str]]:
    ends = [(f"{show_rule(rule.value)} {rule.label}", rule.value, rule.tone) for rule in rules]
    for each in series:
        known = [y for _, y in each.points if y is not None]
        if known:
            text = each.label if len(series) > 1 or not each.joined else f"{show_y(known[-1])} {each.label}"
            ends.append((text, known[-1], f"{each.tone} strong"))
    return [(text if len(text) <= 26 else f"{text[:25]}…", value, tone) for text, value, tone in ends]  # noqa: PLR2004


def _x_ticks(values: Sequence[float], *, whole_x: bool) -> list[float]:
    low, high = min(values), max(values)
    if not whole_x:
        return nice_ticks(low, high, 5)
    step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if (high - low) / each <= 12)  # noqa: PLR2004
    return [each for each in range(int(low), int(high) + 1) if each % step == 0 or step == 1] or [low]


def _spread(wanted: Sequence[float], top: float, bottom: float, gap: float = 16) -> list[float]:
    """Positions close to `wanted`, in the same order, at least `gap` apart where [top, bottom] has the room."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [wanted[index] for index in order]
    for index in range(1, len(placed)):
        placed[index] = max(placed[index], placed[index - 1] + gap)
    for index in reversed(range(len(placed))):
        ceiling = bottom if index == len(placed) - 1 else placed[index + 1] - gap
        placed[index] = max(min(placed[index], ceiling), top if len(placed) * gap <= bottom - top else -math.inf)
    result = [0.0] * len(placed)
    for position, index in zip(placed, order, strict=True):
        result[index] = position
    return result


def _c(value: float) -> str:
    """A coordinate: two decimals are finer than any screen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _meter(value: float, marks: Sequence[tuple[float, str]] = (), tone: str = "accent") -> str:
    """A bar over [0, 1] with marks to compare with."""
    length = 1000 * min(max(value, 0.0), 1.0)
    ticks = "".join(
        f'<rect class="mark" x="{_c(min(max(1000 * at - 2.5, 0), 995))}" y="0" width="5" height="14">'
        f"<title>{esc(label)}</title></rect>"
        for at, label in marks
    )
    return (
        '<svg class="meter" viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" y="4" width="1000" height="6"/>'
        f'<rect class="fill {tone}" y="4" width="{_c(length)}" height="6"/>{ticks}</svg>'
    )


# The page's parts


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
            "",
            _meter(results.accuracy, marks) if results.accuracy is not None else _meter(0),
            f"without DP <b>{percent(results.accuracy_without_dp)}</b><br>"
            f"majority class <b>{percent(results.majority_class_accuracy)}</b>"
            + (f"<br>{_plural(results.test_rows, 'test row')}" if results.test_rows is not None else ""),
        )
    )
    tiles.append(_privacy_tile(report))
    denied = sum(sum(client.rows_denied.values()) for client in report.clients)
    policies = {policy for client in report.clients for policy, rows in client.rows_denied.items() if rows}
    known = [client.rows_allowed for client in report.clients]
    asked = denied + sum(rows or 0 for rows in known)
    tiles.append(
        _tile(
            "Rows denied",
            whole(denied),
            f"by {len(policies)} {'policy' if len(policies) == 1 else 'policies'}" if policies else "",
            _meter(denied / asked if asked and None not in known else 0, tone="c1"),
            f"of <b>{_asked_for(report.clients)}</b> rows asked for<br>kept from training by policy",
        )
    )
    verified, bad = _audit(report.clients)
    records = [client.audit.records for client in report.clients if client.audit is not None]
    tiles.append(
        _tile(
            "Audit logs verified",
            ("yes" if not bad else "no") if report.clients else UNKNOWN,
            f"{verified} of {len(report.clients)}" if report.clients else "",
            _meter(verified / len(report.clients) if report.clients else 0, tone="bad" if bad else "good"),
            f"<b>{whole(sum(records))}</b> records, chained by hash<br>"
            + (
                f'<b class="bad">not verified: {esc(_some(bad))}</b>'
                if bad
                else "each chain recomputed to its head" * bool(records)
            ),
            tone="bad" if bad else "",
        )
    )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _privacy_tile(report: RunReport) -> str:
    worst = _worst(report.clients)
    if worst is None or worst.epsilon is None:
        note = "no client states an ε: nothing here bounds what the model tells about one record"
        return _tile("Privacy loss", "no ε", "", _meter(0), note, tone="bad")
    spent = report.results.epsilon_max if report.results.epsilon_max is not None else worst.epsilon
    budget = worst.budget_epsilon
    over = _over_budget(report.clients)
    lines = [esc(guarantee(worst)), f"largest of all clients, at {esc(worst.node)}"]
    if over:
        lines.append(f'<b class="bad">over budget: {esc(_some(over))}</b>')
    if len({guarantee(each) for each in report.clients}) > 1:
        lines.append("clients differ: see the table")
    return _tile(
        "Privacy loss",
        f"ε{THIN}{epsilon(spent)}",
        f"of {number(budget)}" if budget is not None else "no budget set",
        _meter(spent / budget if budget else 0, tone="bad" if over else "eps"),
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
        + card("Accuracy by round", "Test accuracy of the model the server released.", accuracy)
        + card("Loss by round", "Mean loss on the same test rows.", loss)
        + card("Privacy loss by round", f"Largest ε of any client so far. {stated}", spent)
        + card("What was denied, and why", "Rows kept from training, by the policy that denied them.", _denied(report))
        + "</div>"
    )


def card(title: str, note: str, body: str) -> str:
    """A card. `note` and `body` are HTML; an empty body says so."""
    return (
        f'<section class="card"><h2>{esc(title)}</h2><p class="note">{note}</p>'
        f'<div class="plot">{body or "<p class=none>Nothing was recorded.</p>"}</div></section>'
    )


def _denied(report: RunReport) -> str:
    """Bars of rows denied: one a client, one colour a policy, the largest policies first."""
    totals: dict[str, int] = {}
    for client in report.clients:
        for policy, rows in client.rows_denied.items():
            totals[policy] = totals.get(policy, 0) + rows
    ranked = sorted((policy for policy in totals if totals[policy]), key=lambda policy: (-totals[policy], policy))
    if not ranked:
        return '<p class="none">No row was denied.</p>'
    named = ranked if len(ranked) <= PALETTE_SIZE else ranked[: PALETTE_SIZE - 1]
    clients = sorted(report.clients, key=lambda each: -sum(each.rows_denied.values()))[:MOST_BARS]
    shown = [each for each in report.clients if each in clients]
    label_width = 16 + 7.2 * min(max(len(clean(each.node)) for each in shown), 22)
    most = max(sum(each.rows_denied.values()) for each in shown)
    room = 488 - label_width - 56
    step = 30.0 if len(shown) <= 6 else 22.0  # noqa: PLR2004
    parts = [
        f'<svg viewBox="0 0 488 {_c(len(shown) * step + 4)}" role="img" aria-label="Rows denied by client and policy">'
    ]
    for row, client in enumerate(shown):
        y, x = row * step + 4, label_width
        parts.append(_row_label(client.node, label_width - 10, y + step / 2 + 1, 22))
        rest = sum(client.rows_denied.values())
        for index, policy in enumerate(named):
            rows = client.rows_denied.get(policy, 0)
            rest -= rows
            x += _segment(
                parts, x, y, step - 9, room * rows / most, f"c{index}", f"{client.node}: {whole(rows)} by {policy}"
            )
        x += _segment(
            parts, x, y, step - 9, room * rest / most, "rest", f"{client.node}: {whole(rest)} by other policies"
        )
        total = whole(sum(client.rows_denied.values()))
        parts.append(f'<text class="tick" x="{_c(x + 6)}" y="{_c(y + step / 2 + 1)}">{total}</text>')
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
            f'<rect class="bar {tone}" x="{_c(x)}" y="{_c(y)}" width="{_c(max(width - 1.5, 0.75))}" '
            f'height="{_c(height)}" rx="2">'
            f"<title>{esc(title)}</title></rect>"
        )
    return width


def _row_label(text: str, x: float, y: float, most: int) -> str:
    shown = clean(text)
    short = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    return f'<text class="row" x="{_c(x)}" y="{_c(y)}" text-anchor="end">{esc(short)}<title>{esc(shown)}</title></text>'


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
    size = f'viewBox="0 0 {_c(width)} {_c(26 + step * len(shown))}" width="{_c(width)}"'
    parts = [f'<svg class="wide" {size} role="img" aria-label="Who took part in each round">']
    skip = next(each for each in (1, 2, 5, 10, 20, 50, 100) if each * cell >= 22 or each == 100)  # noqa: PLR2004
    compact = len(shown) * len(report.rounds) > MOST_CELLS
    for column, each in enumerate(report.rounds):
        if each.round % skip == 0:
            x = label_width + cell * (column + 0.5)
            parts.append(f'<text class="tick" x="{_c(x)}" y="13" text-anchor="middle">{each.round}</text>')
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
                path.append(f"M{_c(x)} {_c(y)}h{_c(cell - 2)}v{_c(step - 5)}h{_c(2 - cell)}z")
        if path:
            parts.append(f'<path class="took" d="{"".join(path)}"/>')
        end = label_width + cell * len(report.rounds) + 10
        parts.append(
            f'<text class="tick" x="{_c(end)}" y="{_c(y + step / 2 + 2)}">{taken} of {len(report.rounds)}</text>'
        )
    parts.append("</svg>")
    legend = (
        '<ul class="legend"><li><i class="took"></i>in the sum</li><li><i class="lost"></i>lost, at the step named</li>'
        '<li><i class="said-no"></i>refused</li><li><i class="away"></i>not asked</li></ul>'
    )
    hidden = len(nodes) - len(shown)
    more = (
        f'<p class="note">{_plural(hidden, "more client")} in report.json; losses and refusals are drawn first.</p>'
        if hidden
        else ""
    )
    return f'<div class="scroll">{"".join(parts)}</div>{legend}{more}{_events(report)}'


def _state(node: str, each: RoundReport, refusal: Refusal | None) -> tuple[str, str, str]:
    """What `node` did in a round: the cell's class, its mark, and the whole story."""
    took = node in each.participants
    lost = next((one for one in each.lost if one.node == node), None)
    where = f"round {each.round}: {node}"
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
            f'<text class="cell {kind}" x="{_c(middle)}" y="{_c(base)}" text-anchor="middle">'
            f"{esc(mark) if fits else '✕'}</text>"
        )
    return (
        f'<g><rect class="{kind}" x="{_c(x)}" y="{_c(y)}" width="{_c(wide)}" height="{_c(tall)}" rx="3"/>{text}'
        f"<title>{esc(title)}</title></g>"
    )


def _events(report: RunReport) -> str:
    """Losses and refusals as a table: what the grid shows, with its reasons, for readers and screen readers."""
    rows = [
        (each.round, lost.node, f"lost at {lost.step}", lost.reason, lost.node in each.participants)
        for each in report.rounds
        for lost in each.lost
    ]
    rows += [
        (-1 if one.round is None else one.round, each.node, f"refused, {one.code}", one.reason, False)
        for each in report.clients
        for one in each.refusals
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
            _plural(client.steps, "step") if client.steps is not None else None,
        ]
        audit = client.audit
        over = bool(_over_budget([client]))
        spent = epsilon_of_budget(client) if client.epsilon is None else f"ε{THIN}{epsilon_of_budget(client)}"
        noise = (
            f"\u03c3{THIN}={THIN}{number(client.noise_multiplier)}"
            if client.noise_multiplier is not None
            else "no noise stated"
        )
        cells = [
            (esc(client.node), _plural(len(client.refusals), "refusal") if client.refusals else ""),
            (f'<b class="{"bad" if over else ""}">{spent}</b>', esc(guarantee(client))),
            (
                noise + (f", {esc(client.noise)}" if client.noise else ""),
                esc(", ".join(each for each in sampling if each)),
            ),
            (f"{whole(client.rows_allowed)} allowed", f"{whole(sum(client.rows_denied.values()))} denied"),
            (f"{client.rounds_taken_part} of {len(report.rounds)}", ""),
            ('<b class="bad">no log</b>', "")
            if audit is None
            else (
                '<b class="good">verified</b>' if audit.verified else '<b class="bad">not verified</b>',
                f'{_plural(audit.records, "record")}<br><code title="{esc(audit.head)}">{esc(audit.head[:16])}…</code>',
            ),
        ]
        body.append("<tr>" + "".join(f"<td>{first}<small>{second}</small>" for first, second in cells))
    return (
        '<div class="scroll"><table class="clients"><thead><tr><th>Client<th>Privacy loss of budget'
        f"<th>Noise and sampling<th>Rows<th>Rounds<th>Audit log<tbody>{''.join(body)}</table></div>"
    )


def _unprotected(report: RunReport) -> str:
    items = [f"<li>{esc(each)}" for each in report.results.unnoised_outputs]
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
        (each.node, "no log" if each.audit is None else f"{each.audit.head}  ({_plural(each.audit.records, 'record')})")
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
            _details("Every round in numbers", _plural(len(report.rounds), "round"), _round_table(report)),
            _details("Configuration", f"SHA-256 {config.sha256[:16]}…", f"{overrides}<pre>{resolved}</pre>"),
            _details("Audit log heads", "to compare with the clients' own logs", _facts(heads, "mono")),
            _details("Software", f"aegis-flower {versions.aegis_flower}", _facts(software, "mono")),
            _details("Time", f"{seconds(timings.total)} in all", _facts(clock, "mono")),
            _details("Files", _plural(len(report.files), "file"), _facts(files, "mono")),
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
    words = [f"{_plural(len(report.clients), 'client')}, {_plural(len(report.rounds), 'round')}"]
    if lost:
        words.append(f"{_plural(len(lost), 'client')} lost on the way")
    refusals = sum(len(each.refusals) for each in report.clients)
    if refusals:
        words.append(_plural(refusals, "refusal"))
    words.append(f"experiment {run.experiment}")
    words.append(f"started {run.started.replace('T', ' ')}")
    words.append(f"{run.runtime} runtime")
    words.append("no seed" if run.seed is None else f"seed {run.seed}")
    return " · ".join(map(esc, words))


def render(report: RunReport, *, json_sha256: str) -> str:
    """The page for `report`; `json_sha256` is the digest of the ``report.json`` it stands for."""
    run = report.run
    tone = {"finished": "good", "refused": "warn", "failed": "bad"}[run.status]
    pills = [f'<span class="pill {tone}">{esc(run.status)}</span>']
    pills += [f'<span class="pill {"bad" if each == "NOT PRIVATE" else ""}">{esc(each)}</span>' for each in run.labels]
    banners = []
    if not run.private:
        banners.append(f'<p class="banner bad">{esc(privacy_warning(report))}.</p>')
    if run.status != "finished":
        why = run.reason or "no reason was recorded"
        verb = "was refused" if run.status == "refused" else "failed"
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


FOOTER: Final = (
    "<footer>This page is evidence for what one run did. Whether that meets a law, a policy or an agreement is for its "
    "readers to judge. Every number here is in report.json, or a sum of such.</footer>"
)

MARK: Final = (
    '<svg class="logo" viewBox="0 0 20 20" aria-hidden="true">'
    '<path d="M10 1.5 17 4v5.6c0 4.2-2.8 7.2-7 8.9-4.2-1.7-7-4.7-7-8.9V4z"/>'
    '<path class="in" d="M6.6 9.9 9 12.3l4.5-4.8"/></svg>'
)

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f6f6f3;--card:#fff;--ink:#1b1f23;--soft:#5a636d;--line:#e2e2dc;--accent:#0a6c74;
--tint:#d3e7e6;
--eps:#a35a00;--good:#1a7440;--warn:#8a5a00;--bad:#b3261e;--badtint:#fbe6e3;--warntint:#faeed3;--goodtint:#e0f1e5;
--c0:#0a6c74;--c1:#c8692b;--c2:#5a5fc0;--c3:#a83e76;--c4:#6f7f2d;--c5:#3f86c4;--rest:#9aa1a8}
@media(prefers-color-scheme:dark){:root{--bg:#0f1214;--card:#161a1d;--ink:#e4e7e9;--soft:#97a1aa;--line:#293036;
--accent:#4fbdb8;
--tint:#1d4145;--eps:#e0a04c;--good:#5cc489;--warn:#e0b04c;--bad:#ff8a80;--badtint:#3a1d1c;--warntint:#352a14;
--goodtint:#16301f;
--c0:#4fbdb8;--c1:#e8935a;--c2:#9a9ef0;--c3:#de83b1;--c4:#b3c264;--c5:#78b4e6;--rest:#6d767e}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
font-variant-numeric:tabular-nums;-webkit-font-smoothing:antialiased}
main{max-width:1104px;margin:0 auto;padding:40px 20px 56px}
h1,h2,h3,p,dl,ul{margin:0}
h1{font-size:32px;line-height:1.2;font-weight:650;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:15px;font-weight:650;letter-spacing:-.005em}
h3{font-size:13px;font-weight:550;color:var(--soft)}
code,pre,.mono dd{font-family:ui-monospace,"SF Mono",SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.86em}
.over{display:flex;align-items:center;gap:8px;margin-bottom:14px;font-size:13px;color:var(--soft)}
.over code{margin-left:auto;overflow-wrap:anywhere}
.logo{width:18px;height:18px;fill:var(--accent)}.logo .in{fill:none;stroke:var(--card);stroke-width:1.8}
.lead{margin-top:8px;color:var(--soft)}
.pill{display:inline-block;vertical-align:middle;margin-left:6px;padding:2px 10px;border-radius:99px;
font-size:12.5px;line-height:20px;
font-weight:600;letter-spacing:0;color:var(--soft);background:var(--line)}
.pill.good{color:var(--good);background:var(--goodtint)}.pill.warn{color:var(--warn);background:var(--warntint)}
.pill.bad{color:var(--bad);background:var(--badtint)}
.banner{margin-top:16px;padding:11px 16px;border-radius:8px;font-weight:600}
.banner.bad{color:var(--bad);background:var(--badtint)}.banner.warn{color:var(--warn);background:var(--warntint)}
.gap{height:24px}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);margin:28px 0 20px;background:var(--card);
border:1px solid var(--line);border-radius:12px}
.tile{padding:18px 20px 16px;min-width:0}.tile+.tile{border-left:1px solid var(--line)}
.value{margin:4px 0 8px;font-size:32px;line-height:1.15;font-weight:600;letter-spacing:-.025em;white-space:nowrap}
.value small{font-size:14px;font-weight:450;letter-spacing:0;color:var(--soft)}
.value.bad{color:var(--bad)}
.tile b{font-weight:600;color:var(--ink)}
.meter{display:block;width:100%;height:14px;margin-bottom:10px}
.track{fill:var(--line)}.fill.accent{fill:var(--accent)}.fill.eps{fill:var(--eps)}.fill.good{fill:var(--good)}
.fill.bad{fill:var(--bad)}
.fill.c1{fill:var(--c1)}.mark{fill:var(--ink)}
.note,.none{font-size:13px;line-height:1.5;color:var(--soft);overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:1fr 1fr;gap:20px}
.card{min-width:0;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 22px 20px;
margin-bottom:20px}
.two>.card{margin-bottom:0}.two{margin-bottom:20px}
.plot{margin-top:14px}.plot>svg{display:block;width:100%;height:auto}.wide{display:block;height:auto;min-width:100%}
.plot details{margin-top:14px}
svg text{font-family:inherit;font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-width:1}.tick{font-size:12px;fill:var(--soft)}.row{font-size:12.5px;fill:var(--ink)}
.rule{stroke-width:1.5;stroke-dasharray:5 4}.rule.quiet{stroke:var(--soft)}.rule.limit{stroke:var(--bad)}
.line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}
.accent .line{stroke:var(--accent)}.accent circle{fill:var(--accent)}.eps .line{stroke:var(--eps)}
.eps circle{fill:var(--eps)}
.c0 .line{stroke:var(--c0)}.c0 circle{fill:var(--c0)}.c1 .line{stroke:var(--c1)}.c1 circle{fill:var(--c1)}
.c2 .line{stroke:var(--c2)}.c2 circle{fill:var(--c2)}.c3 .line{stroke:var(--c3)}.c3 circle{fill:var(--c3)}
.c4 .line{stroke:var(--c4)}.c4 circle{fill:var(--c4)}.c5 .line{stroke:var(--c5)}.c5 circle{fill:var(--c5)}
circle{stroke:var(--card);stroke-width:1.5}.fine circle{stroke:none}
.end{font-size:12px;fill:var(--soft)}.end.strong{font-weight:650}.end.limit{fill:var(--bad)}
.end.accent{fill:var(--accent)}
.end.eps{fill:var(--eps)}.end.c0{fill:var(--c0)}.end.c1{fill:var(--c1)}.end.c2{fill:var(--c2)}
.end.c3{fill:var(--c3)}
.end.c4{fill:var(--c4)}.end.c5{fill:var(--c5)}
.bar.c0{fill:var(--c0)}.bar.c1{fill:var(--c1)}.bar.c2{fill:var(--c2)}.bar.c3{fill:var(--c3)}.bar.c4{fill:var(--c4)}
.bar.c5{fill:var(--c5)}
.bar.rest{fill:var(--rest)}
.took{fill:var(--tint)}rect.away{fill:none;stroke:var(--line)}rect.lost,rect.took-lost{fill:var(--badtint);
stroke:var(--bad);stroke-width:1.25}
rect.took-lost{fill:var(--tint)}rect.said-no{fill:var(--warntint);stroke:var(--warn);stroke-width:1.25}
.cell{font-size:11px;font-weight:650;fill:var(--bad)}.cell.said-no{fill:var(--warn)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:14px;padding:0;list-style:none;font-size:13px;
color:var(--soft)}
.legend b{font-weight:600;color:var(--ink)}
.legend i{display:inline-block;width:11px;height:11px;margin-right:7px;border-radius:3px;vertical-align:-1px;
border:1px solid transparent}
.legend .c0{background:var(--c0)}.legend .c1{background:var(--c1)}.legend .c2{background:var(--c2)}
.legend .c3{background:var(--c3)}
.legend .c4{background:var(--c4)}.legend .c5{background:var(--c5)}.legend .rest{background:var(--rest)}
.legend .took{background:var(--tint)}.legend .lost{background:var(--badtint);border-color:var(--bad)}
.legend .said-no{background:var(--warntint);border-color:var(--warn)}.legend .away{border-color:var(--line)}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-size:13.5px}
th{padding:6px 18px 6px 0;text-align:left;font-size:12px;font-weight:550;color:var(--soft);white-space:nowrap}
td{padding:9px 18px 9px 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:break-word}
td:last-child,th:last-child{padding-right:0}
td small{display:block;font-size:12px;line-height:1.45;color:var(--soft)}
td b{font-weight:600}b.good{color:var(--good)}b.bad{color:var(--bad)}.tile b.bad{color:var(--bad)}
.events{margin-top:14px}.events td{padding:7px 18px 7px 0}
.numbers td,.numbers th{text-align:right;white-space:nowrap;padding:4px 0 4px 16px}
.numbers td:first-child,.numbers th:first-child{padding-left:0}
.clients td:nth-child(4),.clients td:nth-child(5){white-space:nowrap}
.clients td:first-child,.trials td:first-child{font-weight:600}.clients td:first-child small{font-weight:400}
.plain{padding-left:18px}.plain li{margin:4px 0;overflow-wrap:anywhere}
dl{display:grid;
align-items:baseline;grid-template-columns:max-content minmax(0,1fr);gap:4px 20px;font-size:13.5px}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
details{border-top:1px solid var(--line)}summary{padding:10px 0;cursor:pointer;font-size:14px}
summary small{color:var(--soft);font-size:12.5px;margin-left:6px}summary::marker{color:var(--soft)}
details>:not(summary){margin-bottom:14px}.evidence h2{margin-bottom:12px}.evidence{padding-bottom:4px}
pre{margin:14px 0 0;padding:14px 16px;max-height:460px;overflow:auto;background:var(--bg);border-radius:8px;
line-height:1.5}
footer{margin:24px 4px 0;font-size:13px;color:var(--soft)}
@media(max-width:820px){.two{grid-template-columns:minmax(0,1fr)}.tiles{grid-template-columns:1fr 1fr}
.tile:nth-child(3){border-left:0}
.tile:nth-child(n+3){border-top:1px solid var(--line)}.plot{overflow-x:auto}.plot>svg{min-width:340px}
.events,.clients,.trials{min-width:660px}}
@media(max-width:460px){.tiles{grid-template-columns:1fr}.tile+.tile{border-left:0;border-top:1px solid var(--line)}
.over{flex-wrap:wrap}.over code{margin-left:0;width:100%}}
@media print{body{background:none}.card,.tiles{break-inside:avoid}}
""".strip()


def page(title: str, body: str) -> str:
    """A whole page around `body`, which is HTML. Its policy admits this style sheet, by digest, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{esc(title)}</title><style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
    )
