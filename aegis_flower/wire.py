"""Wire: names of the message types and records that server and client exchange. Nothing else is on the wire."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

ADVERTISE = "query.aegis_advertise"
SHARE = "query.aegis_share"
MASKED = "train.aegis_masked"
COMMIT = "query.aegis_commit"
UNMASK = "query.aegis_unmask"

RECORD = "aegis"
ARRAYS = "arrays"
CONFIG = "config"


@dataclass(frozen=True)
class Request:
    """What the server asks of one client beside the protocol message.

    Attributes:
        round: FL round, from 1.
        payload: the protocol message of the engine's state machine.
        task: ``train`` (train, and evaluate the received model) or ``evaluate`` (only evaluate).
        noise_multiplier: σ of this run; 0 without DP.
        evaluate: with ``train``, also evaluate the received model on the held-out rows.
        config: the strategy's settings for this round (``proximal-mu``), from the message's own record; bound like the model.
    """

    round: int
    payload: bytes = b""
    task: str = "train"
    noise_multiplier: float = 0.0
    evaluate: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)

    def to_record(self) -> ConfigRecord:
        """As a Flower record."""
        return ConfigRecord(
            {
                "round": self.round,
                "payload": self.payload,
                "task": self.task,
                "noise-multiplier": self.noise_multiplier,
                "evaluate": self.evaluate,
            }
        )

    @classmethod
    def from_content(cls, content: RecordDict) -> Request:
        """Reads a request.

        Raises:
            KeyError: the message carries no AEGIS record.
        """
        r = content.config_records[RECORD]
        config = dict(content.config_records.get(CONFIG) or {})
        return cls(
            int(r["round"]),  # type: ignore[arg-type]
            bytes(r["payload"]),  # type: ignore[arg-type]
            str(r["task"]),
            float(r["noise-multiplier"]),  # type: ignore[arg-type]
            r["evaluate"] is True,
            config,
        )


@dataclass(frozen=True)
class Reply:
    """What a client answers: a payload, or a code and a reason and no weights; and its audit checkpoint.

    Attributes:
        payload: the protocol message; empty on refusal.
        code: error code; empty when all is well.
        reason: what was refused and what to do; no data, no person.
        audit_records: records in the client's audit log.
        audit_head: hash of the last one; the server keeps it and is the log's first witness.
    """

    payload: bytes = b""
    code: str = ""
    reason: str = ""
    audit_records: int = 0
    audit_head: bytes = b""

    def to_content(self) -> RecordDict:
        """As a Flower message content."""
        return RecordDict(
            {
                RECORD: ConfigRecord(
                    {
                        "payload": self.payload,
                        "code": self.code,
                        "reason": self.reason,
                        "audit-records": self.audit_records,
                        "audit-head": self.audit_head,
                    }
                )
            }
        )

    @classmethod
    def from_content(cls, content: RecordDict) -> Reply | None:
        """Reads a reply; None where the message is not AEGIS's. A client may send anything: nothing is converted here."""
        r: Mapping[str, Any] = content.config_records.get(RECORD) or {}
        fields = [r.get(key) for key in ("payload", "code", "reason", "audit-records", "audit-head")]
        if [type(value) for value in fields] != [bytes, str, str, int, bytes] or not 0 <= r["audit-records"] < 1 << 63:
            return None
        return cls(*fields)  # type: ignore[arg-type]


def binding(arrays: ArrayRecord, request: Request) -> bytes:
    """SHA-256 of all that a client works on in a round: arrays, task, round, σ, whether it evaluates, the strategy's settings.

    It goes into the pair masks and into what survivors sign, so clients that were sent different models or tasks have masks
    that do not cancel (against Pasquini, Francati, Ateniese, CCS 2022). The plan and the cohort are in the protocol's own
    transcript. Every part is preceded by its length (u64, little-endian).
    """
    digest = hashlib.sha256(b"aegis/v2/round-binding")

    def put(part: bytes) -> None:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)

    put(request.task.encode())
    put(struct.pack("<Qd?", request.round, request.noise_multiplier, request.evaluate))
    put(struct.pack("<Q", len(request.config)))
    for key, value in sorted(request.config.items()):
        put(key.encode())
        put(_plain(value))
    for name, array in arrays.items():
        put(name.encode())
        put(array.dtype.encode())
        put(struct.pack(f"<{len(array.shape)}Q", *array.shape))
        put(_ndarray(array).tobytes())
    return digest.digest()


def _plain(value: Any) -> bytes:
    """A value of a Flower record as bytes that tell types and values apart."""
    if isinstance(value, list):
        parts = [_plain(item) for item in value]
        return b"l" + b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    kind = type(value).__name__.encode() + b":"
    if isinstance(value, float):
        return kind + struct.pack("<d", value)
    return kind + (value if isinstance(value, bytes) else str(value).encode())


def ndarrays(record: ArrayRecord) -> list[npt.NDArray[Any]]:
    """The arrays of a record, writable, in order.

    Flower's own decoding parses the text header of each ``.npy`` blob (70 µs, most of a small model's message); dtype
    and shape are in the `Array` already, so only the header's length is read here (numpy's format 1.0 to 3.0).
    """
    return [_ndarray(a) for a in record.values()]


def _ndarray(array: Array) -> npt.NDArray[Any]:
    data = array.data
    dtype = np.dtype(array.dtype)
    if data[:6] != b"\x93NUMPY" or data[6] not in (1, 2, 3) or dtype.hasobject:
        return array.numpy()
    wide = data[6] > 1
    start = 12 + int.from_bytes(data[8:12], "little") if wide else 10 + int.from_bytes(data[8:10], "little")
    if len(data) - start != dtype.itemsize * int(np.prod(array.shape)) or b"'fortran_order': False" not in data[:start]:
        return array.numpy()
    return np.frombuffer(data, dtype, offset=start).reshape(array.shape).copy()
