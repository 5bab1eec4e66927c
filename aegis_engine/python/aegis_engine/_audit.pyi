"""Audit logs, read and verified without a vault or a key."""

from os import PathLike

from aegis_engine.types import AuditRecord, AuditReport

def audit_verify(folder: str | PathLike[str], *, expect: tuple[int, bytes] | None = None) -> AuditReport:
    """Recomputes the chain of an audit log; gives records, head and bytes. Needs no key.

    Args:
        expect: (records, hash) kept elsewhere; finds truncation and rewriting.

    Raises:
        AuditTampered: names the file and the record.
    """

def audit_read(folder: str | PathLike[str]) -> list[AuditRecord]:
    """All records of an audit log, with ``seq`` and ``hash``."""
