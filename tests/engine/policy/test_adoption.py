"""A vault of before lineages and heads is taken over as it is: nobody's refusal and no spent budget is lost on the way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.errors import LedgerTampered
from aegis_flower.ingest import Terms, ingest
from aegis_flower.ledger import Ledger, Mechanism

FROZEN = Path(__file__).resolve().parents[2] / "vectors/vault/vault_0"
TOLD: dict[str, Any] = json.loads((FROZEN / "told.json").read_text())
TERMS = Terms(["research"], min_rows=2, min_subjects=2, budget_epsilon=8.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(FROZEN / "vault", tmp_path / "v"))


def opened(folder: Path) -> Vault:
    return Vault.open(str(folder), key=bytes(range(32)))


def permitted(vault: Vault, object_id: str) -> int:
    return int(ComplianceEngine(vault).authorize(object_id, Request(action="train", purpose="research", run="2")).rows)


def spent(vault: Vault, name: str) -> float:
    return float(Ledger(vault, name).spent(1e-5).epsilon)


def charge(vault: Vault, name: str) -> None:
    mechanism = Mechanism(2.0, 0.1, 1.0)
    Ledger(vault, name).reserve(run="2", round_=1, mechanism=mechanism, steps=10, delta=1e-5, budget=8.0)


def take_in(vault: Vault, name: str, people: list[str]) -> str:
    columns = {"x": np.zeros((len(people), 2), np.float32), "y": np.arange(len(people)) % 2}
    return ingest(vault, name, columns, people, TERMS)


def test_everybody_who_was_refused_before_is_refused_after(folder: Path) -> None:
    vault = opened(folder)
    assert permitted(vault, TOLD["clinic"]) == TOLD["permitted_rows"] == 4
    assert permitted(vault, TOLD["other"]) == 4
    for _ in range(2):  # once taken over, it stays so
        vault = opened(folder)
        assert permitted(vault, TOLD["clinic"]) == 4


def test_what_was_spent_is_spent_under_every_name(folder: Path) -> None:
    vault = opened(folder)
    assert spent(vault, "clinic") == pytest.approx(TOLD["spent"])
    assert spent(vault, "other") == 0.0
    vault.rename(TOLD["clinic"], "elsewhere")
    take_in(vault, "clinic", ["n0", "n1", "n2"])  # the name alone has spent nothing
    take_in(vault, "again", ["p0", "p5"])
    assert spent(vault, "elsewhere") == spent(vault, "again") == pytest.approx(TOLD["spent"])
    assert spent(vault, "clinic") == 0.0


def test_a_shred_before_anything_else_takes_the_budget_into_the_register_first(folder: Path) -> None:
    vault = opened(folder)
    vault.shred(TOLD["clinic"])
    take_in(vault, "clinic", ["p0", "p5", "p6"])
    assert spent(vault, "clinic") == pytest.approx(TOLD["spent"])


def test_people_who_had_refused_are_not_granted_by_the_next_ingest(folder: Path) -> None:
    vault = opened(folder)
    with pytest.raises(AegisError, match="erasure is final"):
        take_in(vault, "new", [f"p{n}" for n in range(8)])
    stored = take_in(vault, "new", [f"p{n}" for n in range(8) if n != 4])
    assert permitted(vault, stored) == 4


@pytest.mark.parametrize("how", ["folder", "file", "last lines", "other people under the name"])
def test_a_ledger_that_was_taken_away_before_it_was_taken_over_is_missed(folder: Path, how: str) -> None:
    file = folder / "privacy/clinic.record.jsonl"
    if how == "folder":
        shutil.rmtree(folder / "privacy")
    elif how == "last lines":
        file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    else:
        file.unlink()
    vault, name = opened(folder), "clinic"
    if how == "other people under the name":
        name = "elsewhere"
        vault.rename(TOLD["clinic"], name)
        take_in(vault, "clinic", ["n0", "n1", "n2"])
        charge(vault, "clinic")
    with pytest.raises(LedgerTampered):
        spent(vault, name)
    with pytest.raises(LedgerTampered):
        charge(vault, name)
    assert spent(vault, "other") == 0.0


def test_a_charge_goes_on_from_what_was_spent(folder: Path) -> None:
    vault = opened(folder)
    charge(vault, "clinic")
    after = spent(vault, "clinic")
    assert after > TOLD["spent"]
    (folder / "privacy/clinic.record.jsonl").unlink()
    with pytest.raises(LedgerTampered):
        spent(vault, "clinic")


@pytest.mark.parametrize("keep", ["first", "none"])
def test_after_it_was_taken_over_the_older_consents_put_back_are_found(folder: Path, keep: str) -> None:
    before = (folder / "consent/000001.log").read_bytes()
    vault = opened(folder)
    permitted(vault, TOLD["clinic"])
    vault.consent_withdraw("p0", "research")
    log = folder / "consent/000001.log"
    log.write_bytes(before if keep == "first" else b"")
    with pytest.raises(AegisError, match="consent"):
        permitted(opened(folder), TOLD["clinic"])


def test_a_consent_of_before_that_was_altered_is_no_consent(folder: Path) -> None:
    log = folder / "consent/000001.log"
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(AegisError):
        permitted(opened(folder), TOLD["clinic"])
