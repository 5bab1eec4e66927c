"""Charts as SVG, written by hand: they follow the page's colours in light and dark, and weigh a few kilobytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegis_flower.report.page.markup import element, px

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup


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


# Width of a letter of 12 px in the widest of the fonts that the page may get (DejaVu Sans): a label must not be cut off.
_PLAIN, _BOLD = 7.4, 8.2
_TICK = 20.0  # px from one number under the axis to the next, at least


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
) -> Markup | None:
    """An SVG of `series` against x, labelled at the line's end; `None` without any point."""
    drawn = [(x, y) for each in series for x, y in each.points if y is not None]
    if not drawn:
        return None
    ys = [y for _, y in drawn] + [rule.value for rule in rules] + ([0.0] if from_zero else [])
    y_ticks = [each for each in nice_ticks(min(ys), max(ys), 4) if each <= at_most + 1e-9]
    top_value = max(y_ticks[-1], *ys)
    xs = [x for each in series for x, _ in each.points]
    tick_text = show_tick or show_y
    ends = _end_labels(series, rules, show_y, tick_text)
    left = 14 + 6.4 * max(len(tick_text(each)) for each in y_ticks)
    right = width - 14 - max(len(end) * (_BOLD if "strong" in tone else _PLAIN) for end, _, tone in ends)
    x_ticks = _x_ticks(xs, max(2, int((right - left) / _TICK)), whole_x=whole_x)
    x_low, x_high = min(*x_ticks, *xs), max(*x_ticks, *xs)
    top, bottom = 12.0, height - 40.0
    y_span = (top_value - y_ticks[0]) or 1.0
    x_span = (x_high - x_low) or 1.0

    def at_x(value: float) -> float:
        return left + (right - left) * ((value - x_low) / x_span if x_high > x_low else 0.5)

    def at_y(value: float) -> float:
        return bottom - (bottom - top) * (value - y_ticks[0]) / y_span

    parts = []
    for tick in y_ticks:
        y = at_y(tick)
        parts.append(element("line", class_="grid", x1=left, y1=y, x2=right, y2=y))
        parts.append(text(tick_text(tick), "tick", left - 8, y + 4, anchor="end"))
    parts += [text(show_x(tick), "tick", at_x(tick), bottom + 18, anchor="middle") for tick in x_ticks]
    parts.append(text(x_label, "tick", (left + right) / 2, bottom + 35, anchor="middle"))
    for rule in rules:
        y = at_y(rule.value)
        tip = element("title", f"{rule.label}: {tick_text(rule.value)}")
        parts.append(element("line", tip, class_=f"rule {rule.tone}", x1=left, y1=y, x2=right, y2=y))
    parts += [_line(each, at_x, at_y, x_label, show_x, show_y) for each in series]
    heights = _spread([at_y(value) for _, value, _ in ends], top, bottom)
    parts += [text(end, f"end {tone}", right + 9, y + 4) for (end, _, tone), y in zip(ends, heights, strict=True)]
    return drawing(title, width, height, *parts)


def drawing(title: str, width: float, height: float, *parts: Markup) -> Markup:
    """An SVG of `width` by `height` px; `title` is for those who cannot see it."""
    return element("svg", *parts, viewBox=f"0 0 {px(width)} {px(height)}", role="img", aria_label=title)


def text(inside: str, kind: str, x: float, y: float, *, anchor: str = "") -> Markup:
    """Words in a drawing, of the class `kind`; `x` is where they begin, or their `anchor`."""
    if anchor:
        return element("text", inside, class_=kind, x=x, y=y, text_anchor=anchor)
    return element("text", inside, class_=kind, x=x, y=y)


def _line(
    series: Series,
    at_x: Callable[[float], float],
    at_y: Callable[[float], float],
    x_label: str,
    show_x: Callable[[float], str],
    show_y: Callable[[float], str],
) -> Markup:
    path, dots, pen_up = [], [], True
    small = len(series.points) > 40  # noqa: PLR2004 - closer than that, dots hide the line
    radius = 1.4 if small else 3
    for x, y in series.points:
        if y is None:
            pen_up = True
            continue
        path.append(f"{'M' if pen_up else 'L'}{px(at_x(x))} {px(at_y(y))}")
        pen_up = False
        tip = element("title", f"{series.label}, {x_label} {show_x(x)}: {show_y(y)}")
        dots.append(element("circle", tip, cx=at_x(x), cy=at_y(y), r=radius))
    lines = [element("path", class_="line", d="".join(path))] if series.joined else []
    return element("g", *lines, *dots, class_=series.tone + (" fine" if small else ""))


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
            end = each.label if len(series) > 1 or not each.joined else f"{show_y(known[-1])} {each.label}"
            ends.append((end, known[-1], f"{each.tone} strong"))
    return [(end if len(end) <= 26 else f"{end[:25]}…", value, tone) for end, value, tone in ends]  # noqa: PLR2004


def _x_ticks(values: Sequence[float], room: int, *, whole_x: bool) -> list[float]:
    """Numbers under the axis, at most about `room` of them."""
    low, high = min(values), max(values)
    if not whole_x:
        return nice_ticks(low, high, min(5, room))
    most = min(12, room)
    step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if (high - low) / each <= most)
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


def meter(value: float, marks: Sequence[tuple[float, str, str]] = (), tone: str = "accent") -> Markup:
    """A bar over [0, 1] with marks to compare with: value, name, and ``long`` or ``short``."""
    length = 1000 * min(max(value, 0.0), 1.0)
    ticks = (
        element(
            "rect",
            element("title", label),
            class_=f"mark {size}",
            x=min(max(1000 * at - 3, 0), 994),
            y=0 if size == "long" else 4,
            width=6,
            height=14 if size == "long" else 6,
        )
        for at, label, size in marks
    )
    return element(
        "svg",
        element("rect", class_="track", y=4, width=1000, height=6),
        element("rect", class_=f"fill {tone}", y=4, width=length, height=6),
        *ticks,
        class_="meter",
        viewBox="0 0 1000 14",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
