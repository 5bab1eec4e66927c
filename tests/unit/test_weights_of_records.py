"""Weights of records: from a column of the schema through the plan into the loss, and never past the clip."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch
from dp_training import CE, flat, mechanism, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from aegis_engine import ComplianceEngine, Request, Rng, Vault
from aegis_flower import VaultClient, aegis_app, aegis_client_app, compose, features, run_experiment
from aegis_flower.data import schema as schemas
from aegis_flower.data.schema import Column, Schema, Source
from aegis_flower.errors import BadRows, ConfigError, DataMismatch, RunFailed
from aegis_flower.features import Label, Plan, Weight
from aegis_flower.features.columns import Number
from aegis_flower.features.values import batch_of, read
from aegis_flower.importer import add
from aegis_flower.inference import load
from aegis_flower.ingest import Terms
from aegis_flower.learners import rounds
from aegis_flower.per_record.evaluation import by_record
from aegis_flower.per_record.losses import clipped_sum, gradients, per_sample
from aegis_flower.stream import PermitDataset

HIGH, CLIP = 5.0, 0.7
PLAN = Plan(
    columns={name: Number(low=-1, high=1) for name in ("a", "b")},
    label=Label(task="binary", column="ill", levels=("no", "yes")),
    weight=Weight(column="w", high=HIGH),
)
SCHEMA = Schema(
    columns={
        **{name: Column(low=-1, high=1, missing=False) for name in ("a", "b")},
        "ill": Column(kind="category", role="label", levels=("no", "yes"), missing=False),
        "w": Column(role="weight", low=0, high=9, missing=False),
    },
    each_row_a_person=True,
)


def rows(count: int, weights: Any = None) -> pa.Table:
    rng = np.random.default_rng(count)
    a, b = rng.uniform(-1, 1, (2, count))
    ill = np.where(a + rng.normal(0, 0.5, count) > 0, "yes", "no")
    return pa.table({"a": a, "b": b, "ill": ill, "w": rng.uniform(0, 9, count) if weights is None else weights})


def governed(vault: Vault, table: pa.Table) -> str:
    made = vault.create_table("rows")
    with pq.ParquetWriter(made, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=64):
            writer.write_batch(batch)
    vault.table_rows(made, [f"p{i}" for i in range(table.num_rows)])
    facts = Terms(purposes=["research"]).facts(table.column_names, "rows", "train")
    classes = [("consent", int(time() // 86400) + 9, False)]
    ((dataset, *_), _) = vault.store_tables([(made, classes, facts, None)], grant={"research": None})
    return dataset


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(tmp_path / "vault", bytes(range(32)))
    made.govern("core")
    return made


def permit(vault: Vault, dataset: str, columns: tuple[str, ...]) -> Any:
    return ComplianceEngine(vault).authorize(
        dataset, Request(action="train", purpose="research", columns=list(columns))
    )


# -- one record and the clip -----------------------------------------------------------------------------------------------------


def weighed_sum(model: nn.Module, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The clipped sum as training takes it."""
    with per_sample(model) as net:
        (by_record(nn.functional.cross_entropy)(net(x), y) * weight).mean().backward()
        return torch.cat(clipped_sum(gradients(model, len(y)), CLIP))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1e-6, 0.5, 1.0, HIGH, 2 * HIGH, 1e300]), min_size=2, max_size=6),
    st.floats(-6, 6),
    st.integers(0, 5),
)
def test_one_record_moves_the_sum_by_at_most_the_clip_whatever_its_weight(
    weights: list[float], scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    count = len(weights)
    x = torch.from_numpy(rng.uniform(-1, 1, (count, 2)) * 10.0**scale).float()
    y = torch.from_numpy(rng.integers(0, 2, count))
    table = pa.table({"w": np.array(weights)})
    assert PLAN.weight is not None
    weight = torch.from_numpy(PLAN.weight.encode(read(batch_of(table).column(0), "number", "w")))
    assert float(weight.min()) >= 0
    assert float(weight.max()) <= HIGH
    whole = weighed_sum(model, x, y, weight)
    for out in range(count):
        kept = [i for i in range(count) if i != out]
        without = weighed_sum(model, x[kept], y[kept], weight[kept])
        assert float((whole - without).norm()) <= CLIP * (1 + 1e-6)
    # Of a record that counts nothing nothing is seen.
    none = weight.clone()
    none[0] = 0
    torch.testing.assert_close(
        weighed_sum(model, x, y, none), weighed_sum(model, x[1:], y[1:], none[1:]), rtol=1e-5, atol=1e-7
    )


# -- from the table into a step ------------------------------------------------------------------------------------------------


def test_a_batch_brings_the_weights_of_its_rows_cut_to_the_plans_bound(vault: Vault) -> None:
    table = rows(200)
    data = PermitDataset(vault, permit(vault, governed(vault, table), PLAN.reads), PLAN.spec)
    assert data.weighted
    places = [150, 3, 3, 199]
    x, y, weight = data.weighed(places)
    assert weight is not None
    wanted = np.clip(table["w"].to_numpy(), 0, HIGH)[places].astype(np.float32)
    np.testing.assert_array_equal(weight.numpy(), wanted)
    also_x, also_y = data.__getitems__(places)
    assert torch.equal(x, also_x)  # type: ignore[arg-type]
    assert torch.equal(y, also_y)
    # A plan without a weight of the same table has none, and a permit without its column is no way around it.
    plain = dataclasses.replace(PLAN, weight=None)
    bare = PermitDataset(vault, permit(vault, data_set_of(vault), plain.reads), plain.spec)
    assert bare.weighed(places)[2] is None
    lacking = PermitDataset(vault, permit(vault, data_set_of(vault), plain.reads), PLAN.spec)
    assert not lacking.labelled, "without its weights a record is not one to learn from"


def data_set_of(vault: Vault) -> str:
    return vault.datasets()["rows"]


@pytest.mark.parametrize("mode", ["example", "off"])
def test_a_step_is_that_of_the_weighted_loss_over_the_number_of_records(vault: Vault, mode: str) -> None:
    data = PermitDataset(vault, permit(vault, governed(vault, rows(40)), PLAN.reads), PLAN.spec)
    x, y, weight = data.weighed(np.arange(40))
    assert isinstance(x, torch.Tensor)
    assert weight is not None
    model = nn.Linear(2, 2)
    by_hand = copy.deepcopy(model)
    (CE(by_hand(x), y, reduction="none") * weight).mean().backward()
    wanted = flat(by_hand) - torch.cat([p.grad.ravel() for p in by_hand.parameters()]).numpy()  # type: ignore[union-attr]
    noise = {"clip": 1000.0, "expected_batch": 40.0} if mode == "example" else {"mode": "off"}
    run(model, data, 1e-9 if mode == "example" else 0.0, sample_rate=1.0, steps_per_round=1, **noise)
    np.testing.assert_allclose(flat(model), wanted, atol=1e-5)
    alike = torch.autograd.grad(CE(by_hand(x), y), list(by_hand.parameters()))
    assert not np.allclose(flat(by_hand) - flat(model), torch.cat([g.ravel() for g in alike]).numpy(), atol=1e-2)


# -- before a row is stored, or read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_an_import_refuses_rows_without_a_possible_weight_by_their_lines(
    tmp_path: Path, vault: Vault, end: str
) -> None:
    weights = [1.0, -0.5, float("nan"), 0.0, 9.5, float("inf"), 9.0, None]
    table = rows(8, pa.array(weights, pa.float64()))
    path = tmp_path / f"rows.{end}"
    pc.write_csv(table, path) if end == "csv" else pq.write_table(table, path)
    schema = dataclasses.replace(SCHEMA, source=Source(format=end))
    with pytest.raises(BadRows) as refused:
        add(vault, path, "rows", schema, terms=Terms(purposes=["research"]), consent_given=True)
    first = 2 if end == "csv" else 1  # the line of the first row: names stand in front of it in CSV
    told = {int(n) for line in refused.value.lines for n in re.findall(r"\d+", line.rpartition(" in line ")[2])}
    assert all(line.startswith("w: ") for line in refused.value.lines)
    assert told == {first + at for at in (1, 2, 4, 5, 7)}
    assert not vault.datasets()


