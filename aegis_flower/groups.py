"""Groups: which group each permitted row belongs to, by a column of the table, for numbers that are told by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from aegis_engine import Permit, Vault
from aegis_flower.features.values import batch_of, read

KINDS = ("category", "integer", "boolean")  # of a column by which rows are told apart


def codes(vault: Vault, permit: Permit, column: str, levels: Sequence[str]) -> npt.NDArray[np.int16]:
    """The place of each permitted row's group among `levels`, in the rows' order; -1 for another value, or none.

    Whole numbers and flags count by their text (``true``, ``false``).

    Raises:
        PermitError: the permit has ended, or does not open the column.
        DataMismatch: the column holds something that is no category.
    """
    reader = vault.table(permit.object, permit=permit, columns=[column])
    found = [np.zeros(0, np.int16)]
    for at in range(len(reader.blocks())):
        for batch in reader.block(at):
            values = read(batch_of(batch).column(column), "category", column, levels=levels)
            found.append(np.where(values.missing, -1, values.data).astype(np.int16))
    return np.concatenate(found)
