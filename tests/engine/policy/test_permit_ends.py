"""A permit ends when it ends: whichever way it ends and whoever reads, the next batch is refused."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.dataset import Block, Rows
from aegis_engine.errors import AegisError
from aegis_engine.tables import Csv, Parquet
from aegis_engine.torch import VaultIterable, VaultMap
from torch.utils.data import DataLoader

from aegis_engine import ComplianceEngine, Permit, Request, Vault
from aegis_flower.data import Spec
from aegis_flower.ingest import Terms, ingest
from aegis_flower.stream import PermitDataset

ROWS = 12_000
CORE = Path(__file__).resolve().parents[3] / "aegis_engine/crates/policy/policies/core"
PEOPLE = [f"p{i % 400}" for i in range(ROWS)]


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(str(tmp_path / "v"), key=bytes(32))
    made.govern("core")
    return made


@pytest.fixture
def stored(vault: Vault) -> str:
    columns = {"x": np.zeros((ROWS, 14), np.float32), "y": np.arange(ROWS)}
    return ingest(vault, "d", columns, PEOPLE, Terms(purposes=["research"]))


def endless(read: Callable[[], Any]) -> Iterator[Any]:
    while True:
        yield read()


def batches(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    return vault.dataset(stored, Rows(), permit=permit, read_ahead=4).batches(64)


def shuffled(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    return vault.dataset(stored, Rows(), permit=permit, shuffle=Block(8, 1)).batches(64)


def taken(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    data = vault.dataset(stored, Rows(), permit=permit)
    return endless(lambda: data.take([0, 1]))


def one(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    data = vault.dataset(stored, Rows(), permit=permit)
    return endless(lambda: data[3])


def raw(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    reader = vault.records(permit)
    out = np.zeros(reader.record_len, np.uint8)
    return endless(lambda: reader.read_rows(np.array([2], np.uint32), out))


def torch_rows(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    data = PermitDataset(vault, permit, Spec({"x": 14}, "y", ROWS))
    return endless(lambda: data.__getitems__([0, 1]))


def records(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    return iter(vault.dataset(stored, Rows(), permit=permit))  # holds thousands, gives one by one


def loaded(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    return iter(DataLoader(VaultIterable(vault.dataset(stored, Rows(), permit=permit), 64), batch_size=None))


def mapped(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    return iter(DataLoader(VaultMap(vault.dataset(stored, Rows(), permit=permit)), 2))


def read_ahead_of(vault: Vault, stored: str, permit: Permit) -> Iterator[Any]:
    data = vault.dataset(stored, Rows(), permit=permit, read_ahead=8)
    first, second = data.batches(64), data.batches(64)  # two at once
    next(first)
    return second


READERS = [batches, shuffled, taken, one, raw, torch_rows, records, loaded, mapped, read_ahead_of]


def another_bundle(vault: Vault, stored: str) -> None:
    """The core bundle in other bytes, so under another hash."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(CORE, folder, dirs_exist_ok=True)
        one = min(Path(folder).glob("*.cedar"))
        one.write_text(one.read_text() + "\n// another\n")
        export = ComplianceEngine(vault).authorize(stored, Request(action="export", purpose="research"))
        vault.govern(folder, replace=export)


ENDS: dict[str, tuple[Callable[[Vault, str], Any], str]] = {
    "withdraw": (lambda vault, _: vault.consent_withdraw("p7", "research"), "AEG-P008"),
    "object": (lambda vault, _: vault.consent_object("p7"), "AEG-P008"),
    "restrict": (lambda vault, _: vault.consent_restrict("p7"), "AEG-P008"),
    "erase": (lambda vault, _: vault.consent_erase("p7"), "AEG-P008"),
    "erase the person": (lambda vault, _: vault.erase_person("p7"), "AEG-"),
    "expiry": (lambda vault, _: time.sleep(1.2), "AEG-P007"),
    "bundle": (another_bundle, "AEG-"),
    "shred": (lambda vault, stored: vault.shred(stored), "AEG-V"),
    "other process": (
        lambda vault, _: Vault.open(vault.path, key=bytes(32)).consent_withdraw("p7", "research"),
        "AEG-P008",
    ),
}


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("reader", READERS, ids=lambda r: r.__name__)
def test_the_next_batch_is_refused(vault: Vault, stored: str, reader: Any, end: str) -> None:
    minutes = 1.0 / 60 if end == "expiry" else 10.0
    permit = ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research", minutes=minutes))
    reading = reader(vault, stored, permit)
    next(reading)
    doing, code = ENDS[end]
    doing(vault, stored)
    with pytest.raises(AegisError) as error:
        next(reading)
    assert error.value.code.startswith(code)


