"""A vault's records in other libraries: numpy and scikit-learn by plain iteration, TensorFlow by a generator."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_scikit_learn_example_learns_from_the_vault() -> None:
    out = run("sklearn_digits.py")
    assert float(out.split()[1].rstrip("%")) > 85, out


def test_the_tensorflow_example_learns_from_the_vault() -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed (pip install tensorflow-cpu)")
    out = run("tensorflow_digits.py")
    assert float(out.split()[1].rstrip("%")) > 85, out
