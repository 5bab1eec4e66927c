"""AEGIS trains one model across organisations without any of them sharing its data. This package is its public face: it has
the names that most programs need, and nothing of its own.

Start here: a vault encrypts what is put into it, and writes every read to its audit log before it happens.

    >>> from aegis import Vault
    >>> vault = Vault.create("my-vault", key_file="vault.key", make_key=True)
    >>> stored = vault.store_bytes(b"a secret", "note")
    >>> vault.open_object(stored).read()
    b'a secret'
    >>> vault.shred(stored)["level"]
    'ratcheted-file'

The rule about keys: a program says where a key is (`aegis.keys`), and never keeps the key itself. Keep the key on another disk
than the vault: without it the data are gone, and whoever has both reads everything.

What stays compatible: vaults, audit logs and reports of every released version are read for ever. Names of this module change
only with a release that keeps the old ones as aliases. Whatever starts with an underscore may change at any time.

Where things are:

- ``aegis``: this face; ``aegis.cli`` has the command.
- ``aegis_engine``: vaults, permits, audit logs, secure aggregation and noise, in Rust; ``aegis_engine.data`` reads data sets,
  ``aegis_engine.types`` has the shapes of receipts and reports. It needs neither torch nor flwr.
- ``aegis_flower``: the Flower plugin. `VaultClient`, `SecureAggregation`, `run_experiment` and others are also names of this
  module where it is installed.
"""

from __future__ import annotations

from typing import Any

from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Permit, Request, Vault, keys

__all__ = ["AegisError", "ComplianceEngine", "Permit", "Request", "Vault", "keys"]

# Told apart from the unrelated distribution called `aegis` in the public index by `aegis doctor`.
DISTRIBUTION = "aegis-flower-engine"

_PLUGIN = ("SecureAggregation", "VaultClient", "aegis_client_app", "aegis_server_app", "compose", "run_experiment")


def __getattr__(name: str) -> Any:
    if name not in _PLUGIN:
        raise AttributeError(f"module 'aegis' has no attribute {name!r}")
    try:
        import aegis_flower
    except ImportError as error:
        raise AttributeError(f"aegis.{name} belongs to the Flower plugin: pip install aegis-flower") from error
    return getattr(aegis_flower, name)
