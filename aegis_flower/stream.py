"""Stream: the rows a permit opens, decrypted in memory, batch by batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from aegis_engine.tables import Csv, Parquet, TableBlocks
from torch import nn
from torch.utils.data import Dataset

from aegis_engine import Permit, Rng, Vault
from aegis_flower.data import Spec
from aegis_flower.errors import AegisError, DataMismatch
from aegis_flower.features import check_types, plan_of
from aegis_flower.features.plan import ONE
from aegis_flower.inputs import Inputs, each
from aegis_flower.planned import Planned
from aegis_flower.stored import Batch, Records

Rows = npt.NDArray[np.uint32]
Layout = Iterable[tuple[str, str, int]]
_NAMES = {
    "f32": "float32",
    "f64": "float64",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "bool": "bool",
}
_EXACT = ("f32", "u8", "i8", "i16", "u16", "bool")  # types whose every value float32 holds
_TABLE = "AEG-V022"  # what the engine says where records are asked of a table
_CACHED = 256 << 20  # bytes of decoded blocks of a table that are kept between batches


def check_layout(layout: Layout, spec: Spec) -> None:
    """Refuses a data set whose columns are not what the `Spec` says; nothing is cut, cast or broadcast to fit.

    Args:
        layout: name, type and values of each column (``engine.layout(id)``), or those of them that a permit opens.
        spec: what the client was written for. Columns that the layout does not have are not looked at.

    Raises:
        DataMismatch: which column, what it holds, and what to write instead.
    """
    for name, code, count in layout:
        if name == spec.label:
            _check_label(name, code, spec)
            continue
        if name not in spec.columns:
            continue
        if code not in _NAMES:
            raise DataMismatch(
                f"column {name!r} of the table holds {code}, which is no number; leave it out of the client's Spec, or store it "
                "as numbers"
            )
        if count != spec.columns[name]:
            raise DataMismatch(
                f"column {name!r} has {count} values per row, the client's Spec says {spec.columns[name]}; correct one of them"
            )
        wanted = spec.dtypes.get(name)
        if wanted is None and code not in _EXACT:
            raise DataMismatch(
                f"column {name!r} holds {_NAMES[code]}, and features become float32, in which its values could fall together; "
                f"say Spec(dtypes={{{name!r}: {_NAMES[code]!r}}}) to get them as they are (token ids, for instance), or store "
                "the column as float32"
            )
        if wanted is not None and wanted != _NAMES[code]:
            raise DataMismatch(
                f"column {name!r} holds {_NAMES[code]}, the client's Spec says {wanted}; correct one of them"
            )


def _check_label(name: str, code: str, spec: Spec) -> None:
    if code not in _NAMES:
        raise DataMismatch(f"label column {name!r} of the table holds {code}, which is no number; store it as numbers")
    if spec.label_dtype is not None:
        if spec.label_dtype != _NAMES[code]:
            raise DataMismatch(
                f"label column {name!r} holds {_NAMES[code]}, the client's Spec says {spec.label_dtype}; correct one of them"
            )
    elif code in ("f32", "f64") and spec.classes > 1:
        raise DataMismatch(
            f"label column {name!r} holds {_NAMES[code]}, but the client's Spec has {spec.classes} classes: whole numbers are "
            f"wanted. For numbers to predict, or for 0 and 1 as floats, say Spec(label_dtype={_NAMES[code]!r})"
        )


class _Table:
    """Rows of a table. A block (a row group, a run of lines) is decoded whole, into memory outside core dumps, and kept while
    there is room: a step of Poisson sampling touches all of them.
    """

    def __init__(self, vault: Vault, permit: Permit) -> None:
        reader = vault.table(permit.object, permit=permit)
        self._vault, self._permit, self._format = vault, permit, Csv if reader.format == "csv" else Parquet
        permitted = set(reader.columns)
        self.layout = [column for column in permit.layout if column[0] in permitted]
        counts = reader.blocks()
        self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self._blocks: TableBlocks | None = None
        self._columns: tuple[str, ...] = ()
        self._kept: OrderedDict[int, Batch] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, places: npt.NDArray[np.int64], columns: Sequence[str]) -> Batch:
        try:
            self._vault.admit(self._permit)  # for the blocks that are kept; reading another one asks by itself
            return self._gathered(places, tuple(columns))
        except AegisError:
            self._kept.clear()
            raise

    def _gathered(self, places: npt.NDArray[np.int64], columns: tuple[str, ...]) -> Batch:
        if columns != self._columns or self._blocks is None:
            self._kept.clear()
            self._columns = columns
            self._blocks = TableBlocks(lambda: (self._vault, self._permit), self._permit.object, self._format(columns))
        counts = {name: count for name, _, count in self.layout}
        kinds = {name: np.dtype(_NAMES[code]) for name, code, _ in self.layout if code in _NAMES}
        found: Batch = {name: np.zeros((len(places), counts[name]), kinds[name]) for name in columns}
        blocks = np.searchsorted(self._starts, places, side="right") - 1
        for block in np.unique(blocks):
            at = np.flatnonzero(blocks == block)
            rows = places[at] - self._starts[block]
            decoded = self._block(int(block))
            for name in columns:
                found[name][at] = decoded[name].reshape(len(decoded[name]), -1)[rows]
        return found

    def _block(self, at: int) -> Batch:
        assert self._blocks is not None
        if at in self._kept:
            self._kept.move_to_end(at)
            return self._kept[at]
        decoded = self._blocks.read(at)
        self._kept[at] = decoded
        while len(self._kept) > 1 and sum(a.nbytes for block in self._kept.values() for a in block.values()) > _CACHED:
            self._kept.popitem(last=False)
        return decoded


def _opened(vault: Vault, permit: Permit) -> Records | _Table:
    """The rows as they are stored."""
    try:
        return Records(vault, permit)
    except AegisError as error:
        if error.code != _TABLE:
            raise
    return _Table(vault, permit)


class PermitDataset(Dataset[tuple[Inputs, torch.Tensor]]):
    """A map-style torch data set over exactly the rows a permit allows, of records and of tables alike.

    Items are ``(features, label)``: features of shape (spec.features,), in float32 unless the spec's `dtypes` keep a column's own
    type; the label a scalar, or a vector where the column has several values, int64 for whole numbers, else as it is stored.
    With a feature plan (``spec.plan``) features are what the plan makes of the table's columns: a tensor, or several by name.
    `__getitems__` gives a whole batch. Of records nothing decrypted is kept between calls on the Python side; of a table, blocks
    of the engine's memory, up to 256 MiB; with a plan the blocks' numbers alone, in ordinary memory that is cleared, and no text.

    Guarantees:
        - Made only from a permit; every batch checks it again, so a withdrawn consent ends the stream at the next batch.
        - A row outside the permit, or a column outside it, is never copied out of the engine.
        - No value changes on the way: a column that would not fit is refused before a row is read (`check_layout`).
    """

    weighted = False  # whether its records count by a weight of the plan

    def __init__(self, vault: Vault, permit: Permit, spec: Spec) -> None:
        self._spec = spec
        if (plan := plan_of(spec)) is not None:
            check_types(plan, permit.layout)
            self._rows: Planned | Records | _Table = Planned(vault, permit, plan)
            self.labelled, self.weighted = self._rows.labelled, self._rows.weighted
            return
        self._rows = source = _opened(vault, permit)
        layout = source.layout
        check_layout(layout, spec)
        codes = {name: code for name, code, _ in layout}
        self._features = [c for c in spec.columns if c in codes]
        self.labelled = spec.label in codes
        self._dtype = _joined([_NAMES[codes[c]] for c in self._features if c in spec.dtypes], len(self._features))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def features(self) -> int:
        """Values of one record that the permit opens."""
        if isinstance(self._rows, Planned):
            return self._spec.features
        return sum(self._spec.columns[c] for c in self._features)

    def weighed(self, indices: Sequence[int] | Rows) -> tuple[Inputs, torch.Tensor, torch.Tensor | None]:
        """A batch with how much each of its records counts, shape (rows,); None where the plan has no weight."""
        if not self.weighted:
            return (*self.__getitems__(indices), None)
        assert isinstance(self._rows, Planned)
        made = self._rows.read(np.asarray(indices, dtype=np.int64))
        assert made.label is not None
        assert made.weight is not None
        return tensors(made.inputs), torch.from_numpy(made.label), torch.from_numpy(made.weight)

    def __getitems__(self, indices: Sequence[int] | Rows) -> tuple[Inputs, torch.Tensor]:
        places = np.asarray(indices, dtype=np.int64)
        if isinstance(self._rows, Planned):
            made = self._rows.read(places)
            label = np.zeros(len(places), dtype=np.int64) if made.label is None else made.label
            return tensors(made.inputs), torch.from_numpy(label)
        wanted = [*self._features, *([self._spec.label] if self.labelled else [])]
        columns = self._rows.read(places, wanted)
        x = np.empty((len(places), self.features), dtype=self._dtype)
        at = 0
        for name in self._features:
            count = self._spec.columns[name]
            x[:, at : at + count] = columns[name]
            at += count
        y = self._labels(columns, len(places))
        for column in columns.values():
            column.view(np.uint8)[...] = 0
        return torch.from_numpy(x), torch.from_numpy(y)

    def _labels(self, columns: Batch, rows: int) -> npt.NDArray[np.generic]:
        if not self.labelled:
            return np.zeros(rows, dtype=np.int64)
        label = columns[self._spec.label]
        wanted = label.dtype if label.dtype.kind == "f" else np.dtype(np.int64)
        return np.array(label[:, 0] if label.shape[1] == 1 else label, dtype=wanted.newbyteorder("="))

    def __getitem__(self, index: int) -> tuple[Inputs, torch.Tensor]:
        x, y = self.__getitems__([index])
        return each(lambda one: one[0], x), y[0]


def tensors(inputs: Mapping[str, npt.NDArray[np.generic]]) -> Inputs:
    """A plan's inputs as a model takes them: one tensor where the plan names none, else a dict by name. Nothing is copied."""
    found = {name: torch.from_numpy(values) for name, values in inputs.items()}
    return found[ONE] if found.keys() == {ONE} else found


