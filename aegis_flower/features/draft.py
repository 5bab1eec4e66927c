"""A first draft of a plan, from a schema. It takes what the schema declares, and says by name what people have to add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aegis_flower.data.schema import Column, Schema
from aegis_flower.errors import ConfigError
from aegis_flower.features.categories import OneHot
from aegis_flower.features.columns import EMPTY, SLOT, Boolean, Feature, Number, Whole
from aegis_flower.features.label import Label, Weight
from aegis_flower.features.plan import VERSION, Plan
from aegis_flower.features.read import line, write
from aegis_flower.features.sequences import Tensor, TextBag

_BAG: Final = 256  # ids of a text's bag of words
_BYTE: Final = 255
_ADD: Final = "TODO"


@dataclass(frozen=True)
class Draft:
    """What a schema gives for a plan.

    Attributes:
        columns: transforms of the columns whose bounds or vocabulary the schema declares.
        label: the label; None where the schema has none, or does not declare enough.
        lacking: by column, the keys that nobody declared: from the literature, from the steward, never from the rows.
        weight: how much a record counts; None where the schema has no column for that.
    """

    columns: Mapping[str, Feature]
    label: Label | None
    lacking: Mapping[str, list[str]]
    weight: Weight | None = None

    @property
    def plan(self) -> Plan:
        """The plan, if nothing is lacking.

        Raises:
            ConfigError: names every column and key that is lacking.
        """
        if self.lacking or self.label is None:
            raise ConfigError(
                "features",
                "the schema does not declare " + "; ".join(f"{c}: {', '.join(k)}" for c, k in self.told.items()),
            )
        return Plan(columns=self.columns, label=self.label, weight=self.weight)

    @property
    def told(self) -> dict[str, list[str]]:
        """What is lacking, the label among it."""
        none = self.label is None and not any("label" in key for keys in self.lacking.values() for key in keys)
        return {**self.lacking, **({"label": ['a column with role = "label"']} if none else {})}

    def text(self) -> str:
        """The draft as YAML; what is lacking stands in comments with the keys to fill in."""
        if not self.told:
            return write(self.plan)
        lines = [f"version: {VERSION}", "columns:"]
        if self.columns:
            stand_in = self.label or Label(task="regression", column=_ADD, low=0, high=1)
            plain = Plan(columns=self.columns, label=stand_in).plain()["columns"]
            lines += [f"  {line(name, about)}" for name, about in plain.items()]
        lines += [f"# {_ADD} {name}: declare {', '.join(keys)}" for name, keys in self.told.items()]
        if self.label is not None:
            label = Plan(columns={"_": Boolean()}, label=self.label).plain()["label"]
            lines.append(line("label", label))
        if self.weight is not None:
            lines.append(line("weight", {"column": self.weight.column, "high": self.weight.high}))
        return "\n".join(lines) + "\n"


def draft(schema: Schema | Mapping[str, Column]) -> Draft:
    """The first draft of a plan for data of a schema (or of the columns sealed with a data set, see `data.schema.described`).

    Bounds and vocabularies are the schema's; a gap, where the schema allows one, gets the middle of the bounds and an indicator,
    or a slot. Columns of the roles weight, group, subject and "leave out" are no features; a weight is how much a record counts.
    """
    columns = schema.stored if isinstance(schema, Schema) else schema
    made: dict[str, Feature] = {}
    lacking: dict[str, list[str]] = {}
    for name, column in columns.items():
        if column.role != "feature":
            continue
        found = _feature(column)
        if isinstance(found, Feature):
            made[name] = found
        else:
            lacking[name] = found
    named = [name for name, column in columns.items() if column.role == "label"]
    label: Label | None = None
    if len(named) > 1 and all(columns[name].kind == "boolean" for name in named):
        label = Label(task="multilabel", columns=tuple(named))
    elif len(named) > 1:
        lacking["label"] = [f"which of {', '.join(named)} is the label"]
    elif named:
        told = _label(named[0], columns[named[0]])
        if isinstance(told, Label):
            label = told
        else:
            lacking[named[0]] = told
    weight = _weight(columns, lacking)
    return Draft(made, label, lacking, weight)


def _weight(columns: Mapping[str, Column], lacking: dict[str, list[str]]) -> Weight | None:
    """The weight of a schema that has one; what is lacking is noted."""
    found = {name: column.high for name, column in columns.items() if column.role == "weight"}
    if len(found) > 1:
        lacking["weight"] = [f"which of {', '.join(found)} is the weight"]
        return None
    for name, high in found.items():
        if high is not None:
            return Weight(column=name, high=high)
        lacking[name] = ["high of the weight"]  # of a data set that was sealed before schemas had to say it
    return None


def _feature(c: Column) -> Feature | list[str]:  # noqa: PLR0911 - one kind after the other
    gap: Any = (c.low + c.high) / 2 if c.missing and c.low is not None and c.high is not None else None
    if c.kind in ("number", "integer"):
        if c.low is None or c.high is None:
            return _bounds(c)
        return (Number if c.kind == "number" else Whole)(low=c.low, high=c.high, missing=gap)
    if c.kind == "boolean":
        return Boolean(missing=0.5 if c.missing else None)
    if c.kind == "category":
        return OneHot(levels=c.levels, missing=SLOT if c.missing else None) if c.levels else ["levels"]
    if c.kind == "text":
        return TextBag(ids=_BAG, missing=EMPTY if c.missing else None)
    if c.kind in ("date", "time"):
        return ["origin, low and high (time since it), or parts"]
    if c.kind == "tensor" and c.item == "u8" and not c.missing:
        return Tensor(shape=c.shape, low=0, high=_BYTE)  # the type's own bounds
    if c.kind == "tensor":
        return ["low", "high"]
    return ["length", "low", "high (and as: numbers or ids)"]


def _bounds(c: Column) -> list[str]:
    return [key for key in ("low", "high") if getattr(c, key) is None]


def _label(name: str, c: Column) -> Label | list[str]:  # noqa: PLR0911 - one kind after the other
    if c.kind == "boolean":
        return Label(task="binary", column=name, levels=("false", "true"))
    if c.kind == "category":
        if not c.levels:
            return ["levels of the label"]
        return Label(task="binary" if len(c.levels) == 2 else "multiclass", column=name, levels=c.levels)  # noqa: PLR2004 - two
    if c.kind in ("number", "integer"):
        if c.low is None or c.high is None:
            return [f"{key} of the label" for key in _bounds(c)]
        return Label(task="regression", column=name, low=c.low, high=c.high)
    if c.kind == "list":
        return ["task: next-token with length, low and high, and the same column as ids among the columns"]
    return ["a label that is a number, a category or a flag"]
