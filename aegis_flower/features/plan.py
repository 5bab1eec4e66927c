"""`Plan`: what becomes of the columns of a table, whole; its hash; and how it is applied to a batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final

import numpy as np

from aegis_flower.data.spec import Spec
from aegis_flower.errors import ConfigError, DataMismatch
from aegis_flower.features.categories import Ids, Index, OneHot
from aegis_flower.features.columns import WIDEST, Boolean, Feature, Number, Whole, require
from aegis_flower.features.label import Label, Weight
from aegis_flower.features.moments import Date, Time
from aegis_flower.features.sequences import ListIds, ListNumbers, Tensor, TextBag, TextIds
from aegis_flower.features.values import Array, Values, batch_of, read

VERSION: Final = 1
ONE: Final = "x"
# By kind and form; the first form of a kind is what stands where the file says none.
TRANSFORMS: Final[dict[str, dict[str, type[Feature]]]] = {
    "number": {"": Number},
    "integer": {"number": Whole, "ids": Ids},
    "boolean": {"": Boolean},
    "category": {"onehot": OneHot, "index": Index},
    "text": {"ids": TextIds, "bag": TextBag},
    "date": {"": Date},
    "time": {"": Time},
    "tensor": {"": Tensor},
    "list": {"ids": ListIds, "numbers": ListNumbers},
}
_RESERVED: Final = ("label",)
_EXACT: Final = 2**53


@dataclass(frozen=True)
class Applied:
    """What a plan made of a batch.

    Attributes:
        inputs: arrays of shape (rows, values) by name, float32 or int64; ``x`` alone where the plan names no inputs.
        label: int64 or float32, see `Label`; None without labels.
        weight: float32 of shape (rows,), see `Weight`; None without labels, or where the plan has no weight.
    """

    inputs: dict[str, Array]
    label: Array | None = None
    weight: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Columns of a table as inputs of a model. Public, equal on all nodes, the same object in training and inference.

    Guarantees:
        - Every value of an input lies within `bounds`; none is NaN. Bounds and vocabularies are the plan's, never the rows'.
        - A row of the output depends on that row alone, so batches can be cut anywhere.

    Attributes:
        columns: transforms by column, in the order of the features.
        label: what is to be predicted.
        inputs: columns of each input of the model, by its name; empty for one input ``x`` of all columns.
        about: for people; not part of the hash.
        weight: how much a record counts in training; None for all alike.

    Raises:
        ConfigError: something that means nothing; names the column and the key.
    """

    columns: Mapping[str, Feature]
    label: Label
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    about: str = field(default="", compare=False)
    weight: Weight | None = None

    def __post_init__(self) -> None:
        require("columns", bool(self.columns), "a plan has at least one column")
        for name, feature in self.columns.items():
            feature.check(f"columns.{name}")
        self.label.check("label")
        for name in self.label.reads:
            if self.label.task == "next-token":
                self._check_tokens(name)
                continue
            require(
                f"columns.{name}", name not in self.columns, "is the label; a model would be told what it is to say"
            )
        if self.weight is not None:
            self.weight.check("weight")
            taken = self.weight.column in (*self.columns, *self.label.reads)
            require("weight.column", not taken, f"{self.weight.column!r} is a feature or the label of this plan, too")
        self._check_inputs()
        width = sum(feature.width for feature in self.columns.values())
        require("columns", width <= WIDEST, f"makes {width} values of a row, more than {WIDEST}")

    def _check_tokens(self, name: str) -> None:
        """The model sees each token up to the one that it is to say; so the label's column is a feature, too."""
        feature = self.columns.get(name)
        same = isinstance(feature, ListIds) and feature.length == self.label.length
        require(
            f"columns.{name}", same, f"is to be a list as ids of length {self.label.length}, as the label's tokens are"
        )

    def _check_inputs(self) -> None:
        told = [name for names in self.inputs.values() for name in names]
        for at, names in self.inputs.items():
            require(
                f"inputs.{at}", at.isidentifier() and at not in _RESERVED, "is no name of an input, such as numbers"
            )
            require(f"inputs.{at}", bool(names), "has no column")
            for name in names:
                require(f"inputs.{at}", name in self.columns, f"{name!r} is not one of the plan's columns")
                require(f"inputs.{at}", told.count(name) == 1, f"{name!r} goes into one input only")
        if self.inputs and (left := [name for name in self.columns if name not in told]):
            raise ConfigError("inputs", f"no input takes {', '.join(left)}")
        for at, names in self.groups.items():
            kinds = {self.columns[name].whole: name for name in names}
            if len(kinds) > 1:
                raise ConfigError(
                    f"inputs.{at}" if self.inputs else "inputs",
                    f"{kinds[True]!r} gives ids (whole numbers) and {kinds[False]!r} numbers, which one tensor cannot hold; give "
                    "each an input, such as inputs: {ids: [...], numbers: [...]}",
                )

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Columns of each input."""
        return self.inputs or {ONE: tuple(self.columns)}

    @property
    def reads(self) -> tuple[str, ...]:
        """Every column that a permit has to open: the features', the label's and the weight's."""
        named = (*self.columns, *self.label.reads, *([self.weight.column] if self.weight else []))
        return tuple(dict.fromkeys(named))

    @property
    def shapes(self) -> dict[str, tuple[int, np.dtype[Any]]]:
        """Values of a row and their type, of each input."""
        return {
            at: (
                sum(self.columns[name].width for name in names),
                np.dtype(np.int64 if self.columns[names[0]].whole else np.float32),
            )
            for at, names in self.groups.items()
        }

    @property
    def names(self) -> dict[str, list[str]]:
        """What each value of each input is, in words."""
        return {
            at: [f"{name} {output}".rstrip() for name in names for output in self.columns[name].outputs]
            for at, names in self.groups.items()
        }

    @property
    def bounds(self) -> dict[str, tuple[Array, Array]]:
        """Least and largest of each value of each input."""
        found = {}
        for at, names in self.groups.items():
            pairs = [self.columns[name].bounds for name in names for _ in self.columns[name].outputs]
            low, high = np.array(pairs).T
            found[at] = (low, high)
        return found

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of all that changes an output: that of equal plans is equal, however they are written."""
        return hashlib.sha256(
            json.dumps(self.plain(), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        ).hexdigest()

    def plain(self) -> dict[str, Any]:
        """Plain values: what differs from the defaults, columns in their order."""
        made: dict[str, Any] = {"version": VERSION, "label": _plain(self.label)}
        made["columns"] = {
            name: {"kind": f.kind, **({"as": f.form} if f.form else {}), **_plain(f)}
            for name, f in self.columns.items()
        }
        if self.weight is not None:
            made["weight"] = _plain(self.weight)
        if self.inputs:
            made["inputs"] = {at: list(names) for at, names in self.inputs.items()}
        return made

    @cached_property
    def spec(self) -> Spec:
        """What a model needs to know: inputs and their sizes, outputs, types."""
        shapes = self.shapes
        alone = next(iter(self.columns.values())) if len(self.columns) == 1 else None
        image = alone.shape if isinstance(alone, Tensor) and alone.missing is None else ()
        return Spec(
            columns={at: width for at, (width, _) in shapes.items()},
            label=next(iter(self.label.reads)),
            classes=self.label.outputs,
            image=(image[0], image[1]) if len(image) == 2 else None,  # noqa: PLR2004 - height and width
            dtypes={at: "int64" for at, (_, kind) in shapes.items() if kind.kind == "i"},
            label_dtype=self.label.dtype,
            plan=self,
        )

    def apply(self, batch: Any, *, label: bool = True) -> Applied:
        """The inputs and labels of a batch.

        Args:
            batch: a table or record batch of Arrow, a pandas frame, or what else gives Arrow columns. Columns that the plan does
                not name are not looked at.
            label: whether label and weight are wanted; without, their columns need not be there.

        Raises:
            DataMismatch: a column is not there or of another kind, or has gaps or values that the plan refuses; says which.
        """
        rows = batch_of(batch)

        def column(name: str, kind: str, levels: tuple[str, ...] = (), size: int = 0) -> Values:
            at = rows.schema.get_all_field_indices(name)
            if len(at) != 1:
                raise DataMismatch(
                    f"the batch has {'no' if not at else 'more than one'} column {name!r}, which the plan reads"
                )
            return read(rows.column(at[0]), kind, name, levels=levels, size=size)

        inputs = {}
        for at, (width, kind) in self.shapes.items():
            out = inputs[at] = np.empty((rows.num_rows, width), dtype=kind)
            start = 0
            for name in self.groups[at]:
                feature = self.columns[name]
                values = column(name, feature.kind, feature.levels_read, feature.size_read)
                out[:, start : start + feature.width] = feature.encode(values, name)
                start += feature.width
        if not label:
            return Applied(inputs)
        found = self.label.encode(lambda name, kind: column(name, kind, self.label.levels_read))
        if self.weight is None:
            return Applied(inputs, found)
        return Applied(inputs, found, self.weight.encode(column(self.weight.column, "number")))

    def empty(self) -> Applied:
        """As `apply` gives of no rows."""
        y = np.empty((0, self.label.width) if self.label.width > 1 else 0, dtype=self.label.dtype)
        weight = np.empty(0, np.float32) if self.weight is not None else None
        return Applied({at: np.empty((0, width), kind) for at, (width, kind) in self.shapes.items()}, y, weight)


def _plain(part: Any) -> dict[str, Any]:
    """Fields that differ from their default, or have none."""
    found = {}
    for one in fields(part):
        value = getattr(part, one.name)
        if value != one.default:
            found[one.name] = list(value) if isinstance(value, tuple) else _same(value)
    return found


def _same(value: Any) -> Any:
    """3 and 3.0 are one number, and have one text."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _EXACT
    return int(value) if whole else value
