"""The order of records in an epoch."""

from __future__ import annotations

import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def permutation(seed: int, epoch: int, stream: int, n: int) -> list[int]:
    """Section 16: Fisher and Yates by AES-256 in counter mode."""
    key = hmac.digest(b"aegis/v1/shuffle", struct.pack("<QQQ", seed, epoch, stream), "sha256")
    words = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        bound = 2**64 // (i + 1) * (i + 1)
        while (word := int.from_bytes(words.update(bytes(8)), "little")) >= bound:
            pass
        j = word % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def order_of_records(
    blocks: list[list[int]], *, seed: int, epoch: int, window: int, shard: int = 0, shards: int = 1
) -> list[int]:
    """Section 16: the records of a shard in the order of an epoch."""
    mine = permutation(seed, epoch, 0, len(blocks))[shard::shards]
    out = []
    for group, at in enumerate(range(0, len(mine), window)):
        records = [record for block in mine[at : at + window] for record in blocks[block]]
        out += [records[k] for k in permutation(seed, epoch, 1 + group * shards + shard, len(records))]
    return out
