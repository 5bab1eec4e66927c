"""Bars as SVG: accuracy beside what it is compared with, and rows denied by client and policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis_flower.report.page.charts import drawing, text
from aegis_flower.report.page.markup import element
from aegis_flower.report.words import clean, denied, percent, shortened, whole, whole_or_dash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from aegis_flower.report.model import ClientReport


def accuracy_bars(rows: Sequence[tuple[str, float, str]], width: float) -> Markup:
    """One bar per row of name, accuracy and class, from 0 to 1."""
    label, room = 118.0, width - 118.0 - 74
    parts = []
    for index, (name, value, tone) in enumerate(rows):
        y = index * 34 + 4.0
        parts.append(row_label(name, label - 10, y + 18, 16))
        if value > 0:
            parts.append(_segment(label, y, 25, room * value, tone, f"{name}: {percent(value)}"))
        parts.append(text(percent(value), "tick", label + room * value + 6, y + 18))
    return drawing("Accuracy beside what it is compared with", width, len(rows) * 34 + 4, *parts)


def denied_bars(clients: Sequence[ClientReport], named: Sequence[str], width: float) -> Markup:
    """Rows denied: one bar per client, one colour per policy of `named`, the others together in grey."""
    label_width = 16 + 7.2 * min(max(len(clean(each.node)) for each in clients), 22)
    most = max(denied(each) or 0 for each in clients) or 1
    room = width - label_width - 12 - 7.6 * max(len(whole_or_dash(denied(each))) for each in clients)
    step = 30.0 if len(clients) <= 6 else 22.0  # noqa: PLR2004
    parts = []
    for row, client in enumerate(clients):
        y, x = row * step + 4, label_width
        parts.append(row_label(client.node, label_width - 10, y + step / 2 + 1, 22))
        shares = [(f"c{index}", (client.rows_denied or {}).get(each, 0), each) for index, each in enumerate(named)]
        rest = (denied(client) or 0) - sum(rows for _, rows, _ in shares)
        for tone, rows, policy in [*shares, ("rest", rest, "other policies")]:
            long = room * rows / most
            if long > 0:
                parts.append(_segment(x, y, step - 9, long, tone, f"{client.node}: {whole(rows)} by {policy}"))
                x += long
        parts.append(text(whole_or_dash(denied(client)), "tick", x + 6, y + step / 2 + 1))
    return drawing("Rows denied by client and policy", width, len(clients) * step + 4, *parts)


def row_label(name: str, x: float, y: float, most: int) -> Markup:
    """A bar's name at its left, of `most` characters at most; the tooltip has it whole."""
    shown = clean(name)
    return element("text", shortened(shown, most), element("title", shown), class_="row", x=x, y=y, text_anchor="end")


def _segment(x: float, y: float, height: float, width: float, tone: str, title: str) -> Markup:
    """One part of a bar, with a gap to the next."""
    tip = element("title", title)
    return element("rect", tip, class_=f"bar {tone}", x=x, y=y, width=max(width - 1.5, 0.75), height=height, rx=2)
