"""The engine: vaults, permits, audit logs, secure aggregation, noise. No torch, no flwr."""

from __future__ import annotations

from aegis_engine._native import (
    ComplianceEngine,
    KeyProvider,
    ObjectReader,
    Permit,
    RecordReader,
    Release,
    Rng,
    SecAggClient,
    SecAggServer,
    SecAggSum,
    Vault,
    audit_read,
    audit_verify,
    clip_l2,
    debug_build,
    doctor,
    encode_update,
)

__all__ = [
    "ComplianceEngine",
    "KeyProvider",
    "ObjectReader",
    "Permit",
    "RecordReader",
    "Release",
    "Rng",
    "SecAggClient",
    "SecAggServer",
    "SecAggSum",
    "Vault",
    "audit_read",
    "audit_verify",
    "clip_l2",
    "debug_build",
    "doctor",
    "encode_update",
]
