"""Mixed governed tables (texts, dates, gaps, lists) train in a federation by a feature plan, under permits and masks."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from aegis import Vault
from torch import nn

from aegis_flower import Terms, VaultClient, aegis_client_app, aegis_server_app, compose, features, run_inprocess
from aegis_flower.data import Spec
from aegis_flower.data.schema import Column, Schema
from aegis_flower.errors import RunFailed
from aegis_flower.ingest import ingest
from aegis_flower.ledger import Ledger
from aegis_flower.node import close_nodes
from aegis_flower.node.keys import FEATURES_SHA256
from aegis_flower.report import load_report

KEY = bytes(range(32))
TERMS = Terms(purposes=["research"], require_dp=False)
BASE = ["name=plans", "data.clients=3", "strategy.rounds=2", "policy.require_dp=false", "strategy.max_norm=8"]
KNOWN = ["privacy.noise=insecure_test", "privacy.sample_rate=0.3"]
WARDS = ("north", "south", "intensive")
SCHEMA = Schema(
    columns={
        "age": Column(low=0, high=120),
        "smokes": Column(kind="boolean"),
        "ward": Column(kind="category", levels=WARDS),
        "admitted": Column(kind="date"),
        "notes": Column(kind="text"),
        "codes": Column(kind="list", item="i32"),
        "cost": Column(low=0, high=10_000, missing=False),
        "ill": Column(kind="category", role="label", levels=("no", "yes"), missing=False),
    },
    each_row_a_person=True,
)
COLUMNS = """
version: 1
columns:
  age: {kind: number, low: 0, high: 120, missing: 60}
  smokes: {kind: boolean, missing: 0.5}
  ward: {kind: category, levels: [north, south, intensive], missing: slot}
  admitted: {kind: date, origin: 2020-01-01, low: 0, high: 3650, parts: [month], missing: 0}
  notes: {kind: text, as: bag, ids: 16, missing: empty}
  codes: {kind: list, as: numbers, length: 3, low: 0, high: 9, pad: -1, missing: empty}
"""
BINARY = COLUMNS + 'label: {task: binary, column: ill, levels: ["no", "yes"]}\n'
REGRESSION = COLUMNS + "label: {task: regression, column: cost, low: 0, high: 10000}\n"
NAMED = (
    BINARY.replace(
        "as: numbers, length: 3, low: 0, high: 9, pad: -1", "as: ids, length: 3, low: 0, high: 9, pad: 10, unknown: 11"
    )
    + "inputs: {numbers: [age, smokes, ward, admitted, notes], ids: [codes]}\n"
)


def rows(seed: int, count: int = 300) -> tuple[pa.Table, list[str]]:
    rng = np.random.default_rng(seed)

    def gaps(values: list[Any]) -> list[Any]:
        return [None if gone else v for v, gone in zip(values, rng.random(count) < 0.1, strict=True)]

    age = rng.normal(60, 20, count)
    smokes = rng.random(count) < 0.4
    ward = rng.choice([*WARDS], count)
    ill = (age + 20 * smokes + 20 * (ward == "intensive") > 75).astype(int)
    codes = [rng.integers(0, 10, rng.integers(0, 5)).tolist() for _ in range(count)]
    table = pa.table(
        {
            "age": pa.array(gaps(age.tolist()), pa.float64()),
            "smokes": pa.array(gaps(smokes.tolist()), pa.bool_()),
            "ward": pa.array(gaps(ward.tolist()), pa.string()),
            "admitted": pa.array(
                gaps([date(2020, 1, 1) + timedelta(int(d)) for d in rng.integers(0, 3000, count)]), pa.date32()
            ),
            "notes": pa.array(
                gaps([f"Seen by Dr {n}, stable" for n in rng.choice(["Li", "Wolf"], count)]), pa.string()
            ),
            "codes": pa.array(gaps(codes), pa.list_(pa.int32())),
            "cost": pa.array((100 * age).clip(0, 10_000), pa.float64()),
            "ill": pa.array([("no", "yes")[one] for one in ill], pa.string()),
        }
    )
    return table, [f"patient-{i}" for i in range(count)]


def as_table(
    vault: Vault, name: str, table: pa.Table, people: list[str], _: str, about: str | None = SCHEMA.text()
) -> None:
    made = vault.create_table(name)
    with pq.ParquetWriter(made, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=70):
            writer.write_batch(batch)
    vault.table_rows(made, people)
    role = "holdout" if name.endswith(".holdout") else "train"
    classes = [("consent", int(time() // 86400) + 100, False)]
    vault.store_tables([(made, classes, TERMS.facts(table.column_names, name, role), about)], grant={"research": None})


def as_records(vault: Vault, name: str, table: pa.Table, people: list[str], plan: str) -> None:
    """The plan's own numbers, made before, as records of fixed size."""
    made = features.load(plan).apply(table)
    assert made.label is not None
    ingest(vault, name, {**made.inputs, "y": made.label}, people, TERMS)


Store = Callable[..., None]


