"""Ingest: rows become fixed-size records in a vault, each with its subject, basis and retention. All of them, or nothing."""

from __future__ import annotations

import dataclasses
import fcntl
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from aegis_engine.errors import AegisError

from aegis_engine import Vault, normal_name
from aegis_flower import datasets
from aegis_flower.config import Config
from aegis_flower.errors import DataError
from aegis_flower.terms import Terms

_DTYPES = {"f": {4: "f32", 8: "f64"}, "i": {4: "i32", 8: "i64"}, "u": {1: "u8"}}
HOLDOUT = ".holdout"

__all__ = [
    "IngestReport",
    "SimulatedNode",
    "Terms",
    "evaluations",
    "fingerprint",
    "ingest",
    "ingest_report",
    "provision",
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


@dataclass(frozen=True)
class SimulatedNode:
    """One node of a simulation: its name and what its operator would write into the node config."""

    name: str
    node_config: dict[str, str | int | float | bool]


_LOCK = ".lock"
_WAIT = 600.0
NODE_NOUN = {name: known.noun for name, known in datasets.DATASETS.items()}


def provision(cfg: Config, root: Path) -> list[SimulatedNode]:
    """Makes the vaults of a simulation: one a node, each with its own key, rows, consents and some withdrawals.

    A root that holds the vaults already is used as it is, so that consents and the spent budget persist.

    Args:
        cfg: the experiment; the steward's terms are taken from ``policy``.
        root: folder for ``<node>/`` (the vault) and ``keys/<node>.key``.

    Returns:
        The nodes in order.
    """
    noun = NODE_NOUN[cfg.data.name]
    nodes = [
        SimulatedNode(
            f"{noun}-{i + 1}",
            {
                "aegis-name": f"{noun}-{i + 1}",
                "aegis-vault": str(root / f"{noun}-{i + 1}"),
                "aegis-key-file": str(root / "keys" / f"{noun}-{i + 1}.key"),
                "aegis-dataset": cfg.data.name,
                "aegis-min-cohort": cfg.secagg.min_cohort,
                "aegis-max-evaluations": evaluations(cfg),
                "aegis-trust-server": True,  # of one machine's making: there is nobody beside the server to trust
            },
        )
        for i in range(cfg.data.clients)
    ]
    marker = root / "provisioned"
    made_here = {_LOCK, "keys", *(node.name for node in nodes)}
    if root.is_dir() and not marker.is_file() and any(each.name not in made_here for each in root.iterdir()):
        raise DataError(f"{root} is not empty and holds no finished set of vaults; name another vault.root")
    with _only_one(root):
        if marker.is_file():
            if marker.read_text() != fingerprint(cfg):
                raise DataError(
                    f"{root} holds the vaults of another data configuration; name another vault.root, or use the data "
                    "and policy settings they were made with"
                )
            return nodes
        if any(each.name != _LOCK for each in root.iterdir()):
            raise DataError(f"{root} is not empty and holds no finished set of vaults; name another vault.root")
        source, origin = datasets.load(cfg.data)
        parts = datasets.partition(source.labels, cfg.data, cfg.seed, minimum_rows(cfg))
        for index, part in enumerate(parts):
            datasets.split(len(part), cfg.data, cfg.seed, index)  # refuses a holdout of no rows before anything is made
        try:
            (root / "keys").mkdir(mode=0o700)
            for index, (node, part) in enumerate(zip(nodes, parts, strict=True)):
                _provision_node(cfg, node, source.take(part), origin, index)
            marker.write_text(fingerprint(cfg))
        except BaseException:  # an interrupt, too: half a set of vaults would only be in the way
            for name in ("keys", *(node.name for node in nodes)):
                shutil.rmtree(root / name, ignore_errors=True)
            raise
    return nodes


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Lets one process at a time make the vaults of a root; another that asks meanwhile waits, and then finds them there.

    Raises:
        DataError: the other took too long.
    """
    root.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + _WAIT
    with (root / _LOCK).open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise DataError(
                        f"another run is making these vaults ({root}), for more than {_WAIT:g} s; wait for it, or name another "
                        "vault.root"
                    ) from None
                time.sleep(0.1)
        yield


def evaluations(cfg: Config) -> int:
    """Evaluations that a run of this configuration asks of each node; a simulation's own nodes give as many."""
    return {"never": 0, "last": 1}.get(cfg.evaluation_rounds, cfg.strategy.rounds + 1)


def minimum_rows(cfg: Config) -> int:
    """Fewest rows a simulated node gets, so that its terms can be met after holdout and withdrawals."""
    kept = (1 - cfg.data.holdout) * (1 - cfg.data.withdrawn)
    return int(max(cfg.policy.min_rows, cfg.policy.min_subjects) / kept) + 4


def fingerprint(cfg: Config) -> str:
    """What the vaults were made from: a later run with other data must not meet them silently."""
    p = cfg.policy
    terms = (p.granted_purposes, p.basis, p.retention_days, p.min_rows, p.min_subjects, p.budget_epsilon)
    more = () if p.delta == Terms.delta else (p.delta,)  # roots of versions without the key go on
    return repr((cfg.data, cfg.seed, *terms, *more, p.bundle, p.require_dp, p.require_secure_aggregation))


def _provision_node(cfg: Config, node: SimulatedNode, rows: datasets.Source, origin: str, index: int) -> None:
    key_file = Path(str(node.node_config["aegis-key-file"]))
    vault = Vault.create(str(node.node_config["aegis-vault"]), key_file=str(key_file), make_key=True)
    vault.govern(cfg.policy.bundle)
    p = cfg.policy
    terms = Terms(
        purposes=p.granted_purposes,
        basis=p.basis,
        retention_days=p.retention_days,
        min_rows=p.min_rows,
        min_subjects=p.min_subjects,
        budget_epsilon=p.budget_epsilon,
        require_dp=p.require_dp,
        require_secure_aggregation=p.require_secure_aggregation,
        controller=node.name,
        delta=p.delta,
        max_evaluations=max(100, evaluations(cfg)),
    )
    split = datasets.split(len(rows), cfg.data, cfg.seed, index)
    rng = split.rng
    for suffix, chosen in ((".holdout", split.holdout), ("", split.train)):
        part = rows.take(chosen)
        columns: dict[str, npt.NDArray[Any]] = {**part.columns, part.spec.label: part.labels}
        # Nothing is trained on a holdout; its counts leave only inside the secure sum, so one row is enough.
        mine = dataclasses.replace(terms, min_rows=1, min_subjects=1) if suffix else terms
        ingest(vault, cfg.data.name + suffix, columns, part.subjects, mine)
        people = sorted(set(part.subjects))
        gone = rng.choice(len(people), size=round(len(people) * cfg.data.withdrawn), replace=False)
        for purpose in p.granted_purposes if len(gone) else ():
            vault.consent_withdraw_many([people[int(i)] for i in np.sort(gone)], purpose)
    vault.record_plugin("ingest.finished", {"source": origin, "rows": len(rows)})
