"""Started: the files that work with a file of one's own begins with, drafted for people to review. Nothing is overwritten."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aegis_flower.data import schema as schemas
from aegis_flower.errors import DataError
from aegis_flower.importer.draft import Draft, draft, sniff

_SHOWN: Final = 3  # columns that a message names


@dataclass(frozen=True)
class Started:
    """What was drafted.

    Attributes:
        files: those that were written.
        lacking: what nobody declared, column by column; empty where the plan is whole.
        labels: columns that are to be predicted.
        columns: every column of the schema.
    """

    files: tuple[Path, ...]
    lacking: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]


def schema_text(
    file: Path,
    *,
    subject: str | None = None,
    label: str | None = None,
    alone: bool = False,
    show_ranges: bool = False,
) -> str:
    """A first schema of a file, as `aegis data schema` prints it.

    Raises:
        DataError: the file does not read, or has no such column.
    """
    if not file.exists():
        raise DataError(f"{file}: there is no such file")
    found = draft(file, source=sniff(file), subject=subject, label=label, alone=alone, show_ranges=show_ranges)
    return told(found, file.name, show_ranges=show_ranges)


def told(found: Draft, name: str, *, show_ranges: bool) -> str:
    """A draft as the file that people review."""
    looked = f"all {found.rows} rows" if found.whole else f"the first {found.rows} rows"
    title = f"Schema of {name}, drafted from {looked}. Review every line; what is not named is not imported."
    if show_ranges:
        title += (
            "\nBounds and levels are from the rows: a schema is public, so replace them by what everybody may know."
        )
    notes = {column: list(lines) for column, lines in found.notes.items()}
    for column, missing in found.missing.items():
        if missing:
            notes.setdefault(column, []).append(f"missing in {missing} of {found.rows} rows")
    return schemas.write(found.schema, notes, title)


def drafts(file: Path, schema: Path, plan: Path, **options: str | bool | None) -> Started:
    """Drafts the schema of a file, and from it (or from the one that is there) the feature plan, where they are missing.

    Args:
        file: the rows.
        schema: where the schema is, or goes.
        plan: where the plan is, or goes.
        options: those of `schema_text`.

    Raises:
        DataError: the file does not read.
        ConfigError: the schema that is there means nothing.
    """
    from aegis_flower import features

    written = []
    if not schema.exists():
        text = schema_text(file, **options)  # type: ignore[arg-type]
        _write(schema, text)
        written.append(schema)
    about = schemas.read(schema)
    found = features.draft(about)
    if not plan.exists():
        _write(plan, found.text())
        written.append(plan)
    each = [f"{column}: {', '.join(keys)}" for column, keys in found.told.items()]
    more = [f"{len(each) - _SHOWN} columns more, which {plan.name} names"] if len(each) > _SHOWN else []
    lacking = "; ".join([*each[:_SHOWN], *more])
    return Started(tuple(written), lacking, tuple(about.of_role("label")), tuple(about.columns))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
