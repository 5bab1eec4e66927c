"""Terms that change: narrower freely, wider with a reason on record; rows, name and what was spent stay."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import AegisError, PermitError

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.ingest import Terms, ingest

TERMS = Terms(purposes=["research", "teaching"], min_rows=5, min_subjects=5, retention_days=100)
ROWS = 40
TODAY = int(time.time() // 86400)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(tmp_path / "vault", bytes(range(32)))
    made.govern("core")
    columns = {"x": np.arange(ROWS, dtype=np.float32), "y": np.arange(ROWS) % 2}
    ingest(made, "patients", columns, [f"p{n}" for n in range(ROWS)], TERMS)
    return made


def facts(vault: Vault, **changed: Any) -> dict[str, Any]:
    return {**vault.card(vault.datasets()["patients"])["facts"], **changed}


def read(vault: Vault) -> list[float]:
    permit = ComplianceEngine(vault).authorize(
        vault.datasets()["patients"], Request(action="train", purpose="research", columns=["x"])
    )
    out = np.empty((permit.rows, 1), "<f4")
    vault.records(permit).read_rows(np.arange(permit.rows, dtype=np.uint32), out)
    return [float(value) for value in out[:, 0]]


def test_narrower_terms_need_nothing_and_hold_at_once(vault: Vault) -> None:
    old = vault.datasets()["patients"]
    before, lineages = vault.card(old), vault.lineages(old)
    done = vault.amend(old, facts=facts(vault, purposes=["research"], min_rows=ROWS + 1), last_day=TODAY + 10)
    assert (sorted(done["narrower"]), done["wider"]) == (["min_rows", "purposes", "retention_days"], [])
    new = vault.datasets()["patients"]
    assert new == done["dataset"] != old
    card = vault.card(new)
    assert (card["rows"], card["people"], card["created"]) == (before["rows"], before["people"], before["created"])
    assert card["classes"][0]["last_day"] == TODAY + 10
    assert vault.lineages(new) == lineages
    with pytest.raises(AegisError):
        ComplianceEngine(vault).authorize(new, Request(action="train", purpose="teaching"))
    assert read(vault) == list(range(ROWS))


WIDER: dict[str, Any] = {
    "purposes": ["research", "teaching", "marketing"],
    "min_rows": 4,
    "min_subjects": 4,
    "require_dp": False,
    "require_secure_aggregation": False,
    "budget_micro_epsilon": 10_000_001,
    "delta_femto": 10_000_000_001,
    "max_evaluations": 101,
    "controller": "somebody else",
}


@pytest.mark.parametrize("term", WIDER)
def test_wider_terms_need_a_reason_that_is_put_on_record(vault: Vault, term: str) -> None:
    old = vault.datasets()["patients"]
    wanted = facts(vault, **{term: WIDER[term]})
    for reason in ("", "   "):
        with pytest.raises(AegisError, match="give the reason"):
            vault.amend(old, facts=wanted, reason=reason)
    assert vault.datasets()["patients"] == old
    assert vault.audit_records("amend") == []
    done = vault.amend(old, facts=wanted, reason="board of 2026-11-28")
    (record,) = vault.audit_records("amend")
    assert (record["reason"], record["wider"], record["narrower"]) == ("board of 2026-11-28", done["wider"], [])
    assert (record["object"], record["replaced_by"]) == (old, done["dataset"])
    assert len(done["wider"]) == 1


def test_a_longer_retention_is_wider_and_columns_role_and_lineages_stay(vault: Vault) -> None:
    old = vault.datasets()["patients"]
    kept = facts(vault)
    with pytest.raises(AegisError, match="retention_days would become wider"):
        vault.amend(old, last_day=TODAY + 101)
    vault.amend(old, last_day=TODAY + 101, reason="renewed")
    forged = facts(vault, columns=["x"], role="holdout", lineages=["0" * 32], approved_columns=["x"])
    vault.amend(vault.datasets()["patients"], facts=forged)
    now = facts(vault)
    same = ("columns", "role", "lineages")
    assert [now.get(name) for name in same] == [kept.get(name) for name in same]
    assert now["approved_columns"] == ["x"]


def test_terms_that_are_these_already_change_nothing(vault: Vault) -> None:
    old = vault.datasets()["patients"]
    with pytest.raises(AegisError, match="nothing was changed"):
        vault.amend(old, facts=facts(vault))
    assert vault.datasets()["patients"] == old


def test_a_permit_of_the_earlier_terms_ends(vault: Vault) -> None:
    old = vault.datasets()["patients"]
    permit = ComplianceEngine(vault).authorize(old, Request(action="train", purpose="research", columns=["x"]))
    reader = vault.records(permit)
    vault.amend(old, facts=facts(vault, min_rows=6))
    with pytest.raises((AegisError, PermitError)):
        reader.read_rows(np.arange(2, dtype=np.uint32), np.empty((2, 1), "<f4"))


def test_nobody_can_put_the_earlier_terms_back(vault: Vault) -> None:
    """The old objects are shredded: their files, put back from a copy, open no more."""
    old = vault.datasets()["patients"]
    files = {path: path.read_bytes() for path in Path(vault.path).glob("objects/*/*.enc")}
    vault.amend(old, facts=facts(vault, purposes=["research"]))
    for path, data in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    with pytest.raises(AegisError) as gone:
        vault.card(old)
    assert gone.value.code == "AEG-V014"
    assert facts(vault)["purposes"] == ["research"]


def test_consent_to_a_new_purpose_is_nobodys_side_effect(vault: Vault) -> None:
    wanted = facts(vault, purposes=["research", "teaching", "trial"])
    new = vault.amend(vault.datasets()["patients"], facts=wanted, reason="a trial begins")["dataset"]
    assert vault.card(new)["consent"]["trial"] == {
        "consented": 0,
        "without": ROWS,
        "objected": 0,
        "restricted": 0,
        "erased": 0,
    }
    with pytest.raises(AegisError):
        ComplianceEngine(vault).authorize(new, Request(action="train", purpose="trial"))
