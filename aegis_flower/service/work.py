"""Work: who answers the messages that train or evaluate, by the mode of the approval."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aegis_flower import jailed
from aegis_flower.approval import Approval
from aegis_flower.client.app import aegis_client_app
from aegis_flower.configs import Config
from aegis_flower.door import DoorApp
from aegis_flower.errors import NodeError
from aegis_flower.service import keys


@dataclass(frozen=True)
class WorkOptions:
    """What the node says to whoever does the work.

    Attributes:
        config: the run's configuration.
        app: what an app in the jail may have, by key of NODE.TOML.
        halted: set when the task must end at once.
    """

    config: Config
    app: Mapping[str, Any]
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
    app = options.app
    given = jailed.Options(
        preload=keys.words(app.get(keys.APP_PRELOAD) or ""),
        seconds=float(app[keys.APP_SECONDS]),
        block_seconds=float(app[keys.APP_BLOCK_SECONDS]),
        memory=app[keys.APP_MEMORY] << 20,
        threads=app[keys.APP_THREADS],
        files=app[keys.APP_FILES],
    )
    return jailed.client_app(found, folder, given, config=options.config, halted=options.halted)
