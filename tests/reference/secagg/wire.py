"""Messages of secure aggregation and their bytes, written from docs/SECURE_AGGREGATION.md ("Bytes"), not from the engine.

A message is a dictionary of its fields, `kind`, `run`, `round` and `node` among them; bytes are written in hex.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

P = (1 << 61) - 1
KINDS = {
    "advert": 1,
    "share request": 2,
    "share reply": 3,
    "masked request": 4,
    "masked input": 5,
    "unmask request": 6,
    "unmask reply": 7,
    "commit request": 8,
    "commit": 9,
    "client state": 32,
}
CODES = {
    "Malformed": "AEG-S001",
    "EncodingDoesNotFit": "AEG-S002",
    "InvalidPlan": "AEG-S003",
    "CohortTooSmall": "AEG-S004",
    "ThresholdRefused": "AEG-S005",
    "RoundOrder": "AEG-S006",
    "AlreadyAnswered": "AEG-S007",
    "WrongStep": "AEG-S008",
    "WrongRun": "AEG-S009",
    "UnknownNode": "AEG-S010",
    "BadSignature": "AEG-S011",
    "InconsistentCohort": "AEG-S012",
    "ShareRejected": "AEG-S013",
    "InconsistentSets": "AEG-S014",
    "NotEnoughClients": "AEG-S015",
    "BadUpdate": "AEG-S016",
    "KeyAgreement": "AEG-S017",
    "SharesDisagree": "AEG-S018",
    "ImplausibleSum": "AEG-S019",
    "ShapeRefused": "AEG-S021",
    "PolicyMismatch": "AEG-S022",
    "PlanNotOurs": "AEG-S023",
    "RoundOutOfRange": "AEG-S024",
}


class Refused(Exception):
    """What the document does not allow, by the name of the error."""

    def __init__(self, error: str, why: str = "") -> None:
        super().__init__(f"{error}: {why}")
        self.error = error


def need(holds: bool, why: str, error: str = "Malformed") -> None:
    if not holds:
        raise Refused(error, why)


class Cursor:
    """Takes fields from the front; running out is an error."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, size: int) -> bytes:
        need(size <= len(self.left), "it ends too early")
        taken, self.left = self.left[:size], self.left[size:]
        return taken

    def count(self, item: int) -> int:
        (count,) = struct.unpack("<I", self.take(4))
        need(count * item <= len(self.left), "a length is larger than the message")
        return count


class Codec(NamedTuple):
    """One field: its least size, how it is written, how it is read."""

    least: int
    put: Callable[[Any], bytes]
    take: Callable[[Cursor], Any]


def number(form: str) -> Codec:
    size = struct.calcsize(form)
    return Codec(size, lambda value: struct.pack(form, value), lambda at: struct.unpack(form, at.take(size))[0])


U8, U32, U64, F64 = number("<B"), number("<I"), number("<Q"), number("<d")


def _flag(at: Cursor) -> bool:
    value = at.take(1)[0]
    need(value < 2, "a flag is neither 0 nor 1")
    return value == 1


FLAG = Codec(1, lambda value: bytes([value]), _flag)


def fixed(size: int) -> Codec:
    return Codec(size, bytes.fromhex, lambda at: at.take(size).hex())


def _share(at: Cursor) -> str:
    raw = at.take(40)
    need(all(limb < P for limb in struct.unpack("<5Q", raw)), "a share is not a field element")
    return raw.hex()


SHARE = Codec(40, bytes.fromhex, _share)
SEALED = fixed(108)


def record(**fields: Codec) -> Codec:
    return Codec(
        sum(codec.least for codec in fields.values()),
        lambda value: b"".join(codec.put(value[name]) for name, codec in fields.items()),
        lambda at: {name: codec.take(at) for name, codec in fields.items()},
    )


def array(item: Codec, key: Callable[[Any], Any] | None = None, most: int | None = None) -> Codec:
    """A list, its items in strictly increasing order of `key`."""

    def take(at: Cursor) -> list[Any]:
        count = at.count(item.least)
        need(most is None or count <= most, "too many")
        items: list[Any] = []
        for _ in range(count):
            items.append(item.take(at))
            need(key is None or len(items) < 2 or key(items[-2]) < key(items[-1]), "out of order")
        return items

    return Codec(4, lambda items: U32.put(len(items)) + b"".join(map(item.put, items)), take)


def by_node(**fields: Codec) -> Codec:
    return array(record(node=U64, **fields), key=lambda item: item["node"])


def _name(at: Cursor) -> str:
    size = at.count(1)
    need(size <= 256, "a metric name is too long")
    try:
        return at.take(size).decode()
    except UnicodeDecodeError:
        raise Refused("Malformed", "a metric name is not UTF-8") from None