FAULTS = [
    ({"low": -1.0}, "columns.w.low"),
    ({"low": None}, "columns.w.low"),
    ({"high": None}, "columns.w.high"),
    ({"low": 0.0, "high": 0.0}, "columns.w.high"),
    ({"missing": True}, "columns.w.missing"),
    ({"kind": "text", "low": None, "high": None}, "columns.w.role"),
]


@pytest.mark.parametrize(("changed", "key"), FAULTS)
def test_a_schema_declares_what_a_row_counts_at_most_and_at_least(changed: dict[str, Any], key: str) -> None:
    column = dataclasses.replace(SCHEMA.columns["w"], **changed)
    with pytest.raises(ConfigError, match=key):
        Schema(columns={**SCHEMA.columns, "w": column}, each_row_a_person=True)


def test_a_plan_says_its_weight_and_reads_it_again() -> None:
    again = features.parse(features.write(PLAN))
    assert again == PLAN
    assert again.sha256 != dataclasses.replace(PLAN, weight=None).sha256
    assert PLAN.reads[-1] == "w"
    with pytest.raises(ConfigError, match=r"weight\.high: 0 is not above 0"):
        dataclasses.replace(PLAN, weight=Weight(column="w", high=0))
    with pytest.raises(ConfigError, match=r"weight\.column: 'a' is a feature or the label"):
        dataclasses.replace(PLAN, weight=Weight(column="a", high=1))
    with pytest.raises(ConfigError, match=r"weight\.high: is missing, and needed"):
        features.parse(features.write(PLAN).replace(", high: 5", ""))
    with pytest.raises(ConfigError, match="weight: is missing"):
        features.parse(features.write(PLAN).partition("weight:")[0] + "weight:\n")


