"""Vaults of a simulation from a file of your own: split by person over nodes, and at each node into training and holdout."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aegis_engine import Vault
from aegis_flower.configs import Config
from aegis_flower.data import schema as schemas
from aegis_flower.data import splits
from aegis_flower.data.schema import Schema
from aegis_flower.errors import ConfigError, DataError
from aegis_flower.importer.add import rows_of
from aegis_flower.importer.sides import HOLDOUT, open_sides, split, store
from aegis_flower.terms import Terms

if TYPE_CHECKING:
    import pyarrow as pa

_BINS = 10  # of a label that is a number, for a split by label

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OwnTable:
    """A file in memory: a simulation's, of one machine.

    Attributes:
        schema: what its columns are.
        table: its rows.
        person: number of each row's person, in the order in which people first come.
        names: identifiers of the people, in that order.
        origin: where the rows came from, for the audit log.
    """

    schema: Schema
    table: pa.Table
    person: Ints
    names: list[str]
    origin: str


def read(cfg: Config) -> OwnTable:
    """Reads the configured file.

    Raises:
        ConfigError: `data.path` or `data.schema` is not given, or there is nothing at `data.path`.
        DataError: the file does not read, or rows do not fit the schema.
    """
    if cfg.data.path is None:
        raise ConfigError(
            "data.path",
            "data=table in a simulation makes its vaults of a file: name it, with data.schema; a deployment trains on the tables "
            "that its nodes hold",
        )
    if cfg.data.schema is None:
        raise ConfigError("data.schema", f"say what the columns are: aegis data schema {cfg.data.path} > schema.toml")
    if not Path(cfg.data.path).exists():
        raise ConfigError(
            "data.path",
            f"there is no {cfg.data.path} as seen from {Path.cwd()}; if the file or the project has moved, say where the file is "
            "now: data.path=FILE, or the same key of the experiment",
        )
    schema = schemas.read(cfg.data.schema)
    table, subjects = rows_of(Path(cfg.data.path), schema, cfg.data.limit)
    coded = subjects.dictionary_encode()
    person = np.asarray(coded.indices, dtype=np.int64)
    return OwnTable(schema, table, person, coded.dictionary.to_pylist(), Path(cfg.data.path).name)


def contents(cfg: Config) -> str:
    """SHA-256 of the configured file (of a folder: of all its files and names) and of its schema; empty where one is gone."""
    sums = []
    for name in (cfg.data.path, cfg.data.schema):
        path = Path(name or "")
        if name is None or not (
            path.is_file() or path.is_dir()
        ):  # a pipe or a device has no end; the reader refuses it
            return ""
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        told = hashlib.sha256()
        for each in files:
            with each.open("rb") as file:
                told.update(f"{each.relative_to(path)}:{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        sums.append(told.hexdigest())
    return " ".join(sums)


def partition(own: OwnTable, cfg: Config, minimum: int) -> list[Ints]:
    """People of each node, by number: `iid`, or a Dirichlet draw by the label of a person's first row."""
    first = np.unique(own.person, return_index=True)[1]
    return splits.partition(_labels(own)[first], cfg.data, cfg.seed, minimum)


def _labels(own: OwnTable) -> Ints:
    """A small number for each row's label: its place among the labels there are, or the bin of a number."""
    import pyarrow.compute as pc

    names = own.schema.of_role("label")
    if not names:
        return np.zeros(len(own.person), dtype=np.int64)
    column = own.table.column(names[0]).combine_chunks()
    kind = own.schema.columns[names[0]].kind
    if kind in ("number", "integer") and pc.count_distinct(column).as_py() > _BINS:
        values = np.asarray(pc.fill_null(column.cast("float64"), 0.0))
        return np.searchsorted(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]), values).astype(np.int64)
    return np.asarray(pc.fill_null(pc.dictionary_encode(column).indices, -1), dtype=np.int64)


def fill(
    vault: Vault, own: OwnTable, people: Ints, cfg: Config, index: int, terms: Callable[[bool], Terms]
) -> list[str]:
    """Stores the rows of a node's people, held-out people apart, with their consent.

    Args:
        vault: of the node.
        own: the file.
        people: of the node, by number.
        cfg: the experiment.
        index: of the node.
        terms: of the training rows (False) and of the held-out ones (True).

    Returns:
        People who withdrew their consent afterwards.
    """
    import pyarrow as pa

    drawn = splits.split(len(people), cfg.data, cfg.seed, index)
    names = {"train": cfg.data.name, "holdout": cfg.data.name + HOLDOUT}
    chosen = {"train": people[drawn.train], "holdout": people[drawn.holdout]}
    people_of = np.array(own.names, dtype=object)
    with open_sides(vault, names, own.schema) as sides:
        for role, side in sides.items():
            rows = np.flatnonzero(np.isin(own.person, chosen[role]))
            subjects: Any = pa.array(people_of[own.person[rows]], pa.string())
            # Who is held out the experiment says: each side takes all of its own.
            split(vault, {"train": side}, own.table.take(pa.array(rows)), subjects.dictionary_encode(), 0)
        each = {role: (side, terms(role == "holdout"), names[role]) for role, side in sides.items()}
        store(vault, each, own.schema, cfg.data.holdout, consent_given=True)
    gone: list[str] = []
    for role in ("holdout", "train"):
        mine = chosen[role]
        left = drawn.rng.choice(len(mine), size=round(len(mine) * cfg.data.withdrawn), replace=False)
        gone += [own.names[int(mine[i])] for i in np.sort(left)]
    return gone


def check_split(people: list[Ints], cfg: Config) -> None:
    """Refuses a holdout of nobody before anything is made.

    Raises:
        DataError, ConfigError: a node would have nobody to train on, or nobody held out.
    """
    if not people:
        raise DataError("there is nobody in the file")
    for index, part in enumerate(people):
        splits.split(len(part), cfg.data, cfg.seed, index)
