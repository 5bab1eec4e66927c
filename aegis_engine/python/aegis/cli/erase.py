"""``aegis vault``: giving data up, for good."""

from __future__ import annotations

import enum
from typing import Annotated

import typer
from aegis_engine.types import EraseReceipt, ShredReceipt

from aegis.cli.keys import Place, on_vault
from aegis.cli.output import AsJson, Yes, show, sure
from aegis.cli.vault import object_id


class Level(enum.StrEnum):
    """How thoroughly an object can be destroyed, weakest first."""

    LOGICAL = "logical"
    RATCHETED_FILE = "ratcheted-file"
    HARDWARE = "hardware"
    KMS = "kms"


Require = Annotated[Level | None, typer.Option(help="fail unless this level is reached")]


def _receipt(receipt: ShredReceipt | EraseReceipt, what: str, as_json: bool) -> None:
    lines = [
        what,
        f"level: {receipt['level']} (epoch {receipt['epoch_before']} -> {receipt['epoch_after']})",
        *(f"not reached: keystore backup {c['label']} of epoch {c['epoch']}" for c in receipt["copies"]),
        *(f"note: {c}" for c in receipt["caveats"]),
    ]
    show(receipt, lines, as_json)


def _shredded(receipt: ShredReceipt, as_json: bool) -> None:
    _receipt(receipt, f"shredded {', '.join(receipt['objects'])}", as_json)


@on_vault
def vault_shred(
    vault: Place,
    objects: Annotated[list[str], typer.Argument(metavar="OBJECTS...", help="ids or names; all of them or none")],
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Destroys the keys of objects, for good, and prints the receipt."""
    within = vault.open()
    found = [object_id(within, given) for given in objects]
    names = ", ".join(f"{one} ({within.stat(one)['name']})" for one in found)
    sure(f"destroy the keys of {names} for ever?", yes=yes)
    _shredded(within.shred_many(found, require=require), as_json)


@on_vault
def vault_shred_subject(
    vault: Place,
    subject: Annotated[str, typer.Argument(help="the person, as given when the objects were added")],
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Destroys the keys of every object about one person alone. Rows of theirs in data sets: erase-person."""
    within = vault.open()
    about = [entry for entry in within.list() if entry["subject"] == subject]
    names = ", ".join(entry["name"] for entry in about)
    sure(f"destroy the keys of {len(about)} objects ({names}) for ever?", yes=yes or not about)
    _shredded(within.shred_subject(subject, require=require), as_json)


@on_vault
def vault_erase_person(
    vault: Place,
    subject: Annotated[str, typer.Argument(help="the person, as given when the data were taken in")],
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erases a person: ends consent and writes every data set with rows of theirs anew without them. Prints the receipt."""
    within = vault.open()
    sure("erase this person for ever?", yes=yes)
    receipt = within.erase_person(subject, require=require)
    rows = sum(entry["rows"] for entry in receipt["datasets"] if not entry["unreachable"])
    told = f"erased: {rows} rows removed from {len(receipt['datasets'])} data sets, {len(receipt['objects'])} objects shredded"
    _receipt(receipt, told, as_json)


@on_vault
def vault_destroy(
    vault: Place,
    require: Require = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Destroys a whole vault: its root, its keystore, its files. The audit log stays, as evidence."""
    within = vault.open()
    count = len(within.list())
    if not yes:
        typed = typer.prompt(f"this destroys {count} objects for ever; type the vault's id ({within.id}) to go on")
        if typed.strip() != within.id:
            typer.echo("not destroyed: that is another id", err=True)
            raise SystemExit(1)
    receipt = within.destroy(require=require)
    _receipt(receipt, f"destroyed vault {within.id} with {len(receipt['objects'])} objects", as_json)
