"""AEGIS for Flower: federated learning on data that nobody has to hand over.

Names load when they are first used, so that `import aegis_flower` stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aegis_flower.client import VaultClient as VaultClient
    from aegis_flower.client import aegis_client_app as aegis_client_app
    from aegis_flower.configs import Config as Config
    from aegis_flower.configs import compose as compose
    from aegis_flower.experiment import run_experiment as run_experiment
    from aegis_flower.ingest import Terms as Terms
    from aegis_flower.kit import AegisApp as AegisApp
    from aegis_flower.kit import aegis_app as aegis_app
    from aegis_flower.ledger import Ledger as Ledger
    from aegis_flower.server_app import aegis_server_app as aegis_server_app
    from aegis_flower.simulations.inprocess import InProcessGrid as InProcessGrid
    from aegis_flower.simulations.inprocess import run_inprocess as run_inprocess
    from aegis_flower.strategies import STOP as STOP
    from aegis_flower.strategies import Bucketed as Bucketed
    from aegis_flower.strategies import SecureAggregation as SecureAggregation
    from aegis_flower.stream import PermitDataset as PermitDataset

_WHERE = {
    "AegisApp": "kit",
    "STOP": "strategies",
    "Config": "configs",
    "InProcessGrid": "simulations.inprocess",
    "Ledger": "ledger",
    "PermitDataset": "stream",
    "Bucketed": "strategies",
    "SecureAggregation": "strategies",
    "Terms": "ingest",
    "VaultClient": "client",
    "aegis_app": "kit",
    "aegis_client_app": "client",
    "aegis_server_app": "server_app",
    "compose": "configs",
    "run_experiment": "experiment",
    "run_inprocess": "simulations.inprocess",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'aegis_flower' has no attribute {name!r}")
    return getattr(importlib.import_module(f"aegis_flower.{_WHERE[name]}"), name)
