"""The engine: vaults, permits, audit logs, secure aggregation, noise. No torch and no flwr may be put here.

The names below are the native module's; its stubs, by subject, have their documentation. Besides: ``keys`` (where a key is),
``data`` (objects as data sets), ``types`` (shapes of receipts and reports), ``errors``.
"""

from __future__ import annotations

import io

from aegis_engine._native import (
    ComplianceEngine,
    DpSession,
    Identity,
    KeyProvider,
    Limits,
    ObjectReader,
    Permit,
    Proposal,
    RecordReader,
    Records,
    RecordStream,
    Release,
    Request,
    Rng,
    SecAggClient,
    SecAggPlan,
    SecAggServer,
    SecAggSum,
    SecretBuffer,
    TableDraft,
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
    signature_holds,
)

# Readers and writers are raw streams in every way but inheritance, which the stable ABI does not offer to native classes.
io.RawIOBase.register(ObjectReader)
io.RawIOBase.register(Writer)

__all__ = [
    "ComplianceEngine",
    "DpSession",
    "Identity",
    "KeyProvider",
    "Limits",
    "ObjectReader",
    "Permit",
    "Proposal",
    "RecordReader",
    "RecordStream",
    "Records",
    "Release",
    "Request",
    "Rng",
    "SecAggClient",
    "SecAggPlan",
    "SecAggServer",
    "SecAggSum",
    "SecretBuffer",
    "TableDraft",
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
    "signature_holds",
]