def clinics(root: Path, store: Store, plan: str, **more: Any) -> list[dict[str, Any]]:
    made = []
    for number in range(3):
        folder = root / f"clinic-{number}"
        folder.mkdir(parents=True)
        vault = Vault.create(folder / "v", KEY)
        vault.govern("core")
        table, people = rows(number)
        for name, part in (("patients", slice(0, 240)), ("patients.holdout", slice(240, 300))):
            store(vault, name, table[part], people[part], plan, **more)
        vault.consent_withdraw_many([f"patient-{i}" for i in range(10)], "research")
        (folder / "key").write_bytes(KEY)
        (folder / "key").chmod(0o600)
        config = {"aegis-vault": str(folder / "v"), "aegis-key-file": str(folder / "key"), "aegis-dataset": "patients"}
        made.append({**config, "aegis-max-evaluations": 10})
    return made


def of_records(spec: Spec) -> type[VaultClient]:
    class Client(VaultClient):
        def __init__(self, node: Any, config: Any, context: Any) -> None:
            super().__init__(node, config, context)
            self.spec = spec

    return Client


def trained(
    root: Path,
    nodes: list[dict[str, Any]],
    cfg: Any,
    *,
    client: type[VaultClient] = VaultClient,
    loss: Any = None,
    of_nodes: Any = None,
    **both: Any,
) -> tuple[Any, dict[str, np.ndarray]]:
    out = root / "out"
    try:
        run_inprocess(
            aegis_server_app(cfg, **both),
            aegis_client_app(client, config=of_nodes or cfg, loss=loss, **both),
            nodes,
            run_config={"aegis-output": str(out)},
            workers=1,
        )
    finally:
        close_nodes()
    report = load_report(out)
    if report.run.status != "finished":
        return report, {}
    with np.load(out / "model.npz") as model:
        return report, dict(model)


def planned(*overrides: str, plan: str) -> Any:
    return compose(overrides=["data=table", f"data.features={plan}", *BASE, *overrides])


@pytest.fixture
def plan(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str, name: str = "plan.yaml") -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_federation_trains_on_mixed_tables_as_on_the_numbers_of_the_same_plan(
    tmp_path: Path, plan: Callable[[str], str], task: str
) -> None:
    """With test noise every draw is known, so the models are equal to the last bit."""
    file = plan(BINARY if task == "binary" else REGRESSION)
    made = features.load(file)
    model = ["model=mlp", "model.hidden=[8]", "model.learning_rate=0.1"]
    quiet = ["evaluation.rounds=never"] if task == "regression" else []
    cfg = planned(*model, *KNOWN, *quiet, plan=file)
    report, learned = trained(tmp_path / "tables", clinics(tmp_path / "tables", as_table, file), cfg)
    assert report.run.status == "finished"
    assert report.run.private is False, "test noise is no privacy"

    width, outputs = made.shapes["x"][0], made.label.outputs
    spec = Spec({"x": width}, "y", outputs)
    torch.manual_seed(cfg.seed)
    start = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, outputs)).state_dict()

    def same() -> nn.Module:
        built = nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, outputs))
        built.load_state_dict(start)
        return built

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (out[:, 0] - y).square() if task == "regression" else nn.functional.cross_entropy(out, y)

    other, records = trained(
        tmp_path / "records",
        clinics(tmp_path / "records", as_records, file),
        compose(overrides=[*BASE, *model, *KNOWN, *quiet]),
        client=of_records(spec),
        loss=loss,
        model=same,
    )
    assert other.run.status == "finished"
    assert learned.keys() == records.keys()
    for name, values in records.items():
        np.testing.assert_array_equal(learned[name], values)
    assert report.results.accuracy == other.results.accuracy
    assert any(np.abs(learned[name] - start[name].numpy()).max() > 1e-3 for name in learned), "something was learned"


def test_secure_noise_masks_ledger_and_permit_for_exactly_the_plans_columns(
    tmp_path: Path, plan: Callable[[str], str]
) -> None:
    file = plan(BINARY)
    report, model = trained(tmp_path, clinics(tmp_path, as_table, file), planned("privacy.epsilon=3", plan=file))
    assert report.run.status == "finished"
    assert report.run.private
    assert all(np.isfinite(values).all() for values in model.values())
    for number in range(3):
        vault = Vault.open(tmp_path / f"clinic-{number}" / "v", KEY)
        assert 0 < Ledger(vault, "patients").spent(1e-5).epsilon <= 3.01
        decisions = [r for r in vault.audit_records("authorize") if r["action"] == "train"]
        assert {r["rows_allowed"] for r in decisions} == {230}, "ten people withdrew"
        asked = {tuple(sorted(r["columns"])) for r in decisions}
        assert asked == {tuple(sorted(features.load(file).reads))}, "cost is in the table, and nobody asked for it"


