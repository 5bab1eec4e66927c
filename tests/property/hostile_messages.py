"""Messages of the secure sum, taken apart and put together by a second implementation, and changed a field at a time.

A changed message still parses: what refuses it is the check of that field. A hostile server has clients of its own, so what they
would have signed is signed anew where it was changed.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

# A field is its name and how it is written: a letter of `struct`, a number of bytes, a list of records, or a word below.
Spec = Any
Record = dict[str, Any]

_HEADER = struct.Struct("<BBQQQ")  # version, kind, run, round, node
_SETS = ("sets", "sets")
_ADVERT = (("identity", 32), ("channel", 32), ("policy", 32), ("min_cohort", "I"), ("signature", 64))
_SIGNED = (("node", "Q"), ("signature", 64))
_SHARES = [("node", "Q"), ("share", 40)]
_SEALED = ("sealed", [("node", "Q"), ("pair", 12 + 2 * 40 + 16)])
ADVERT, SHARE_REQUEST, SHARES, MASKED_REQUEST, MASKED, UNMASK_REQUEST, UNMASKED, COMMIT_REQUEST, COMMIT = range(1, 10)
FIELDS: dict[int, tuple[tuple[str, Spec], ...]] = {
    ADVERT: _ADVERT,
    SHARE_REQUEST: (
        *(("degree", "I"), ("threshold", "I"), ("commit", "?"), ("dim", "Q"), ("n_max", "I"), ("clip", "d")),
        *(("value_bits", "B"), ("weight_max", "Q"), ("metric_max", "Q"), ("metrics", "names")),
        ("cohort", [("node", "Q"), *_ADVERT]),
    ),
    SHARES: (("mask_key", 32), ("signature", 64), ("seed_check", 32), _SEALED),
    MASKED_REQUEST: (("keys", [("node", "Q"), ("mask_key", 32), ("signature", 64)]), _SEALED),
    MASKED: (("width", "B"), ("length", "Q"), ("vector", "rest")),
    UNMASK_REQUEST: (_SETS, ("commits", list(_SIGNED)), ("next", "inner")),
    UNMASKED: (("seeds", _SHARES), ("secrets", _SHARES), ("next", "inner")),
    COMMIT_REQUEST: (_SETS,),
    COMMIT: (("signature", 64),),
}
_SETS_MOST = 1 << 16


def read(data: bytes) -> Record:
    """A message as a dictionary; ValueError or struct.error where it is none."""
    version, kind, run, round_, node = _HEADER.unpack_from(data)
    if version != 2 or kind not in FIELDS:
        raise ValueError("no message")
    found, at = _read(FIELDS[kind], data, _HEADER.size)
    if at != len(data):
        raise ValueError("bytes follow its end")
    return {"kind": kind, "run": run, "round": round_, "node": node, **found}


def _read(fields: Any, data: bytes, at: int) -> tuple[Record, int]:
    out: Record = {}
    for name, spec in fields:
        if isinstance(spec, int):
            out[name], at = _bytes(data, at, spec)
        elif isinstance(spec, list):
            (count,), at = struct.unpack_from("<I", data, at), at + 4
            out[name] = []
            for _ in range(count):
                record, at = _read(spec, data, at)
                out[name].append(record)
        elif spec == "names":
            (count,), at = struct.unpack_from("<I", data, at), at + 4
            out[name] = []
            for _ in range(count):
                text, at = _bytes(data, at + 4, struct.unpack_from("<I", data, at)[0])
                out[name].append(text)
        elif spec == "sets":
            (n,), at = struct.unpack_from("<I", data, at), at + 4
            shared, at = _bytes(data, at, -(-n // 8))
            survivors, at = _bytes(data, at, -(-n // 8))
            out[name] = {"n": n, **{k: int.from_bytes(v, "little") for k, v in _both(shared, survivors)}}
        elif spec == "inner":
            out[name], at = _bytes(data, at + 4, struct.unpack_from("<I", data, at)[0])
        elif spec == "rest":
            out[name], at = data[at:], len(data)
        else:
            (out[name],), at = struct.unpack_from("<" + spec, data, at), at + struct.calcsize("<" + spec)
    return out, at


def _both(shared: Any, survivors: Any) -> tuple[tuple[str, Any], ...]:
    return ("shared", shared), ("survivors", survivors)


def _bytes(data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise ValueError("it ends too early")
    return data[at : at + length], at + length


def write(message: Record) -> bytes:
    """The message's bytes; numbers that do not fit are taken modulo what does."""
    numbers = (message[k] % 2**64 for k in ("run", "round", "node"))
    return _HEADER.pack(2, message["kind"], *numbers) + _write(FIELDS[message["kind"]], message)


