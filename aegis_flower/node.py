"""Node: what the operator configures, never the researcher. Opens the vault and its compliance engine.

A SuperNode's operator passes ``--node-config 'aegis-vault="/srv/vault" aegis-key-file="/run/keys/vault.key" ...'``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context

from aegis_engine import ComplianceEngine, Vault
from aegis_flower.config import Config
from aegis_flower.errors import NodeError
from aegis_flower.ingest import NODE_NOUN
from aegis_flower.ledger import Ledger
from aegis_flower.trust import Trust

HOLDOUT = ".holdout"


@dataclass(frozen=True)
class NodeConfig:
    """The operator's settings, from the SuperNode's node config.

    Attributes:
        vault: folder of the vault (``aegis-vault``).
        key_file: 32-byte key file (``aegis-key-file``).
        dataset: name of the data set in the vault (``aegis-dataset``).
        name: what the report calls this node (``aegis-name``).
        min_cohort: fewest clients this node masks with (``aegis-min-cohort``).
        min_threshold: fewest shares that may unmask one client (``aegis-min-threshold``), beside what the protocol asks of any
            threshold.
        max_norm: largest L2 norm of an update it releases (``aegis-max-norm``); None takes the run's, which can then
            only be checked, not narrowed.
        colluding_percent: share of the clients that may work with the server against it (``aegis-colluding-percent``).
        require_commit: it takes part only in rounds with a commit step (``aegis-require-commit``).
        same_policy: it takes part only where all data are under its own policy bundle (``aegis-same-policy``).
        trust: its identity and the roster it accepts (``aegis-identity``, ``aegis-roster``, ``aegis-roster-signer``); None
            takes the server's word for who the other clients are.
    """

    vault: Path
    key_file: Path
    dataset: str
    name: str
    min_cohort: int = 3
    min_threshold: int = 2
    max_norm: float | None = None
    colluding_percent: int = 10
    require_commit: bool = False
    same_policy: bool = False
    trust: Trust | None = None

    @classmethod
    def from_context(cls, context: Context, cfg: Config) -> NodeConfig:
        """Reads the node config; in Flower's own simulation, finds the vault of the partition.

        Raises:
            NodeError: a key is missing, with the line to add.
        """
        given: Mapping[str, Any] = context.node_config
        if "aegis-vault" not in given and "partition-id" in given and cfg.vault.root:
            # Only Flower's simulation engine sets partition-id by itself; there, researcher and operator are one.
            name = f"{NODE_NOUN[cfg.data.name]}-{int(given['partition-id']) + 1}"
            root = Path(cfg.vault.root)
            return cls(root / name, root / "keys" / f"{name}.key", cfg.data.name, name, cfg.secagg.min_cohort)
        for key, example in (("aegis-vault", "/srv/vault"), ("aegis-key-file", "/run/keys/vault.key")):
            if not given.get(key):
                raise NodeError(
                    f"this node's operator has not set {key}; start the SuperNode with "
                    f"--node-config '{key}=\"{example}\" ...'"
                )
        max_norm = given.get("aegis-max-norm")
        if max_norm is not None and not float(max_norm) > 0:
            raise NodeError(
                f"aegis-max-norm = {max_norm!r} in the node config must be above 0; leave it out for no own limit"
            )
        return cls(
            Path(str(given["aegis-vault"])),
            Path(str(given["aegis-key-file"])),
            str(given.get("aegis-dataset", cfg.data.name)),
            str(given.get("aegis-name", f"node-{context.node_id}")),
            _whole(given, "aegis-min-cohort", 3, 2),
            _whole(given, "aegis-min-threshold", 2, 2),
            float(max_norm) if max_norm is not None else None,
            _whole(given, "aegis-colluding-percent", 10, 0, 100),
            _flag(given, "aegis-require-commit"),
            _flag(given, "aegis-same-policy"),
            Trust.from_config(given),
        )


def _whole(given: Mapping[str, Any], key: str, default: int, least: int, most: int = 2**16) -> int:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise NodeError(f"{key} = {value!r} in the node config must be a whole number from {least} to {most}")
    return value


def _flag(given: Mapping[str, Any], key: str) -> bool:
    value = given.get(key, False)
    if not isinstance(value, bool):
        raise NodeError(f"{key} = {value!r} in the node config must be true or false, without quotes")
    return value


class Node:
    """An open node: vault, compliance engine, data sets."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.vault = Vault.open(str(config.vault), key_file=str(config.key_file))
        self.engine = ComplianceEngine(self.vault)
        self._datasets = {str(entry["name"]): str(entry["id"]) for entry in self.vault.list()}

    def dataset(self, holdout: bool = False) -> str:
        """Object id of the node's data set, or of its holdout.

        Raises:
            NodeError: the vault has no such data set.
        """
        name = self.config.dataset + (HOLDOUT if holdout else "")
        if name not in self._datasets:
            raise NodeError(
                f"the vault of {self.config.name} has no data set {name!r}; `aegis vault ls` lists what it has, and "
                "aegis-dataset in the node config chooses"
            )
        return self._datasets[name]

    @property
    def has_holdout(self) -> bool:
        """Whether the vault has rows to evaluate on."""
        return self.config.dataset + HOLDOUT in self._datasets

    @property
    def ledger(self) -> Ledger:
        """The privacy ledger of the data set."""
        return Ledger(self.vault, self.config.dataset)


_open: dict[tuple[Path, Path], Node] = {}
_lock = threading.Lock()


def open_node(context: Context, cfg: Config) -> Node:
    """The node of this context; opened once a process, since opening checks the whole audit chain."""
    config = NodeConfig.from_context(context, cfg)
    key = (config.vault.resolve(), config.key_file.resolve())
    with _lock:
        node = _open.get(key)
        if node is None or node.config != config:
            node = _open[key] = Node(config)
        return node


def close_nodes() -> None:
    """Forgets open nodes; their keys are zeroized when the last user is gone."""
    with _lock:
        _open.clear()
