"""The preflight of `aegis node check`: all that a node needs, each with what to do where it is missing."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from flwr.app import Context, RecordDict

from aegis_flower.approval.approvals import LIST
from aegis_flower.approval.newest import regular
from aegis_flower.approval.signed import MOST_BYTES, opened
from aegis_flower.configs import compose
from aegis_flower.errors import AegisError, NodeError
from aegis_flower.jail import Ended, Jail, Work
from aegis_flower.jail.jail import LAYERS
from aegis_flower.node.keys import DATASET, TRUST_SERVER, VAULT
from aegis_flower.node.node import Node, open_node
from aegis_flower.service import keys
from aegis_flower.service.control import Control
from aegis_flower.service.flower import SuperNode
from aegis_flower.service.settings import Settings

LEAST_DISK: Final = 256 << 20  # bytes free, for logs, ledgers and states
_FIRST: Final = 1_760_000_000  # October 2025: a clock before that was never set


@dataclass(frozen=True)
class Finding:
    """One thing that a node needs.

    Attributes:
        topic: what.
        well: whether it is as it must be.
        found: what was found, and what to do where it is not well.
    """

    topic: str
    well: bool
    found: str


def confined(layers: Sequence[str]) -> None:
    """Puts a jail of these layers up and runs a task in it.

    Raises:
        NodeError: this machine does not give one of them.
    """
    if not layers:
        return
    without = [name for name in LAYERS if name not in layers]
    with tempfile.TemporaryDirectory(prefix="aegis-jail-") as folder:
        try:
            with Jail(folder, without=without) as jail:
                ended = jail.run(Work("os:getpid", {"w": np.zeros(1, np.float32)})).ended
        except AegisError as error:
            raise NodeError(
                f"{keys.REQUIRE_LAYERS} asks for {', '.join(layers)}, and no app can be confined so here: {error}; "
                "docs/JAIL.md says what each layer needs"
            ) from None
    if ended is not Ended.FAILED:  # the task gives no array, so it fails where it was confined
        raise NodeError(f"a task that was to be confined by {', '.join(layers)} ended as {ended.name.lower()}")


def preflight(settings: Settings) -> list[Finding]:
    """Looks at everything; nothing is claimed, charged or changed but for the node's own folder, which is made."""
    found: list[Finding] = []
    held: list[Node] = []

    def look(topic: str, what: Callable[[], str]) -> None:
        try:
            found.append(Finding(topic, True, what()))
        except (AegisError, OSError, ValueError) as error:
            found.append(Finding(topic, False, str(error)))

    def vault() -> str:
        node = open_node(Context(0, 0, dict(settings.node), RecordDict(), {}), compose())
        held.append(node)
        return f"{node.config.vault} opens, its id is {node.vault.id}"

    look("control", lambda: f"{Control(settings.control).folder} is this user's alone")
    look("vault", vault)
    if held:
        node = held[0]
        look("data", lambda: _data(node, settings))
        look("roster", lambda: _roster(node))
        look("clock", lambda: _clock(node))
    look("disk", lambda: _disk(Path(settings.node.get(VAULT, settings.file.parent))))
    look("jail", lambda: _jail(settings))
    look("approvals", lambda: _approvals(settings))
    look("supernode", lambda: _supernode(settings))
    return found


def _data(node: Node, settings: Settings) -> str:
    if settings.dataset is None:
        return f"each run names its data set ({DATASET} would fix one)"
    node.dataset()
    return f"{settings.dataset!r} is there, {'with' if node.has_holdout else 'without'} held-out rows"


def _roster(node: Node) -> str:
    trust = node.config.trust
    if trust is None:
        return f"none: the server's word is taken for who the other nodes are ({TRUST_SERVER})"
    trust.identity()
    return f"{len(trust.members())} members, signed by the key that was named"


def _clock(node: Node) -> str:
    now = time.time()
    if now < _FIRST:
        raise NodeError(
            f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}; set it (timedatectl set-ntp true)"
        )
    records, _ = node.vault.audit_head()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(now))}, the audit log has {records} records"


def _disk(vault: Path) -> str:
    free = shutil.disk_usage(vault).free
    if free < LEAST_DISK:
        raise NodeError(
            f"{free >> 20} MiB are free beside {vault}; logs and ledgers need {LEAST_DISK >> 20}: make room"
        )
    return f"{free >> 30} GiB free"


def _jail(settings: Settings) -> str:
    confined(settings.layers)
    return f"a task was confined by {', '.join(settings.layers) or 'no layer: the operator demands none'}"


def _approvals(settings: Settings) -> str:
    file = settings.approvals / LIST
    try:
        text = regular(file, MOST_BYTES)
    except FileNotFoundError:
        raise NodeError(
            f"there is no list in {settings.approvals}, so no app runs; `aegis app approve` begins one"
        ) from None
    current = opened(text, settings.signer, str(file))
    counting = sum(entry.revoked is None and entry.approval.expires > time.time() for entry in current.entries)
    return f"{counting} of {len(current.entries)} entries count, signed by the key that was named"


def _supernode(settings: Settings) -> str:
    supernode = SuperNode(settings.supernode, settings.shared_secret())
    try:
        supernode.probe()
    finally:
        supernode.close()
    kept = (
        "with the shared secret"
        if settings.secret
        else f"without a secret: {keys.SUPERNODE_SECRET} keeps other users out"
    )
    return f"answers at {settings.supernode}, {kept}"
