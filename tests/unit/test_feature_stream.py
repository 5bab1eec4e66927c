"""The stream of a feature plan: governed tables row by row, and numbers that go with the permit."""

from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import torch
from aegis_engine.errors import PermitRevoked
from aegis_engine.tables import Csv
from plan_examples import LABEL, PLAN
from torch import nn

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower import features
from aegis_flower.errors import DataMismatch
from aegis_flower.features.columns import Boolean
from aegis_flower.ingest import Terms
from aegis_flower.per_record.evaluation import evaluate
from aegis_flower.per_record.losses import loss_of
from aegis_flower.stream import PermitDataset


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Vault, str, pa.Table]:
    vault = Vault.create(tmp_path / "vault", bytes(range(32)))
    vault.govern("core")
    count = 500
    table = pa.table(
        {
            "age": pa.array([None if i % 7 == 0 else float(i % 150) for i in range(count)], pa.float64()),
            "ward": pa.array([("north", "7", "elsewhere")[i % 3] for i in range(count)]),
            "smokes": pa.array([i % 2 == 0 for i in range(count)]),
            "ill": pa.array([("no", "yes")[i % 5 == 0] for i in range(count)]),
            "private": pa.array([f"secret {i}" for i in range(count)]),
        }
    )
    made = vault.create_table("patients")
    with pq.ParquetWriter(made, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=90):
            writer.write_batch(batch)
    vault.table_rows(made, [f"person-{i}" for i in range(count)])
    facts = Terms(purposes=["research"]).facts(table.column_names, "patients", "train")
    classes = [("consent", int(time() // 86400) + 9, False)]
    ((dataset, *_), _) = vault.store_tables([(made, classes, facts, None)], grant={"research": None})
    vault.consent_withdraw_many(["person-0", "person-250"], "research")
    return vault, dataset, table


def permit(vault: Vault, dataset: str, columns: list[str] | None = None) -> Any:
    return ComplianceEngine(vault).authorize(
        dataset, Request(action="train", purpose="research", columns=columns or list(PLAN.reads))
    )


def test_rows_of_a_table_are_what_the_plan_makes_of_them(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, table = stored
    data = PermitDataset(vault, permit(vault, dataset), PLAN.spec)
    left = [i for i in range(500) if i not in (0, 250)]
    whole = PLAN.apply(table.take(left))
    x, y = data.__getitems__(np.arange(len(data)))
    assert isinstance(x, torch.Tensor)
    np.testing.assert_array_equal(x.numpy(), whole.inputs["x"], strict=True)
    np.testing.assert_array_equal(y.numpy(), whole.label, strict=True)
    chosen = [497, 3, 3, 120]
    some, _ = data.__getitems__(chosen)
    assert isinstance(some, torch.Tensor)
    np.testing.assert_array_equal(some.numpy(), whole.inputs["x"][chosen])
    some.zero_()
    again, _ = data.__getitems__(chosen)
    assert isinstance(again, torch.Tensor)
    np.testing.assert_array_equal(again.numpy(), whole.inputs["x"][chosen], err_msg="a batch is a copy of what is kept")
    assert data.features == 6
    assert len(data.__getitems__([])[1]) == 0
    with pytest.raises(IndexError):
        data.__getitems__([498])


def test_what_is_kept_of_a_table_are_numbers_and_it_goes_with_the_permit(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, _ = stored
    data = PermitDataset(vault, permit(vault, dataset), PLAN.spec)
    data.__getitems__(np.arange(len(data)))
    kept = dict(data._rows._kept)
    assert len(kept) == 6
    arrays = [a for one in kept.values() for a in (*one.inputs.values(), one.label)]
    assert {a.dtype.name for a in arrays} == {"float32", "int64"}
    assert any(a.any() for a in arrays)
    vault.consent_withdraw("person-7", "research")
    with pytest.raises(PermitRevoked):
        data.__getitems__([0])
    assert not data._rows._kept
    assert not any(a.any() for a in arrays), "cleared, not only let go"


def test_a_permit_without_the_label_gives_inputs_alone(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, _ = stored
    data = PermitDataset(vault, permit(vault, dataset, list(PLAN.columns)), PLAN.spec)
    assert not data.labelled
    x, y = data.__getitems__([0, 1])
    assert isinstance(x, torch.Tensor)
    assert (x.shape, y.tolist()) == ((2, 6), [0, 0])


def test_a_model_is_evaluated_on_several_inputs_row_by_row(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, table = stored
    plan = features.parse(
        "version: 1\ncolumns: {age: {kind: number, low: 0, high: 120, missing: 60}, "
        "ward: {kind: category, as: index, levels: [north]}}\n"
        "inputs: {numbers: [age], ids: [ward]}\n" + LABEL
    )

    class Picky(nn.Module):
        """Fails on a batch in which a ward is unknown."""

        def __init__(self) -> None:
            super().__init__()
            self.of_ward = nn.Embedding(1, 2)

        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.of_ward(x["ids"][:, 0]) + 0 * x["numbers"]

    data = PermitDataset(vault, permit(vault, dataset, list(plan.reads)), plan.spec)
    found = evaluate(Picky(), loss_of("binary"), data, torch.device("cpu"), loss_max=7.0)
    unknown = sum(one != "north" for one in table["ward"].to_pylist()) - 1
    assert (found.confidence == 0).sum() == unknown
    assert 7.0 * unknown < found.loss < 7.0 * unknown + 3 * len(data)


def test_a_governed_csv_is_read_by_a_plan_too(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", bytes(range(32)))
    vault.govern("core")
    lines = [f"{i if i % 4 else ''},{('north', '7')[i % 2]},2020-02-{1 + i % 29:02},no" for i in range(200)]
    (tmp_path / "p.csv").write_text("\n".join(["age,ward,seen,ill", *lines]) + "\n")
    people = [f"person-{i}" for i in range(200)]
    dataset = vault.store_table(
        tmp_path / "p.csv",
        subjects=people,
        classes=[("consent", int(time() // 86400) + 9, False)],
        facts=Terms(purposes=["research"]).facts(["age", "ward", "seen", "ill"], "p", "train"),
        name="p",
        csv=Csv(types={"age": "f64", "ward": "text", "seen": "date", "ill": "text"}),
    )
    vault.consent_grant_many(people, "research")
    plan = features.parse(
        "version: 1\ncolumns: {age: {kind: number, low: 0, high: 120, missing: 60}, ward: {kind: category, levels: [north, 7]}, "
        "seen: {kind: date, origin: 2020-01-01, low: 0, high: 366, parts: [weekday], missing: 0}}\n" + LABEL
    )
    x, y = PermitDataset(vault, permit(vault, str(dataset), list(plan.reads)), plan.spec).__getitems__(np.arange(200))
    wanted = plan.apply(pc.read_csv(tmp_path / "p.csv"))
    assert isinstance(x, torch.Tensor)
    np.testing.assert_array_equal(x.numpy(), wanted.inputs["x"])
    np.testing.assert_array_equal(y.numpy(), wanted.label)


def test_a_column_of_another_kind_is_refused_before_a_row_is_read(stored: tuple[Vault, str, pa.Table]) -> None:
    vault, dataset, _ = stored
    wrong = features.Plan(columns={"private": Boolean()}, label=PLAN.label)
    with pytest.raises(
        DataMismatch, match="column 'private' holds Utf8, which the feature plan cannot take for a boolean"
    ):
        PermitDataset(vault, permit(vault, dataset, list(wrong.reads)), wrong.spec)
