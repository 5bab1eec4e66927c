"""`aegis data`: a steward's work on data sets, without Python: draft a schema, import, look, change terms, add, drop."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import typer
from aegis.cli.keys import Place, on_vault
from aegis.cli.output import AsJson, Yes, plain, say, show, size

from aegis_flower.cli.cards import Name, card_of, data_card, data_ls, data_show

if TYPE_CHECKING:
    from aegis_engine import Vault
    from aegis_flower.importer import Imported

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="CSV, Parquet, Arrow, JSON lines, a query (.sql), or a folder of images or DICOM files",
    ),
]
SchemaFile = Annotated[
    Path, typer.Option("--schema", metavar="TOML", help="what the columns are; `aegis data schema FILE` drafts it")
]
OnBad = Annotated[
    Literal["fail", "skip"], typer.Option(help="rows that do not fit the schema: store nothing, or leave them out")
]
Erased = Annotated[
    Literal["refuse", "drop"], typer.Option(help="rows of people who are erased: store nothing, or leave them out")
]
ConsentGiven = Annotated[
    bool,
    typer.Option(
        "--consent-given",
        help="the people in the file consented to the purposes of the terms; withdrawals stay in force",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="read and check everything, store nothing")]
Reason = Annotated[str, typer.Option(help="why; needed where anything becomes wider, and put on record")]
_DAY = 86400


def data_schema(
    file: File,
    subject: Annotated[str | None, typer.Option(help="column that says whom a row is about")] = None,
    label: Annotated[str | None, typer.Option(help="column that is to be predicted")] = None,
    each_row_a_person: Annotated[
        bool, typer.Option("--each-row-a-person", help="the file names nobody; each row is about somebody else")
    ] = False,
    delimiter: Annotated[str | None, typer.Option(help="between the fields of a CSV file")] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header", help="whether the first line of a CSV file names the columns; else it is a row"
        ),
    ] = None,
    show_ranges: Annotated[
        bool,
        typer.Option(
            "--show-ranges", help="put bounds and vocabularies from the rows into the draft: values of people"
        ),
    ] = False,
) -> None:
    """Prints a first draft of a schema: kinds, missing values, columns that look like names. Review it, then commit it.

    aegis data schema patients.csv > schema.toml
    """
    from dataclasses import replace

    from aegis_flower.importer.draft import draft, sniff
    from aegis_flower.importer.started import told

    source = sniff(file)
    if delimiter is not None:
        source = replace(source, delimiter=delimiter.replace("\\t", "\t"))
    found = draft(
        file,
        source=source,
        subject=subject,
        label=label,
        alone=each_row_a_person,
        header=header,
        show_ranges=show_ranges,
    )
    typer.echo(told(found, plain(file.name), show_ranges=show_ranges), nl=False)
    looks = [name for name, column in found.schema.columns.items() if column.role == "leave out"]
    if looks and not sys.stdout.isatty():
        say(f"left out of the draft: {', '.join(looks)}; the comments say why", err=True)


@on_vault
def data_add(
    vault: Place,
    file: File,
    name: Annotated[str, typer.Option("--name", help="name of the data set; its holdout is NAME.holdout")],
    schema: SchemaFile,
    terms: Annotated[
        Path,
        typer.Option(
            "--terms", metavar="TOML", help="the steward's terms; `aegis data terms --draft` writes a first one"
        ),
    ],
    holdout: Annotated[float, typer.Option(help="share of the people whose rows are only evaluated on")] = 0.2,
    on_bad: OnBad = "fail",
    erased: Erased = "refuse",
    consent_given: ConsentGiven = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Imports a file as a governed data set and its holdout, split by person. Both become visible together, or neither."""
    from aegis_flower.importer import add, terms_file

    rules = terms_file.read(terms)
    choices = Choices(on_bad=on_bad, erased=erased, consent_given=consent_given, dry_run=dry_run)
    _import(partial(add, terms=rules, holdout=holdout), vault.open(), file, name, schema, choices, as_json)
    if not dry_run and rules.basis == "consent" and not consent_given and not as_json:
        say("nobody has consented yet, so no run reads a row: aegis consent import VAULT consents.csv")


