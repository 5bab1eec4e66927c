"""Wire: names of the message types and records that server and client exchange. Nothing else is on the wire."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from aegis_flower.errors import RequestInvalid
from aegis_flower.steps import Step

ADVERTISE = Step.ADVERTISE.message_type
SHARE = Step.SHARE.message_type
MASKED = Step.MASKED.message_type
COMMIT = Step.COMMIT.message_type
UNMASK = Step.UNMASK.message_type

RECORD = "aegis"
ARRAYS = "arrays"
SUMS = "sums"

# What a node takes from a server; more is refused before anything is opened.
TASKS = ("train", "evaluate")
ROUND_MAX = 2**31 - 1
PAYLOAD_MAX = 2**28
SIGMA_MAX = 1e4  # the engine's and the ledger's own bound
TENSORS_MAX = 100_000
VALUES_MAX = 2**31 - 1
_FIELDS = {"round", "payload", "task", "noise-multiplier", "evaluate"}

Setting = int | float | str | bytes | bool | list[int] | list[float] | list[str] | list[bytes] | list[bool]


@dataclass(frozen=True)
class Request:
    """What the server asks of one client beside the protocol message.

    Attributes:
        round: FL round, from 1.
        payload: the protocol message of the engine's state machine.
        task: ``train`` (train, and evaluate the received model) or ``evaluate`` (only evaluate).
        noise_multiplier: σ of this run; 0 without DP.
        evaluate: with ``train``, also evaluate the received model on the held-out rows.
    """

    round: int
    payload: bytes = b""
    task: str = "train"
    noise_multiplier: float = 0.0
    evaluate: bool = False

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
    def plain(cls, task: str, round_: Any, sigma: Any) -> Request:
        """What a message of Flower's own strategies asks for, held to the same bounds.

        Raises:
            RequestInvalid: names the field.
        """
        given = {"round": round_, "payload": b"", "task": task, "noise-multiplier": sigma, "evaluate": False}
        return cls.from_content(RecordDict({RECORD: ConfigRecord(given)}))

    @classmethod
    def from_content(cls, content: RecordDict) -> Request:
        """Reads a request as a node must: every field there, of its type and within its bounds, and none beside them.

        Raises:
            RequestInvalid: names the field.
        """
        record = content.config_records.get(RECORD)
        if record is None:
            raise RequestInvalid(f"the message has no record {RECORD!r}; ask through AEGIS's own strategies")
        given = dict(record)
        if missing := _FIELDS - given.keys():
            raise RequestInvalid(f"the request has no {', '.join(sorted(missing))}; run one version on both sides")
        if extra := given.keys() - _FIELDS:
            raise RequestInvalid(f"the request has {len(extra)} unknown fields; run one version on both sides")
        round_, payload, task = given["round"], given["payload"], given["task"]
        sigma, evaluate = given["noise-multiplier"], given["evaluate"]
        if type(round_) is not int or not 1 <= round_ <= ROUND_MAX:
            raise RequestInvalid(f"round must be a whole number from 1 to {ROUND_MAX}")
        if type(payload) is not bytes or len(payload) > PAYLOAD_MAX:
            raise RequestInvalid(f"payload must be at most {PAYLOAD_MAX} bytes")
        if task not in TASKS:
            raise RequestInvalid(f"task must be one of {', '.join(TASKS)}")
        if isinstance(sigma, bool) or not isinstance(sigma, int | float) or not 0 <= sigma <= SIGMA_MAX:  # nor NaN
            raise RequestInvalid(f"noise-multiplier must be a number from 0 to {SIGMA_MAX:g}")
        if type(evaluate) is not bool:
            raise RequestInvalid("evaluate must be true or false")
        return cls(round_, payload, str(task), float(sigma), evaluate)


@dataclass(frozen=True)
class Reply:
    """What a client answers: a payload, or a code and nothing else; and its audit checkpoint.

    Attributes:
        payload: the protocol message; empty on refusal.
        code: error code; empty when all is well. What it means is in docs/ERRORS.md; the words are in the node's log.
        reason: always empty on the wire: words may hold numbers about the data.
        audit_records: records in the client's audit log.
        audit_head: hash of the last one; the server keeps it and is the log's first witness.
        name: what the node's operator calls it (``aegis-name``), for the report; empty where there is no node.
    """

    payload: bytes = b""
    code: str = ""
    reason: str = ""
    audit_records: int = 0
    audit_head: bytes = b""
    name: str = ""

    def to_content(self) -> RecordDict:
        """As a Flower message content."""
        return RecordDict(
            {
                RECORD: ConfigRecord(
                    {
                        "payload": self.payload,
                        "code": self.code,
                        "reason": "",
                        "audit-records": self.audit_records,
                        "audit-head": self.audit_head,
                        "name": self.name,
                    }
                )
            }
        )

    @classmethod
    def from_content(cls, content: RecordDict) -> Reply | None:
        """Reads a reply; None where the message is not AEGIS's. A client may send anything: nothing is converted here."""
        r: Mapping[str, Any] = content.config_records.get(RECORD) or {}
        keys = ("payload", "code", "reason", "audit-records", "audit-head", "name")
        fields: list[Any] = [r.get(key, "" if key == "name" else None) for key in keys]  # earlier nodes say no name
        if [type(value) for value in fields] != [bytes, str, str, int, bytes, str] or not 0 <= r[
            "audit-records"
        ] < 1 << 63:
            return None
        return cls(*fields)