TABLE_ROWS, GROUP = 4000, 500
TABLE_PEOPLE = [f"p{i % 400}" for i in range(TABLE_ROWS)]


@pytest.fixture(params=["parquet", "csv"])
def table(request: pytest.FixtureRequest, vault: Vault, tmp_path: Path) -> tuple[str, Any]:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    data = pa.table({"person": TABLE_PEOPLE, "n": np.arange(TABLE_ROWS, dtype="f4")})
    path = tmp_path / f"t.{request.param}"
    if request.param == "parquet":
        pq.write_table(data, path, row_group_size=GROUP)
    else:
        pytest.importorskip("pyarrow.csv").write_csv(data, path)
    facts = {
        "purposes": ["research"],
        "min_rows": 1,
        "min_subjects": 1,
        "require_dp": False,
        "require_secure_aggregation": False,
        "budget_micro_epsilon": 8_000_000,
        "columns": ["person", "n"],
        "approved_columns": ["n"],
        "controller": "hospital",
    }
    vault.consent_grant(sorted(set(TABLE_PEOPLE)), "research", unknown_ok=True)
    made = vault.store_table(path, subjects=TABLE_PEOPLE, classes=[("consent", None, False)], facts=facts)
    return str(made), Parquet(columns=["n"]) if request.param == "parquet" else Csv(columns=["n"])


def table_batches(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    return vault.dataset(stored, kind, permit=permit, read_ahead=4).batches(10)  # within one decoded block


def table_shuffled(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    return vault.dataset(stored, kind, permit=permit, shuffle=Block(4, 1)).batches(10)


def table_rows(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    return iter(vault.dataset(stored, kind, permit=permit))


def table_taken(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    data = vault.dataset(stored, kind, permit=permit)
    return endless(lambda: data.take([0, 1]))


def table_loaded(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    return iter(DataLoader(VaultIterable(vault.dataset(stored, kind, permit=permit), 10), batch_size=None))


def opened(vault: Vault, stored: str, kind: Any, permit: Permit) -> Any:
    csv = {"csv": kind} if isinstance(kind, Csv) else {}
    return vault.table(stored, format=kind.format, columns=["n"], permit=permit, batch_rows=100, **csv)


def arrow(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    return endless(iter(opened(vault, stored, kind, permit)).__next__)


def blocks(vault: Vault, stored: str, kind: Any, permit: Permit) -> Iterator[Any]:
    reader = opened(vault, stored, kind, permit)
    return endless(lambda: reader.block_to_numpy(0))


TABLE_READERS = [table_batches, table_shuffled, table_rows, table_taken, table_loaded, arrow, blocks]


@pytest.mark.parametrize("end", list(ENDS))
@pytest.mark.parametrize("reader", TABLE_READERS, ids=lambda r: r.__name__)
def test_the_next_batch_of_a_table_is_refused(vault: Vault, table: tuple[str, Any], reader: Any, end: str) -> None:
    stored, kind = table
    minutes = 1.0 / 60 if end == "expiry" else 10.0
    permit = ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research", minutes=minutes))
    reading = reader(vault, stored, kind, permit)
    next(reading)
    doing, code = ENDS[end]
    doing(vault, stored)
    with pytest.raises(AegisError) as error:
        next(reading)
    assert error.value.code.startswith(code)


@pytest.mark.parametrize("of_a_table", [False, True], ids=["records", "table"])
def test_a_permit_stays_in_its_process(
    vault: Vault, stored: str, of_a_table: bool, request: Any, tmp_path: Path
) -> None:
    """A worker would read on without knowing that it ended: it opens the vault and asks for its own."""
    kind: Any = Rows()
    if of_a_table:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"n": np.arange(10.0)}), tmp_path / "p.parquet")
        free = Vault.create(str(tmp_path / "free"), key=bytes(32))
        stored, kind = str(free.store_file(tmp_path / "p.parquet")), Parquet()
        permit, vault = free.owner_permit(stored, "read"), free
    else:
        permit = ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research"))
    with pytest.raises(TypeError, match="does not travel to another process"):
        pickle.dumps(vault.dataset(stored, kind, permit=permit))


def test_an_older_consent_file_put_back_does_not_revive_a_permit(vault: Vault, stored: str) -> None:
    permit = ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research"))
    log = Path(vault.path) / "consent" / "000001.log"
    older = log.read_bytes()
    reading = batches(vault, stored, permit)
    next(reading)
    vault.consent_withdraw("p7", "research")
    log.write_bytes(older)  # as long as when the permit was given
    with pytest.raises(AegisError, match="revoked"):
        next(reading)