def _joined(kept: list[str], columns: int) -> np.dtype[np.generic]:
    """The one type of all features: float32, or what the columns that keep their own have in common."""
    if not kept:
        return np.dtype(np.float32)
    kinds = [np.dtype(np.int64 if np.dtype(name).kind in "iu" else name) for name in kept]
    joined = np.result_type(*kinds, *([np.float32] if len(kept) < columns else []))
    if joined.kind == "f" and any(kind.kind == "i" for kind in kinds):
        raise DataMismatch(
            "features of whole numbers and of floats make one tensor, in which large whole numbers would fall together; give "
            "the model columns of one kind, or store all as float32"
        )
    return joined


def fitting(model: nn.Module, x: Inputs, y: torch.Tensor) -> tuple[Inputs, torch.Tensor]:
    """A batch in the types a model takes: features widened to its parameters' floats, never narrowed; float labels as these."""
    wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)

    def widened(one: torch.Tensor) -> torch.Tensor:
        wide = one.is_floating_point() and torch.promote_types(one.dtype, wanted) == wanted
        return one.to(wanted) if wide else one

    return each(widened, x), y.to(wanted) if y.is_floating_point() else y


class PoissonSampler:
    """True Poisson sampling: each row joins each batch independently with probability `rate`.

    Drawn by the engine's CSPRNG; a seed of the config never reaches it. Batches may be empty, and are yielded.
    """

    def __init__(self, rows: int, rate: float, steps: int, rng: Rng) -> None:
        self._rows, self._rate, self._steps, self._rng = rows, rate, steps, rng

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Rows]:
        for _ in range(self._steps):
            yield np.frombuffer(self._rng.poisson_rows(self._rows, self._rate), dtype=np.uint32)
