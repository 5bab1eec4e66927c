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


class BadRows(DataError):
    """Rows of a file do not fit the schema; nothing was stored.

    Attributes:
        lines: what does not fit, by column and reason, with line numbers; no value.
    """

    code = "AEG-D002"

    def __init__(self, message: str, lines: list[str]) -> None:
        super().__init__(message)
        self.lines = lines


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


class WrongVault(NodeError):
    """The vault at ``aegis-vault`` is not the one that ``aegis-vault-id`` names."""

    code = "AEG-N018"


class AppError(AegisError):
    """The Flower app is put together in a way that cannot work; the text says what to change."""

    code = "AEG-F001"


class ModelMismatch(AppError):
    """The app's model is not the one the server sent: other tensors, or a dtype that is not float32."""

    code = "AEG-N013"


class DataMismatch(AppError):
    """The app's `Spec` and the data set do not fit: columns, widths or the kind of label."""

    code = "AEG-N014"


class PreflightFailed(AppError):
    """The app's model, loss or optimiser fails on a batch of zeros; nothing was read and nothing charged."""

    code = "AEG-N015"


class DeviceMissing(AppError):
    """The configured device is not on this node."""

    code = "AEG-N016"


class RequestInvalid(AegisError):
    """A message of the server is not of the form this node answers: a field is missing, of another type or out of bounds."""

    code = "AEG-N010"


class OutsideTerms(AegisError):
    """The request asks for more than this node's configuration or its data's terms give; nothing was read."""

    code = "AEG-N011"
    exit_code = 3


class EvaluationsSpent(OutsideTerms):
    """The run has had the evaluations on held-out rows that the node gives to one run."""

    code = "AEG-N012"


class StaleState(AegisError):
    """The state that Flower keeps for this node was put back: masking with it again would undo an earlier mask."""

    code = "AEG-N017"


class AppNotApproved(AegisError):
    """The node's operator has not approved this app for these data and this purpose, or no longer does; no byte of it ran."""

    code = "AEG-N019"
    exit_code = 3


class ApprovalsTampered(AppNotApproved):
    """The list of approvals is not the operator's newest: changed, put back, or another one. No app runs."""

    code = "AEG-N020"
    exit_code = 5


class BadBundle(AegisError):
    """A file is no Flower App Bundle that can be looked at; nothing of it was run."""

    code = "AEG-F002"


class SuperNodeError(AegisError):
    """The SuperNode's Runtime API cannot be reached, or does not answer as Flower's does."""

    code = "AEG-O002"


class TaskGone(SuperNodeError):
    """The SuperNode no longer counts a task as this node's: its run ended, or the SuperNode was restarted."""

    code = "AEG-O003"


class NodePaused(AegisError):
    """The node's operator has halted all use of its data."""

    code = "AEG-O004"


class Interrupted(AegisError):
    """The node was restarted, or its task taken away, while it answered; the state before the message holds."""

    code = "AEG-O005"


class RunFailed(AegisError):
    """A run ended without a model."""

    code = "AEG-R001"


class ReportError(AegisError):
    """A report cannot be written or read."""

    code = "AEG-R002"


class DeploymentError(AegisError):
    """A SuperLink, SuperNode or `flwr` command did not do what it should."""

    code = "AEG-R003"


# Refusals that a further round of the same run meets again: a run in which every node refused for one of these may stop.
# Not among them: what a larger cohort, a later message or a node's restart can heal.
LASTING: frozenset[str] = frozenset(
    {
        *("AEG-B001", "AEG-B002", "AEG-B003", "AEG-C001", "AEG-D001", "AEG-F001", "AEG-O001"),
        *("AEG-N011", "AEG-N012", "AEG-N013", "AEG-N014", "AEG-N015", "AEG-N016", "AEG-N018"),
        *("AEG-P001", "AEG-P002", "AEG-P003", "AEG-P010"),
        *("AEG-S021", "AEG-S022", "AEG-S023", "AEG-S030", "AEG-S031", "AEG-S032", "AEG-S033", "AEG-S035", "AEG-S036"),
        *("AEG-V001", "AEG-V002", "AEG-V006", "AEG-V013", "AEG-V014", "AEG-V015", "AEG-V022", "AEG-V036", "AEG-V038"),
    }
)

__all__ = [
    "LASTING",
    "AccountantError",
    "AegisError",
    "AppError",
    "AppNotApproved",
    "ApprovalsTampered",
    "AuditError",
    "AuditTampered",
    "BadBundle",
    "BudgetExceeded",
    "ConfigError",
    "DataError",
    "DataMismatch",
    "DeploymentError",
    "DeviceMissing",
    "EvaluationsSpent",
    "GateFailed",
    "Interrupted",
    "LedgerTampered",
    "ModelMismatch",
    "NodeError",
    "NodePaused",
    "NotEnoughClients",
    "OutsideTerms",
    "PermitError",
    "PermitRevoked",
    "PermitScope",
    "PolicyDenied",
    "PolicyError",
    "PreflightFailed",
    "ReportError",
    "RequestInvalid",
    "RunFailed",
    "SecAggError",
    "StaleState",
    "SuperNodeError",
    "TaskGone",
    "VaultError",
    "WrongVault",
]
