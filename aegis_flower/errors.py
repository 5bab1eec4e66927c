"""Errors of the plugin; the tree's root and the engine's branches come from ``aegis_engine.errors``."""

from __future__ import annotations

from aegis_engine.errors import (
    AegisError,
    AuditError,
    AuditTampered,
    GateFailed,
    NotEnoughClients,
    PermitError,
    PermitRevoked,
    PermitScope,
    PolicyDenied,
    PolicyError,
    SecAggError,
    VaultError,
)


class ConfigError(AegisError):
    """A configuration value is unknown or impossible.

    Attributes:
        path: the key's path, such as ``privacy.epsilon``.
    """

    code = "AEG-C001"
    exit_code = 2

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.path = path


class DataError(AegisError):
    """A data source is missing or not what the config says."""

    code = "AEG-D001"


class BudgetExceeded(AegisError):
    """The privacy budget does not cover the round; nothing was read.

    Attributes:
        spent: ε spent before the request.
        after: ε it would have come to.
        budget: ε allowed.
    """

    code = "AEG-B001"
    exit_code = 3

    def __init__(self, message: str, *, spent: float, after: float, budget: float) -> None:
        super().__init__(message)
        self.spent, self.after, self.budget = spent, after, budget


class LedgerTampered(AegisError):
    """The privacy ledger was edited, truncated or rolled back."""

    code = "AEG-B002"
    exit_code = 5


class AccountantError(AegisError):
    """The accountant's answer cannot be true; nothing was read."""

    code = "AEG-B003"
    exit_code = 3


class NodeError(AegisError):
    """The node's operator configuration is incomplete."""

    code = "AEG-O001"


class AppError(AegisError):
    """The Flower app is put together in a way that cannot work; the text says what to change."""

    code = "AEG-F001"


class RunFailed(AegisError):
    """A run ended without a model."""

    code = "AEG-R001"


class ReportError(AegisError):
    """A report cannot be written or read."""

    code = "AEG-R002"


class DeploymentError(AegisError):
    """A SuperLink, SuperNode or `flwr` command did not do what it should."""

    code = "AEG-R003"


__all__ = [
    "AccountantError",
    "AegisError",
    "AppError",
    "AuditError",
    "AuditTampered",
    "BudgetExceeded",
    "ConfigError",
    "DataError",
    "DeploymentError",
    "GateFailed",
    "LedgerTampered",
    "NodeError",
    "NotEnoughClients",
    "PermitError",
    "PermitRevoked",
    "PermitScope",
    "PolicyDenied",
    "PolicyError",
    "ReportError",
    "RunFailed",
    "SecAggError",
    "VaultError",
]
