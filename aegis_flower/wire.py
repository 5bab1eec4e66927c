"""Wire: names of the message types and records that server and client exchange. Nothing else is on the wire."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Request:
    """What the server asks of one client beside the protocol message.

    Attributes:
        round: FL round, from 1.
        payload: the protocol message of the engine's state machine.
        task: ``train`` (train, and evaluate the received model) or ``evaluate`` (only evaluate).
        noise_multiplier: σ of this run; 0 without DP.
    """

    round: int
    payload: bytes = b""
    task: str = "train"
    noise_multiplier: float = 0.0

    def to_record(self) -> ConfigRecord:
        """As a Flower record."""
        return ConfigRecord(
            {
                "round": self.round,
                "payload": self.payload,
                "task": self.task,
                "noise-multiplier": self.noise_multiplier,
            }
        )

    @classmethod
    def from_content(cls, content: RecordDict) -> Request:
        """Reads a request.

        Raises:
            KeyError: the message carries no AEGIS record.
        """
        r = content.config_records[RECORD]
        return cls(int(r["round"]), bytes(r["payload"]), str(r["task"]), float(r["noise-multiplier"]))  # type: ignore[arg-type]


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
        """Reads a reply; None where the message is not AEGIS's."""
        r = content.config_records.get(RECORD)
        if r is None or "payload" not in r:
            return None
        return cls(
            bytes(r["payload"]),  # type: ignore[arg-type]
            str(r["code"]),
            str(r["reason"]),
            int(r["audit-records"]),  # type: ignore[arg-type]
            bytes(r["audit-head"]),  # type: ignore[arg-type]
        )


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
