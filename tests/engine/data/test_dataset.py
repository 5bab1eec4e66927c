"""Records into training: order, exactness, resumption, shards, formats."""

from __future__ import annotations

import hmac
import itertools
import json
import struct
import tempfile

import numpy as np
import pytest
from aegis import Vault
from aegis_engine.dataset import Block, DatasetError, Fixed, Idx, NpyRows, Offsets, VaultDataset
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered import CHUNK, KEY, npy, numbered, order

from aegis_engine import errors

# -- order: a second implementation, from the description in shuffle.rs ------------------------------------------------


class Words:
    def __init__(self, seed: int, epoch: int, stream: int) -> None:
        key = hmac.digest(b"aegis/v1/shuffle", struct.pack("<3Q", seed, epoch, stream), "sha256")
        self.stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def below(self, n: int) -> int:
        while True:
            (word,) = struct.unpack("<Q", self.stream.update(bytes(8)))
            if word < 2**64 // n * n:
                return word % n

    def permutation(self, n: int) -> list[int]:
        order = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i + 1)
            order[i], order[j] = order[j], order[i]
        return order


def expected(count: int, stride: int, start: int, shuffle: Block, epoch: int, shard: tuple[int, int]) -> list[int]:
    blocks: list[list[int]] = []
    place = -1
    for record in range(count):
        chunk = (start + record * stride) // CHUNK
        if chunk != place:
            blocks.append([])
            place = chunk
        blocks[-1].append(record)
    mine = [blocks[b] for b in Words(shuffle.seed, epoch, 0).permutation(len(blocks))][shard[0] :: shard[1]]
    out = []
    for group, at in enumerate(range(0, len(mine), shuffle.window)):
        records = [record for block in mine[at : at + shuffle.window] for record in block]
        number = 1 + group * shard[1] + shard[0]
        out += [records[i] for i in Words(shuffle.seed, epoch, number).permutation(len(records))]
    return out


@pytest.mark.parametrize(
    ("window", "seed", "epoch", "shard"), [(1, 0, 0, (0, 1)), (2, 5, 3, (0, 1)), (3, 2**64 - 1, 9, (1, 2))]
)
def test_the_order_is_the_documented_one(
    vault: Vault, window: int, seed: int, epoch: int, shard: tuple[int, int]
) -> None:
    dataset = vault.dataset(numbered(vault, 7000), NpyRows(), shuffle=Block(window, seed), shard=shard)
    dataset.set_epoch(epoch)
    assert order(dataset) == expected(7000, 1200, 128, Block(window, seed), epoch, shard)
    assert order(dataset) == expected(7000, 1200, 128, Block(window, seed), epoch + 1, shard), "the next epoch is on"


def test_without_a_shuffle_records_come_in_order(vault: Vault) -> None:
    dataset = vault.dataset(numbered(vault, 3000), NpyRows())
    assert order(dataset) == list(range(3000))
    assert len(dataset) == 3000
    assert dataset.shape == (300,)


_SHARED: list[object] = []


def shared() -> tuple[Vault, str, str]:
    if not _SHARED:
        folder = tempfile.TemporaryDirectory()
        vault = Vault.create(folder.name + "/v", KEY)
        _SHARED.extend([folder, vault, numbered(vault, 5000), numbered(vault, 17)])
    return _SHARED[1], _SHARED[2], _SHARED[3]  # type: ignore[return-value]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**64 - 1), st.integers(1, 5), st.integers(0, 9), st.integers(1, 700))
def test_shards_are_disjoint_and_exact_for_any_window_and_batch(
    window: int, seed: int, shards: int, ahead: int, batch: int
) -> None:
    vault, one, two = shared()
    seen = []
    for shard in range(shards):
        dataset = vault.dataset(
            [one, two], NpyRows(), shuffle=Block(window, seed), shard=(shard, shards), read_ahead=ahead
        )
        count = len(dataset)
        mine = [int(n) for rows in dataset.batches(batch) for n in rows[:, 0]]
        assert len(mine) == count
        seen += mine
    assert sorted(seen) == sorted([*range(5000), *range(17)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 5016), st.integers(1, 5), st.booleans())
def test_an_interrupted_epoch_goes_on_where_it_stopped(stop: int, window: int, shuffled: bool) -> None:
    vault, one, two = shared()

    def made() -> VaultDataset:
        return vault.dataset([one, two], NpyRows(), shuffle=Block(window, 3) if shuffled else None)

    whole = order(made())
    first = made()
    seen = []
    for rows in first.batches(1000):
        seen += [int(n) for n in rows[:, 0]]
        if len(seen) > stop:
            break
    state = json.loads(json.dumps(first.state()))
    first.close()
    second = made()
    second.resume(state)
    rest = order(second)
    if len(seen) < len(whole):
        assert seen + rest == whole
    else:
        # After the last batch: the start of the next epoch, not an empty one.
        assert seen == whole
        assert sorted(rest) == sorted(whole)
    assert second.state()["epoch"] == state["epoch"] + 1


