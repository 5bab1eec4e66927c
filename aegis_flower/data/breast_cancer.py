"""Breast Cancer Wisconsin (diagnostic): 569 patients, 30 measurements of cell nuclei; shipped with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from aegis_flower.data.spec import Choice, DataSet, Loaded, Spec

# Ranges of the 30 measurements as scikit-learn's documentation of the set prints them. Scaling by published constants
# costs no privacy; scaling by statistics of a hospital's own rows would.
RANGES: dict[str, tuple[float, float]] = {
    "mean_radius": (6.981, 28.11),
    "mean_texture": (9.71, 39.28),
    "mean_perimeter": (43.79, 188.5),
    "mean_area": (143.5, 2501.0),
    "mean_smoothness": (0.053, 0.163),
    "mean_compactness": (0.019, 0.345),
    "mean_concavity": (0.0, 0.427),
    "mean_concave_points": (0.0, 0.201),
    "mean_symmetry": (0.106, 0.304),
    "mean_fractal_dimension": (0.05, 0.097),
    "radius_error": (0.112, 2.873),
    "texture_error": (0.36, 4.885),
    "perimeter_error": (0.757, 21.98),
    "area_error": (6.802, 542.2),
    "smoothness_error": (0.002, 0.031),
    "compactness_error": (0.002, 0.135),
    "concavity_error": (0.0, 0.396),
    "concave_points_error": (0.0, 0.053),
    "symmetry_error": (0.008, 0.079),
    "fractal_dimension_error": (0.001, 0.03),
    "worst_radius": (7.93, 36.04),
    "worst_texture": (12.02, 49.54),
    "worst_perimeter": (50.41, 251.2),
    "worst_area": (185.2, 4254.0),
    "worst_smoothness": (0.071, 0.223),
    "worst_compactness": (0.027, 1.058),
    "worst_concavity": (0.0, 1.252),
    "worst_concave_points": (0.0, 0.291),
    "worst_symmetry": (0.156, 0.664),
    "worst_fractal_dimension": (0.055, 0.208),
}


def _load(_: Choice) -> Loaded:
    from sklearn import datasets  # heavy: only a simulation's provisioning needs it

    bunch: Any = datasets.load_breast_cancer()
    low, high = np.array(list(RANGES.values()), dtype=np.float64).T
    scaled = np.clip(2 * (bunch.data - low) / (high - low) - 1, -1, 1).astype(np.float32)
    columns = {name: scaled[:, i : i + 1] for i, name in enumerate(RANGES)}
    return columns, np.asarray(bunch.target, dtype=np.int64), "scikit-learn breast_cancer"


DATA_SET = DataSet(Spec(dict.fromkeys(RANGES, 1), "benign", 2), _load, "hospital", "patient")