NAME = Codec(4, lambda name: U32.put(len(name.encode())) + name.encode(), _name)
INNER = Codec(4, lambda value: U32.put(len(value) // 2) + bytes.fromhex(value), lambda at: at.take(at.count(1)).hex())


def _put_sets(sets: dict[str, Any]) -> bytes:
    def bits(places: list[int]) -> bytes:
        return sum(1 << place for place in places).to_bytes(-(-sets["n"] // 8), "little")

    return U32.put(sets["n"]) + bits(sets["shared"]) + bits(sets["survivors"])


def _take_sets(at: Cursor) -> dict[str, Any]:
    n = U32.take(at)
    both = []
    for _ in range(2):
        bits = int.from_bytes(at.take(-(-n // 8)), "little")
        need(bits >> n == 0, "a bit is set beyond the cohort")
        both.append([place for place in range(n) if bits >> place & 1])
    return {"n": n, "shared": both[0], "survivors": both[1]}


SETS = Codec(4, _put_sets, _take_sets)
SHAPE = record(degree=U32, threshold=U32, commit=FLAG)
PLAN = record(
    dim=U64,
    n_max=U32,
    clip=F64,
    value_bits=U8,
    weight_max=U64,
    metric_max=U64,
    metrics=array(NAME, most=4096),
)
ADVERT: dict[str, Codec] = {
    "identity": fixed(32),
    "channel": fixed(32),
    "policy": fixed(32),
    "min_cohort": U32,
    "signature": fixed(64),
}
REST = Codec(0, bytes.fromhex, lambda at: at.take(len(at.left)).hex())


def _hash(at: Cursor) -> str | None:
    given, value = _flag(at), at.take(32)
    need(given or value == bytes(32), "a hash that is not there is not zero")
    return value.hex() if given else None


HASH = Codec(33, lambda value: FLAG.put(value is not None) + bytes.fromhex(value or "00" * 32), _hash)
SUMS = record(weight_max=U64, metric_max=U64, metrics=array(NAME, most=4096))
ROSTER = array(fixed(32), key=lambda key: key)
MASKED = {"binding": fixed(32), "committed": HASH, "answered": HASH, "shares": by_node(seed=SHARE, secret=SHARE)}
SHARED = {"mask_secret": fixed(32), "self_seed": fixed(32), "sealed": by_node(sealed=SEALED)}
PHASES: dict[int, Codec] = {1: record(**SHARED), 2: record(**MASKED)}
ROUND = record(
    shape=SHAPE,
    plan=PLAN,
    n=U32,
    index=U32,
    transcript=fixed(32),
    own_share=SHARE,
    near=by_node(index=U32, identity=fixed(32), channel=fixed(32), root=fixed(32)),
)


def perhaps(codec: Codec) -> Codec:
    """A flag, and behind a 1 the value."""
    return Codec(
        1,
        lambda value: b"\0" if value is None else b"\1" + codec.put(value),
        lambda at: codec.take(at) if _flag(at) else None,
    )


def _put_round(state: dict[str, Any]) -> bytes:
    phase = state["phase"]
    return bytes([phase]) + (ROUND.put(state) + PHASES[phase].put(state) if phase else b"")


def _take_round(at: Cursor) -> dict[str, Any]:
    phase = U8.take(at)
    if phase == 0:
        return {"phase": 0}
    state = ROUND.take(at)
    need(phase in PHASES, "unknown phase")
    return {"phase": phase, **state, **PHASES[phase].take(at)}


BODIES: dict[str, dict[str, Codec]] = {
    "advert": ADVERT,
    "share request": {"shape": SHAPE, "plan": PLAN, "cohort": by_node(**ADVERT)},
    "share reply": {
        "mask_key": fixed(32),
        "signature": fixed(64),
        "seed_check": fixed(32),
        "sealed": by_node(sealed=SEALED),
    },
    "masked request": {
        "keys": by_node(mask_key=fixed(32), signature=fixed(64)),
        "sealed": by_node(sealed=SEALED),
    },
    "masked input": {"width": U8, "elements": U64, "packed": REST},
    "unmask request": {"sets": SETS, "commits": by_node(signature=fixed(64)), "next": INNER},
    "unmask reply": {"seeds": by_node(share=SHARE), "secrets": by_node(share=SHARE), "next": INNER},
    "commit request": {"sets": SETS},
    "commit": {"signature": fixed(64)},
    "client state": {
        "answers": U64,
        "identity": fixed(32),
        "channel": fixed(32),
        "min_cohort": U32,
        "min_threshold": U32,
        "colluding_percent": U32,
        "min_honest": U32,
        "require_commit": FLAG,
        "policy": fixed(32),
        "same_policy": FLAG,
        "roster": perhaps(ROSTER),
        "sums": perhaps(SUMS),
        "in_round": Codec(1, _put_round, _take_round),
    },
}


def encode(message: dict[str, Any]) -> bytes:
    kind = message["kind"]
    head = struct.pack("<BBQQQ", 2, KINDS[kind], message["run"], message["round"], message["node"])
    return head + b"".join(codec.put(message[name]) for name, codec in BODIES[kind].items())


def decode(kind: str, data: bytes, *, width: int | None = None, elements: int | None = None) -> dict[str, Any]:
    """One message; a masked input is checked against the plan's width and number of elements."""
    at = Cursor(data)
    need(at.take(1) == b"\2", "unknown version")
    need(at.take(1)[0] == KINDS[kind], "another kind")
    run, round_, node = struct.unpack("<QQQ", at.take(24))
    need(kind != "advert" or round_ == 0, "an advert belongs to no round")
    need(kind not in {"share request", "commit request"} or node == 0, "it names a node")
    body = {name: codec.take(at) for name, codec in BODIES[kind].items()}
    need(not at.left, "bytes follow its end")
    if kind == "masked input":
        need((body["width"], body["elements"]) == (width, elements), "width or length differ from the plan")
        need(len(body["packed"]) == 2 * body["width"] * body["elements"], "another length than announced")
    return {"kind": kind, "run": run, "round": round_, "node": node, **body}
