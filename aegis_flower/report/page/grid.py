"""Who took part: the grid of clients and rounds, and every loss and refusal in words under it."""

from __future__ import annotations

from typing import Final

from aegis_flower.report.model import Refusal, RoundReport, RunReport
from aegis_flower.report.page.charts import px
from aegis_flower.report.page.parts import details, row_label
from aegis_flower.report.words import clean, esc, plural, whole

MOST_ROWS: Final = 60  # clients drawn in the grid; report.json has the others
MOST_EVENTS: Final = 12  # losses and refusals listed openly; more are folded
MOST_CELLS: Final = 1500  # cells with their own tooltip; more are drawn as one path a row


def participation(report: RunReport) -> str:
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
    return table if len(rows) <= MOST_EVENTS else details("Losses and refusals", whole(len(rows)), table)
