"""Public rows for a project without rows of its own: the breast-cancer biopsies that come with scikit-learn, as a CSV file."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Final

FILE: Final = Path("data", "patients.csv")


def write(folder: Path) -> Path:
    """Writes the file into a project's folder. Each row is about a person of its own, under a made-up identifier."""
    from sklearn import datasets

    bunch: Any = datasets.load_breast_cancer()
    names = [str(name).replace(" ", "_") for name in bunch.feature_names]
    file = folder / FILE
    file.parent.mkdir()
    with file.open("w", newline="", encoding="utf-8") as opened:
        out = csv.writer(opened)
        out.writerow(["patient_id", *names, "diagnosis"])
        for at, (row, target) in enumerate(zip(bunch.data, bunch.target, strict=True)):
            out.writerow([f"P{at:04d}", *row, bunch.target_names[target]])
    return file
