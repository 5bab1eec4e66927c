"""The one tree of errors. The engine raises these; every message says what, which object and what to do."""

from __future__ import annotations


class AegisError(Exception):
    """Root of the tree.

    Attributes:
        code: stable identifier such as ``AEG-V003``; documented in ``docs/ERRORS.md``.
        detail: for the node's own log: the message with the numbers that it leaves out, since it may travel. Empty: the message
            has all.
    """

    code: str = "AEG-X000"
    detail: str = ""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class VaultError(AegisError):
    """Something about a vault or an object in it."""

    code = "AEG-V000"


class WrongKeyLength(VaultError, ValueError):
    """A raw key is not exactly 32 bytes."""


class WrongKey(VaultError):
    """The key does not open this vault (found by the key commitment, before any data)."""


class KeyProviderError(VaultError):
    """The key could not be had: no such file, command, token or service, or it refused."""


class KeyDestroyed(VaultError):
    """The epoch secret that opens this keystore is gone: after a shred, or by loss of ``epoch.key``."""


class VaultDestroyed(VaultError):
    """The whole vault was destroyed on purpose."""


class ForkedProcess(VaultError):
    """The vault was opened before this process forked: open it again here, or use spawn."""


class NoSpace(VaultError):
    """The disk of the vault is full; nothing stored before was lost."""


class NotAVault(VaultError):
    """The folder holds no vault."""


class VaultExists(VaultError):
    """`Vault.create` found a vault already there."""


class ObjectNotFound(VaultError, KeyError):
    """No such object in the vault."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class ObjectShredded(VaultError):
    """The object's key was destroyed."""


class VaultTampered(VaultError):
    """Authentication failed: header, chunk, length or keystore is not what was written."""


class TableError(VaultError, ValueError):
    """An object does not read as a table, or not as the one that was asked for."""


class VaultLocked(VaultError):
    """Another process holds the vault's lock."""


class InsufficientAssurance(VaultError):
    """The storage cannot reach the level of erasure that ``require=`` asked for."""


class PermitRequired(VaultError):
    """The vault has a policy bundle: reading needs a permit from the compliance engine."""


class JailError(AegisError):
    """A jail cannot be put up here, or a task in it did not end as it should. Nothing of it left."""

    code = "AEG-J000"


class AuditError(AegisError):
    """The audit log cannot be written or read."""

    code = "AEG-A000"


class AuditTampered(AuditError):
    """A record of the log was changed, removed or truncated."""


class PolicyError(AegisError):
    """Something about policies or decisions."""

    code = "AEG-P000"


class PolicyDenied(PolicyError):
    """The policies refuse the request.

    Attributes:
        policies: ids of the policies that decided.
        advice: what each of them asks for.
    """

    policies: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


class PolicyInvalid(PolicyError):
    """A bundle does not parse, or does not pass strict validation."""


class PermitError(PolicyError):
    """The permit does not cover what was asked."""


class PermitExpired(PermitError):
    """The permit's time is up."""


class PermitRevoked(PermitError):
    """The consent ledger changed after the decision."""


class PermitScope(PermitError):
    """Vault, object, row or column outside the permit."""


class GateFailed(PolicyError):
    """A release gate refuses the update.

    Attributes:
        gates: one dict a gate: name, passed, observed, limit.
    """

    gates: tuple[dict[str, object], ...] = ()


class SecAggError(AegisError):
    """The secure aggregation protocol refuses a message."""

    code = "AEG-S000"


class RosterError(SecAggError):
    """A roster is not taken: changed, of another signer, expired, or older than one this node has taken."""

    code = "AEG-S030"


class NotEnoughClients(SecAggError):
    """Too few clients are left to finish the round; the model is unchanged.

    Attributes:
        have: clients left.
        need: clients needed.
    """

    have: int = 0
    need: int = 0


class EngineFault(AegisError):
    """A bug: the engine panicked and the operation was refused."""

    code = "AEG-X001"
