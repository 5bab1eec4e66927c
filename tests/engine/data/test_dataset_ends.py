"""Iterations that end: withdrawn, damaged, shredded, dropped, or read by several threads and processes."""

from __future__ import annotations

import itertools
import pickle
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from aegis import Vault
from aegis_engine.dataset import Block, Fixed, NpyRows, Offsets, Rows
from numbered import CHUNK, KEY, numbered, order

from aegis_engine import Request, errors


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
