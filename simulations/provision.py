"""Provisioning: the vaults of a simulation, one per node, each with its own key, rows, consents and some withdrawals."""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aegis_engine import Vault
from aegis_flower.configs import Config
from aegis_flower.data import registry, splits
from aegis_flower.data.spec import Source
from aegis_flower.errors import DataError
from aegis_flower.ingest import ingest
from aegis_flower.node.keys import DATASET, KEY_FILE, MAX_EVALUATIONS, MIN_COHORT, NAME, TRUST_SERVER, VAULT
from aegis_flower.terms import Terms


@dataclass(frozen=True)
class SimulatedNode:
    """One node of a simulation: its name, what its operator would write into the node config, and whether its vault was made of
    the configured data.
    """

    name: str
    node_config: dict[str, str | int | float | bool]
    made: bool = True


_FILES = ("path", "schema", "features")  # a plan makes no vault
# Keys of `policy` that are terms of the same name, in the order of the fingerprint.
_NUMBERS = ("basis", "retention_days", "min_rows", "min_subjects", "budget_epsilon")
_DEMANDS = ("require_dp", "require_secure_aggregation")
_LOCK = ".lock"
_WAIT = 600.0


def provision(cfg: Config, root: Path) -> list[SimulatedNode]:
    """Makes the vaults of a simulation: one a node, each with its own key, rows, consents and some withdrawals.

    A root that holds the vaults already is used as it is, so that consents and the spent budget persist.

    Args:
        cfg: the experiment; the steward's terms are taken from ``policy``.
        root: folder for ``<node>/`` (the vault) and ``keys/<node>.key``.

    Returns:
        The nodes in order.
    """
    noun = registry.noun(cfg.data.name)
    nodes = [
        SimulatedNode(
            f"{noun}-{i + 1}",
            {
                NAME: f"{noun}-{i + 1}",
                VAULT: str(root / f"{noun}-{i + 1}"),
                KEY_FILE: str(root / "keys" / f"{noun}-{i + 1}.key"),
                DATASET: cfg.data.name,
                MIN_COHORT: cfg.secagg.min_cohort,
                MAX_EVALUATIONS: cfg.evaluations,
                TRUST_SERVER: True,  # of one machine's making: there is nobody beside the server to trust
            },
        )
        for i in range(cfg.data.clients)
    ]
    marker = root / "provisioned"
    made_here = {_LOCK, "keys", *(node.name for node in nodes)}
    if root.is_dir() and not marker.is_file() and any(each.name not in made_here for each in root.iterdir()):
        raise DataError(f"{root} is not empty and holds no finished set of vaults; name another vault.root")
    with _only_one(root):
        asked = fingerprint(
            cfg
        )  # before a row is read: of a file that changes meanwhile the vaults are not taken for the new one's
        if marker.is_file():
            _check_same(root, marker.read_text(), asked)
            return nodes
        if any(each.name != _LOCK for each in root.iterdir()):
            raise DataError(f"{root} is not empty and holds no finished set of vaults; name another vault.root")
        make = _made_of_table(cfg) if cfg.data.name == registry.TABLE else _made_of_source(cfg)
        try:
            (root / "keys").mkdir(mode=0o700)
            for index, node in enumerate(nodes):
                make(node, index)
            marker.write_text(asked)
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


def minimum_rows(cfg: Config) -> int:
    """Fewest rows a simulated node gets, so that its terms can be met after holdout and withdrawals."""
    kept = (1 - cfg.data.holdout) * (1 - cfg.data.withdrawn)
    return int(max(cfg.policy.min_rows, cfg.policy.min_subjects) / kept) + 4


def _check_same(root: Path, made: str, asked: str) -> None:
    """Refuses vaults of other settings, and of a file that is another one now. A file that is gone is in its vaults."""
    (settings, _, contents), (wanted, _, now) = made.partition("\n"), asked.partition("\n")
    if settings != wanted:
        raise DataError(
            f"{root} holds the vaults of another data configuration; name another vault.root, or use the data "
            "and policy settings they were made with"
        )
    if now and contents != now:
        raise DataError(
            f"{root} holds the vaults of other rows: data.path or data.schema has changed since they were made; name another "
            "vault.root, and the new rows are trained on"
        )


