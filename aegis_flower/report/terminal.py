"""A report in a terminal: a summary that fits a screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from aegis_flower.report import words
from aegis_flower.report.model import RunReport
from aegis_flower.report.plain import labelled

if TYPE_CHECKING:
    from rich.console import Console


def print_report(report: RunReport, console: Console) -> None:
    """Print a summary that fits a screen. Names from outside are shown as text: no markup, no control codes."""
    report = labelled(report)
    results = report.results
    _print_end(report, console)
    console.print()
    console.print(_facts(report))
    console.print()
    if report.clients:
        console.print(_client_table(report))
        for line in words.guarantee_lines(report.clients) or ["no client states an ε"]:
            console.print(Text(line, "dim"))
    if said := words.trust(report):
        console.print(Text(said, "dim"))
    for line in _remarks(report):
        console.print(Text(line))
    for title, outputs in (("noised", results.noised_outputs), ("not protected by noise", results.unnoised_outputs)):
        if outputs:
            console.print(Text(f"{title}: {'; '.join(words.clean(each) for each in outputs)}"))


def _print_end(report: RunReport, console: Console) -> None:
    """How the run ended, and what must be known before the numbers."""
    run = report.run
    colour = {"finished": "green", "refused": "yellow", "failed": "red", "interrupted": "yellow"}[run.status]
    console.print(Text.assemble((words.clean(run.name), "bold"), "  ", (run.status, colour)))
    for why, tone in ((run.reason, colour), (run.stopped, "")):
        if why is not None:
            console.print(Text(words.clean(why), tone))
    if not run.private:
        console.print(Text(words.privacy_warning(report), "bold red"))
    for warning in run.warnings:
        console.print(Text(words.clean(f"warning: {warning}"), "bold red"))


def _facts(report: RunReport) -> Table:
    facts = Table.grid(padding=(0, 3))
    facts.add_column(style="dim")
    facts.add_column()
    shown = words.headline(report)
    for name, value, note in shown:
        facts.add_row(name, Text.assemble((value, "bold"), f"  {note}" if note else ""))
    for name, value in words.measures(report.results):
        if name == shown[0][0]:
            continue
        facts.add_row(name, Text(value, "bold"))
    return facts


def _client_table(report: RunReport) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("client", overflow="fold")  # a name that was cut is no name
    for title in ("ε run", "ε total", "ε person", "allowed", "denied", "rounds"):
        table.add_column(title, justify="right", no_wrap=title != "ε total")
    table.add_column("audit", overflow="fold")
    for client in report.clients:
        state, colour = words.audit_state(client.audit)
        table.add_row(
            Text(words.clean(client.node)),
            words.run_epsilon(client),
            words.epsilon_of_budget(client),
            words.person(client),
            words.whole_or_dash(client.rows_allowed),
            words.whole_or_dash(words.denied(client)),
            f"{client.rounds_taken_part} of {len(report.rounds)}",
            Text(state, colour),
        )
    return table


def _remarks(report: RunReport) -> Iterable[str]:
    """Each loss once: a refusal is a loss with a code, so it is not told again among the refusals."""
    told = set()
    for each in report.rounds:
        for lost in each.lost:
            told.add((each.round, lost.node, lost.code))
            what = "refused" if lost.code else "lost"
            reason = " ".join(filter(None, (f"[{lost.code}]" if lost.code else "", lost.reason)))
            yield words.clean(f"round {each.round}: {what} {lost.node} at {lost.step}: {reason or 'unknown'}")
    for client in report.clients:
        for refusal in client.refusals:
            if (refusal.round, client.node, refusal.code) not in told:
                when = "before the first round" if refusal.round is None else f"round {refusal.round}"
                yield words.clean(f"{when}: {client.node} refused, {refusal.code}: {refusal.reason}")
