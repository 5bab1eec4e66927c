"""Stored: rows of a data set of records as they lie in the vault, under a permit, in arrays of numpy. Without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aegis_engine import Permit, Vault

Batch = dict[str, npt.NDArray[np.generic]]
_NUMPY = {"f32": "<f4", "f64": "<f8", "i64": "<i8", "i32": "<i4", "u8": "|u1"}


class Records:
    """Rows of a data set of records, read one by one."""

    def __init__(self, vault: Vault, permit: Permit) -> None:
        self._reader = vault.records(permit)
        self.layout = self._reader.columns()
        self._rows = np.frombuffer(self._reader.rows(), dtype=np.uint32)
        self._record = np.dtype([(name, _NUMPY[code], (count,)) for name, code, count in self.layout])

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, places: npt.NDArray[np.int64], columns: Sequence[str]) -> Batch:
        """Columns of rows, by their places among the permitted ones; each of shape (rows, values)."""
        chosen = np.ascontiguousarray(self._rows[places])
        records = np.zeros(len(chosen), dtype=self._record)
        if len(chosen):
            self._reader.read_rows(chosen, records)
        found = {name: np.array(records[name]) for name in columns}
        records.view(np.uint8)[:] = 0
        return found
