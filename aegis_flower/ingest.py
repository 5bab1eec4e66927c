"""Ingest: rows become fixed-size records in a vault, each with its subject, basis and retention."""

from __future__ import annotations

import dataclasses
import fcntl
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aegis_engine import Vault
from aegis_flower import datasets
from aegis_flower.config import Config
from aegis_flower.errors import DataError

_DTYPES = {"f": {4: "f32", 8: "f64"}, "i": {4: "i32", 8: "i64"}, "u": {1: "u8"}}


@dataclass(frozen=True)
class Terms:
    """What the data steward lays down for a data set at ingest. Sealed with the data; no run can widen it.

    Attributes:
        purposes: what the rows may be used for.
        approved_columns: columns a permit may open; None for all.
        basis: lawful basis (GDPR article 6(1)): consent, contract, legal_obligation, vital_interests, public_task or
            legitimate_interests.
        retention_days: last day of use, counted from today.
        min_rows: fewest rows an update may be computed on.
        min_subjects: fewest people an update may be computed on.
        budget_epsilon: ε that all runs together may spend.
    """

    purposes: Collection[str]
    approved_columns: Collection[str] | None = None
    basis: str = "consent"
    retention_days: int = 365
    min_rows: int = 16
    min_subjects: int = 10
    budget_epsilon: float = 10.0
    require_dp: bool = True
    require_secure_aggregation: bool = True
    controller: str = ""
    delta: float = 1e-5
    lineage: str | None = None
    max_evaluations: int = 100


def ingest(vault: Vault, name: str, columns: Mapping[str, npt.NDArray[Any]], subjects: list[str], terms: Terms) -> str:
    """Stores rows as a governed data set and records consent of every subject for every purpose.

    Args:
        vault: an open vault; it must have a policy bundle (`Vault.govern`).
        name: name of the data set, unique in the vault.
        columns: arrays of one length; a column is one value a row, or a fixed-length vector a row.
        subjects: whom each row is about; kept only as a keyed pseudonym.
        terms: the steward's terms.

    Returns:
        The data set's object id.

    Raises:
        DataError: columns of different lengths, an unsupported dtype, or a name that is taken.
    """
    rows = {len(a) for a in columns.values()} | {len(subjects)}
    if len(rows) != 1:
        raise DataError(
            f"{name}: columns and subjects have different lengths ({sorted(rows)}); one entry a row is needed"
        )
    if any(entry["name"] == name for entry in vault.list()):
        raise DataError(f"{name}: the vault already has an object of that name; take another name or shred it first")
    layout, schema = [], []
    for column, array in columns.items():
        flat = array.reshape(len(array), -1)
        dtype = _DTYPES.get(array.dtype.kind, {}).get(array.dtype.itemsize)
        if dtype is None:
            raise DataError(f"{name}.{column}: dtype {array.dtype} cannot be stored; take f32, f64, i32, i64 or u8")
        layout.append((column, array.dtype.newbyteorder("<"), (flat.shape[1],)))
        schema.append((column, dtype, flat.shape[1]))
    records = np.empty(rows.pop(), dtype=layout)
    for column, array in columns.items():
        records[column] = array.reshape(len(array), -1)
    today = int(time.time() // 86400)
    purposes = sorted(terms.purposes)
    facts = {
        "purposes": purposes,
        "columns": list(columns),
        "approved_columns": sorted(terms.approved_columns if terms.approved_columns is not None else columns),
        "min_rows": terms.min_rows,
        "min_subjects": terms.min_subjects,
        "require_dp": terms.require_dp,
        "require_secure_aggregation": terms.require_secure_aggregation,
        "budget_micro_epsilon": round(terms.budget_epsilon * 1e6),
        "controller": terms.controller or name,
        "delta_femto": round(terms.delta * 1e15),
        "max_evaluations": terms.max_evaluations,
        "lineages": [terms.lineage] if terms.lineage else [],
    }
    dataset = vault.store_records(
        name,
        schema,
        records,
        subjects,
        [(terms.basis, today + terms.retention_days, False)],
        facts,
    )
    records.view(np.uint8)[:] = 0  # the vault has it now; leave no second copy for longer than needed
    for purpose in purposes:
        vault.consent_grant(sorted(set(subjects)), purpose)
    return dataset


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
    with _only_one(root):
        marker = root / "provisioned"
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
        for purpose in p.granted_purposes:
            for i in np.sort(gone):
                vault.consent_withdraw(people[int(i)], purpose)
    vault.record_plugin("ingest.finished", {"source": origin, "rows": len(rows)})
