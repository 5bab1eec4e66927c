"""Keys, shares, masks and graphs of secure aggregation, from docs/SECURE_AGGREGATION.md ("Bytes"), with `cryptography` alone."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from reference.secagg.wire import P, Refused, encode, need

V2 = b"aegis/secagg/v2"
CHUNK = 4096
PLANES = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (4, 4)}


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def sha256(domain: str, *parts: bytes) -> bytes:
    return hashlib.sha256(V2 + domain.encode() + b"".join(parts)).digest()


# -- keys ------------------------------------------------------------------------------------------------------------


def hkdf(secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=V2, info=info).derive(secret)


def x25519_public(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def x25519(secret: bytes, public: bytes) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise Refused("KeyAgreement", "a point of small order") from None


def ed25519_public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(seed: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verify(identity: bytes, message: bytes, signature: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise Refused("BadSignature") from None


def signed_advert(run: int, advert: dict[str, Any]) -> bytes:
    keys = bytes.fromhex(advert["identity"] + advert["channel"] + advert["policy"])
    return V2 + b"/sign/advert" + words(run, advert["node"]) + keys + struct.pack("<I", advert["min_cohort"])


def signed_key(run: int, round_: int, node: int, transcript: bytes, mask_key: bytes) -> bytes:
    return V2 + b"/sign/round-key" + words(run, round_, node) + transcript + mask_key


def signed_sets(run: int, round_: int, node: int, sets_hash: bytes) -> bytes:
    return V2 + b"/sign/commit" + words(run, round_, node) + sets_hash


def transcript(share_request: bytes) -> bytes:
    return sha256("/transcript/cohort", share_request)


def sets_hash(transcript: bytes, binding: bytes, sets: dict[str, Any]) -> bytes:
    request = {"kind": "commit request", "run": 0, "round": 0, "node": 0, "sets": sets}
    return sha256("/transcript/sets", transcript, binding, encode(request))


def answered_hash(unmask_request: bytes) -> bytes:
    return sha256("/unmask-request", unmask_request)


def channel_root(run: int, secret: bytes, a: int, b: int, public: bytes) -> bytes:
    return hkdf(x25519(secret, public), V2 + b"/root-of-channel" + words(run, min(a, b), max(a, b)))


class Place:
    """Run, round and transcript: what every key of a round is bound to."""

    def __init__(self, run: int, round_: int, transcript: bytes) -> None:
        self.run, self.round, self.transcript = run, round_, transcript

    def info(self, domain: str, a: int, b: int, extra: int) -> bytes:
        head = V2 + domain.encode()
        return head + words(self.run, self.round, min(a, b), max(a, b), extra) + self.transcript

    def channel_key(self, root: bytes, source: int, destination: int) -> bytes:
        return hkdf(root, self.info("/channel", source, destination, source))

    def pair_mask_key(self, secret: bytes, a: int, b: int, public: bytes, binding: bytes) -> bytes:
        return hkdf(x25519(secret, public), self.info("/pair-mask", a, b, 0) + binding)

    def self_mask_key(self, seed: bytes, node: int, binding: bytes) -> bytes:
        return hkdf(seed, self.info("/self-mask", node, node, 0) + binding)

    def seed_check(self, seed: bytes, node: int) -> bytes:
        return hkdf(seed, self.info("/seed-check", node, node, 0))

    def seal(self, root: bytes, source: int, destination: int, pair: bytes, nonce: bytes) -> bytes:
        key = self.channel_key(root, source, destination)
        return nonce + AESGCM(key).encrypt(nonce, pair, words(self.run, self.round, source, destination))

    def open(self, root: bytes, source: int, destination: int, sealed: bytes) -> bytes:
        key = self.channel_key(root, source, destination)
        aad = words(self.run, self.round, source, destination)
        try:
            pair = AESGCM(key).decrypt(sealed[:12], sealed[12:], aad)
        except InvalidTag:
            raise Refused("ShareRejected") from None
        need(all(limb < P for limb in struct.unpack("<10Q", pair)), "not field elements", "ShareRejected")
        return pair


# -- shares ----------------------------------------------------------------------------------------------------------


def limbs(secret: bytes) -> list[int]:
    whole = int.from_bytes(secret, "little")
    return [whole >> 52 * i & (1 << 52) - 1 for i in range(5)]


def split(secret: bytes, coefficients: Sequence[Sequence[int]], xs: Sequence[int]) -> list[bytes]:
    """Shares at `xs`; `coefficients[k]` are the five limbs' coefficients of x^(k+1)."""
    rows = [limbs(secret), *coefficients]
    return [words(*(sum(row[i] * pow(x, k, P) for k, row in enumerate(rows)) % P for i in range(5))) for x in xs]


