"""Flower apps that know nothing of AEGIS train in the jail as they are; only where the data lie is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from neighbouring import APPS
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from aegis_flower.client.round_config import RoundConfig
from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.jail import Ended
from aegis_flower.jailed import files, rows
from aegis_flower.jailed.approved import flower_entry
from aegis_flower.jailed.pool import jail_of

SPEC = Spec({"features": 30}, "malignant", 2)
RUN = {"batch-size": 32, "local-epochs": 5, "learning-rate": 0.1}
LINEAR = [np.zeros((1, 30), np.float32), np.zeros(1, np.float32)]
QUIET = {"privacy": {"clip": 50.0, "noise_multiplier": 0.05}}


def net() -> tuple[list[np.ndarray], tuple[str, ...]]:
    rng = np.random.default_rng(1)
    shapes = {"fc1.weight": (8, 30), "fc1.bias": (8,), "fc2.weight": (2, 8), "fc2.bias": (2,)}
    return [(rng.normal(size=s) * 0.3).astype(np.float32) for s in shapes.values()], tuple(shapes)


def prepared(world: Any) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_breast_cancer(return_X_y=True)
    x, y = scale(x).astype(np.float32), (1 - y).astype(np.int64)
    world.data("cancer", {"features": x, "malignant": y}, [f"patient-{i}" for i in range(len(y))])
    return x, y


def predictions_of_net(arrays: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    w1, b1, w2, b2 = arrays
    return np.argmax(np.tanh(x @ w1.T + b1) @ w2.T + b2, 1)


TORCH = ("numpy", "torch", "torch._dynamo", "flwr.clientapp")


@pytest.mark.parametrize(
    ("folder", "names", "start", "preload"),
    [
        ("torchapp", net()[1], net()[0], TORCH),
        ("sklearnapp", ("0", "1"), LINEAR, ("numpy", "sklearn.linear_model", "flwr.clientapp")),
        ("oldapp", ("0", "1"), LINEAR, ("numpy", "flwr.clientapp")),
    ],
)
def test_an_app_learns_from_the_file_that_it_is_told_of(
    world: Any, folder: str, names: Any, start: Any, preload: Any
) -> None:
    """What comes back from the jail, before clip and noise."""
    x, y = prepared(world)
    client = world.client(
        "", "any", "cancer", app=APPS / folder, spec=SPEC, run_config=dict(RUN), preload=preload, config=QUIET
    )
    client.names, client.round_config = names, RoundConfig({"lr": 0.1})
    permit = client.authorize("train", 1)
    with jail_of(client._place) as jail:
        asked = client._asked(start, 1)
        result = jail.run(asked.work(rows.read(client.node.vault, permit, SPEC)), client._limits({}))
    assert result.ended is Ended.DONE, result.log
    after, at = [], 0
    for a in start:
        after.append(result.update[at : at + a.size].reshape(a.shape))
        at += a.size
    said = predictions_of_net(after, x) if folder == "torchapp" else x @ after[0][0] + after[1][0] > 0
    assert (said == y).mean() > 0.9


@pytest.mark.parametrize("mode", ["any", "blocks"])
def test_an_apps_update_leaves_clipped_and_noised(world: Any, mode: str) -> None:
    prepared(world)
    client = world.client(
        "",
        mode,
        "cancer",
        app=APPS / "sklearnapp",
        spec=SPEC,
        run_config=dict(RUN),
        preload=("numpy", "sklearn.linear_model", "flwr.clientapp"),
        config={"privacy": {"clip": 0.5, "noise_multiplier": 1.0}},
        blocks=4,
    )
    client.names, client.round_config = ("0", "1"), RoundConfig({"lr": 0.1})
    made = client.train_round(LINEAR, 1, 1.0)
    assert made.session is not None
    assert made.session.spent == (1, 1, 31, True)
    over = 1 if mode == "any" else 4
    noise = 2 * 0.5 / over * np.sqrt(31)
    assert 0.3 * noise < np.linalg.norm(made.update) < 3 * noise + 0.5


def test_a_folder_without_a_client_app_is_refused_before_anything_is_read(world: Any, tmp_path: Any) -> None:
    for text in (
        "",
        "[tool.flwr.app.components]\nclientapp = 3",
        "[tool.flwr.app.components]\nclientapp = 'a b:c'",
        "x =",
    ):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(AppError, match="ClientApp"):
            flower_entry(tmp_path)
    client = world.client("", app=tmp_path)
    with pytest.raises(AppError, match="ClientApp"):
        client.preflight(LINEAR, trains=True, evaluates=False)
    assert client.node.ledger.entries() == []


TABLE = {
    "age": np.array([30, 41], np.int64),
    "age.missing": np.array([False, True]),
    "name": np.array(["Ann", ""]),
    "name.missing": np.array([False, True]),
    "bmi": np.array([20.5, np.nan]),
    "scan": np.arange(4, dtype=np.float32).reshape(2, 2),
}


@pytest.mark.parametrize("form", ["npz", "arrow", "csv"])
def test_the_data_are_a_file_of_the_form_that_the_operator_chose(tmp_path: Any, form: str) -> None:
    path = files.write(TABLE, form, tmp_path)
    if form == "npz":
        found = np.load(path, allow_pickle=False)
        assert set(found) == set(TABLE)
        for name, values in TABLE.items():
            np.testing.assert_array_equal(found[name], values)
    elif form == "arrow":
        from pyarrow import feather

        table = feather.read_table(path)
        assert table.column("age").to_pylist() == [30, None]
        assert table.column("name").to_pylist() == ["Ann", None]
        assert table.column("scan").to_pylist() == [[0, 1], [2, 3]]
    else:
        assert path.read_text() == "age,name,bmi,scan_0,scan_1\n30,Ann,20.5,0.0,1.0\n,,,2.0,3.0\n"
