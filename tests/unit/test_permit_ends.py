"""A permit ends when it ends: whichever way it ends and whoever reads, the next batch is refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.dataset import Block, Rows
from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Permit, Vault
from aegis_flower.datasets import Spec
from aegis_flower.ingest import Terms, ingest
from aegis_flower.stream import PermitDataset

ROWS = 40_000
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


READERS = [batches, shuffled, taken, one, raw, torch_rows]
ENDS: dict[str, tuple[Callable[[Vault, str], Any], str]] = {
    "withdraw": (lambda vault, _: vault.consent_withdraw("p7", "research"), "AEG-P008"),
    "object": (lambda vault, _: vault.consent_object("p7"), "AEG-P008"),
    "restrict": (lambda vault, _: vault.consent_restrict("p7"), "AEG-P008"),
    "erase": (lambda vault, _: vault.consent_erase("p7"), "AEG-P008"),
    "erase the person": (lambda vault, _: vault.erase_person("p7"), "AEG-"),
    "expiry": (lambda vault, _: time.sleep(1.2), "AEG-P007"),
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
    permit = ComplianceEngine(vault).authorize(stored, action="train", purpose="research", minutes=minutes)
    reading = reader(vault, stored, permit)
    next(reading)
    doing, code = ENDS[end]
    doing(vault, stored)
    with pytest.raises(AegisError) as error:
        next(reading)
    assert error.value.code.startswith(code)


def test_an_older_consent_file_put_back_does_not_revive_a_permit(vault: Vault, stored: str) -> None:
    permit = ComplianceEngine(vault).authorize(stored, action="train", purpose="research")
    log = Path(vault.path) / "consent" / "000001.log"
    older = log.read_bytes()
    reading = batches(vault, stored, permit)
    next(reading)
    vault.consent_withdraw("p7", "research")
    log.write_bytes(older)  # as long as when the permit was given
    with pytest.raises(AegisError, match="revoked"):
        next(reading)
