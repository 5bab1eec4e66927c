"""The jail: an app computes on rows and gives back one array. No network, no files but its own, no other process, no text.

    node (trusted)                  warm parent (trusted)            task (untrusted)
    ──────────────                  ─────────────────────            ────────────────
    `Jail.run` ── frame + memory ─► forks a child          ────────► confines itself, imports the app, calls it
               ◄─ frame ─────────── waits, ends what is left ◄────── writes its array, ends

The warm parent imports what tasks need (numpy, torch), inside namespaces and a view of its own, and never an app: code of an app
that ran in it could keep what one task saw for the next one. The engine's `aegis-jail` puts up the layers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis_flower.jail.frames import Ended as Ended
    from aegis_flower.jail.inputs import Work as Work
    from aegis_flower.jail.jail import Jail as Jail
    from aegis_flower.jail.jail import Limits as Limits
    from aegis_flower.jail.jail import Result as Result

# Loaded when first used: the warm parent goes through here before it may have a second thread, and numpy starts some.
_WHERE = {"Ended": "frames", "Work": "inputs", "Jail": "jail", "Limits": "jail", "Result": "jail"}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'aegis_flower.jail' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aegis_flower.jail.{_WHERE[name]}"), name)
