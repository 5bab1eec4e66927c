"""`aegis privacy`: what the budgets of a vault were spent on."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from aegis.cli.keys import Place, on_vault

from aegis_flower.cli.progress import escape
from aegis_flower.console import console, tolerate
from aegis_flower.errors import AegisError


@on_vault
def privacy_show(
    vault: Place,
    delta: Annotated[
        float | None, typer.Option(help="δ at which ε is stated; by default that of each data set's terms")
    ] = None,
) -> None:
    """Shows what each data set's privacy budget was spent on, by all runs: for a record, and for the person with most rows."""
    from rich.table import Table

    from aegis_engine import ComplianceEngine
    from aegis_flower.ledger import NEIGHBOURING, UNIT, Ledger
    from aegis_flower.mechanism import DELTA, within
    from aegis_flower.report.books import _rows, mechanisms

    if delta is not None:
        within("--delta", delta, DELTA)
    tolerate()
    out = console()
    opened = vault.open()
    engine = ComplianceEngine(opened)
    decisions = opened.audit_records("authorize")
    table = Table(
        title=f"unit {UNIT}, neighbours {NEIGHBOURING}, Poisson sampling, PLD accountant where it is proved, else RDP"
    )
    for column in ("data set", "δ", "ε spent", "ε for a person", "ε budget", "steps", "runs"):
        table.add_column(column, justify="left" if column == "data set" else "right", overflow="fold")
    notes = []
    for name, dataset in sorted(opened.datasets().items()):
        at = delta if delta is not None else float(engine.terms(dataset).get("delta", 1e-5))
        ledger = Ledger(opened, dataset, delta=float(engine.terms(dataset).get("delta", 1e-5)))
        spent = ledger.spent(at)
        rows = _rows(decisions, dataset)
        person = f"{ledger.spent_by_person(at, rows):.3f} ({rows} rows)" if rows else "not known"
        budget = engine.budget_epsilon(dataset)
        table.add_row(
            escape(name), f"{at:g}", f"{spent.epsilon:.3f}", person, f"{budget:g}", str(spent.steps), str(spent.runs)
        )
        with contextlib.suppress(AegisError):
            notes += [
                f"{name}: {m.steps} steps of {m.kind}, σ={m.noise_multiplier:g}, rate {m.sample_rate:g}, clip {m.clip:g}"
                for m in mechanisms(ledger.mechanisms())
            ]
    out.print(table)
    for note in notes:
        out.print(note, highlight=False, markup=False)
