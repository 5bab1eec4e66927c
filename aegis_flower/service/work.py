"""Work: who answers the messages that train or evaluate, by the mode of the approval."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

from aegis_flower import jailed
from aegis_flower.approval import Approval
from aegis_flower.client.app import aegis_client_app
from aegis_flower.configs import Config
from aegis_flower.door import DoorApp
from aegis_flower.errors import NodeError


@dataclass(frozen=True)
class WorkOptions:
    """What the node says to whoever does the work.

    Attributes:
        config: the run's configuration.
        layers: of the jail, that must be there.
        halted: set when the task must end at once.
    """

    config: Config
    layers: tuple[str, ...]
    halted: threading.Event


def client_app(found: Approval, folder: Path, options: WorkOptions) -> DoorApp:
    """The app that works under an approval.

    Raises:
        NodeError: this node does not run apps in that mode.
    """
    if found.mode == "embedded":
        raise NodeError(
            "the app is approved as embedded, in the node's own process; a node that keeps the vault's key runs no app there: "
            "approve it as recipe, any or blocks, or run it by a SuperNode without `aegis node`"
        )
    if found.mode == "recipe":
        return aegis_client_app(config=options.config)
    return jailed.client_app(found, folder, config=options.config, halted=options.halted)