def test_a_draft_takes_the_weight_of_the_schema() -> None:
    drafted = features.draft(SCHEMA)
    assert drafted.plan.weight == Weight(column="w", high=9)
    assert features.parse(drafted.text()).weight == drafted.plan.weight
    two = Schema(columns={**SCHEMA.columns, "v": SCHEMA.columns["w"]}, each_row_a_person=True)
    assert features.draft(two).told == {"weight": ["which of w, v is the weight"]}


def test_a_plan_weighs_only_by_what_the_sealed_schema_calls_a_weight() -> None:
    features.check_promises(PLAN, SCHEMA.columns)
    for column in (None, Column(low=0, high=9, missing=False), Column(role="weight", high=9, missing=False)):
        others = {name: c for name, c in SCHEMA.columns.items() if name != "w"}
        with pytest.raises(DataMismatch, match="no weight by the schema"):
            features.check_promises(PLAN, {**others, **({"w": column} if column else {})})


# -- a federation ----------------------------------------------------------------------------------------------------------------


FEW = ["data.clients=3", "data.partition=iid", "strategy.rounds=2", "tracking.html=false"]
OFF = ["privacy=off", "policy.require_dp=false"]


def federated(folder: Path, plan: Plan, table: pa.Table, **options: Any) -> Any:
    pc.write_csv(table, folder / "rows.csv")
    (folder / "schema.toml").write_text(schemas.write(SCHEMA))
    (folder / "plan.yaml").write_text(features.write(plan))
    cfg = compose(
        overrides=[
            "data=table",
            *(
                f"data.{k}={folder / v}"
                for k, v in (("path", "rows.csv"), ("schema", "schema.toml"), ("features", "plan.yaml"))
            ),
            *FEW,
            *OFF,
        ]
    )
    return run_experiment(cfg, folder / "run", **options)


def test_a_federation_learns_what_counts_and_says_so(tmp_path: Path) -> None:
    """Rows say the opposite of each other, half of them with weight 0."""
    table = rows(400)
    half = np.arange(400) % 2 == 0
    ill = np.where((table["a"].to_numpy() > 0) == half, "yes", "no")
    table = table.set_column(2, "ill", pa.array(ill)).set_column(3, "w", pa.array(np.where(half, 5.0, 0.0)))
    report = federated(tmp_path, PLAN, table)
    assert report.run.status == "finished"
    assert any("(column w, at most 5); the metrics count each record once" in w for w in report.run.warnings)
    sure = load(tmp_path / "run").predict(pa.table({"a": [-0.8, 0.8], "b": [0.0, 0.0]}))
    assert list(sure["prediction"]) == ["no", "yes"]
    assert sure["p(yes)"][1] > 0.7


def test_a_client_that_trains_by_itself_is_refused_before_a_row_is_read(tmp_path: Path) -> None:
    class Own(VaultClient):
        torch_model = False

        def train_round(self, *_: Any) -> Any:
            raise AssertionError("a row was about to be read")

    report = federated(tmp_path, PLAN, rows(200), client_app=aegis_client_app(Own, config=None))
    assert report.run.status == "failed"
    reasons = [r.reason for c in report.clients for r in c.refusals]
    assert reasons
    assert all("Own trains by itself" in reason for reason in reasons)


def test_a_learner_of_single_gradients_weighs_them_before_the_clip(vault: Vault) -> None:
    """One step of a whole batch, beside torch's."""
    data = PermitDataset(vault, permit(vault, governed(vault, rows(40)), PLAN.reads), PLAN.spec)
    draws = rounds._Draws(data, mechanism(1e-9, sample_rate=1.0, steps_per_round=1), Rng(), most=7, classes=2)
    model = nn.Linear(2, 2)
    x, y, weight = data.weighed(np.arange(40))
    assert weight is not None
    wanted = weighed_sum(model, x, y, weight).numpy()  # type: ignore[arg-type]
    sums = np.zeros(6)
    (batch,) = draws
    for part, labels in batch:
        with per_sample(model) as net:
            CE(net(torch.from_numpy(part)), torch.from_numpy(labels)).backward()  # type: ignore[arg-type]
            each = torch.cat(gradients(model, len(labels)), dim=1).numpy()
        sums += rounds.summed(rounds._weighed(each, draws.weight), CLIP)
    np.testing.assert_allclose(sums, wanted, atol=1e-6)


def test_a_learner_that_trains_by_itself_is_refused(tmp_path: Path) -> None:
    from sklearn.linear_model import SGDClassifier

    pc.write_csv(rows(200), tmp_path / "rows.csv")
    (tmp_path / "schema.toml").write_text(schemas.write(SCHEMA))
    (tmp_path / "plan.yaml").write_text(features.write(PLAN))
    app = aegis_app(
        lambda spec: SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.3),
        data=tmp_path / "rows.csv",
        schema=tmp_path / "schema.toml",
        features=tmp_path / "plan.yaml",
        name="own",
        overrides=[*FEW, *OFF],
    )
    with pytest.raises(
        RunFailed, match=r"weighs records by 'w', and a model of scikit-learn with privacy.mode=off trains by"
    ):
        app.run(folder=tmp_path / "run")