class Named(nn.Module):
    """Numbers and ids, each by its name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.of_codes = nn.Embedding(12, 3)
        self.of_all = nn.Linear(width + 3, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.of_all(torch.cat([x["numbers"], self.of_codes(x["ids"]).mean(1)], 1))


def test_a_model_with_several_inputs_gets_them_by_name(tmp_path: Path, plan: Callable[[str], str]) -> None:
    file = plan(NAMED)
    width = features.load(file).shapes["numbers"][0]

    nodes = clinics(tmp_path, as_table, file)
    report, learned = trained(tmp_path, nodes, planned(*KNOWN, plan=file), model=lambda: Named(width))
    assert report.run.status == "finished", report.run
    assert learned["of_codes.weight"].shape == (12, 3)
    assert report.results.accuracy is not None


def refused(root: Path) -> tuple[set[str], int]:
    """Codes of the refusals, and how many permits were asked for."""
    report = load_report(root / "out")
    codes = {lost.code for one in report.rounds for lost in one.lost}
    asked = 0
    for number in range(3):
        vault = Vault.open(root / f"clinic-{number}" / "v", KEY)
        asked += len(list(vault.audit_records("authorize")))
        assert Ledger(vault, "patients").spent(1e-5).epsilon == 0
    return codes, asked


WARD = "{kind: category, levels: [north, south, intensive], missing: slot}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((WARD, "{kind: number, low: 0, high: 1, missing: 0}"), "column 'ward' holds Utf8"),
        ((WARD, "{kind: text, as: bag, ids: 9, missing: empty}"), None),
        (("notes:", "letters:"), "no column 'letters'"),
        (("high: 120, missing: 60", "high: 120"), "refuses gaps in 'age'"),
        (("missing: slot", "missing: slot, unknown: refuse"), None),
        (("[north, south, intensive]", "[north, south], unknown: refuse"), "refuses unknown values of 'ward'"),
        (('levels: ["no", "yes"]', 'levels: ["nay", "yes"]'), "label 'ill' has only"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_by_name_before_a_permit(
    tmp_path: Path, plan: Callable[[str], str], change: tuple[str, str], words: str | None
) -> None:
    assert change[0] in BINARY
    file = plan(BINARY.replace(*change))
    nodes = clinics(tmp_path, as_table, file)
    cfg = planned("strategy.rounds=1", "evaluation.rounds=never", plan=file)
    if words is None:
        assert trained(tmp_path, nodes, cfg)[0].run.status == "finished"
        return
    with pytest.raises(RunFailed, match=words):
        trained(tmp_path, nodes, cfg)
    assert refused(tmp_path) == ({"AEG-N014"}, 0)


def test_of_a_table_that_nobody_described_nothing_is_promised(tmp_path: Path, plan: Callable[[str], str]) -> None:
    cfg = ["strategy.rounds=1", "evaluation.rounds=never"]
    strict, lenient = (
        plan(BINARY),
        plan(BINARY.replace("column: ill", "column: ill, missing: 'no', unknown: 'no'"), "lenient.yaml"),
    )
    nodes = clinics(tmp_path, as_table, strict, about=None)
    with pytest.raises(RunFailed, match="refuses gaps in 'ill', and the schema"):
        trained(tmp_path, nodes, planned(*cfg, plan=strict))
    assert refused(tmp_path) == ({"AEG-N014"}, 0)
    assert trained(tmp_path, nodes, planned(*cfg, plan=lenient))[0].run.status == "finished"


@pytest.mark.parametrize("secagg", ["masked", "clear"])
def test_nodes_whose_copy_of_the_plan_differs_refuse_it_by_name(
    tmp_path: Path, plan: Callable[..., str], secagg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "TERMS", dataclasses.replace(TERMS, require_secure_aggregation=False))
    servers, nodes_ = plan(BINARY), plan(BINARY.replace("high: 120", "high: 121"), "other.yaml")
    nodes = clinics(tmp_path, as_table, servers)
    more = [f"secagg={secagg}", "policy.require_secure_aggregation=false", "strategy.rounds=1"]
    mine, theirs = (planned(*more, plan=one) for one in (servers, nodes_))
    told = rf"{features.load(servers).sha256}.*other.yaml has {features.load(nodes_).sha256}"
    with pytest.raises(RunFailed, match=told):
        trained(tmp_path, nodes, mine, of_nodes=theirs)
    assert refused(tmp_path) == ({"AEG-N014"}, 0)


def test_a_plan_that_an_operator_has_not_pinned_is_refused_before_a_permit(
    tmp_path: Path, plan: Callable[..., str]
) -> None:
    """Server and app agree on it; the node's operator has read another."""
    read, brought = plan(BINARY), plan(BINARY.replace("high: 120", "high: 121"), "other.yaml")
    pinned = features.load(read).sha256
    nodes = [{**node, FEATURES_SHA256: pinned.upper()} for node in clinics(tmp_path, as_table, read)]
    cfg = ["strategy.rounds=1", "evaluation.rounds=never"]
    told = rf"operator pinned the feature plan {pinned}.*other.yaml, which has {features.load(brought).sha256}"
    with pytest.raises(RunFailed, match=told):
        trained(tmp_path, nodes, planned(*cfg, plan=brought))
    assert refused(tmp_path) == ({"AEG-N014"}, 0)
    assert trained(tmp_path, nodes, planned(*cfg, plan=read))[0].run.status == "finished"
