"""Handwritten digits, 8 x 8 pixels: 1797 images; shipped with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from aegis_flower.data.spec import Choice, DataSet, Loaded, Spec, pixels


def _load(_: Choice) -> Loaded:
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    return {"pixels": pixels(bunch.data, 16.0)}, np.asarray(bunch.target, dtype=np.int64), "scikit-learn digits"


DATA_SET = DataSet(Spec({"pixels": 64}, "digit", 10, (8, 8)), _load, "office", "writer")
