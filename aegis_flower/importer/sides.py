"""The two sides of a data set on their way into a vault: rows to learn from and rows held out, visible together or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import numpy as np

from aegis_engine import TableDraft, Vault
from aegis_flower.data.schema import Schema
from aegis_flower.errors import AegisError
from aegis_flower.importer.convert import arrow_schema
from aegis_flower.terms import Terms

if TYPE_CHECKING:
    import pyarrow as pa

HOLDOUT: Final = ".holdout"
_GROUP: Final = 1 << 16  # rows of a row group: what training decodes in one piece
_BYTES: Final = 256 << 20  # of rows that wait for their group
_DAY: Final = 86400


class Side:
    """A table on its way: row groups of even size."""

    def __init__(self, vault: Vault, name: str, schema: pa.Schema, texts: list[str]) -> None:
        import pyarrow.parquet as pq

        self.draft: TableDraft = vault.create_table(name)
        self._writer = pq.ParquetWriter(
            self.draft, schema, compression="none", use_dictionary=texts or False, write_statistics=False
        )
        self._waiting: list[pa.Table] = []
        self._rows = self._bytes = 0
        self.rows = self.size = 0

    def add(self, table: pa.Table) -> None:
        """Rows of people whom the draft has been told."""
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes
        self.rows += table.num_rows
        if self._rows >= _GROUP or self._bytes >= _BYTES:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_GROUP)
        self._waiting, self._rows, self._bytes = [], 0, 0

    def close(self) -> None:
        """Ends the table's file; `size` says its bytes."""
        self._write()
        self._writer.close()
        self.size = self.draft.tell()

    def abort(self) -> None:
        """Leaves nothing of what is not stored."""
        self._waiting = []
        # Closed first, while it has somewhere to write its end to: its finaliser would, and complain.
        try:
            with suppress(AegisError, OSError, ValueError):
                self._writer.close()
        finally:
            self.draft.abort()


def split(vault: Vault, sides: Mapping[str, Side], table: pa.Table, subjects: pa.DictionaryArray, share: float) -> None:
    """Gives each row to the side its person is on.

    Args:
        vault: draws by person, and keeps pseudonyms.
        sides: ``train``, and ``holdout`` where there is one.
        table: the rows.
        subjects: their people, as `convert` gives them.
        share: of the people, on the side of the holdout.
    """
    import pyarrow as pa

    names, holdout = subjects.dictionary, sides.get("holdout")
    starts = np.frombuffer(names.buffers()[1] or bytes(4), dtype=np.int32)[names.offset : names.offset + len(names) + 1]
    drawn = vault.split_rows(
        (sides["train"].draft, holdout.draft if holdout else None),
        share,
        (names.buffers()[2] or b"", np.ascontiguousarray(starts)),
        np.ascontiguousarray(subjects.indices, dtype=np.int32),
    )
    out = np.frombuffer(drawn, dtype=bool)
    if holdout is None or not out.any():
        sides["train"].add(table)
        return
    sides["train"].add(table.filter(pa.array(~out)))
    holdout.add(table.filter(pa.array(out)))


@contextmanager
def open_sides(vault: Vault, names: dict[str, str], schema: Schema) -> Iterator[dict[str, Side]]:
    """Starts a table per side, under these names; what is not stored at the end leaves nothing."""
    arrow = arrow_schema(schema)
    texts = [column for column, about in schema.stored.items() if about.kind in ("category", "text")]
    with ExitStack() as stack:
        sides = {}
        for side, name in names.items():
            sides[side] = Side(vault, name, arrow, texts)
            stack.callback(sides[side].abort)
        yield sides


def store(
    vault: Vault,
    sides: Mapping[str, tuple[Side, Terms, str]],
    schema: Schema,
    holdout: float,
    *,
    consent_given: bool,
) -> tuple[list[str], list[tuple[str, int, int]]]:
    """Makes the sides visible together.

    Args:
        vault: the vault they were started in.
        sides: by role (``train``, ``holdout``): the table, its terms, its name.
        schema: of both.
        holdout: the share of people that was held out, 0 for none; goes with the data, so that a delivery is split alike.
        consent_given: whoever never withdrew it has consent to the terms' purposes, where the terms rest on consent.

    Returns:
        Ids in the same order, and what `Vault.store_tables` says of consent.
    """
    drafts, purposes = [], set[str]()
    for role, (side, terms, name) in sides.items():
        side.close()
        last_day = int(time.time() // _DAY) + terms.retention_days
        facts = terms.facts(list(schema.stored), name, role)
        drafts.append((side.draft, [(terms.basis, last_day, False)], facts, schema.text(holdout)))
        if consent_given and terms.basis == "consent":
            purposes |= set(terms.purposes)
    return vault.store_tables(drafts, grant=dict.fromkeys(sorted(purposes)))
