"""Ingest: what is stored, what is refused, and that the terms are sealed with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.errors import DataError
from aegis_flower.ingest import Terms, ingest

TERMS = Terms(["research"])


def names(vault: Vault) -> set[str]:
    return {str(entry["name"]) for entry in vault.list()}


@pytest.mark.parametrize(
    ("columns", "subjects", "says"),
    [
        ({"a": np.zeros(3, np.float32), "b": np.zeros(4, np.float32)}, ["x"] * 3, "different lengths"),
        ({"a": np.zeros(3, np.float32)}, ["x"] * 2, "different lengths"),
        ({"a": np.zeros(3, np.float16)}, ["x"] * 3, "float16"),
        ({"a": np.zeros(3, np.uint32)}, ["x"] * 3, "uint32"),
        ({"a": np.array(["p", "q", "r"])}, ["x"] * 3, "cannot be stored"),
        ({"a": np.array([None, 1, 2])}, ["x"] * 3, "cannot be stored"),
        ({"a": np.zeros(3, bool)}, ["x"] * 3, "bool"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_nothing_is(
    governed: Any, columns: dict[str, np.ndarray], subjects: list[str], says: str
) -> None:
    before = names(governed.vault)
    with pytest.raises(DataError, match=says):
        ingest(governed.vault, "new", columns, subjects, TERMS)
    assert names(governed.vault) == before


def test_a_name_that_is_taken_is_refused_and_the_data_there_stay(governed: Any) -> None:
    with pytest.raises(DataError, match="already has"):
        ingest(governed.vault, "tiny", {"height": np.zeros(2, np.float32)}, ["x", "y"], TERMS)
    assert governed.permit().rows == 40


@pytest.mark.parametrize("dtype", ["f4", "f8", "i8", "i4", "u1", ">f4", ">i8"])
def test_every_dtype_comes_back_exactly(governed: Any, dtype: str) -> None:
    values = np.array([[0, 1], [7, 250], [3, 4]]).astype(dtype)
    dataset = ingest(governed.vault, "typed", {"v": values}, ["a", "b", "c"], TERMS)
    permit = ComplianceEngine(governed.vault).authorize(dataset, Request(action="train", purpose="research"))
    reader = governed.vault.records(permit)
    out = np.empty((3, 2), np.dtype(dtype).newbyteorder("<"))
    reader.read_rows(np.arange(3, dtype=np.uint32), out)
    np.testing.assert_array_equal(out, values)


def test_the_terms_are_sealed_with_the_data(govern: Any) -> None:
    governed = govern(budget_epsilon=2.5, basis="contract", min_rows=7)
    assert governed.engine().budget_epsilon(governed.dataset) == 2.5
    for who in sorted(set(governed.subjects)):
        governed.vault.consent_withdraw(who, "research")
    assert governed.permit().rows == 40  # these rows rest on a contract, not on consent
