"""What `store_table` holds is trained on in a federation, as records are: Parquet and CSV, under permits and a ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from aegis import Vault
from aegis_engine.tables import Csv
from torch import nn

from aegis_flower import Terms, VaultClient, aegis_client_app, aegis_server_app, compose, run_inprocess
from aegis_flower.data import Spec
from aegis_flower.ingest import ingest
from aegis_flower.ledger import Ledger
from aegis_flower.node import close_nodes
from aegis_flower.report import load_report

KEY = bytes(range(32))
SPEC = Spec(columns={"age": 1, "dose": 1, "smokes": 1}, label="ill", classes=2)
TERMS = Terms(purposes=["research"], require_dp=False)
BASE = ["name=tables", "data.clients=3", "strategy.rounds=3", "policy.require_dp=false", "strategy.max_norm=8"]


class Client(VaultClient):
    def __init__(self, node: Any, config: Any, context: Any) -> None:
        super().__init__(node, config, context)
        self.spec = SPEC

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(SPEC.features, 8), nn.Tanh(), nn.Linear(8, SPEC.classes))


def rows(seed: int, count: int = 300) -> tuple[dict[str, np.ndarray], list[str]]:
    rng = np.random.default_rng(seed)
    age, dose = rng.normal(size=(2, count)).astype(np.float32)
    smokes = rng.integers(0, 2, count).astype(np.uint8)
    ill = (age + dose + smokes > 0.5).astype(np.int64)
    return {"age": age, "dose": dose, "smokes": smokes, "ill": ill}, [f"patient-{i}" for i in range(count)]


def as_records(vault: Vault, name: str, columns: dict[str, np.ndarray], people: list[str], _: Path) -> None:
    ingest(vault, name, columns, people, TERMS)


def as_parquet(vault: Vault, name: str, columns: dict[str, np.ndarray], people: list[str], folder: Path) -> None:
    table = pa.table({**columns, "smokes": pa.array(columns["smokes"].astype(bool))})
    pq.write_table(table, folder / f"{name}.parquet", row_group_size=70)
    governed(vault, folder / f"{name}.parquet", name, list(columns), people)


def as_csv(vault: Vault, name: str, columns: dict[str, np.ndarray], people: list[str], folder: Path) -> None:
    pc.write_csv(pa.table(columns), folder / f"{name}.csv")
    kinds = {"age": "f32", "dose": "f32", "smokes": "f32", "ill": "i64"}
    governed(vault, folder / f"{name}.csv", name, list(columns), people, csv=Csv(types=kinds))


def governed(vault: Vault, path: Path, name: str, columns: list[str], people: list[str], **more: Any) -> None:
    role = "holdout" if name.endswith(".holdout") else "train"
    vault.store_table(
        path,
        subjects=people,
        classes=[("consent", int(time() // 86400) + 100, False)],
        facts=TERMS.facts(columns, name, role),
        name=name,
        **more,
    )
    vault.consent_grant_many(people, "research")


Store = Callable[[Vault, str, dict[str, np.ndarray], list[str], Path], None]


def clinics(root: Path, stores: list[Store]) -> list[dict[str, Any]]:
    made = []
    for number, store in enumerate(stores):
        folder = root / f"clinic-{number}"
        folder.mkdir(parents=True)
        vault = Vault.create(folder / "v", KEY)
        vault.govern("core")
        columns, people = rows(number)
        for name, part in (("patients", slice(240)), ("patients.holdout", slice(240, 300))):
            store(vault, name, {k: v[part] for k, v in columns.items()}, people[part], folder)
        vault.consent_withdraw_many([f"patient-{i}" for i in range(10)], "research")
        (folder / "key").write_bytes(KEY)
        (folder / "key").chmod(0o600)
        config = {"aegis-vault": str(folder / "v"), "aegis-key-file": str(folder / "key"), "aegis-dataset": "patients"}
        made.append({**config, "aegis-max-evaluations": 10})
    return made


def trained(root: Path, stores: list[Store], *overrides: str) -> tuple[Any, dict[str, np.ndarray]]:
    cfg = compose(overrides=[*BASE, *overrides])
    app = aegis_client_app(Client, config=cfg)
    out = root / "out"
    try:
        run_inprocess(
            aegis_server_app(cfg, model=lambda: Client.model(None)),  # type: ignore[arg-type]
            app,
            clinics(root, stores),
            run_config={"aegis-output": str(out)},
            workers=1,
        )
    finally:
        close_nodes()
    with np.load(out / "model.npz") as model:
        return load_report(out), dict(model)


@pytest.mark.parametrize("store", [as_parquet, as_csv])
def test_a_federation_trains_on_governed_tables_as_on_the_same_records(tmp_path: Path, store: Store) -> None:
    """With test noise every draw is known, so the models are equal to the last bit."""
    known = ["privacy.noise=insecure_test", "privacy.sample_rate=0.3"]
    report, model = trained(tmp_path / "tables", [store] * 3, *known)
    other, records = trained(tmp_path / "records", [as_records] * 3, *known)
    assert report.run.status == other.run.status == "finished"
    for name, values in records.items():
        np.testing.assert_array_equal(model[name], values)
    assert report.results.accuracy == other.results.accuracy


def test_tables_and_records_train_together_under_permits_and_one_ledger_each(tmp_path: Path) -> None:
    report, model = trained(tmp_path, [as_parquet, as_csv, as_records], "privacy.epsilon=3")
    assert report.run.status == "finished"
    assert report.run.private
    assert all(np.isfinite(values).all() for values in model.values())
    for number in range(3):
        vault = Vault.open(tmp_path / f"clinic-{number}" / "v", KEY)
        assert 0 < Ledger(vault, "patients").spent(1e-5).epsilon <= 3.01
        decisions = [r for r in vault.audit_records("authorize") if r["action"] == "train"]
        assert {r["rows_allowed"] for r in decisions} == {230}, "ten people withdrew"


def test_a_consent_withdrawn_between_batches_ends_a_table_that_is_in_memory(tmp_path: Path) -> None:
    from aegis_engine import ComplianceEngine, Request
    from aegis_flower.errors import AegisError
    from aegis_flower.stream import PermitDataset

    (node, *_) = clinics(tmp_path, [as_parquet])
    vault = Vault.open(node["aegis-vault"], KEY)
    permit = ComplianceEngine(vault).authorize(
        str(vault.datasets()["patients"]), Request(action="train", purpose="research")
    )
    data = PermitDataset(vault, permit, SPEC)
    assert len(data) == 230
    x, y = data.__getitems__(list(range(230)))
    columns, _people = rows(0)
    np.testing.assert_array_equal(x[:, 0].numpy(), columns["age"][10:240])
    np.testing.assert_array_equal(y.numpy(), columns["ill"][10:240])
    vault.consent_withdraw("patient-100", "research")
    with pytest.raises(AegisError) as ended:
        data.__getitems__([0])
    assert ended.value.code == "AEG-P008"
