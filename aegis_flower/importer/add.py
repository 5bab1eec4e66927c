"""A file becomes a governed data set and its holdout: read once, in constant memory, split by person, both visible together.

No plaintext is written to a disk: batches go straight into the vault's sealed objects, which nobody sees before the end. What
cannot be stored as the schema says is counted by reason and line, never by value.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aegis_engine import Vault, normal_name
from aegis_flower.data.schema import Schema, described
from aegis_flower.errors import AegisError, BadRows, DataError
from aegis_flower.importer.ahead import ahead
from aegis_flower.importer.convert import Bad, convert, of_these
from aegis_flower.importer.memory import reused
from aegis_flower.importer.reading.batches import Malformed
from aegis_flower.importer.reading.files import read
from aegis_flower.importer.sides import HOLDOUT, Side, open_sides, split, store
from aegis_flower.terms import Terms

if TYPE_CHECKING:
    import pyarrow as pa

OnBad = Literal["fail", "skip"]
OnErased = Literal["refuse", "drop"]


@dataclass
class Imported:
    """What an import did, or with ``dry_run`` would do. Counts and lines; no value.

    Attributes:
        name: of the data set.
        datasets: id of each side, ``train`` and ``holdout``; empty for a dry run.
        rows: rows of each side.
        people: different people of each side.
        bad: bad rows by column and reason, with their lines.
        malformed: lines that are no rows.
        erased: rows left out because their people are erased.
        granted: by purpose, people who have consent now and had none.
        withheld: by purpose, people who withdrew consent: they do not have it.
        bytes: of each side in the vault.
        seconds: it took.
    """

    name: str
    datasets: dict[str, str] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    bad: Bad = field(default_factory=Bad)
    malformed: Malformed = field(default_factory=Malformed)
    erased: int = 0
    granted: dict[str, int] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def left_out(self) -> int:
        """Rows of the file that are in neither side."""
        return self.bad.rows + self.malformed.count + self.erased


def add(
    vault: Vault,
    path: str | Path,
    name: str,
    schema: Schema,
    terms: Terms,
    *,
    holdout: float = 0.2,
    on_bad: OnBad = "fail",
    erased: OnErased = "refuse",
    consent_given: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Imports a file as a new data set and its holdout.

    Args:
        vault: an open vault under a policy bundle.
        path: the file, or a folder of images or of DICOM files.
        name: of the data set; the holdout is ``NAME.holdout``.
        schema: what the columns are.
        terms: the steward's terms, for both sides.
        holdout: share of the people whose rows are only evaluated on, 0 to 1. One person is on one side, in every delivery.
        on_bad: ``fail`` stores nothing when a row does not fit the schema, ``skip`` leaves such rows out.
        erased: what becomes of rows of people who are erased: ``refuse`` all, or ``drop`` these rows.
        consent_given: the people in the file consented to the terms' purposes. Whoever withdrew consent does not have it again.
        dry_run: reads and checks everything, and stores nothing.
        progress: gets the number of rows read so far.

    Returns:
        What was done.

    Raises:
        DataError: the file, or rows where `on_bad` is ``fail``: with lines and reasons. Nothing was stored.
        PolicyError: AEG-P016 for rows of erased people. Nothing was stored.
    """
    name = _named(vault, name)
    if not 0 <= holdout < 1:
        raise DataError(
            f"{name}: a holdout of {holdout:g} is not possible; it is a share of the people, from 0 to below 1"
        )
    done = Imported(name)
    start = time.monotonic()
    names = {"train": name, "holdout": name + HOLDOUT} if holdout else {"train": name}
    with open_sides(vault, names, schema) as sides:
        _fill(vault, sides, Path(path), schema, done, holdout, erased, progress)
        _check(done, sides, Path(path), on_bad)
        if not dry_run:
            each = {side: (one, terms, names[side]) for side, one in sides.items()}
            ids, granted = store(vault, each, schema, holdout, consent_given=consent_given)
            done.bytes = {side: one.size for side, one in sides.items()}
            done.datasets = dict(zip(sides, ids, strict=True))
            _note(done, granted)
    done.seconds = time.monotonic() - start
    return done


