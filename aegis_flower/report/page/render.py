"""The run report as one HTML file, for the data steward who has to judge it.

Guarantees:

- One file: no script, no network, no font; the page's own content security policy forbids all three.
- Every text from outside passes `esc`: markup is escaped, control and bidirectional override characters are shown
  as U+FFFD, so a name can neither add markup nor reorder the line it stands in.
- An epsilon stands beside its unit, delta, neighbouring relation and accountant, and is rounded up, never down.
- Equal reports give equal pages: nothing here reads a clock, a locale or a random number.

The wording is in `words`, plots in `charts`, the style sheet in `style`.
"""

from __future__ import annotations

import json

from aegis_flower.report.model import RunReport
from aegis_flower.report.page.grid import participation
from aegis_flower.report.page.parts import card, details, esc_block, facts, plain
from aegis_flower.report.page.plots import plots
from aegis_flower.report.page.style import FOOTER, MARK, page
from aegis_flower.report.page.tables import client_table, masking, round_table, unprotected
from aegis_flower.report.page.tiles import tiles
from aegis_flower.report.words import UNKNOWN, esc, plural, privacy_warning, seconds


def _evidence(report: RunReport, json_sha256: str) -> str:
    config, versions, timings = report.config, report.versions, report.timings
    overrides = facts([("overrides", ", ".join(config.overrides) or "none"), ("SHA-256", config.sha256)], "mono")
    resolved = esc_block(json.dumps(config.resolved, ensure_ascii=False, indent=2, default=plain))
    heads = [
        (each.node, "no log" if each.audit is None else f"{each.audit.head}  ({plural(each.audit.records, 'record')})")
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
            details("Every round in numbers", plural(len(report.rounds), "round"), round_table(report)),
            details("Configuration", f"SHA-256 {config.sha256[:16]}…", f"{overrides}<pre>{resolved}</pre>"),
            details("Audit log heads", "to compare with the clients' own logs", facts(heads, "mono")),
            details("Software", f"aegis-flower {versions.aegis_flower}", facts(software, "mono")),
            details("Time", f"{seconds(timings.total)} in all", facts(clock, "mono")),
            details("Files", plural(len(report.files), "file"), facts(files, "mono")),
        ]
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
    words.append("no seed" if run.seed is None else f"seed {run.seed}")
    return " · ".join(map(esc, words))


def render(report: RunReport, *, json_sha256: str) -> str:
    """The page for `report`; `json_sha256` is the digest of the ``report.json`` it stands for."""
    run = report.run
    tone = {"finished": "good", "refused": "warn", "failed": "bad", "interrupted": "warn"}[run.status]
    pills = [f'<span class="pill {tone}">{esc(run.status)}</span>']
    pills += [f'<span class="pill {"bad" if each == "NOT PRIVATE" else ""}">{esc(each)}</span>' for each in run.labels]
    banners = []
    if not run.private:
        banners.append(f'<p class="banner bad">{esc(privacy_warning(report))}.</p>')
    banners += [f'<p class="banner bad">{esc(each)}</p>' for each in run.warnings]
    if run.status != "finished":
        why = run.reason or "no reason was recorded"
        verb = {"refused": "was refused", "interrupted": "was interrupted"}.get(run.status, "failed")
        banners.append(f'<p class="banner {tone}">This run {verb}: {esc(why)}</p>')
    body = "".join(
        [
            f'<header><p class="over">{MARK} AEGIS run report <code>{esc(run.id)}</code></p>',
            f"<h1>{esc(run.name)} {''.join(pills)}</h1>",
            f'<p class="lead">{_lead(report)}</p>{"".join(banners)}</header>',
            tiles(report),
            plots(report),
            card("Who took part", "One cell per client and round. Hover for the reason.", participation(report)),
            card("Clients", "What each client spent, let into training and put on record.", client_table(report)),
            '<div class="two">',
            card("What is not protected by noise", "The ε above says nothing about these.", unprotected(report)),
            card("Secure aggregation", "The server learns the sum of the updates, not one of them.", masking(report))
            if report.secagg.enabled
            else card("Secure aggregation", "How updates were hidden from the server.", masking(report)),
            "</div>",
            f'<section class="card evidence"><h2>Evidence</h2>{_evidence(report, json_sha256)}</section>',
            FOOTER,
        ]
    )
    return page(f"{run.name}: AEGIS run report", body)