@on_vault
def data_extend(
    vault: Place,
    file: File,
    name: Annotated[str, typer.Option("--name", help="name of the data set")],
    schema: SchemaFile,
    retention_days: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=365_250,
            help="last day of use of the new rows, counted from today; by default that of the others; a later one needs a reason",
        ),
    ] = None,
    reason: Reason = "",
    on_bad: OnBad = "fail",
    erased: Erased = "refuse",
    consent_given: ConsentGiven = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Adds the rows of a new delivery to a data set and its holdout. Terms and spent budget stay; withdrawals stay in force."""
    from aegis_flower.importer import extend

    choices = Choices(on_bad=on_bad, erased=erased, consent_given=consent_given, dry_run=dry_run)
    take = partial(extend, retention_days=retention_days, reason=reason)
    _import(take, vault.open(), file, name, schema, choices, as_json)


class Choices(TypedDict):
    """What every import is asked."""

    on_bad: Literal["fail", "skip"]
    erased: Literal["refuse", "drop"]
    consent_given: bool
    dry_run: bool


def _import(
    take: Callable[..., Imported], vault: Vault, file: Path, name: str, schema: Path, choices: Choices, as_json: bool
) -> None:
    """Runs an import with a line that counts the rows, and tells what it did."""
    from aegis_flower.data import schema as schemas

    about = schemas.read(schema)
    with _bad_rows(), _rows(quiet=as_json) as progress:
        done = take(vault, file, name, about, progress=progress, **choices)
    _report(done, dry_run=choices["dry_run"], as_json=as_json)


@on_vault
def data_terms(
    vault: Place | None = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="name of the data set")] = None,
    draft: Annotated[bool, typer.Option("--draft", help="print a first terms file, and nothing else")] = False,
    amend: Annotated[
        Path | None, typer.Option(metavar="TOML", help="the terms as they shall be, of the data set and its holdout")
    ] = None,
    reason: Reason = "",
    yes: Yes = False,
) -> None:
    """Shows the terms of a data set as a file, or changes them: narrower freely, wider with a reason that is put on record.

    aegis data terms VAULT patients > terms.toml
    """
    from aegis_flower.importer import terms_file
    from aegis_flower.terms import Terms

    if draft:
        title = "Terms of a data set. Review every line: they are sealed with the data, and no run can widen them."
        typer.echo(terms_file.write(Terms(purposes=["research"]), title), nl=False)
        return
    if vault is None or name is None:
        raise typer.BadParameter("give VAULT and NAME, or --draft for a first terms file")
    within = vault.open()
    card = card_of(within, name)
    if amend is None:
        typer.echo(terms_file.write(terms_file.of_card(card), f"Terms of {plain(name)}"), nl=False)
        return
    rules = terms_file.read(amend)
    if rules.basis != card["classes"][0]["basis"]:
        raise typer.BadParameter("the lawful basis of rows cannot be changed; import them anew under the other one")
    if rules.lineage is not None:
        raise typer.BadParameter(
            "the lineages of rows cannot be changed: what was spent stays spent; leave lineage out"
        )
    if not yes:
        typer.confirm(plain(f"write {name} anew under these terms? running permits end"), abort=True)
    day = int(time.time() // _DAY) + rules.retention_days
    sides = [one for one in (name, name + ".holdout") if one in within.datasets()]
    changes = []
    for one in sides:
        now = card_of(within, one)
        facts = rules.facts(now["facts"]["columns"], one, "holdout" if one.endswith(".holdout") else "train")
        facts["controller"] = rules.controller or now["facts"]["controller"]
        changes.append((now["id"], facts, day))
    for one, done in zip(sides, within.amend_together(changes, reason=reason), strict=True):
        told = [f"{what}: {', '.join(done[what])}" for what in ("narrower", "wider") if done[what]]
        say(f"{one}: {'; '.join(told) or 'these terms already'}")


@on_vault
def data_drop(vault: Place, name: Name, yes: Yes = False, as_json: AsJson = False) -> None:
    """Destroys the keys of a data set and its holdout, for good, and prints the receipt. Spent budget stays spent."""
    within = vault.open()
    datasets = within.datasets()
    card_of(within, name)
    names = [one for one in (name, name + ".holdout") if one in datasets]
    if not yes:
        typer.confirm(plain(f"destroy the keys of {' and '.join(names)} for ever?"), abort=True)
    receipt = within.shred_many([datasets[one] for one in names])
    show(
        receipt,
        [
            f"dropped {' and '.join(names)}",
            f"level: {receipt['level']} (epoch {receipt['epoch_before']} -> {receipt['epoch_after']})",
            *(f"note: {one}" for one in receipt["caveats"]),
        ],
        as_json,
    )


def data_features(
    schema: Annotated[Path, typer.Argument(metavar="TOML", help="the schema of the data set; or a plan, FILE.yaml")],
) -> None:
    """Prints a first feature plan: how columns become numbers for a model. Bounds and levels are those that the schema declares.

    aegis data features schema.toml > plan.yaml

    Of a plan it prints what it reads, and the hash that a node's operator may pin.

    aegis data features plan.yaml
    """
    from aegis_flower import features
    from aegis_flower.data import schema as schemas

    if schema.suffix.lower() in (".yaml", ".yml"):
        from aegis_flower.node.keys import FEATURES_SHA256

        plan = features.load(str(schema.absolute()))
        say(f"reads {', '.join(plan.reads)}")
        say(f'{FEATURES_SHA256} = "{plan.sha256}"')
        return
    found = features.draft(schemas.read(schema))
    typer.echo(found.text(), nl=False)
    for column, keys in found.told.items():
        say(f"{column}: declare {', '.join(keys)}, in the schema or in the plan; never from the rows", err=True)


def data_mock(
    schema: Annotated[Path, typer.Argument(metavar="TOML", help="the schema")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="file to be written: .csv or .parquet")],
    rows: Annotated[int, typer.Option(min=1, help="how many")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of the draw: the same seed makes the same rows")] = 0,
) -> None:
    """Writes made-up rows of a schema, for code without access to the data. No row is drawn from anybody's."""
    from aegis_flower.data import schema as schemas
    from aegis_flower.importer.mock import mock, save

    if out.exists():
        raise typer.BadParameter(f"{out} is there already; name another file", param_hint="OUT")
    save(mock(schemas.read(schema), rows, seed), out)
    say(f"{rows} made-up rows in {out}")