def fingerprint(cfg: Config) -> str:
    """What the vaults were made from: a later run with other data must not meet them silently.

    A file of one's own counts by its contents, wherever it lies and however it is named.
    """
    if cfg.data.name == registry.TABLE and cfg.data.path is not None:
        from aegis_flower.simulations import own_table

        named = {each.name: getattr(cfg.data, each.name) for each in fields(cfg.data) if each.name not in _FILES}
        return f"{_settings(cfg, named)}\n{own_table.contents(cfg)}"
    return _settings(cfg, cfg.data)


def _settings(cfg: Config, data: object) -> str:
    p = cfg.policy
    terms = (p.granted_purposes, *(getattr(p, name) for name in _NUMBERS))
    more = () if p.delta == Terms.delta else (p.delta,)  # roots of versions without the key go on
    whole = repr((data, cfg.seed, *terms, *more, p.bundle, *(getattr(p, name) for name in _DEMANDS)))
    return whole.replace(", features=None", "", 1).replace(", schema=None", "", 1)  # nor did those versions have them


def _terms(cfg: Config, controller: str, *, holdout: bool) -> Terms:
    """What the steward of every simulated node lays down."""
    same = {name: getattr(cfg.policy, name) for name in (*_NUMBERS, *_DEMANDS, "delta")}
    most = max(Terms.max_evaluations, cfg.evaluations)
    if holdout:  # nothing is trained on it; its counts leave only inside the secure sum, so one row is enough
        same |= {"min_rows": 1, "min_subjects": 1}
    return Terms(cfg.policy.granted_purposes, **same, controller=controller, max_evaluations=most)


Make = Callable[[SimulatedNode, int], None]


def _made_of_source(cfg: Config) -> Make:
    """Vaults of a packaged data set."""
    source, origin = registry.load(cfg.data)
    parts = splits.partition(source.labels, cfg.data, cfg.seed, minimum_rows(cfg))
    for index, part in enumerate(parts):
        splits.split(len(part), cfg.data, cfg.seed, index)  # refuses a holdout of no rows before anything is made
    return lambda node, index: _provision_node(cfg, node, source.take(parts[index]), origin, index)


def _made_of_table(cfg: Config) -> Make:
    """Vaults of a file of one's own. People rather than rows are counted and split: a person is at one node, on one side."""
    from aegis_flower.simulations import own_table

    own = own_table.read(cfg)
    parts = own_table.partition(own, cfg, minimum_rows(cfg))
    own_table.check_split(parts, cfg)

    def make(node: SimulatedNode, index: int) -> None:
        vault = _new_vault(cfg, node)
        gone = own_table.fill(
            vault, own, parts[index], cfg, index, lambda holdout: _terms(cfg, node.name, holdout=holdout)
        )
        for purpose in cfg.policy.granted_purposes if gone else ():
            vault.consent_withdraw(gone, purpose)
        rows = int(np.isin(own.person, parts[index]).sum())
        vault.record_plugin("ingest.finished", {"source": own.origin, "rows": rows})

    return make


def _new_vault(cfg: Config, node: SimulatedNode) -> Vault:
    vault = Vault.create(str(node.node_config[VAULT]), key_file=str(node.node_config[KEY_FILE]), make_key=True)
    vault.govern(cfg.policy.bundle)
    return vault


def _provision_node(cfg: Config, node: SimulatedNode, rows: Source, origin: str, index: int) -> None:
    vault = _new_vault(cfg, node)
    drawn = splits.split(len(rows), cfg.data, cfg.seed, index)
    rng = drawn.rng
    for suffix, chosen in ((".holdout", drawn.holdout), ("", drawn.train)):
        part = rows.take(chosen)
        columns: dict[str, npt.NDArray[Any]] = {**part.columns, part.spec.label: part.labels}
        ingest(vault, cfg.data.name + suffix, columns, part.subjects, _terms(cfg, node.name, holdout=bool(suffix)))
        people = sorted(set(part.subjects))
        gone = rng.choice(len(people), size=round(len(people) * cfg.data.withdrawn), replace=False)
        for purpose in cfg.policy.granted_purposes if len(gone) else ():
            vault.consent_withdraw_many([people[int(i)] for i in np.sort(gone)], purpose)
    vault.record_plugin("ingest.finished", {"source": origin, "rows": len(rows)})
