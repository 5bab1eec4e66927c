"""Files: the rows of a task as one file in its scratch folder, for apps that read files. Runs inside the jail."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SCRATCH = Path("/scratch")
MISSING = ".missing"  # as `aegis_flower.jailed.rows` says


def write(rows: Mapping[str, npt.NDArray[Any]], form: str, folder: Path = SCRATCH) -> Path:
    """Writes the rows.

    Args:
        rows: arrays by column.
        form: ``npz``: an array for each column, and flags of what is missing under the column's name and `MISSING`. ``arrow``: an
            Arrow file (Feather), missing values as nulls. ``csv``: a line of names, then one for each row; several values of a
            column have numbers behind its name, missing ones are empty.
        folder: where to.

    Returns:
        The file.
    """
    path = folder / f"data.{form}"
    if form == "npz":
        named: dict[str, Any] = dict(rows)
        np.savez(path, **named)
    elif form == "arrow":
        _arrow(rows, path)
    else:
        _csv(rows, path)
    return path


def _arrow(rows: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather

    columns: dict[str, Any] = {}
    for name, values in _columns(rows).items():
        missing = rows.get(name + MISSING)
        if values.ndim > 1:
            flat = pa.array(values.reshape(len(values), -1).ravel())
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
        elif values.dtype.kind == "U":
            columns[name] = pa.array(values.tolist(), pa.string(), mask=missing)
        else:
            columns[name] = pa.array(values, mask=missing)
    feather.write_feather(pa.table(columns), str(path), compression="uncompressed")


def _csv(rows: Mapping[str, npt.NDArray[Any]], path: Path) -> None:
    import csv

    names: list[str] = []
    cells: list[list[Any]] = []
    for name, values in _columns(rows).items():
        missing = rows.get(name + MISSING)
        wide = values.reshape(len(values), -1) if values.ndim > 1 else values[:, None]
        for at in range(wide.shape[1]):
            names.append(name if values.ndim == 1 else f"{name}_{at}")
            told = wide[:, at].tolist()
            if missing is not None:
                told = ["" if gone else value for value, gone in zip(told, missing, strict=True)]
            cells.append(["" if isinstance(value, float) and value != value else value for value in told])  # noqa: PLR0124 - NaN
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*cells, strict=True))


def _columns(rows: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    return {
        name: values for name, values in rows.items() if not (name.endswith(MISSING) and name[: -len(MISSING)] in rows)
    }
