"""Who took part: the grid of clients and rounds, and every loss and refusal in words under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aegis_flower.report.page.bars import row_label
from aegis_flower.report.page.charts import drawing, text
from aegis_flower.report.page.markup import element, px
from aegis_flower.report.page.view import NARROW
from aegis_flower.report.words import clean, plural, shortened, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from aegis_flower.report.model import Refusal, RoundReport, RunReport

MARKS: Final = {"lost": "✕", "refused": "!"}  # where the word has no room
BROAD: Final = 1016.0  # px that the grid has on a wide screen
MOST_ROWS: Final = 60  # clients drawn in the grid; report.json has the others
MOST_NARROW: Final = 24  # clients drawn on a phone
MOST_EVENTS: Final = 12  # losses and refusals listed openly; more are folded
MOST_CELLS: Final = 1500  # cells with their own tooltip; more are drawn as one path a row


@dataclass(frozen=True, slots=True)
class Event:
    """A loss or a refusal in words."""

    when: str
    node: str
    what: str
    inside: str
    why: str


@dataclass(frozen=True, slots=True)
class Participation:
    """Who took part: the grid and its form for a phone, notes where they lack clients, every loss and refusal.

    Attributes:
        wide: whether the grid is wider than the page.
        folded: whether losses and refusals are many.
    """

    grid: Markup
    wide: bool
    more: str
    narrow: Markup
    narrow_more: str
    events: tuple[Event, ...]
    count: str
    folded: bool


def participation(report: RunReport) -> Participation | None:
    """The grid of clients and rounds, and every loss and refusal in words; `None` without a round."""
    if not report.rounds:
        return None
    nodes = [each.node for each in report.clients]
    nodes += sorted(
        {node for each in report.rounds for node in (*each.participants, *(lost.node for lost in each.lost))}
        - set(nodes)
    )
    troubled = {lost.node for each in report.rounds for lost in each.lost}
    troubled |= {each.node for each in report.clients if each.refusals}
    first = sorted(nodes, key=lambda node: node not in troubled)
    shown, few = (nodes if len(nodes) <= most else first[:most] for most in (MOST_ROWS, MOST_NARROW))
    events = _events(report)
    return Participation(
        grid=_grid(report, shown),
        wide=_grid_sizes(report, shown)[2] > BROAD,
        more=_more(len(nodes) - len(shown)),
        narrow=_narrow_grid(report, few),
        narrow_more=_more(len(nodes) - len(few)),
        events=events,
        count=whole(len(events)),
        folded=len(events) > MOST_EVENTS,
    )


def _more(hidden: int) -> str:
    return f"{plural(hidden, 'more client')} in report.json; losses and refusals are drawn first." if hidden else ""


def _narrow_grid(report: RunReport, shown: Sequence[str]) -> Markup:
    """For a phone: each client has a line with its name, and under it its rounds, which go on in further lines."""
    cell = min(40.0, max(12.5, NARROW / len(report.rounds)))
    a_line = int(NARROW / cell + 1e-9)
    lines = -(-len(report.rounds) // a_line)
    refused = {(each.node, one.round): one for each in report.clients for one in each.refusals}
    step, parts = 22.0 + 19 * lines + 6, []
    for row, node in enumerate(shown):
        top = step * row
        taken = sum(node in each.participants for each in report.rounds)
        beside = f"{taken} of {len(report.rounds)}"
        name = clean(node)
        room = int((NARROW - 7 * len(beside) - 12) / 7.4)
        parts.append(
            element(
                "text",
                shortened(name, room),
                element("title", name),
                class_="row",
                x=0,
                y=top + 14,
            )
        )
        parts.append(text(beside, "tick", NARROW, top + 14, anchor="end"))
        path = []
        for index, each in enumerate(report.rounds):
            x, y = cell * (index % a_line), top + 22 + 19 * (index // a_line)
            kind, mark, title = _state(node, each, refused.get((node, each.round)))
            if mark:
                parts.append(_cell(x, y, cell, 21, kind, mark, title))
            elif kind == "took":
                path.append(f"M{px(x)} {px(y)}h{px(cell - 2)}v16h{px(2 - cell)}z")
            else:
                parts.append(element("rect", class_=kind, x=x + 0.5, y=y + 0.5, width=cell - 3, height=15, rx=2))
        if path:
            parts.append(element("path", class_="took", d="".join(path)))
    return drawing("Who took part in each round", NARROW, step * len(shown), *parts)


def _grid_sizes(report: RunReport, shown: Sequence[str]) -> tuple[float, float, float]:
    """Widths of the names, of a cell and of the whole grid."""
    label_width = 16 + 7.2 * min(max((len(clean(each)) for each in shown), default=0), 28)
    cell = min(72.0, max(13.0, (BROAD - label_width - 74) / len(report.rounds)))
    width = max(BROAD, label_width + cell * len(report.rounds) + 74)
    return label_width, cell, width


def _grid(report: RunReport, shown: Sequence[str]) -> Markup:
    label_width, cell, width = _grid_sizes(report, shown)
    step = 30.0 if len(shown) <= 20 else 20.0  # noqa: PLR2004
    parts = []
    skip = next(each for each in (1, 2, 5, 10, 20, 50, 100) if each * cell >= 22 or each == 100)  # noqa: PLR2004
    compact = len(shown) * len(report.rounds) > MOST_CELLS
    for column, each in enumerate(report.rounds):
        if each.round % skip == 0:
            parts.append(text(str(each.round), "tick", label_width + cell * (column + 0.5), 13, anchor="middle"))
    refused = {(each.node, one.round): one for each in report.clients for one in each.refusals}
    for row, node in enumerate(shown):
        y = 22 + row * step
        parts.append(row_label(node, label_width - 10, y + step / 2 + 2, 28))
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
            parts.append(element("path", class_="took", d="".join(path)))
        end = label_width + cell * len(report.rounds) + 10
        parts.append(text(f"{taken} of {len(report.rounds)}", "tick", end, y + step / 2 + 2))
    height = 26 + step * len(shown)
    return element(
        "svg",
        *parts,
        class_="wide",
        viewBox=f"0 0 {px(width)} {px(height)}",
        width=width,
        role="img",
        aria_label="Who took part in each round",
    )


def _state(node: str, each: RoundReport, refusal: Refusal | None) -> tuple[str, str, str]:
    """What `node` did in a round: the cell's class, its mark, and the whole story."""
    took = node in each.participants
    lost = next((one for one in each.lost if one.node == node), None)
    where = f"round {each.round}: {node}"
    if lost is not None and lost.code and not took:
        return "said-no", "refused", f"{where} refused at {lost.step}, {lost.code}: {lost.reason}"
    if lost is not None:
        inside = "its update is in the sum" if took else "its update is not in the sum"
        return "took-lost" if took else "lost", "lost", f"{where} lost at {lost.step}, {inside}: {lost.reason}"
    if refusal is not None:
        return "said-no", "refused", f"{where} refused, {refusal.code}: {refusal.reason}"
    return ("took", "", f"{where} is in the sum") if took else ("away", "", f"{where} was not asked")


def _cell(x: float, y: float, cell: float, step: float, kind: str, mark: str, title: str) -> Markup:
    wide, tall = cell - (4 if cell > 24 else 2), step - 5  # noqa: PLR2004
    parts = [element("rect", class_=kind, x=x, y=y, width=wide, height=tall, rx=3)]
    if mark:
        fits = 8.2 * len(clean(mark)) <= wide - 4
        shown = mark if fits else MARKS[mark]
        parts.append(text(shown, f"cell {kind}", x + wide / 2, y + tall / 2 + 4, anchor="middle"))
    return element("g", *parts, element("title", title))


def _events(report: RunReport) -> tuple[Event, ...]:
    """Losses and refusals: what the grid shows, with its reasons, for readers and screen readers."""
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
    return tuple(
        Event("before" if when < 0 else str(when), node, what, "yes" if inside else "no", why)
        for when, node, what, why, inside in sorted(rows)
    )
