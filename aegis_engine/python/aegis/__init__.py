"""AEGIS: train together on data that nobody hands over.

The public face. ``from aegis import Vault`` needs only the engine; names of the plugin (``VaultClient``,
``SecureAggregation``, ...) appear when ``aegis-flower`` is installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Permit, Vault, keys

__all__ = ["AegisError", "ComplianceEngine", "Permit", "Vault", "keys"]

# Told apart from the unrelated distribution called `aegis` in the public index by `aegis doctor`.
DISTRIBUTION = "aegis-flower-engine"

_PLUGIN = ("SecureAggregation", "VaultClient", "aegis_client_app", "aegis_server_app", "compose", "run_experiment")

if TYPE_CHECKING:
    from aegis_engine import Rng as Rng


def __getattr__(name: str) -> Any:
    if name not in _PLUGIN:
        raise AttributeError(f"module 'aegis' has no attribute {name!r}")
    try:
        import aegis_flower
    except ImportError as error:
        raise AttributeError(f"aegis.{name} belongs to the Flower plugin: pip install aegis-flower") from error
    return getattr(aegis_flower, name)
