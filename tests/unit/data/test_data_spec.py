"""What a value is: a number keeps its kind, and a spec that does not fit is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from streams import everything

from aegis_engine import Request
from aegis_flower.data import Spec
from aegis_flower.errors import DataMismatch
from aegis_flower.ingest import Terms, ingest
from aegis_flower.stream import PermitDataset


def opened(governed: Any, columns: dict[str, np.ndarray], spec: Spec) -> PermitDataset:
    """A data set of these columns, taken through the vault and a permit."""
    n = len(next(iter(columns.values())))
    dataset = ingest(
        governed.vault, f"set-{n}-{len(columns)}", columns, [f"p{i}" for i in range(n)], Terms(["research"])
    )
    permit = governed.engine().authorize(dataset, Request(action="train", purpose="research"))
    return PermitDataset(governed.vault, permit, spec)


N = 30
X = np.arange(N * 4, dtype=np.float32).reshape(N, 4)
IDS = (2**24 + np.arange(N * 4)).reshape(N, 4)
CLASSES = (np.arange(N) % 2).astype(np.int64)


@pytest.mark.parametrize("label", [CLASSES / 3 + 0.3, (CLASSES / 3 + 0.3).astype(np.float32)])
def test_a_number_to_predict_keeps_its_fraction(governed: Any, label: np.ndarray) -> None:
    data = opened(governed, {"x": X, "y": label}, Spec({"x": 4}, "y", 1))
    y = everything(data)[1]
    assert y.dtype == label.dtype
    np.testing.assert_array_equal(y, label)


def test_a_vector_of_labels_is_kept_whole(governed: Any) -> None:
    label = np.arange(N * 5, dtype=np.int64).reshape(N, 5) % 2
    np.testing.assert_array_equal(everything(opened(governed, {"x": X, "y": label}, Spec({"x": 4}, "y", 2)))[1], label)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_features_that_float32_would_change_are_refused_or_kept_as_they_are(governed: Any, dtype: Any) -> None:
    columns = {"x": IDS.astype(dtype), "y": CLASSES}
    name = np.dtype(dtype).name
    with pytest.raises(DataMismatch, match=f"'x' holds {name}.*dtypes"):
        opened(governed, columns, Spec({"x": 4}, "y", 2))
    x = everything(opened(governed, {**columns, "z": X}, Spec({"x": 4}, "y", 2, dtypes={"x": name})))[0]
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, IDS)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (Spec({"x": 3}, "y", 2), "'x' has 4 values per row, the client's Spec says 3"),
        (Spec({"x": 1}, "y", 2), "'x' has 4 values"),
        (Spec({"x": 4}, "y", 2, label_dtype="float32"), "label column 'y' holds int64"),
        (Spec({"x": 4}, "y", 2, dtypes={"x": "int64"}), "'x' holds float32"),
        (Spec({"y": 1}, "x", 2), "label column 'x' holds float32.*label_dtype"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_by_name(governed: Any, spec: Spec, told: str) -> None:
    with pytest.raises(DataMismatch, match=told):
        opened(governed, {"x": X, "y": CLASSES}, spec)
