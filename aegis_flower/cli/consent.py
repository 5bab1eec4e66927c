"""`aegis consent`: what people allow and forbid, in bulk and one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer
from aegis.cli.keys import Place, on_vault
from aegis.cli.output import AsJson, say, show

People = Annotated[list[str], typer.Argument(metavar="PERSON...", help="identifiers, as in the imported file")]
Purpose = Annotated[str, typer.Option("--purpose", help="a purpose of the data's terms")]
AnyPurpose = Annotated[str | None, typer.Option("--purpose", help="a purpose of the data's terms; all when left out")]
UnknownOk = Annotated[
    bool, typer.Option("--unknown-ok", help="also people without a row, and purposes of no data set: for rows to come")
]


@on_vault
def consent_import(
    vault: Place,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="CSV",
            help="columns person, purpose, decision (given, withdrawn, objected, restricted, lifted), date",
        ),
    ],
    renew: Annotated[
        bool,
        typer.Option("--renew", help="consent that was withdrawn here before is given anew; else a withdrawal stands"),
    ] = False,
    unknown: Annotated[
        Literal["fail", "skip", "keep"], typer.Option(help="people without a row: fail, skip, or keep for rows to come")
    ] = "fail",
    as_json: AsJson = False,
) -> None:
    """Puts a list of decisions on record, the last one of each person and purpose. A withdrawal ends running permits at once."""
    from aegis_flower.importer import consents

    decisions = consents.read(file)
    done = consents.apply(vault.open(), decisions, renew=renew, unknown=unknown)
    lines = [
        f"{what}: {count} people, {done.rows[what]} "
        + ("have consent now and had none" if what == "given" and not renew else "rows governed")
        for what, count in done.taken.items()
    ]
    if done.withheld:
        lines.append(f"withheld from {done.withheld} people who withdrew consent here before; --renew gives it anew")
    if done.superseded:
        lines.append(f"superseded by later lines: {done.superseded}")
    if done.unknown:
        lines.append(
            f"people without a row: {len(done.unknown)} lines, " + ("kept" if unknown == "keep" else "skipped")
        )
    show(
        {
            "taken": done.taken,
            "rows": done.rows,
            "withheld": done.withheld,
            "superseded": done.superseded,
            "unknown": done.unknown,
        },
        lines or ["there is no decision in the file"],
        as_json,
    )


def _told(what: str, people: list[str], rows: int, purpose: str | None) -> None:
    to = purpose or "all purposes"
    say(f"{what} for {to}: {len(people)} people, {rows} rows governed")
    if not rows:
        say("no row rests on it: their rows have another lawful basis, or there are none", err=True)


@on_vault
def consent_grant(
    vault: Place,
    people: People,
    purpose: Purpose,
    unknown_ok: UnknownOk = False,
) -> None:
    """Records consent of people for a purpose; it ends an earlier withdrawal."""
    _told("consent", people, vault.open().consent_grant(people, purpose, unknown_ok=unknown_ok), purpose)


@on_vault
def consent_withdraw(
    vault: Place,
    people: People,
    purpose: Purpose,
    unknown_ok: UnknownOk = False,
) -> None:
    """Withdraws consent. In force for running permits at the next batch."""
    rows = vault.open().consent_withdraw(people, purpose, unknown_ok=unknown_ok)
    _told("consent withdrawn", people, rows, purpose)


def _general(name: str, what: str, help_text: str) -> Callable[..., None]:
    @on_vault
    def command(
        vault: Place,
        people: People,
        purpose: AnyPurpose = None,
        unknown_ok: UnknownOk = False,
    ) -> None:
        call = getattr(vault.open(), f"consent_{name}")
        _told(what, people, call(people, purpose, unknown_ok=unknown_ok), purpose)

    command.__doc__, command.__name__ = help_text, f"consent_{name}"
    return command


consent_object = _general("object", "objection", "Records an objection (GDPR article 21), to one purpose or to all.")
consent_restrict = _general("restrict", "restriction", "Restricts the use of people's data (GDPR article 18).")
consent_lift = _general("lift", "lifted", "Lifts objections and restrictions.")


@on_vault
def consent_show(
    vault: Place,
    person: Annotated[
        str | None, typer.Argument(metavar="PERSON", help="one person; counts by data set when left out")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Shows what one person allows and forbids, or how many people of each data set do."""
    within = vault.open()
    if person is not None:
        rows, said = within.consent_of(person)
        lines = [f"{rows} rows"]
        for purpose, flags in said.items():
            told = [name for name, flag in flags.items() if flag and name != "consent"]
            lines.append(f"{purpose}: {', '.join(['consent' if flags['consent'] else 'no consent', *told])}")
        show({"rows": rows, "purposes": said}, lines, as_json)
        return
    cards = {name: within.card(one)["consent"] for name, one in within.datasets().items()}
    lines = [
        f"{name}, {purpose}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        for name, purposes in cards.items()
        for purpose, counts in purposes.items()
    ]
    show(cards, lines or ["there is no data set"], as_json)


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("import", consent_import),
    ("grant", consent_grant),
    ("withdraw", consent_withdraw),
    ("object", consent_object),
    ("restrict", consent_restrict),
    ("lift", consent_lift),
    ("show", consent_show),
)
