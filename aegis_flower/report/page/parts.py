"""Parts that every card is made of: frames, definition lists, bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aegis_flower.report.page.charts import px
from aegis_flower.report.words import clean, esc


def card(title: str, note: str, body: str) -> str:
    """A card. `note` and `body` are HTML; an empty body says so."""
    return (
        f'<section class="card"><h2>{esc(title)}</h2><p class="note">{note}</p>'
        f'<div class="plot">{body or "<p class=none>Nothing was recorded.</p>"}</div></section>'
    )


def facts(rows: Iterable[tuple[str, str]], tone: str = "") -> str:
    """A definition list; names and values are text."""
    body = "".join(f"<dt>{esc(name)}<dd>{esc(value)}" for name, value in rows)
    return f'<dl class="{tone}">{body}</dl>'


def details(summary: str, beside: str, body: str) -> str:
    """A part that is folded; `body` is HTML."""
    return f"<details><summary>{esc(summary)} <small>{esc(beside)}</small></summary>{body}</details>"


def esc_block(text: str) -> str:
    """Like `esc`, and keeps the line breaks."""
    return "\n".join(esc(line) for line in text.split("\n"))


def plain(value: object) -> object:
    """Mappings of any class, as the report lets them in, for `json.dumps`."""
    return dict(value) if isinstance(value, Mapping) else str(value)


def segment(parts: list[str], x: float, y: float, height: float, width: float, tone: str, title: str) -> float:
    """Draw one part of a bar and give its width, so that the next begins where it ends."""
    if width > 0:
        parts.append(
            f'<rect class="bar {tone}" x="{px(x)}" y="{px(y)}" width="{px(max(width - 1.5, 0.75))}" '
            f'height="{px(height)}" rx="2">'
            f"<title>{esc(title)}</title></rect>"
        )
    return width


def row_label(text: str, x: float, y: float, most: int) -> str:
    """A bar's name at its left, cut to `most` characters; the tooltip has it whole."""
    shown = clean(text)
    short = shown if len(shown) <= most else f"{shown[: most - 1]}…"
    return f'<text class="row" x="{px(x)}" y="{px(y)}" text-anchor="end">{esc(short)}<title>{esc(shown)}</title></text>'
