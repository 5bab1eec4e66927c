"""`vault.dataset` over the rows of Parquet and CSV objects."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis import Vault
from aegis_engine.dataset import Block, DatasetError, Fixed, NpyRows
from aegis_engine.tables import Csv, Parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS, GROUP = 1000, 64


def table(start: int = 0, rows: int = ROWS) -> Any:
    number = np.arange(start, start + rows)
    return pa.table({"n": number, "half": number.astype("f4") / 2, "name": [f"row {n}" for n in number]})


def parquet(folder: Path, name: str = "t.parquet", **at: int) -> str:
    pq.write_table(table(**at), folder / name, row_group_size=GROUP)
    return str(folder / name)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "v", bytes(32))


def with_key_file(folder: Path) -> Vault:
    """Only such a vault can be opened again by a worker."""
    key = folder / "key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    return Vault.create(folder / "w", key_file=key)


@pytest.fixture
def stored(vault: Vault, tmp_path: Path) -> str:
    return str(vault.store_file(parquet(tmp_path)))


def numbers(dataset: Any, size: int = 50) -> list[int]:
    return [int(n) for batch in dataset.batches(size) for n in batch["n"]]


def test_batches_are_columns_in_the_order_of_the_file_without_a_shuffle(vault: Vault, stored: str) -> None:
    dataset = vault.dataset(stored, Parquet())
    assert len(dataset) == ROWS
    sizes = []
    for at, batch in enumerate(dataset.batches(300)):
        assert list(batch) == ["n", "half"]  # text is no number
        assert (batch["n"] == np.arange(at * 300, at * 300 + len(batch["n"]))).all()
        assert (batch["half"] == batch["n"] / 2).all()
        assert batch["half"].dtype == np.float32
        sizes.append(len(batch["n"]))
    assert sizes == [300, 300, 300, 100]
    assert [len(batch["n"]) for batch in dataset.batches(300, drop_last=True)] == [300] * 3


@pytest.mark.parametrize("size", [1, 7, 64, 65, 2000])
@pytest.mark.parametrize("window", [1, 3, 16, 100])
def test_a_shuffled_epoch_has_every_row_once_with_all_its_columns(
    vault: Vault, stored: str, window: int, size: int
) -> None:
    dataset = vault.dataset(stored, Parquet(), shuffle=Block(window=window, seed=5))
    seen = []
    for batch in dataset.batches(size):
        assert (batch["half"] == batch["n"].astype("f4") / 2).all()
        seen += batch["n"].tolist()
    assert sorted(seen) == list(range(ROWS))
    assert seen != sorted(seen)


def test_the_order_is_that_of_fixed_records_with_row_groups_for_blocks(vault: Vault, tmp_path: Path) -> None:
    # 21 chunks of 1 MiB with 128 records each, beside row groups of 128: one specification, two readers.
    number = np.arange(21 * 128, dtype="<i8")
    records = vault.store_bytes(np.repeat(number, 1024).tobytes(), "n")
    pq.write_table(pa.table({"n": number}), tmp_path / "p", row_group_size=128)
    rowed = vault.store_file(str(tmp_path / "p"))
    for shard in ((0, 1), (1, 3)):
        options: dict[str, Any] = {"shuffle": Block(window=5, seed=9), "shard": shard}
        fixed = vault.dataset(records, Fixed(dtype="<i8", shape=(1024,)), **options)
        tabled = vault.dataset(rowed, Parquet(), **options)
        for epoch in (0, 1):
            fixed.set_epoch(epoch)
            tabled.set_epoch(epoch)
            expected = [int(record[0]) for batch in fixed.batches(100) for record in batch]
            assert numbers(tabled, 1000) == expected


def test_epochs_differ_and_come_again_by_their_number(vault: Vault, stored: str) -> None:
    dataset = vault.dataset(stored, Parquet(("n",)), shuffle=Block(window=4, seed=1))
    first, second = numbers(dataset), numbers(dataset)
    assert first != second
    dataset.set_epoch(0)
    assert numbers(dataset) == first


@pytest.mark.parametrize("stop", [0, 1, 64, 130, 999, 1000])
def test_an_interrupted_epoch_goes_on_where_it_stopped(vault: Vault, stored: str, stop: int) -> None:
    make = lambda: vault.dataset(stored, Parquet(), shuffle=Block(window=3, seed=2))  # noqa: E731
    whole = numbers(make())
    dataset, seen = make(), []
    for batch in dataset.batches(1):
        if len(seen) == stop:
            break
        seen.append(int(batch["n"][0]))
        state = dataset.state()
    if stop == 0:
        state = make().state()
    dataset.close()
    again = make()
    again.resume(state)
    rest = numbers(again, 33)
    if stop < 1000:
        assert seen + rest == whole
    else:  # after the last batch: the next epoch
        assert (state["epoch"], state["position"]) == (1, 0)
        assert seen == whole
        assert sorted(rest) == sorted(whole)


def test_a_plain_iteration_that_stops_loses_no_row(vault: Vault, stored: str) -> None:
    first, second = (vault.dataset(stored, Parquet(), shuffle=Block(window=3, seed=2)) for _ in range(2))
    whole = numbers(vault.dataset(stored, Parquet(), shuffle=Block(window=3, seed=2)))
    rows = iter(first)
    seen = [int(next(rows)["n"]) for _ in range(10)]
    second.resume(first.state())
    assert seen + numbers(second) == whole


def test_a_state_of_other_columns_is_refused(vault: Vault, stored: str) -> None:
    state = vault.dataset(stored, Parquet(("n",))).state()
    with pytest.raises(DatasetError, match="columns"):
        vault.dataset(stored, Parquet(("half",))).resume(state)


def test_shards_are_disjoint_and_exact(vault: Vault, stored: str) -> None:
    whole = vault.dataset(stored, Parquet(), shuffle=Block(window=2, seed=3))
    parts = [whole.of_shard((n, 3)) for n in range(3)]
    seen = [numbers(part) for part in parts]
    assert [len(part.of_shard(part.shard)) for part in parts] != [ROWS] * 3
    assert sorted(number for part in seen for number in part) == list(range(ROWS))


def test_several_objects_are_one_after_the_other_and_must_have_the_same_columns(vault: Vault, tmp_path: Path) -> None:
    ids = [str(vault.store_file(parquet(tmp_path, str(n), start=n * ROWS))) for n in range(2)]
    assert numbers(vault.dataset(ids, Parquet())) == list(range(2 * ROWS))
    pq.write_table(pa.table({"n": np.arange(3, dtype="i4")}), tmp_path / "other")
    with pytest.raises(DatasetError, match="other columns"):
        vault.dataset([*ids, str(vault.store_file(str(tmp_path / "other")))], Parquet())


def test_rows_by_number(vault: Vault, stored: str) -> None:
    dataset = vault.dataset(stored, Parquet())
    batch = dataset.take([999, 0, -1, 64, 63])
    assert batch["n"].tolist() == [999, 0, 999, 64, 63]
    assert dataset[-2] == {"n": 998, "half": 499.0}
    with pytest.raises(IndexError, match="record 1000 of 1000"):
        dataset[1000]
    assert dataset.take([])["n"].tolist() == []


def test_commas(vault: Vault, tmp_path: Path) -> None:
    lines = ["n,half,name", *(f"{n},{n / 2},row {n}" for n in range(ROWS))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    stored = vault.store_file(str(tmp_path / "t.csv"))
    dataset = vault.dataset(stored, Csv(types={"half": "f32"}), shuffle=Block(window=1, seed=0))
    assert sorted(numbers(dataset)) == list(range(ROWS))
    assert dataset.columns == {"n": ("<i8", ()), "half": ("<f4", ())}


def test_text_alone_and_unknown_columns_are_clear_errors(vault: Vault, stored: str) -> None:
    with pytest.raises(ValueError, match=r"columns \['name'\] hold no numbers"):
        vault.dataset(stored, Parquet(("name",)))
    with pytest.raises(Exception, match="no column"):
        vault.dataset(stored, Parquet(("dose",)))


def test_an_empty_table_has_no_batch(vault: Vault, tmp_path: Path) -> None:
    stored = vault.store_file(parquet(tmp_path, "empty", rows=0))
    dataset = vault.dataset(stored, Parquet())
    assert len(dataset) == 0
    assert list(dataset.batches(10)) == []


def test_a_pickle_says_where_and_has_no_key_and_no_value(tmp_path: Path) -> None:
    vault = with_key_file(tmp_path)
    dataset = vault.dataset(vault.store_file(parquet(tmp_path)), Parquet(), shuffle=Block(window=2, seed=4))
    packed = pickle.dumps(dataset)
    assert np.arange(ROWS)[100:110].tobytes() not in packed
    assert numbers(pickle.loads(packed)) == numbers(dataset)


def test_a_loader_gets_tensors_by_column_and_workers_share_the_row_groups(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from aegis_engine.torch import VaultIterable, VaultMap
    from torch.utils.data import DataLoader

    vault = with_key_file(tmp_path)
    dataset = vault.dataset(vault.store_file(parquet(tmp_path)), Parquet(), shuffle=Block(window=2, seed=4))
    for workers in (0, 2):
        context = "spawn" if workers else None
        loader = DataLoader(
            VaultIterable(dataset, batch_size=100),
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=context,
        )
        batches = list(loader)
        assert all(torch.equal(batch["half"], batch["n"] / 2) for batch in batches)
        assert sorted(int(n) for batch in batches for n in batch["n"]) == list(range(ROWS))
        dataset.set_epoch(0)
    assert next(iter(VaultIterable(dataset)))["n"].shape == ()
    assert VaultMap(dataset)[3]["n"] == 3


def test_a_dataset_under_a_permit_reads_by_it_and_does_not_travel(vault: Vault, stored: str) -> None:
    # The owner's permit goes the same way as any other; it does not travel.
    permit = vault.owner_permit(stored)
    dataset = vault.dataset(stored, Parquet(), permit=permit)
    assert numbers(dataset) == list(range(ROWS))
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(dataset)


def test_npy_rows_stay_a_plain_dataset(vault: Vault) -> None:
    import io

    out = io.BytesIO()
    np.save(out, np.arange(6).reshape(3, 2))
    assert vault.dataset(vault.store_bytes(out.getvalue(), "n.npy"), NpyRows()).shape == (2,)