@contextlib.contextmanager
def _bad_rows() -> Iterator[None]:
    """What does not fit goes to the terminal line by line, before the error."""
    from aegis_flower.errors import BadRows

    try:
        yield
    except BadRows as error:
        for line in error.lines:
            say(f"  {line}", err=True)
        raise


@contextlib.contextmanager
def _rows(*, quiet: bool) -> Iterator[Callable[[int], None] | None]:
    """A line on a terminal that counts the rows."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    yield lambda rows: typer.echo(f"\r{rows:,} rows read", err=True, nl=False)
    typer.echo("", err=True)


def _report(done: Imported, *, dry_run: bool, as_json: bool) -> None:
    from aegis_flower.importer.add import bad_lines

    whole = {
        "name": done.name,
        "datasets": done.datasets,
        "rows": done.rows,
        "people": done.people,
        "left_out": {"bad": done.bad.rows, "malformed": done.malformed.count, "erased": done.erased},
        "bad": [
            {"column": column, "reason": reason, "rows": count, "lines": done.bad.places[column, reason]}
            for (column, reason), count in done.bad.count.items()
        ],
        "granted": done.granted,
        "withheld": done.withheld,
        "seconds": round(done.seconds, 3),
    }
    verb = "would be stored" if dry_run else "stored"
    lines = [
        f"{done.name} {side}: {rows} rows of {done.people[side]} people {verb}"
        + (f", {size(done.bytes[side])}, id {done.datasets[side]}" if side in done.datasets else "")
        for side, rows in done.rows.items()
    ]
    if done.left_out:
        lines.append(f"left out: {done.left_out} rows")
        lines += [f"  {line}" for line in bad_lines(done)]
        if done.erased:
            lines.append(f"  rows of erased people: {done.erased}")
    lines += [f"consent to {purpose}: {count} people" for purpose, count in done.granted.items()]
    lines += [f"consent to {p}: withheld from {n} people who withdrew it" for p, n in done.withheld.items() if n]
    show(whole, lines, as_json)


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("schema", data_schema),
    ("terms", data_terms),
    ("add", data_add),
    ("extend", data_extend),
    ("ls", data_ls),
    ("show", data_show),
    ("card", data_card),
    ("drop", data_drop),
    ("mock", data_mock),
    ("features", data_features),
)
