"""Records into training: order, exactness, resumption, shards, workers, formats."""

from __future__ import annotations

import hmac
import io
import itertools
import json
import pickle
import struct
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from aegis import Vault
from aegis_engine.dataset import Block, DatasetError, Fixed, Idx, NpyRows, Offsets, Rows, VaultDataset
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_engine import Request, errors

KEY = bytes(32)
CHUNK = 2**20


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "v", key_file=tmp_path / "key", make_key=True)


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array, version=version)
    return out.getvalue()


def numbered(vault: Vault, count: int, width: int = 300) -> str:
    """Rows that carry their number; more than a chunk of them."""
    rows = np.zeros((count, width), np.float32)
    rows[:, 0] = np.arange(count)
    rows[:, 1:] = 7
    return str(vault.store_bytes(npy(rows), "rows.npy"))


def order(dataset: VaultDataset) -> list[int]:
    return [int(row[0]) for row in dataset]


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


def test_rows_of_a_governed_data_set_come_without_the_withdrawn_ones(governed: tuple[Vault, str, object]) -> None:
    vault, stored, permit = governed
    dataset = vault.dataset(stored, Rows(), shuffle=Block(4, 1), permit=permit)
    assert dataset.dtype.names == ("x",)
    seen = sorted(float(row["x"][0]) for row in dataset)
    assert seen == [float(n) for n in range(1000) if n != 7]
    with pytest.raises(errors.PermitRequired):
        vault.dataset(stored, Rows())


def test_a_withdrawal_in_the_middle_of_an_epoch_stops_it(governed: tuple[Vault, str, object]) -> None:
    vault, stored, permit = governed
    batches = vault.dataset(stored, Rows(), permit=permit, read_ahead=0).batches(2)
    next(batches)
    vault.consent_withdraw("p9", "research")
    with pytest.raises(errors.PermitRevoked):
        list(batches)


@pytest.fixture
def governed(vault: Vault) -> tuple[Vault, str, object]:
    from aegis_engine import ComplianceEngine
    from aegis_flower.ingest import Terms, ingest

    vault.govern("core")
    rows = np.zeros((1000, 4000), np.float32)
    rows[:, 0] = np.arange(1000)
    people = [f"p{n}" for n in range(1000)]
    stored = ingest(vault, "set", {"x": rows}, people, Terms(purposes=["research"]))
    vault.consent_withdraw("p7", "research")
    return vault, stored, ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research"))


# -- errors, threads, processes -----------------------------------------------------------------------------------------


def test_a_damaged_chunk_is_named_and_earlier_records_come(vault: Vault) -> None:
    stored = numbered(vault, 5000)
    (file,) = Path(vault.path).glob("objects/*/*.enc")
    with file.open("r+b") as opened:
        position = opened.seek(4096 + 3 * (CHUNK + 16) + 99)
        (byte,) = opened.read(1)
        opened.seek(position)
        opened.write(bytes([byte ^ 1]))
    seen = []

    def read() -> None:
        for rows in vault.dataset(stored, NpyRows()).batches(100):
            seen.extend(rows[:, 0])

    with pytest.raises(errors.VaultTampered, match=f"chunk 3 of object {stored}"):
        read()
    assert seen == list(range(len(seen)))
    assert len(seen) >= 2 * CHUNK // 1200 // 100 * 100


def test_a_shred_in_the_middle_of_an_epoch_stops_it(vault: Vault) -> None:
    stored = numbered(vault, 10_000)
    batches = vault.dataset(stored, NpyRows(), read_ahead=0).batches(10)
    next(batches)
    vault.shred(stored)
    with pytest.raises(errors.ObjectShredded):
        list(batches)


def _tasks() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_dropped_iteration_leaves_no_thread(vault: Vault) -> None:
    stored = numbered(vault, 10_000)
    before = _tasks()
    dataset = vault.dataset(stored, NpyRows(), shuffle=Block(2, 1))
    batches = dataset.batches(10)
    next(batches)
    assert _tasks() > before
    dataset.close()
    assert _tasks() == before
    batches = dataset.batches(10)
    next(batches)
    del batches, dataset
    assert _tasks() == before


