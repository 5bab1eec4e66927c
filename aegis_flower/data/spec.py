"""What is known of a data set: its public shape, its rows before ingest, and the choice that a configuration makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Choice(Protocol):
    """What a configuration says of the data: `aegis_flower.configs.DataConfig`."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def path(self) -> str | None:
        """Folder of its files, where it has some."""

    @property
    def schema(self) -> str | None:
        """Schema of the file at `path`, of own data."""

    @property
    def limit(self) -> int | None:
        """Rows used; None for all."""

    @property
    def clients(self) -> int:
        """Nodes of a simulation."""

    @property
    def partition(self) -> str:
        """``dirichlet`` or ``iid``."""

    @property
    def alpha(self) -> float:
        """Dirichlet concentration over labels."""

    @property
    def holdout(self) -> float:
        """Fraction of a node's rows that is held out."""


class Features(Protocol):
    """How columns of a table become inputs: `aegis_flower.features.Plan`."""

    @property
    def sha256(self) -> str:
        """Its hash, equal on all nodes."""


@dataclass(frozen=True)
class Spec:
    """What a model needs to know of a data set, public.

    Attributes:
        columns: feature columns and their lengths, in order.
        label: name of the label column.
        classes: number of labels; 1 where a number is predicted.
        image: height and width where the features are one image, else None.
        dtypes: columns that keep the type they are stored in, such as ``{"tokens": "int64"}``; the others become float32, and are
            refused where that could change a value.
        label_dtype: the type the labels are stored in, to be checked; None takes whole numbers, and floats where `classes` is 1.
        plan: the feature plan that makes the inputs; `columns` are then inputs of the model, not columns of the table.
    """

    columns: dict[str, int]
    label: str
    classes: int
    image: tuple[int, int] | None = None
    dtypes: dict[str, str] = field(default_factory=dict)
    label_dtype: str | None = None
    plan: Features | None = None

    @property
    def features(self) -> int:
        """Number of input values of one record."""
        return sum(self.columns.values())


def built(model: Callable[..., Any], spec: Callable[[], Spec]) -> Any:
    """What an app's function makes. It is given the `Spec` where it asks: by an argument it must have, or one called ``spec``.

    Args:
        model: the function, or a class.
        spec: gives the shape of the data; called only where it is asked for.
    """
    try:
        asked = list(inspect.signature(model).parameters.values())
    except (TypeError, ValueError):  # some builtins say nothing of their arguments
        asked = []
    positional = [p for p in asked if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if positional and positional[0].default is inspect.Parameter.empty:
        return model(spec())
    return model(spec=spec()) if any(p.name == "spec" for p in asked) else model()


@dataclass(frozen=True)
class Source:
    """Rows in memory before ingest: features by column, labels, and the subject each row is about."""

    spec: Spec
    columns: dict[str, Floats]
    labels: Ints
    subjects: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Ints) -> Source:
        """The given rows."""
        return Source(
            self.spec,
            {k: v[rows] for k, v in self.columns.items()},
            self.labels[rows],
            [self.subjects[int(i)] for i in rows],
        )


Loaded = tuple[dict[str, Floats], Ints, str]


@dataclass(frozen=True)
class DataSet:
    """One data set of the experiments: all that is known of it.

    Attributes:
        spec: its public shape.
        load: reads columns, labels, and where they came from.
        noun: what a simulation calls the nodes that hold it.
        person: what its subjects' made-up ids begin with.
    """

    spec: Spec
    load: Callable[[Choice], Loaded]
    noun: str
    person: str


def pixels(values: npt.NDArray[np.generic], top: float) -> Floats:
    """Brightness from 0 to `top` as -1 to 1: a published constant, so that scaling costs no privacy."""
    return (np.asarray(values, dtype=np.float32) / np.float32(top) * 2 - 1).astype(np.float32)