def extend(
    vault: Vault,
    path: str | Path,
    name: str,
    schema: Schema,
    *,
    basis: str | None = None,
    retention_days: int | None = None,
    reason: str = "",
    on_bad: OnBad = "fail",
    erased: OnErased = "refuse",
    consent_given: bool = False,
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Puts the rows of a new delivery behind those of a data set and its holdout; the terms stay, and what was spent.

    Arguments are those of `add`. The new rows are split as the holdout was; ``basis`` and ``retention_days`` are those of the
    first rows where they are None. Another basis, a later last day, and people who were promised a smaller budget need a
    ``reason``, which the engine puts on record.

    Raises:
        DataError: there is no such data set, it is no table, it has other columns, or somebody else changed it meanwhile.
            Nothing has changed.
        VaultError: the reason is missing. Nothing has changed.
    """
    datasets = vault.datasets()
    if name.endswith(HOLDOUT):
        raise DataError(
            f"{name}: it is a holdout; name the data set, and each person's rows go to the side they are on"
        )
    if name not in datasets:
        known = ", ".join(one for one in datasets if not one.endswith(HOLDOUT)) or "none"
        raise DataError(f"{name}: there is no such data set; there are {known}")
    names = {side: n for side, n in (("train", name), ("holdout", name + HOLDOUT)) if n in datasets}
    cards = {side: vault.card(datasets[n]) for side, n in names.items()}
    if cards["train"]["kind"] != "table":
        raise DataError(f"{name}: it has records, not a table; `aegis data add` makes tables")
    columns = described(cards["train"]["about"])
    if columns and columns != schema.stored:
        odd = next(c for c in [*columns, *schema.stored] if columns.get(c) != schema.stored.get(c))
        raise DataError(
            f"{name}: column {odd!r} is another one in this schema than in the data set's; take the schema it was made with"
        )
    done = Imported(name)
    start = time.monotonic()
    share = holdout_share(cards)
    temporary = {side: f"{n}.delivery-{secrets.token_hex(4)}" for side, n in names.items()}
    with open_sides(vault, temporary, schema) as sides:
        _fill(vault, sides, Path(path), schema, done, share, erased, progress)
        _check(done, sides, Path(path), on_bad, every=False)
        if not dry_run:
            drafts = []
            for side, one in sides.items():
                if not one.rows:
                    continue
                one.close()
                first = cards[side]["classes"][0]
                day = first["last_day"] if retention_days is None else int(time.time() // 86400) + retention_days
                rule = (basis or first["basis"], day, first["special"])
                done.bytes[side] = one.size
                drafts.append((datasets[names[side]], (one.draft, [rule], cards[side]["facts"], None)))
            purposes = cards["train"]["facts"]["purposes"]
            by_consent = (basis or cards["train"]["classes"][0]["basis"]) == "consent"
            grant = dict.fromkeys(purposes) if consent_given and by_consent else {}
            ids, granted = _extended(vault, name, drafts, grant, reason)
            done.datasets = dict(zip((side for side in sides if sides[side].rows), ids, strict=True))
            _note(done, granted)
    done.seconds = time.monotonic() - start
    return done


def _extended(
    vault: Vault, name: str, drafts: list[Any], grant: dict[str, None], reason: str
) -> tuple[list[str], list[tuple[str, int, int]]]:
    try:
        return vault.extend_tables(drafts, grant=grant, reason=reason)
    except AegisError as error:
        if error.code != "AEG-V014":
            raise
        raise DataError(
            f"{name}: somebody else changed or dropped it meanwhile, and nothing was stored; look at it, then do it again"
        ) from None


def rows_of(path: Path, schema: Schema, limit: int | None = None) -> tuple[pa.Table, pa.Array]:
    """All rows of a file in memory, and whom they are about: for a simulation, which is of one machine.

    Args:
        path: the file.
        schema: what its columns are.
        limit: rows taken, from the first; None for all.

    Raises:
        BadRows: rows do not fit the schema.
    """
    import pyarrow as pa

    done = Imported(path.name)
    tables, subjects, count = [], [], 0
    for batch in read(path, schema.source, done.malformed):
        found = convert(batch, schema, done.bad, lambda row: f"row-{row}")
        tables.append(found.table)
        subjects.append(found.subjects.dictionary_decode())
        count += len(found.subjects)
        if limit is not None and count >= limit:
            break
    _none_bad(done, path, "was read")
    if not count:
        raise DataError(f"{path.name}: there are no rows")
    whole, who = pa.concat_tables(tables), pa.concat_arrays(subjects)
    return (whole, who) if limit is None else (whole.slice(0, limit), who.slice(0, limit))


def holdout_share(cards: dict[str, Any]) -> float:
    """The share that a holdout was drawn with, which its description says."""
    import json

    if "holdout" not in cards:
        if json.loads(cards["train"]["about"] or "{}").get("holdout"):
            raise DataError(
                f"{cards['train']['name']}: its holdout is gone, and rows of people held out would be learnt from; import the "
                "delivery as a data set of its own"
            )
        return 0.0
    about = json.loads(cards["holdout"]["about"] or "{}")
    share = about.get("holdout")
    if not isinstance(share, float):
        raise DataError(
            f"{cards['holdout']['name']}: nothing says with which share it was drawn; it was not made by `aegis data add`"
        )
    return share


def _fill(
    vault: Vault,
    sides: dict[str, Side],
    path: Path,
    schema: Schema,
    done: Imported,
    share: float,
    erased: OnErased,
    progress: Callable[[int], None] | None,
) -> None:
    """Reads the file into the sides."""
    with reused():
        for table, subjects in _good(vault, path, schema, erased, done, progress):
            split(vault, sides, table, subjects, share)


def _good(
    vault: Vault,
    path: Path,
    schema: Schema,
    erased: OnErased,
    done: Imported,
    progress: Callable[[int], None] | None,
) -> Iterator[tuple[pa.Table, pa.DictionaryArray]]:
    """Good rows, batch by batch."""
    import pyarrow as pa

    prefix = secrets.token_hex(8)
    read_so_far = 0
    # Three at work: one parses, one converts, one seals.
    batches = (
        (batch.rows, convert(batch, schema, done.bad, lambda row: f"row-{prefix}-{row}"))
        for batch in ahead(read(path, schema.source, done.malformed))
    )
    for rows, converted in ahead(batches):
        table, subjects = converted.table, converted.subjects
        if erased == "drop" and len(subjects):
            people = np.array(_erased(vault, path, subjects.dictionary.to_pylist()), dtype=bool)
            gone = people[np.asarray(subjects.indices)]
            done.erased += int(gone.sum())
            table, subjects = table.filter(pa.array(~gone)), of_these(subjects, pa.array(~gone))
        yield table, subjects
        read_so_far += rows
        if progress is not None:
            progress(read_so_far)


def _erased(vault: Vault, path: Path, subjects: list[str]) -> list[bool]:
    try:
        return vault.consent_erased(subjects)
    except AegisError as error:
        raise DataError(f"{path.name}: an identifier of a person is none: {error}") from None


def _check(done: Imported, sides: dict[str, Side], path: Path, on_bad: OnBad, *, every: bool = True) -> None:
    for side, one in sides.items():
        done.rows[side], done.people[side] = one.rows, one.draft.people
    if on_bad == "fail":
        _none_bad(done, path, "was stored")
    if not any(side.rows for side in sides.values()):
        raise DataError(f"{path.name}: there is no row to store")
    if every and (empty := [side for side, one in sides.items() if not one.rows]):
        count = sum(one.draft.people for one in sides.values())
        raise DataError(
            f"{path.name}: the {empty[0]} side got none of the {count} people; take another --holdout, or 0"
        )


def _none_bad(done: Imported, path: Path, happened: str) -> None:
    if done.bad.rows or done.malformed.count:
        raise BadRows(
            f"{path.name}: {done.bad.rows + done.malformed.count} rows do not fit the schema, and nothing {happened}; correct "
            "the file or the schema, or leave these rows out (--on-bad skip)",
            bad_lines(done),
        )


def bad_lines(done: Imported) -> list[str]:
    """What does not fit, by column and reason, with the first lines of each; no value."""
    return lines_of(done.bad, done.malformed)


def lines_of(bad: Bad, malformed: Malformed) -> list[str]:
    """As `bad_lines`, of what was noted."""
    told = []
    for (column, reason), count in sorted(bad.count.items(), key=lambda item: -item[1]):
        places = bad.places[column, reason]
        more = f" and {count - len(places)} more" if count > len(places) else ""
        told.append(f"{column}: {reason}: {count} in line {', '.join(map(str, places))}{more}")
    if malformed.count:
        lines = malformed.lines[: bad.shown]
        more = f" and {malformed.count - len(lines)} more" if malformed.count > len(lines) else ""
        told.append(f"no rows: {malformed.count} in line {', '.join(map(str, lines))}{more}")
    return told


def _note(done: Imported, granted: list[tuple[str, int, int]]) -> None:
    done.granted = {purpose: count for purpose, count, _ in granted}
    done.withheld = {purpose: count for purpose, _, count in granted}


def _named(vault: Vault, name: str) -> str:
    try:
        one = normal_name(name)
    except (AegisError, TypeError) as error:
        raise DataError(f"{name!r:.100} is no name of a data set: {error}") from None
    if "/" in one or "\\" in one or one.startswith(".") or one.endswith(HOLDOUT):
        raise DataError(
            f"{name!r:.100} is no name of a data set: it has no '/' or '\\\\', does not start with '.' and does not end in "
            f"'{HOLDOUT}', which is its holdout"
        )
    taken = {entry["name"] for entry in vault.list()} & {one, one + HOLDOUT}
    if taken:
        raise DataError(
            f"{min(taken)}: the vault already has an object of that name; `aegis data extend` adds rows to a data set"
        )
    return one