def combine(shares: dict[int, bytes]) -> bytes:
    """The secret of the shares by x-coordinate."""
    found = [0] * 5
    for x, share in shares.items():
        weight = 1
        for other in shares:
            if other != x:
                weight = weight * other * pow(other - x, -1, P) % P
        found = [(value + weight * limb) % P for value, limb in zip(found, struct.unpack("<5Q", share), strict=True)]
    fits = all(limb < 1 << 52 for limb in found[:4]) and found[4] < 1 << 48
    need(fits, "the shares do not belong together", "SharesDisagree")
    return sum(limb << 52 * i for i, limb in enumerate(found)).to_bytes(32, "little")


# -- numbers, masks, graphs ------------------------------------------------------------------------------------------


def width(plan: dict[str, Any]) -> int:
    """Bytes of a ring element; refuses impossible plans."""
    bounds = 1 <= plan["dim"] <= 1 << 40 and 2 <= plan["n_max"] <= 1 << 16 and len(plan["metrics"]) <= 4096
    names = len(set(plan["metrics"])) == len(plan["metrics"])
    clip = 1e-12 <= plan["clip"] <= 1e12
    need(bounds and names and clip, "dim, n_max, metrics or clip", "InvalidPlan")
    need(8 <= plan["value_bits"] <= 30 and plan["weight_max"] >= 1, "value_bits or weight_max", "InvalidPlan")
    most = plan["n_max"] * ((1 << plan["value_bits"] - 1) - 1) * plan["weight_max"]
    need(plan["n_max"] * plan["metric_max"] < 1 << 63, "the metrics", "EncodingDoesNotFit")
    for found in PLANES:
        if most < 1 << 8 * found - 1:
            return found
    raise Refused("EncodingDoesNotFit")


def digits(plan: dict[str, Any]) -> tuple[int, int]:
    """Bits of a metric's digit, and how many digits a metric has."""
    most = (1 << 8 * width(plan) - 1) - 1
    bits = min(31, (most // plan["n_max"] + 1).bit_length() - 1)
    count = next(count for count in range(1, 11) if plan["metric_max"] <= (1 << bits) - 1 << bits * (count - 1))
    return bits, count


def digits_of(metric: int, plan: dict[str, Any]) -> list[int]:
    bits, count = digits(plan)
    low = [metric >> bits * place & (1 << bits) - 1 for place in range(count - 1)]
    return [*low, metric >> bits * (count - 1)]


def elements(plan: dict[str, Any]) -> int:
    return int(plan["dim"] + 1 + len(plan["metrics"]) * digits(plan)[1])


def integers(update: Sequence[float], weight: int, metrics: Sequence[int], plan: dict[str, Any]) -> list[int]:
    width(plan)
    lengths = len(update) == plan["dim"] and len(metrics) == len(plan["metrics"])
    need(lengths, "lengths", "BadUpdate")
    most = plan["metric_max"]
    weight, metrics = min(max(weight, 1), plan["weight_max"]), [min(max(metric, -most), most) for metric in metrics]
    need(all(abs(x) < float("inf") for x in update), "a value is not finite", "BadUpdate")
    clip = plan["clip"]
    scale = float((1 << plan["value_bits"] - 1) - 1) / clip
    values = [weight * round(min(max(x, -clip), clip) * scale) for x in update]
    return [*values, weight, *(digit for metric in metrics for digit in digits_of(metric, plan))]


def ctr(key: bytes, block: int, size: int) -> bytes:
    return Cipher(algorithms.AES256(key), modes.CTR(block.to_bytes(16, "big"))).encryptor().update(bytes(size))


def mask(key: bytes, count: int, size: int) -> list[int]:
    """The first `count` elements, of `size` bytes each, of the mask of a key."""
    out: list[int] = []
    for chunk in range(-(-count // CHUNK)):
        here = min(CHUNK, count - chunk * CHUNK)
        stream = ctr(key, chunk << 32 | 2, here * size)
        values, shift = [0] * here, 0
        for plane in PLANES[size]:
            for i in range(here):
                values[i] |= int.from_bytes(stream[i * plane : (i + 1) * plane], "little") << shift
            stream = stream[here * plane :]
            shift += 8 * plane
        out += values
    return out


def pack(values: Sequence[int], size: int) -> bytes:
    return b"".join((value % (1 << 8 * size)).to_bytes(size, "little") for value in values)


def unpack(packed: bytes, size: int) -> list[int]:
    return [int.from_bytes(packed[i : i + size], "little", signed=True) for i in range(0, len(packed), size)]


def _words(seed: bytes) -> Iterator[int]:
    buffer = 0
    while True:
        stream = ctr(seed, buffer * 256, 4096)
        yield from (int.from_bytes(stream[at : at + 4], "little") for at in range(4092, -1, -4))
        buffer += 1


def ring(transcript: bytes, n: int) -> list[int]:
    """Places of the cohort in the order of the ring."""
    drawn = _words(sha256("/graph", transcript))

    def below(bound: int) -> int:
        whole = 2**32 - 1 - (2**32 - 1) % bound
        return next(word for word in drawn if word < whole) % bound

    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = below(last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def neighbours(order: Sequence[int], place: int, degree: int) -> list[int]:
    at, n = order.index(place), len(order)
    return sorted(order[(at + step) % n] for half in range(1, degree // 2 + 1) for step in (half, -half))