def test_a_state_of_another_dataset_is_refused(vault: Vault) -> None:
    one = numbered(vault, 100)
    state = vault.dataset(one, NpyRows(), shuffle=Block(2, 1)).state()
    for other in (
        vault.dataset(one, NpyRows(), shuffle=Block(2, 2)),
        vault.dataset(one, NpyRows(), shuffle=Block(3, 1)),
        vault.dataset(numbered(vault, 100), NpyRows(), shuffle=Block(2, 1)),
    ):
        with pytest.raises(DatasetError, match="another dataset"):
            other.resume(state)


# -- formats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("array", [np.arange(24.0).reshape(4, 3, 2), np.arange(5, dtype=">i2"), np.zeros((0, 3), "u1")])
def test_npy_rows_are_what_numpy_reads(vault: Vault, array: np.ndarray, version: tuple[int, int]) -> None:
    dataset = vault.dataset(vault.store_bytes(npy(array, version), "n"), NpyRows())
    assert (dataset.dtype, dataset.shape, len(dataset)) == (array.dtype, array.shape[1:], len(array))
    for got, want in zip(dataset, array, strict=True):
        assert np.array_equal(got, want)
    if len(array):
        assert np.array_equal(dataset.take([2, 0, -1]), array[[2, 0, -1]])
        assert np.array_equal(dataset[1], array[1])
        with pytest.raises(IndexError):
            dataset[len(array)]


def test_damaged_and_foreign_headers_are_refused(vault: Vault) -> None:
    good = npy(np.arange(12.0).reshape(4, 3))
    header = {"descr": "<f8", "fortran_order": False, "shape": (4, 3)}

    def with_header(text: str) -> bytes:
        raw = text.encode()
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(raw)) + raw + bytes(96)

    cases = {
        "no .npy file": b"PK\x03\x04 nonsense here",
        "version 9": b"\x93NUMPY\x09\x00" + good[8:],
        "cut off or extended": good + b"x",
        "was cut off": good[:-1],
        "claims a .npy header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{",
        "Fortran order": npy(np.asfortranarray(np.arange(12.0).reshape(4, 3))),
        "Python objects": with_header(str({**header, "descr": "|O"})),
        "single value": npy(np.float64(3)),
        "damaged": with_header("__import__('os').getcwd()"),
        "damaged .npy": with_header(str({**header, "shape": (-4, 3)})),
    }
    for text, content in cases.items():
        with pytest.raises(DatasetError, match=text):
            vault.dataset(vault.store_bytes(content, "n"), NpyRows())


def test_idx_files_are_read_and_compressed_ones_are_named(vault: Vault) -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28), np.uint8)
    raw = struct.pack(">4B3I", 0, 0, 8, 3, *images.shape) + images.tobytes()
    dataset = vault.dataset(vault.store_bytes(raw, "idx"), Idx())
    assert np.array_equal(np.stack(list(dataset)), images)
    with pytest.raises(DatasetError, match="gunzip"):
        vault.dataset(vault.store_bytes(b"\x1f\x8b\x08more", "n"), Idx())
    for bad in (raw[:-1], raw + b"x", raw[:7], struct.pack(">4B", 0, 0, 7, 1), b""):
        with pytest.raises(DatasetError):
            vault.dataset(vault.store_bytes(bad, "n"), Idx())


def test_fixed_records_and_offsets_cross_chunks(vault: Vault) -> None:
    data = np.random.default_rng(1).bytes(3 * CHUNK + 1000)
    stored = vault.store_bytes(data, "n")
    size = (3 * CHUNK + 1000) // 8 * 8
    whole = vault.store_bytes(data[: size // 1000 * 1000], "n")
    fixed = vault.dataset(whole, Fixed(1000), shuffle=Block(2, 1))
    assert sorted(bytes(record) for record in fixed) == sorted(
        data[at : at + 1000] for at in range(0, size // 1000 * 1000, 1000)
    )
    typed = vault.dataset(whole, Fixed(dtype="<u4", shape=(50, 5)))
    assert np.array_equal(next(typed.batches(3)), np.frombuffer(data, "<u4", 750).reshape(3, 50, 5))
    with pytest.raises(DatasetError, match="whole records"):
        vault.dataset(whole, Fixed(999))
    cuts = [0, 0, 5, CHUNK - 1, CHUNK, 2 * CHUNK + 77, len(data)]
    want = [data[a:b] for a, b in itertools.pairwise(cuts)]
    table = vault.store_bytes(struct.pack(f"<{len(cuts)}Q", *cuts), "offsets")
    for values in (cuts, np.array(cuts, np.uint64), table):
        varied = vault.dataset(stored, Offsets(values))
        assert [bytes(record) for record in varied] == want
        assert bytes(varied[3]) == want[3]
        with pytest.raises(DatasetError, match="one piece"):
            next(varied.batches(2))
    shuffled = vault.dataset(stored, Offsets(cuts), shuffle=Block(2, 9))
    assert sorted(map(bytes, shuffled)) == sorted(want)
    for bad in ([5, 3], [0, len(data) + 1], []):
        with pytest.raises(errors.VaultError):
            vault.dataset(stored, Offsets(bad))
