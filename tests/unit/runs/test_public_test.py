"""Code that a configuration names, and the public test set at the server that is such code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from aegis_flower.errors import ConfigError
from aegis_flower.plugins import load
from aegis_flower.public_test import PublicTest

ARRAYS = ArrayRecord({"w": Array(np.ones(3, np.float32))})


def test_code_is_found_in_files_and_in_modules(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\n@dataclass\nclass Kept:\n    x: int = 1\ndef evaluate(a, r): ...\n"
    )
    assert load("k", f"{file}:Kept")().x == 1
    assert load("k", str(file), "evaluate").__name__ == "evaluate"
    assert load("k", "json:dumps") is load("k", "json.dumps")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("nowhere.py", "there is no file"),
        ("{file}:Nothing", "has no 'Nothing'"),
        ("{bad}", "ZeroDivisionError"),
        ("nosuchmodule:x", "no module 'nosuchmodule'"),
        ("json:nothing", "has no 'nothing'"),
    ],
)
def test_code_that_is_not_there_is_refused_by_its_key(tmp_path: Path, text: str, told: str) -> None:
    file, bad = tmp_path / "mine.py", tmp_path / "bad.py"
    file.write_text("x = 1\n")
    bad.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=told) as error:
        load("evaluation.server", text.format(file=file, bad=bad), "evaluate")
    assert error.value.path == "evaluation.server"


def test_numbers_of_each_model_are_kept_and_the_function_cannot_change_the_model() -> None:
    def measure(arrays: dict[str, Any], round_: int) -> dict[str, Any]:
        arrays["w"] += 1
        return {"accuracy": np.float32(0.5), "round": round_}

    test = PublicTest(measure, [])
    for round_ in (0, 1):
        assert dict(test(round_, ARRAYS) or {}) == {"accuracy": 0.5, "round": float(round_)}
    assert test.found == {0: {"accuracy": 0.5, "round": 0.0}, 1: {"accuracy": 0.5, "round": 1.0}}
    np.testing.assert_array_equal(ARRAYS["w"].numpy(), np.ones(3))


@pytest.mark.parametrize(
    "wrong", [None, 0.5, {"a": "x"}, {"a": float("nan")}, {"a": True}, {"a": np.ones(2)}, {1: 2}, {"": 1}, {"a\n": 1}]
)
def test_a_function_that_gives_no_numbers_ends_the_run_before_it_begins_and_costs_a_number_later(wrong: Any) -> None:
    problems: list[str] = []
    test = PublicTest(lambda arrays, round_: wrong, problems)
    with pytest.raises(ConfigError, match="nothing was asked of any node"):
        test(0, ARRAYS)
    for round_ in (1, 2):
        assert test(round_, ARRAYS) is None
    assert len(problems) == 1, "said once"
    assert "round 1" in problems[0]
