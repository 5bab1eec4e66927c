"""Jailed: an app's own training in a jail, with privacy by the engine whatever the code does.

    permit ─► reserve ─► rows (read by the engine) ─► jail ─► what came back ─► clipped and noised by the engine

| mode | who trains | what is noised |
|---|---|---|
| ``any`` | one task of the app, on all permitted rows | the node's whole update: unit node |
| ``blocks`` | a task for each block of people, on its rows alone | the sum over the blocks: unit person |

One file per step: `rows` (from the vault), `tasks` (what an app is asked), `blocks` (the tasks of a round, at fixed times),
`pool` (jails that stay warm), `client` (a round), `app` (a `DoorApp`), `approved` (what must be known of an approval). What runs
inside is `flower_app` (somebody's Flower app), `files` (the data as files for it) and `own` (AEGIS's own loop).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis_flower.jailed.app import client_app as client_app
    from aegis_flower.jailed.approved import Approved as Approved
    from aegis_flower.jailed.approved import Options as Options
    from aegis_flower.jailed.blocks import suggested as suggested_blocks
    from aegis_flower.jailed.client import JailedClient as JailedClient
    from aegis_flower.jailed.pool import close_jails as close_jails

# Loaded when first used: the tasks of a jail come through here, and need none of the node's side.
_WHERE = {
    "Approved": ("approved", "Approved"),
    "JailedClient": ("client", "JailedClient"),
    "Options": ("approved", "Options"),
    "client_app": ("app", "client_app"),
    "close_jails": ("pool", "close_jails"),
    "suggested_blocks": ("blocks", "suggested"),
}

__all__ = ["Approved", "JailedClient", "Options", "client_app", "close_jails", "suggested_blocks"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'aegis_flower.jailed' has no attribute {name!r}")
    module, own = _WHERE[name]
    return getattr(importlib.import_module(f"aegis_flower.jailed.{module}"), own)