def test_a_dataset_goes_to_a_worker_without_its_key(vault: Vault, tmp_path: Path) -> None:
    dataset = vault.dataset(numbered(vault, 1000), NpyRows(), shuffle=Block(2, 1))
    sent = pickle.dumps(dataset)
    assert (tmp_path / "key").read_bytes() not in sent
    assert order(pickle.loads(sent)) == order(dataset)
    other = Vault.create(tmp_path / "w", KEY)
    with pytest.raises(TypeError, match="key file"):
        pickle.dumps(other.dataset(numbered(other, 10), NpyRows()))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_gets_every_record_once(vault: Vault, workers: int) -> None:
    from aegis_engine.torch import VaultIterable, VaultMap
    from torch.utils.data import DataLoader

    dataset = vault.dataset(numbered(vault, 3000), NpyRows(), shuffle=Block(2, 1))
    spawn = {"multiprocessing_context": "spawn"} if workers else {}
    loader = DataLoader(VaultIterable(dataset, batch_size=64), batch_size=None, num_workers=workers, **spawn)
    seen = [int(n) for batch in loader for n in batch[:, 0]]
    assert sorted(seen) == list(range(3000))
    if not workers:
        assert len(loader) == -(-3000 // 64)
    loader = DataLoader(VaultMap(dataset), batch_size=100, shuffle=True, num_workers=workers, **spawn)
    assert sorted(int(n) for batch in loader for n in batch[:, 0]) == list(range(3000))


def test_ranks_share_the_records_and_a_state_resumes(vault: Vault) -> None:
    from aegis_engine.torch import VaultIterable

    stored = numbered(vault, 5000)

    def made(rank: int) -> VaultIterable:
        return VaultIterable(vault.dataset(stored, NpyRows(), shuffle=Block(2, 1)), 50, ranks=(rank, 2))

    seen = [[int(n) for batch in made(rank) for n in batch[:, 0]] for rank in (0, 1)]
    assert sorted(seen[0] + seen[1]) == list(range(5000))
    first = made(0)
    taken = []
    for batch in first:
        taken += [int(n) for n in batch[:, 0]]
        if len(taken) >= 500:
            break
    second = made(0)
    second.load_state_dict(first.state_dict())
    assert taken + [int(n) for batch in second for n in batch[:, 0]] == seen[0]
    second.set_epoch(5)
    assert [int(n) for batch in second for n in batch[:, 0]] != seen[0]


def test_reading_ahead_goes_on_while_python_computes(vault: Vault) -> None:
    dataset = vault.dataset(numbered(vault, 30_000), NpyRows(), read_ahead=64)
    batches = dataset.batches(10)
    next(batches)
    # No assertion on time: the blocks are there when the readers are idle, which their being asleep shows.
    until = time.monotonic() + 60
    while time.monotonic() < until and threading.active_count() and _busy():
        time.sleep(0.01)
    assert not _busy()


def _busy() -> bool:
    states = [(task / "stat").read_text().rsplit(")", 1)[1].split()[0] for task in Path("/proc/self/task").iterdir()]
    return states.count("R") > 1


@pytest.mark.parametrize("stop", [0, 1, 10, 4095, 4096, 4097, 9999, 10_000])
def test_a_plain_iteration_that_stops_loses_no_record(vault: Vault, stop: int) -> None:
    # Records are taken from the stream many at once; those not given out yet must come again.
    stored = vault.store_bytes(np.arange(10_000, dtype="<i8").tobytes(), "n")
    layouts = [Fixed(dtype="<i8"), Fixed(nbytes=8), Offsets(np.arange(0, 80_001, 8))]
    for layout in layouts:
        first, second = (vault.dataset(stored, layout, shuffle=Block(1, 3)) for _ in range(2))
        whole = [bytes(record) for record in vault.dataset(stored, layout, shuffle=Block(1, 3))]
        seen = [bytes(record) for record in itertools.islice(first, stop)]
        state = first.state()
        second.resume(state)
        rest = [bytes(record) for record in second]
        if stop < 10_000:
            assert seen + rest == whole
        else:
            # A state taken after the last record is the start of the next epoch, not an empty one.
            assert (state["epoch"], state["position"]) == (1, 0)
            assert seen == whole
            assert len(rest) == 10_000
            assert rest != whole
        # Without `resume`, the next iteration is a whole epoch.
        again = [bytes(record) for record in first]
        assert sorted(again) == sorted(whole)
        assert (again == whole) == (stop == 0)
