"""Terms mean something, or are refused with the field and the value."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Vault
from aegis_flower.errors import ConfigError
from aegis_flower.ingest import Terms, ingest

GOOD: dict[str, Any] = {"purposes": ["research"]}
EXTREME: list[Any] = [
    0,
    -1,
    1e300,
    -1e300,
    1e-300,
    math.nan,
    math.inf,
    -math.inf,
    2**64,
    "",
    "x" * 300,
    "a\0b",
    [],
    [""],
    None,
    b"x",
]
# What each field may be, of the extremes above; everything else is refused.
MAY: dict[str, list[Any]] = {
    "purposes": [],
    "approved_columns": [None, [], [""]],  # which columns there are is asked at ingest
    "basis": [],
    "retention_days": [0],
    "min_rows": [],
    "min_subjects": [],
    "budget_epsilon": [],
    "require_dp": [],
    "require_secure_aggregation": [],
    "controller": [""],
    "delta": [],
    "lineage": [None],
    "max_evaluations": [0],
}


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and a == b


def test_every_field_is_in_this_test() -> None:
    assert set(MAY) == set(Terms.__dataclass_fields__)


@pytest.mark.parametrize("value", EXTREME, ids=repr)
@pytest.mark.parametrize("field", list(MAY))
def test_each_field_at_extreme_values_is_refused_by_name_and_value_or_means_something(field: str, value: Any) -> None:
    if any(same(value, may) for may in MAY[field]):
        Terms(**{**GOOD, field: value})
        return
    with pytest.raises(ConfigError, match=f"terms.{field}"):
        Terms(**{**GOOD, field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("purposes", "research"),
        ("purposes", ["research", 7]),
        ("purposes", ["two\nlines"]),
        ("approved_columns", "age"),
        ("approved_columns", [1]),
        ("basis", "consents"),
        ("retention_days", True),
        ("retention_days", 1.5),
        ("min_rows", 16.5),
        ("require_dp", 1),
        ("require_dp", "no"),
        ("delta", 0.5),
        ("delta", 1e-13),
        ("budget_epsilon", 1e7),
        ("budget_epsilon", True),
        ("lineage", "AB" * 16),
        ("controller", "a\u202eb"),
    ],
)
def test_wrong_kinds_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"terms.{field}: "):
        Terms(**{**GOOD, field: value})


def test_a_text_is_not_a_list_of_purposes() -> None:
    """It was: "research" allowed the purposes r, e, s, a, c, h."""
    with pytest.raises(ConfigError, match=r"'research'.*list"):
        Terms(purposes="research")


def test_numbers_of_numpy_and_names_in_another_form_are_the_same_terms() -> None:
    terms = Terms(purposes=[" cafe\u0301 "], min_rows=np.int64(3), budget_epsilon=np.float32(2), delta=np.float64(1e-6))
    assert (terms.purposes, terms.min_rows, terms.budget_epsilon, terms.delta) == (("caf\u00e9",), 3, 2.0, 1e-6)


def governed(tmp_path: Any) -> Vault:
    vault = Vault.create(str(tmp_path / "v"), key=bytes(32))
    vault.govern("core")
    return vault


def test_an_approved_column_that_there_is_not_is_refused_and_nothing_is_stored(tmp_path: Any) -> None:
    vault = governed(tmp_path)
    with pytest.raises(ConfigError, match=r"terms.approved_columns.*agee.*age"):
        ingest(
            vault, "d", {"age": np.zeros(3)}, ["a", "b", "c"], Terms(purposes=["research"], approved_columns=["agee"])
        )
    assert vault.list() == []


def test_the_terms_are_read_back_as_they_were_sealed(tmp_path: Any) -> None:
    vault = governed(tmp_path)
    terms = Terms(
        purposes=["research", "care"],
        approved_columns=["age"],
        min_rows=3,
        min_subjects=2,
        budget_epsilon=2.5,
        require_dp=False,
        delta=3.7e-6,
        controller="clinic",
        max_evaluations=4,
    )
    dataset = ingest(vault, "d", {"age": np.zeros(3), "name": np.zeros(3)}, ["a", "b", "c"], terms)
    read = ComplianceEngine(vault).terms(dataset)
    lineage = vault.lineage("d")
    assert read == {
        "purposes": ["care", "research"],
        "columns": ["age", "name"],
        "approved_columns": ["age"],
        "min_rows": 3,
        "min_subjects": 2,
        "budget_epsilon": 2.5,
        "budget_micro_epsilon": 2_500_000,
        "require_dp": False,
        "require_secure_aggregation": True,
        "controller": "clinic",
        "role": "train",
        "delta": 3.7e-6,
        "max_evaluations": 4,
        "lineage": lineage,
        "lineages": [lineage],
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"delta_femto": 1},
        {"budget_micro_epsilon": 2**63},
        {"approved_columns": ["other"]},
        {"lineages": ["x"]},
        {"purposes": [""]},
    ],
)
def test_the_engine_itself_seals_no_terms_that_mean_nothing(tmp_path: Any, wrong: dict[str, Any]) -> None:
    vault = governed(tmp_path)
    facts = Terms(purposes=["research"]).facts(["x"], "d", "train") | wrong
    with pytest.raises(AegisError):
        vault.store_records("d", [("x", "f64", 1)], np.zeros(1), ["a"], [("consent", None, False)], facts)
    assert vault.list() == []
