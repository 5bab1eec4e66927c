"""An older consent ledger put back must not bring withdrawn rows back."""

import shutil

import numpy as np
import pytest
from aegis import ComplianceEngine, Request, Vault
from aegis_engine.errors import AuditTampered

from aegis_flower.ingest import Terms, ingest


def test_an_older_consent_ledger_put_back_is_found_and_nothing_is_authorized(tmp_path):
    folder, key = tmp_path / "vault", str(tmp_path / "key")
    vault = Vault.create(folder, key_file=key, make_key=True)
    vault.govern("core")
    people = [f"person-{i}" for i in range(20)]
    dataset = ingest(vault, "rows", {"x": np.zeros((20, 1), np.float32)}, people, Terms(purposes=["research"]))
    shutil.copytree(folder / "consent", tmp_path / "older")
    vault.consent_withdraw("person-3", "research")
    assert ComplianceEngine(vault).authorize(dataset, Request(action="train", purpose="research")).rows == 19

    del vault
    shutil.rmtree(folder / "consent")
    shutil.copytree(tmp_path / "older", folder / "consent")
    with pytest.raises(AuditTampered, match="consent"):
        ComplianceEngine(Vault.open(folder, key_file=key))
