"""Ingest: rows become fixed-size records in a vault, each with its subject, basis and retention. All of them, or nothing."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from aegis_engine.errors import AegisError

from aegis_engine import Vault, normal_name
from aegis_flower.errors import DataError
from aegis_flower.terms import Terms

_DTYPES = {"f": {4: "f32", 8: "f64"}, "i": {4: "i32", 8: "i64"}, "u": {1: "u8"}}
HOLDOUT = ".holdout"

__all__ = [
    "IngestReport",
    "Terms",
    "ingest",
    "ingest_report",
]


class MissingValuesWarning(UserWarning):
    """Rows were taken that have NaN or infinite values."""


@dataclass(frozen=True)
class IngestReport:
    """What an ingest did. For the steward: it has counts of rows and people.

    Attributes:
        dataset: the data set's object id.
        rows: rows stored.
        people: people they are about.
        lineages: whose budgets they spend; more than one where the rows join people of several earlier data sets.
        erased_rows: rows left out because their people are erased.
        missing: values that are NaN or infinite, by column.
        granted: by purpose, people who have consent now and had none.
        withheld: by purpose, people who withdrew consent and did not give it anew: they do not have it.
    """

    dataset: str
    rows: int
    people: int
    lineages: list[str]
    erased_rows: int
    missing: dict[str, int]
    granted: dict[str, int]
    withheld: dict[str, int]


def ingest(
    vault: Vault,
    name: str,
    columns: Mapping[str, npt.ArrayLike],
    subjects: Sequence[str],
    terms: Terms,
    *,
    role: Literal["train", "holdout"] | None = None,
    allow_missing: bool | None = None,
    erased: Literal["refuse", "drop"] = "refuse",
) -> str:
    """Stores rows as a governed data set and, where they rest on consent, records it for everybody who never withdrew it.

    Everything is checked before the first byte is stored; rows and consents appear together, or neither does.

    Args:
        vault: an open vault; it must have a policy bundle (`Vault.govern`).
        name: name of the data set, unique in the vault.
        columns: arrays of one length; a column is one value a row, or a fixed-length vector a row.
        subjects: whom each row is about; kept only as a keyed pseudonym of its one spelling (NFC, no space around it).
        terms: the steward's terms.
        role: what the rows are for; ``holdout`` for names that end in ``.holdout``, else ``train``. Budgets of the two are
            kept apart.
        allow_missing: whether NaN and infinite values are taken: not where it is False, without a word where it is True; by
            default they are taken and a warning counts them. In training such a row has no say, in an evaluation it is wrong.
        erased: what becomes of rows of people who are erased: ``refuse`` all, or ``drop`` these rows.

    Returns:
        The data set's object id. `ingest_report` tells more.

    Raises:
        DataError: the rows or the name are not what can be stored; says which column or row.
        ConfigError: terms that mean nothing.
        PolicyError: AEG-P013 for an identifier that names nobody, AEG-P016 for rows of erased people.
    """
    return ingest_report(
        vault, name, columns, subjects, terms, role=role, allow_missing=allow_missing, erased=erased
    ).dataset


def ingest_report(
    vault: Vault,
    name: str,
    columns: Mapping[str, npt.ArrayLike],
    subjects: Sequence[str],
    terms: Terms,
    *,
    role: Literal["train", "holdout"] | None = None,
    allow_missing: bool | None = None,
    erased: Literal["refuse", "drop"] = "refuse",
) -> IngestReport:
    """As `ingest`; returns what was done."""
    name = _named(vault, name)
    its_role = _role(name, role)
    if not hasattr(columns, "items"):
        raise DataError(f"{name}: give columns by name, as a dict or a DataFrame, not a {type(columns).__name__}")
    arrays = {column: _column(name, column, values) for column, values in columns.items()}
    people = _people(name, subjects)
    lengths = {len(array) for array in arrays.values()} | {len(people)}
    if not arrays or len(lengths) != 1:
        raise DataError(
            f"{name}: columns and subjects have different lengths ({sorted(lengths)}); one entry a row is needed"
        )
    if not people:
        raise DataError(f"{name}: there are no rows; a data set has at least one")
    missing = {column: n for column, array in arrays.items() if (n := _missing(array))}
    if missing and not allow_missing:
        told = ", ".join(f"{column}: {n}" for column, n in missing.items())
        words = (
            f"{name}: values that are NaN or infinite ({told}); fill them or leave their rows out, or say allow_missing=True "
            "when the model can take them"
        )
        if allow_missing is False:
            raise DataError(words)
        warnings.warn(words, MissingValuesWarning, stacklevel=3)
    if erased not in ("refuse", "drop"):
        raise DataError(f"{name}: erased={erased!r} is not possible; take 'refuse' or 'drop'")
    kept = np.ones(len(people), dtype=bool)
    if erased == "drop":
        kept = ~np.array(vault.consent_erased(people), dtype=bool)
        people = [one for one, keep in zip(people, kept, strict=True) if keep]
        if not people:
            raise DataError(f"{name}: all its rows are of people who are erased; nothing was stored")
    facts = terms.facts(list(arrays), name, its_role)
    layout = [(column, a.dtype.newbyteorder("<"), (a.shape[1],)) for column, a in arrays.items()]
    records = np.empty(len(people), dtype=layout)
    for column, array in arrays.items():
        records[column] = array[kept]
    schema = [(column, _DTYPES[a.dtype.kind][a.dtype.itemsize], a.shape[1]) for column, a in arrays.items()]
    last_day = int(time.time() // 86400) + terms.retention_days
    # Consent is asked of nobody whose data rest on another basis.
    purposes = facts["purposes"] if terms.basis == "consent" else []
    try:
        dataset, consents = vault.store_records_granting(
            name, schema, records, people, [(terms.basis, last_day, False)], facts, grant=purposes
        )
    finally:
        records.view(np.uint8)[:] = 0  # leave no second copy for longer than needed
    return IngestReport(
        dataset=dataset,
        rows=len(people),
        people=len(set(people)),
        lineages=vault.lineages(dataset),
        erased_rows=int((~kept).sum()),
        missing=missing,
        granted={purpose: granted for purpose, granted, _ in consents},
        withheld={purpose: withheld for purpose, _, withheld in consents},
    )


def _named(vault: Vault, name: str) -> str:
    try:
        one = normal_name(name)
    except (AegisError, TypeError) as error:
        raise DataError(f"{name!r:.100} is no name of a data set: {error}") from None
    if "/" in one or "\\" in one or one.startswith("."):
        raise DataError(f"{name!r:.100} is no name of a data set: it has no '/' or '\\\\' and does not start with '.'")
    if any(entry["name"] == one for entry in vault.list()):
        raise DataError(f"{one}: the vault already has an object of that name; take another name or shred it first")
    return one


def _role(name: str, role: str | None) -> str:
    by_name = "holdout" if name.endswith(HOLDOUT) else "train"
    if role not in (None, "train", "holdout") or (by_name == "holdout" and role == "train"):
        raise DataError(
            f"{name}: role={role!r} is not possible; take train or holdout, and '{HOLDOUT}' names holdouts only"
        )
    return role or by_name


def _column(name: str, column: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """One axis of rows, one of values."""
    try:
        plain = normal_name(column) == column
    except (AegisError, TypeError):
        plain = False
    if not plain:
        raise DataError(f"{name}: {column!r:.100} is no name of a column; give text without space around it")
    array = np.asarray(values)
    if array.ndim == 0:
        raise DataError(f"{name}.{column}: it is one value, not one a row")
    if array.dtype.itemsize not in _DTYPES.get(array.dtype.kind, {}):
        raise DataError(f"{name}.{column}: dtype {array.dtype} cannot be stored; take f32, f64, i32, i64 or u8")
    width = int(np.prod(array.shape[1:]))
    if not width:
        raise DataError(f"{name}.{column}: its rows hold no value (shape {array.shape})")
    return array.reshape(len(array), width)


def _people(name: str, subjects: Sequence[str]) -> list[str]:
    if isinstance(subjects, (str, bytes)):
        raise DataError(f"{name}: subjects is one text; give a list with one identifier a row")
    people, known = [], dict[str, str]()
    for row, subject in enumerate(subjects):
        if not isinstance(subject, str):
            raise DataError(f"{name}: the subject of row {row} is {type(subject).__name__}; identifiers are text")
        if subject not in known:
            try:
                known[subject] = normal_name(subject)
            except AegisError as error:
                raise DataError(f"{name}: the subject of row {row} names nobody: {error}") from None
        people.append(known[subject])
    return people


def _missing(array: npt.NDArray[Any]) -> int:
    return int((~np.isfinite(array)).sum()) if array.dtype.kind == "f" else 0


def __getattr__(name: str) -> Any:
    """Old names of what lies in `aegis_flower.simulations.provision`; they go with the next release."""
    if name in ("SimulatedNode", "fingerprint", "minimum_rows", "provision"):
        return getattr(importlib.import_module("aegis_flower.simulations.provision"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
