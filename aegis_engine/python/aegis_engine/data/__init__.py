"""What makes objects of a vault into data sets may be put here: layouts of records, tables, iteration for every library.

Start with `open`, or `Vault.dataset`, which is the same. ``aegis_engine.data.torch`` has the classes for a ``DataLoader``.
"""

from __future__ import annotations

from typing import Any

from aegis_engine._native import Vault
from aegis_engine.data.dataset import VaultDataset
from aegis_engine.data.layouts import Block, DatasetError, Fixed, Idx, NpyRows, Offsets, Record, Rows
from aegis_engine.data.tables import Csv, Parquet


def open(  # noqa: A001 - the verb of this package, as in `io`
    vault: Vault, ids: Any, record: Any = None, *, read_ahead: int | None = None, **options: Any
) -> VaultDataset:
    """What `Vault.dataset` gives: a `VaultDataset`, or for `Parquet` and `Csv` a `TableDataset`."""
    if read_ahead is not None:
        options["read_ahead"] = read_ahead
    if isinstance(record, (Parquet, Csv)):
        from aegis_engine.data.table_dataset import TableDataset

        return TableDataset(vault, ids, record, **options)
    return VaultDataset(vault, ids, record, **options)


__all__ = [
    "Block",
    "Csv",
    "DatasetError",
    "Fixed",
    "Idx",
    "NpyRows",
    "Offsets",
    "Parquet",
    "Record",
    "Rows",
    "VaultDataset",
    "open",
]
