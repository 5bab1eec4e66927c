"""Node: what the operator configures, never the researcher. Opens the vault and its compliance engine.

A SuperNode's operator passes ``--node-config 'aegis-vault="/srv/vault" aegis-key-file="/run/keys/vault.key" ...'``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.app import Context

from aegis_engine import ComplianceEngine, Identity, Vault, roster_open
from aegis_flower.config import Config
from aegis_flower.errors import NodeError
from aegis_flower.ingest import NODE_NOUN
from aegis_flower.ledger import Ledger

HOLDOUT = ".holdout"


@dataclass(frozen=True)
class Trust:
    """Whom this node masks with: its own identity, and the roster its operator signed.

    Attributes:
        identity_file: file of ``aegis identity new``.
        roster_file: file of ``aegis roster sign``.
        signer: the operator's verification key.
    """

    identity_file: Path
    roster_file: Path
    signer: bytes

    KEYS = ("aegis-identity", "aegis-roster", "aegis-roster-signer")

    @classmethod
    def from_config(cls, given: Mapping[str, Any]) -> Trust | None:
        """Reads the three settings; None when none is given.

        Raises:
            NodeError: some are missing, or the signer is no key.
        """
        missing = [key for key in cls.KEYS if not given.get(key)]
        if len(missing) == len(cls.KEYS):
            return None
        if missing:
            raise NodeError(
                f"the node config has some of {', '.join(cls.KEYS)} but not {', '.join(missing)}; a roster is trusted by "
                "all three"
            )
        try:
            signer = bytes.fromhex(str(given["aegis-roster-signer"]))
        except ValueError:
            signer = b""
        if len(signer) != 32:  # noqa: PLR2004 - an Ed25519 key
            raise NodeError("aegis-roster-signer is no key; `aegis identity show` prints it: 64 hexadecimal digits")
        return cls(Path(str(given["aegis-identity"])), Path(str(given["aegis-roster"])), signer)

    def identity(self) -> Identity:
        """The node's key.

        Raises:
            NodeError: the file cannot be read.
        """
        try:
            return Identity.load(str(self.identity_file))
        except (OSError, ValueError) as error:
            raise NodeError(f"aegis-identity: {error}") from None

    def members(self) -> list[bytes]:
        """Identities of the roster, its signature, expiry and serial checked; a serial once taken is never gone below.

        Raises:
            NodeError: the roster cannot be read.
            RosterError: it is refused, as its code says.
        """
        seen_file = self.identity_file.with_name(self.identity_file.name + ".roster")
        try:
            text = self.roster_file.read_text()
            seen = seen_file.read_text().split() if seen_file.exists() else []
            last = (int(seen[0]), bytes.fromhex(seen[1])) if seen else None
        except (OSError, ValueError, IndexError) as error:
            raise NodeError(f"aegis-roster: {error}") from None
        taken = roster_open(text, self.signer, now=int(time.time()), last=last)
        if last is None or taken["serial"] > last[0]:
            fresh = seen_file.with_name(seen_file.name + ".new")
            fresh.write_text(f"{taken['serial']} {taken['hash'].hex()}\n")
            fresh.replace(seen_file)
        return sorted(taken["members"])


@dataclass(frozen=True)
class NodeConfig:
    """The operator's settings, from the SuperNode's node config.

    Attributes:
        vault: folder of the vault (``aegis-vault``).
        key_file: 32-byte key file (``aegis-key-file``).
        dataset: name of the data set in the vault (``aegis-dataset``).
        name: what the report calls this node (``aegis-name``).
        min_cohort: fewest clients this node masks with (``aegis-min-cohort``).
        max_norm: largest L2 norm of an update it releases (``aegis-max-norm``); None takes the run's, which can then
            only be checked, not narrowed.
        colluding_percent: share of the clients that may work with the server against it (``aegis-colluding-percent``).
        require_commit: it takes part only in rounds with a commit step (``aegis-require-commit``).
        trust: its identity and the roster it accepts (``aegis-identity``, ``aegis-roster``, ``aegis-roster-signer``); None
            takes the server's word for who the other clients are.
    """

    vault: Path
    key_file: Path
    dataset: str
    name: str
    min_cohort: int = 3
    max_norm: float | None = None
    colluding_percent: int = 10
    require_commit: bool = False
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
            int(given.get("aegis-min-cohort", 3)),
            float(max_norm) if max_norm is not None else None,
            int(given.get("aegis-colluding-percent", 10)),
            bool(given.get("aegis-require-commit", False)),
            Trust.from_config(given),
        )


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