def _write(fields: Any, message: Record) -> bytes:
    out = bytearray()
    for name, spec in fields:
        value = message[name]
        if isinstance(spec, int) or spec == "rest":
            out += value
        elif isinstance(spec, list):
            out += struct.pack("<I", len(value)) + b"".join(_write(spec, one) for one in value)
        elif spec == "names":
            out += struct.pack("<I", len(value)) + b"".join(struct.pack("<I", len(one)) + one for one in value)
        elif spec == "sets":
            n = value["n"] % 2**32
            size = -(-min(n, _SETS_MOST) // 8)  # as long as it says, but for a number that nobody would send
            bits = (
                (value[k] % (1 << max(1, min(n, _SETS_MOST)))).to_bytes(max(1, size), "little")[:size]
                for k, _ in _both(0, 0)
            )
            out += struct.pack("<I", n) + b"".join(bits)
        elif spec == "inner":
            out += struct.pack("<I", len(value)) + value
        elif spec in ("d", "?"):
            out += struct.pack("<" + spec, value)
        else:
            out += struct.pack("<" + spec, int(value) % (1 << 8 * struct.calcsize("<" + spec)))
    return bytes(out)


# -- what a client signs ---------------------------------------------------------------------------------------------------------


def transcript(share_request: bytes) -> bytes:
    """What binds a round's keys to its cohort, shape and plan."""
    return hashlib.sha256(b"aegis/secagg/v2/transcript/cohort" + share_request).digest()


def _signed_advert(run: int, advert: Record) -> bytes:
    numbers = struct.pack("<QQ", run, advert["node"] % 2**64)
    keys: bytes = advert["identity"] + advert["channel"] + advert["policy"]
    return b"aegis/secagg/v2/sign/advert" + numbers + keys + struct.pack("<I", advert["min_cohort"] % 2**32)


def _signed_key(message: Record, key: Record, of: bytes) -> bytes:
    place = struct.pack("<QQQ", *(n % 2**64 for n in (message["run"], message["round"], key["node"])))
    mask_key: bytes = key["mask_key"]
    return b"aegis/secagg/v2/sign/round-key" + place + of + mask_key


def _signed_sets(message: Record, node: int, of: bytes, binding: bytes) -> bytes:
    place = struct.pack("<QQQ", *(n % 2**64 for n in (message["run"], message["round"], node)))
    sets = _HEADER.pack(2, COMMIT_REQUEST, 0, 0, 0) + _write((_SETS,), message)
    digest = hashlib.sha256(b"aegis/secagg/v2/transcript/sets" + of + binding + sets).digest()
    return b"aegis/secagg/v2/sign/commit" + place + digest


class Signers:
    """The identities that the hostile server holds: those of its own clients, and one of nobody."""

    def __init__(self) -> None:
        self._keys: dict[bytes, Ed25519PrivateKey] = {}
        self.stranger = self.add(Ed25519PrivateKey.generate())

    def add(self, key: Ed25519PrivateKey) -> bytes:
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._keys[public] = key
        return public

    def add_state(self, state: bytes) -> None:
        """Takes the identity out of what `SecAggClient.to_bytes` gives: after the header and a count."""
        self.add(Ed25519PrivateKey.from_private_bytes(state[_HEADER.size + 8 :][:32]))

    def _sign(self, record: Record, identity: bytes | None, message: bytes) -> None:
        if identity in self._keys:
            record["signature"] = self._keys[identity].sign(message)

    def sign(self, message: Record, identities: dict[int, bytes], of: bytes, binding: bytes) -> None:
        """Signs anew whatever its own clients sign in a message.

        Args:
            message: the message.
            identities: of the round's clients, by node.
            of: the round's transcript.
            binding: what the round works on.
        """
        for advert in message.get("cohort", []):
            self._sign(advert, advert["identity"], _signed_advert(message["run"] % 2**64, advert))
        for key in message.get("keys", []):
            self._sign(key, identities.get(key["node"]), _signed_key(message, key, of))
        for commit in message.get("commits", []):
            self._sign(commit, identities.get(commit["node"]), _signed_sets(message, commit["node"], of, binding))


# -- one field changed -----------------------------------------------------------------------------------------------------------

WHOLE = (0, 1, 2, 3, 7, 255, 2**16, 2**20 + 3, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
REAL = (0.0, -0.0, -1.0, 5e-324, 1e-300, 1e-13, 1e-12, 0.5, 1e12, 1e13, 1e300, math.inf, -math.inf, math.nan)


class Changer:
    """Changes messages of the protocol by their fields, with values of earlier rounds, runs and other clients among them."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        # by the name of a field, what it held in any message that was seen; a few, so that new ones are among them
        self.seen: defaultdict[str, deque[Any]] = defaultdict(lambda: deque(maxlen=24))

    def note(self, message: Record) -> None:
        """Remembers what a message holds."""
        for name, value in message.items():
            if isinstance(value, list):
                if value:
                    self.seen[name].append(self.dice.choice(value))
                for one in value:
                    if isinstance(one, dict):
                        self.note(one)
            elif isinstance(value, dict):
                self.note(value)
            elif name not in ("kind", "vector"):
                self.seen[name].append(value)

    def change(self, message: Record) -> None:
        """Changes one field, or one member of a list, in place."""
        places = self._places(FIELDS[message["kind"]], message)
        header: list[Callable[[], None]] = [
            partial(self._leaf, message, name, "Q") for name in ("run", "round", "node")
        ]
        self.dice.choice(header if self.dice.random() < 0.12 else places)()

    def _places(self, fields: Any, record: Record) -> list[Callable[[], None]]:
        places: list[Callable[[], None]] = []
        for name, spec in fields:
            if isinstance(spec, list):
                # a list counts for three: members are dropped, doubled, exchanged, and each has fields
                places += [partial(self._list, record, name, spec)] * 3
            elif spec == "names":
                places.append(partial(self._names, record[name]))
            elif spec == "sets":
                places += [partial(self._sets, record[name])] * 3
            elif spec == "inner":
                places.append(partial(self._inner, record, name))
            else:
                places.append(partial(self._leaf, record, name, spec))
        return places

    def _leaf(self, record: Record, name: str, spec: Spec) -> None:
        old = record[name]
        if self.dice.random() < 0.3 and self.seen[name]:
            record[name] = self.dice.choice(self.seen[name])
        elif isinstance(spec, int):
            flipped = bytearray(old)
            flipped[self.dice.randrange(spec)] ^= 1 << self.dice.randrange(8)
            record[name] = self.dice.choice([bytes(flipped), bytes(spec), b"\xff" * spec, b"\x01" + bytes(spec - 1)])
        elif spec == "?":
            record[name] = not old
        elif spec == "d":
            record[name] = self.dice.choice([*REAL, old * 2, old / 2, -old])
        else:
            record[name] = self.dice.choice([*WHOLE, old + 1, old - 1, old * 2, -old])

    def _list(self, record: Record, name: str, spec: Spec) -> None:
        items, dice = record[name], self.dice
        if not items:
            record[name] = [dict(dice.choice(self.seen[name]))] if self.seen[name] else []
            return
        at = dice.randrange(len(items))
        how = dice.randrange(8)
        if how == 0:
            del items[at]
        elif how == 1:  # a member twice: under its own number, or as another
            items.insert(at + 1, {**items[at], "node": items[at]["node"] + dice.choice([0, 1, 100])})
        elif how == 2:
            items[at], items[-1] = items[-1], items[at]
        elif how == 3 and self.seen[name]:  # one of an earlier round or run
            items[at] = {**dice.choice(self.seen[name]), **dice.choice([{}, {"node": items[at]["node"]}])}
        elif how == 4:  # another's in its place
            items[at] = {**dice.choice(items), "node": items[at]["node"]}
        else:
            field, kind = dice.choice(spec)
            self._leaf(items[at], field, kind)

    def _names(self, names: list[bytes]) -> None:
        at, how = self.dice.randrange(len(names) or 1), self.dice.randrange(4)
        if how == 0 or not names:
            names.append(self.dice.choice([b"weight_of_patient_7", b"", b"\xff", b"x" * 300, *names]))
        elif how == 1:
            del names[at]
        elif how == 2:
            names[at] = b"other"
        else:
            names.reverse()

    def _sets(self, sets: Record) -> None:
        how, bit = self.dice.randrange(6), 1 << self.dice.randrange(sets["n"] % 64 or 1)
        if how == 0:
            sets["shared"] ^= bit
        elif how <= 2:
            sets["survivors"] ^= bit
        elif how == 3:
            sets["shared"], sets["survivors"] = sets["shared"] ^ bit, sets["survivors"] ^ bit
        else:
            self._leaf(sets, self.dice.choice(["n", "shared", "survivors"]), "Q")

    def _inner(self, record: Record, name: str) -> None:
        """A message in the message: the next round's share request."""
        try:
            inner = read(record[name])
        except (ValueError, struct.error):
            record[name] = self.dice.choice([b"", b"junk", *self.seen[name]])
            return
        self.change(inner)
        record[name] = write(inner)
