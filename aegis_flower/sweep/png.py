"""The plot of a sweep as a PNG, for slides. It needs matplotlib (`aegis-flower[plots]`); the page has the plot without it."""

from __future__ import annotations

import io
from typing import Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aegis_flower.report import words
from aegis_flower.sweep.plot import Plot

MOST_GUARANTEES: Final = 3  # lines under the PNG; the page has all
# Six colours of equal weight; a marker and a legend tell them apart as well.
COLOURS: Final = ("#0a6c74", "#c8692b", "#5a5fc0", "#a83e76", "#6f7f2d", "#3f86c4")


def png(plot: Plot) -> bytes:
    """The plot on white, 1600 by 900 pixels. Object-oriented matplotlib: no global figure, no display, no date."""
    figure = Figure(figsize=(8, 4.5), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for series, colour in zip(plot.series, COLOURS, strict=False):
        xs, ys = [x for x, _ in series.points], [100 * y for _, y in series.points if y is not None]
        line = "-" if series.joined else ""
        axes.plot(xs, ys, marker="o", linestyle=line, color=colour, markersize=5, label=_literal(series.label))
    for rule in plot.rules:
        axes.axhline(100 * rule.value, color="#5a636d", linestyle=(0, (5, 4)), linewidth=1.2, zorder=1)
        axes.annotate(
            _literal(f"{rule.label}  {words.percent(rule.value)}"),
            (1, 100 * rule.value),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color="#5a636d",
        )
    axes.set_xlabel(_literal(plot.x_label), color="#1b1f23")
    if plot.guarantees:
        shown = [
            *plot.guarantees[:MOST_GUARANTEES],
            *(["further guarantees differ: see sweep.html"] if len(plot.guarantees) > MOST_GUARANTEES else []),
        ]
        figure.supxlabel("\n".join(_literal(each) for each in shown), fontsize=8, color="#5a636d")
    axes.set_ylabel("accuracy, %", color="#1b1f23")
    axes.grid(axis="y", color="#e2e2dc", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#b9bdb8")
    axes.tick_params(length=0, labelsize=9, colors="#5a636d")
    if len(plot.series) > 1:
        axes.legend(frameon=False, fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _literal(text: str) -> str:
    """`text` for matplotlib, which would read dollars as mathematics and hides labels with a leading underscore."""
    shown = words.clean(text).replace("$", r"\$").replace(words.THIN, " ")
    return f" {shown}" if shown.startswith("_") else shown
