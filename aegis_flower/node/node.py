"""Node: what the operator configures, never the researcher. Opens the vault and its compliance engine.

A SuperNode's operator passes ``--node-config node.toml``, a file with ``aegis-vault``, ``aegis-key-file`` and others (README).
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from aegis_engine.types import DatasetTerms
from flwr.app import Context

from aegis_engine import ComplianceEngine, Vault, keys
from aegis_flower.configs import Config
from aegis_flower.errors import NodeError, WrongVault
from aegis_flower.ledger import Ledger
from aegis_flower.node.keys import DATASET, KEY, VAULT_ID
from aegis_flower.node.settings import NodeConfig
from aegis_flower.node.states import States

log = logging.getLogger("aegis")
HOLDOUT = ".holdout"
__all__ = [
    "HOLDOUT",
    "Node",
    "NodeConfig",
    "app_hash",
    "close_nodes",
    "current",
    "note_refusal",
    "open_node",
    "refusals",
    "running",
]


class Node:
    """An open node: vault, compliance engine, data sets."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.vault = Vault.open(str(config.vault), _provider(config))
        if config.vault_id not in (None, self.vault.id.lower()):
            raise WrongVault(
                f"the vault at {config.vault} has the id {self.vault.id}, the node config's {VAULT_ID} is "
                f"{config.vault_id}: another vault was put in its place; find out who did, or correct the id"
            )
        self.engine = ComplianceEngine(self.vault)
        self.states: States | None = States(self.vault) if _keeping.is_set() else None
        self._datasets = {str(entry["name"]): str(entry["id"]) for entry in self.vault.list()}
        others = [name for name in self._datasets if name.endswith(HOLDOUT)]
        if config.dataset in self._datasets and others and not self.has_holdout:
            log.warning(
                "aegis: %s has no held-out rows: %r is not in the vault, %s is; rename it if it belongs to %r, which was renamed",
                config.name,
                config.dataset + HOLDOUT,
                ", ".join(map(repr, others)),
                config.dataset,
            )

    def dataset(self, holdout: bool = False) -> str:
        """Object id of the node's data set, or of its holdout.

        Raises:
            NodeError: the vault has no such data set.
        """
        name = self.config.dataset + (HOLDOUT if holdout else "")
        if name not in self._datasets:
            raise NodeError(
                f"the vault of {self.config.name} has no data set {name!r}; `aegis vault ls` lists what it has, and "
                f"{DATASET} in the node config chooses"
            )
        return self._datasets[name]

    @property
    def has_holdout(self) -> bool:
        """Whether the vault has rows to evaluate on."""
        return self.config.dataset + HOLDOUT in self._datasets

    def terms(self, dataset: str) -> DatasetTerms:
        """What the data steward laid down for a data set, sealed with it; defaults filled in. Whoever has a permit has them as
        `Permit.facts`.
        """
        return self.engine.terms(dataset)

    @property
    def ledger(self) -> Ledger:
        """The privacy ledger of the data set."""
        return self.ledger_of(self.dataset(), self.terms(self.dataset()))

    @property
    def holdout_ledger(self) -> Ledger:
        """The privacy ledger of the held-out rows: what evaluations were charged."""
        dataset = self.dataset(holdout=True)
        return self.ledger_of(dataset, self.terms(dataset))

    def ledger_of(self, dataset: str, terms: DatasetTerms) -> Ledger:
        """The privacy ledger of a data set whose terms were read before."""
        return Ledger(self.vault, dataset, delta=terms["delta"], lineages=terms["lineages"])


def _provider(config: NodeConfig) -> keys.KeyProvider:
    """Where the node's key is. Nobody is asked: a SuperNode has no terminal.

    Raises:
        KeyProviderError, NodeError: the key cannot be had.
    """
    if config.key is None:
        return keys.file(str(config.key_file))
    kind, _, place = config.key.partition(":")
    try:
        if kind == "env":
            return keys.environment(place)
        if kind == "command":
            return keys.command(*shlex.split(place))
        if kind == "keyring":
            service, _, user = place.partition("/")
            return keys.keyring(service, user)
        module, _, token = place.partition(":")
        return keys.pkcs11(module, token, os.environ.get("AEGIS_PIN", ""))
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise NodeError(f"{KEY}: {error}") from None


_keeping = threading.Event()  # whether nodes of this process keep their protocol states themselves


def keep_states(on: bool = True) -> None:
    """From now on nodes keep the protocol's states in their vaults and take none from Flower: in a process that is no app's."""
    (_keeping.set if on else _keeping.clear)()
    close_nodes()


_open: dict[tuple[Path, Path, str | None], Node] = {}
_lock = threading.Lock()
# The node whose message is being answered, so that the door can add its audit head to a refusal too.
current: ContextVar[Node | None] = ContextVar("aegis-node", default=None)


# The hash of the app whose message is being answered; empty where the process does not know it. Permits, decisions and audit
# records have it.
app_hash: ContextVar[str] = ContextVar("aegis-app-hash", default="")


@contextmanager
def running(fab_hash: str) -> Iterator[None]:
    """While it lasts, what this thread (or task) asks the compliance engine for is asked by the app of this hash."""
    token = app_hash.set(fab_hash)
    try:
        yield
    finally:
        app_hash.reset(token)


def open_node(context: Context, cfg: Config) -> Node:
    """The node of this context; opened once a process, since opening checks the whole audit chain."""
    config = NodeConfig.from_context(context, cfg)
    key = (config.vault.resolve(), config.key_file.resolve(), config.key)
    with _lock:
        node = _open.get(key)
        if node is None or node.config != config:
            node = _open[key] = Node(config)
    current.set(node)
    return node


def close_nodes() -> None:
    """Forgets open nodes; their keys are zeroized when the last user is gone."""
    current.set(None)
    with _lock:
        _open.clear()


# -- what was refused, in words, for this process alone ------------------------------------------------------------------

Refusal = tuple[int, str, str, str]
_KEPT, _NODES = 256, 4096
_refused: OrderedDict[tuple[int, int], deque[Refusal]] = OrderedDict()


def refusals(run_id: int, node_id: int) -> list[Refusal]:
    """The newest refusals of a node of this process: (round, step, code, words). The words never leave the process."""
    with _lock:
        return list(_refused.get((run_id, node_id), ()))


def note_refusal(run_id: int, node_id: int, refusal: Refusal) -> None:
    """Keeps a refusal for `refusals`; the oldest go."""
    with _lock:
        _refused.setdefault((run_id, node_id), deque(maxlen=_KEPT)).append(refusal)
        _refused.move_to_end((run_id, node_id))
        while len(_refused) > _NODES:
            _refused.popitem(last=False)