def settings(content: RecordDict) -> dict[str, Setting]:
    """What the server's strategy tells all clients beside AEGIS's own request: `train_config`, FedProx's ``proximal-mu``."""
    found: dict[str, Setting] = {}
    for name, record in content.config_records.items():
        if name != RECORD:
            found.update(record)
    return found


def binding(arrays: ArrayRecord, request: Request, config: Mapping[str, Setting] | None = None) -> bytes:
    """SHA-256 of all that a client works on in a round: the model's arrays, task, round, σ, whether it evaluates, settings.

    It goes into the pair masks and into what survivors sign, so clients that were sent different models, tasks or settings
    have masks that do not cancel (against Pasquini, Francati, Ateniese, CCS 2022; a learning rate of 0 for all but one is
    the same attack). The plan and the cohort are in the protocol's own transcript. Every part is preceded by its length
    (u64, little-endian).

    Args:
        arrays: the model.
        request: what is asked for.
        config: `settings` of the message; None where there are none.
    """
    digest = hashlib.sha256(b"aegis/v2/round-binding")

    def put(part: bytes) -> None:
        digest.update(struct.pack("<Q", len(part)))
        digest.update(part)

    put(request.task.encode())
    put(struct.pack("<Qd?", request.round, request.noise_multiplier, request.evaluate))
    put(struct.pack("<Q", len(arrays)))
    for name, array in arrays.items():
        put(name.encode())
        put(array.dtype.encode())
        put(struct.pack(f"<{len(array.shape)}Q", *array.shape))
        put(_ndarray(array).tobytes())
    for key, value in sorted((config or {}).items()):
        parts = value if isinstance(value, list) else [value]
        put(key.encode())
        put(struct.pack("<?Q", isinstance(value, list), len(parts)))  # so that no two settings read alike
        for part in parts:
            put(type(part).__name__.encode())
            put(part if isinstance(part, bytes) else repr(part).encode())
    return digest.digest()


def model(content: RecordDict) -> list[npt.NDArray[np.float32]]:
    """The one model of a message, as float32, in order; what a node trains on.

    Raises:
        RequestInvalid: no model or several, too large, no floating-point numbers, none that are finite, or not what it says
            of itself.
    """
    records = content.array_records
    if list(records) != [ARRAYS]:
        raise RequestInvalid(f"the message must carry one model, called {ARRAYS!r} (the strategy's arrayrecord_key)")
    arrays = records[ARRAYS]
    if not 1 <= len(arrays) <= TENSORS_MAX:
        raise RequestInvalid(f"the model must have from 1 to {TENSORS_MAX} tensors")
    out, values = [], 0
    for array in arrays.values():
        out.append(_checked(array))
        values += out[-1].size
        if values > VALUES_MAX:
            raise RequestInvalid(f"the model has more than {VALUES_MAX} values")
    return out


def _checked(array: Array) -> npt.NDArray[np.float32]:
    try:
        dtype = np.dtype(array.dtype)
        shape = tuple(array.shape)
        if dtype.kind != "f" or dtype.itemsize > 8:  # noqa: PLR2004 - no long double
            raise RequestInvalid(f"a tensor is of dtype {str(dtype)[:20]}; send float32")
        size = math.prod(shape)
        if any(type(n) is not int or n < 0 for n in shape) or not 0 < size <= VALUES_MAX:
            raise RequestInvalid("a tensor's shape is none, or it is empty")
        if size * dtype.itemsize > len(array.data):
            raise RequestInvalid("a tensor's bytes are not what its shape says")
        found = _ndarray(array)
        if found.shape != shape or found.dtype != dtype:
            raise RequestInvalid("a tensor's bytes are not what its shape says")
        with np.errstate(over="ignore"):
            found = found.astype(np.float32, order="C", copy=False)
    except RequestInvalid:
        raise
    except Exception as error:  # noqa: BLE001 - of whatever numpy makes of a stranger's bytes
        raise RequestInvalid(f"a tensor cannot be read ({type(error).__name__})") from None
    if not np.isfinite(found).all():
        raise RequestInvalid("the model holds values that are not finite; nothing can be learned from it")
    return found


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
