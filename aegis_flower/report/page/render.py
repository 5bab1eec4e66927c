"""The run report as one HTML file, for the data steward who has to judge it.

Guarantees:

- One file: no script, no network, no font; the page's own content security policy forbids all three.
- Every text from outside passes `markup.safe`, in templates and in drawings: markup is escaped, control and bidirectional
  override characters are shown as U+FFFD, so a name can neither add markup nor reorder the line it stands in.
- A template cannot switch that off, and one that names a value which nobody gave renders nothing at all.
- An epsilon is rounded up, never down, and each part with one leads to the note that says its unit, delta, neighbouring
  relation and accountant, and what it means.
- A link leads to a part of the page or to a file beside it, never to a path or address that a report chose.
- Equal reports give equal pages: nothing here reads a clock, a locale or a random number.

The page's markup and style sheet are in `templates`; the modules beside this one say what stands in them, as data.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Final

from aegis_flower.report.page.context import commands, comparison, cost, fairness, model_line
from aegis_flower.report.page.evidence import evidence
from aegis_flower.report.page.grid import participation
from aegis_flower.report.page.markup import safe
from aegis_flower.report.page.plots import plots
from aegis_flower.report.page.tables import client_rows, masking, round_table, unprotected
from aegis_flower.report.page.tiles import tiles
from aegis_flower.report.page.view import EPSILON
from aegis_flower.report.plain import labelled, meaning, summary
from aegis_flower.report.words import plural, privacy_warning, trust

if TYPE_CHECKING:
    from jinja2 import Environment

    from aegis_flower.report.model import RunReport

STYLE: Final = "style.css"
TONES: Final = {"finished": "good", "refused": "warn", "failed": "bad", "interrupted": "warn"}


@cache
def environment() -> Environment:
    """The templates. jinja2 is imported here and nowhere else: no step of a client pays for it.

    There is no filter and no global, so `safe`, which would switch escaping off, is none either. What is unknown raises.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined

    def shown(value: object) -> object:
        return value if isinstance(value, Undefined) else safe(value)  # the former raises, and says what is missing

    found = Environment(
        loader=PackageLoader("aegis_flower.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.clear()
    found.globals.clear()
    return found


def fill(template: str, *, title: str, **view: object) -> str:
    """A whole page from `template`. Its policy admits the style sheet, by digest, and nothing else.

    Args:
        template: a file in the folder `templates`.
        title: of the page.
        view: the template's names.

    Raises:
        jinja2.UndefinedError: the template names what `view` has not.

    """
    style = environment().get_template(STYLE).render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment().get_template(template).render(title=title, digest=digest, **view) + "\n"


def render(report: RunReport, *, json_sha256: str, previous: RunReport | None = None) -> str:
    """The page for `report`; `json_sha256` is the digest of the ``report.json`` it stands for, `previous` the run before it."""
    as_recorded, report = report, labelled(report)
    run = report.run
    return fill(
        "report.html.j2",
        title=f"{run.name}: AEGIS run report",
        run=run,
        tone=TONES[run.status],
        lead=_lead(report),
        banners=_banners(report),
        tiles=tiles(report),
        plots=plots(report),
        participation=participation(report),
        clients=client_rows(report, [each.node for each in as_recorded.clients]),
        summary=summary(report),
        to_epsilon=EPSILON,
        model=model_line(report),
        epsilon=meaning(report),
        cost=cost(report),
        fairness=fairness(report),
        comparison=comparison(report, previous),
        commands=commands(report),
        unprotected=unprotected(report),
        masking=masking(report),
        table=round_table(report),
        evidence=evidence(as_recorded, json_sha256),
    )


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
    if said := trust(report):
        words.append(said)
    words.append("no seed" if run.seed is None else f"seed {run.seed}")
    return " · ".join(words)


def _banners(report: RunReport) -> tuple[tuple[str, str], ...]:
    """What a reader must know before the numbers: class of the style sheet, and words."""
    run = report.run
    banners = [] if run.private else [("bad", f"{privacy_warning(report)}.")]
    banners += [("bad", each) for each in run.warnings]
    if run.stopped is not None:
        banners.append(("warn", run.stopped))
    if run.status != "finished":
        why = run.reason or "no reason was recorded"
        verb = {"refused": "was refused", "interrupted": "was interrupted"}.get(run.status, "failed")
        banners.append((TONES[run.status], f"This run {verb}: {why}"))
    return tuple(banners)
