"""The engine: vaults, permits, audit logs, secure aggregation, noise. No torch, no flwr."""

from __future__ import annotations

import io

from aegis_engine._native import (
    ComplianceEngine,
    DpSession,
    Identity,
    KeyProvider,
    ObjectReader,
    Permit,
    RecordReader,
    Records,
    RecordStream,
    Release,
    Rng,
    SecAggClient,
    SecAggServer,
    SecAggSum,
    SecretBuffer,
    Vault,
    Writer,
    audit_read,
    audit_verify,
    clip_l2,
    debug_build,
    doctor,
    encode_update,
    harden_process,
    honest_inputs,
    normal_name,
    roster_open,
    roster_sign,
    secret_buffer,
)

# Readers and writers are raw streams in every way but inheritance, which the stable ABI does not offer to native classes.
io.RawIOBase.register(ObjectReader)
io.RawIOBase.register(Writer)

__all__ = [
    "ComplianceEngine",
    "DpSession",
    "Identity",
    "KeyProvider",
    "ObjectReader",
    "Permit",
    "RecordReader",
    "RecordStream",
    "Records",
    "Release",
    "Rng",
    "SecAggClient",
    "SecAggServer",
    "SecAggSum",
    "SecretBuffer",
    "Vault",
    "Writer",
    "audit_read",
    "audit_verify",
    "clip_l2",
    "debug_build",
    "doctor",
    "encode_update",
    "harden_process",
    "honest_inputs",
    "normal_name",
    "roster_open",
    "roster_sign",
    "secret_buffer",
]
