"""The stream: exactly the rows and columns a permit opens, and no way to them without one."""

from __future__ import annotations

import copy
import pickle
import time
from typing import Any

import numpy as np
import pytest
import torch
from aegis_engine.errors import (
    ObjectNotFound,
    PermitRequired,
    PermitRevoked,
    PermitScope,
    PolicyDenied,
    VaultTampered,
)
from scipy import stats
from streams import Govern, everything

from aegis_engine import ComplianceEngine, Permit, Request, Rng, audit_read
from aegis_flower.ingest import Terms
from aegis_flower.stream import PermitDataset, PoissonSampler

ALPHA = 1e-6


def source(governed: Any, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels as they went in, in the order of the spec."""
    columns = governed.columns
    return np.column_stack([columns["height"], columns["pulse"]])[rows], columns["ill"][rows]


def decisions(governed: Any) -> list[dict[str, Any]]:
    return [r for r in audit_read(str(governed.folder / "audit")) if r["event"] == "authorize"]


# -- which rows ---------------------------------------------------------------------------------------------------------


def test_features_and_labels_come_out_as_they_went_in(governed: Any) -> None:
    data = PermitDataset(governed.vault, governed.permit(), governed.spec)
    x, y = everything(data)
    wanted_x, wanted_y = source(governed, list(range(40)))
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(x, wanted_x)
    np.testing.assert_array_equal(y, wanted_y)
    assert data.features == x.shape[1] == 4
    assert data.labelled


def test_any_choice_of_rows_in_any_order_also_repeated(governed: Any) -> None:
    data = PermitDataset(governed.vault, governed.permit(), governed.spec)
    chosen = [39, 0, 7, 7, 20]
    np.testing.assert_array_equal(data.__getitems__(chosen)[0].numpy(), source(governed, chosen)[0])
    one, label = data[5]
    assert one.shape == (4,)
    assert one[0] == 5.0
    assert int(label) == 1
    empty, none = data.__getitems__([])
    assert empty.shape == (0, 4)
    assert none.shape == (0,)


def test_a_row_number_past_the_end_is_an_error(governed: Any) -> None:
    data = PermitDataset(governed.vault, governed.permit(), governed.spec)
    with pytest.raises(IndexError):
        data.__getitems__([40])


@pytest.mark.parametrize("change", ["withdraw", "object", "restrict", "erase"])
def test_rows_of_a_person_who_said_no_never_appear(governed: Any, change: str) -> None:
    vault = governed.vault
    say = {
        "withdraw": lambda who: vault.consent_withdraw(who, "research"),
        "object": vault.consent_object,
        "restrict": vault.consent_restrict,
        "erase": vault.consent_erase,
    }[change]
    gone = {"person-0", "person-7", "person-19"}
    for who in sorted(gone):
        say(who)
    permit = governed.permit()
    data = PermitDataset(vault, permit, governed.spec)
    left = [i for i, who in enumerate(governed.subjects) if who not in gone]
    assert len(left) == 34
    assert len(data) == permit.rows == 34
    assert permit.subjects == 17
    x, y = everything(data)
    np.testing.assert_array_equal(x, source(governed, left)[0])
    np.testing.assert_array_equal(y, source(governed, left)[1])


def test_a_consent_for_another_purpose_opens_nothing(govern: Govern) -> None:
    governed = govern(purposes=["research", "teaching"])
    for who in sorted(set(governed.subjects)):
        governed.vault.consent_withdraw(who, "teaching")
    with pytest.raises(PolicyDenied):
        governed.permit(purpose="teaching")
    assert governed.permit(purpose="research").rows == 40


def test_an_earlier_withdrawal_given_back_opens_the_rows_again(governed: Any) -> None:
    governed.vault.consent_withdraw("person-3", "research")
    assert governed.permit().rows == 38
    governed.vault.consent_grant(["person-3"], "research")
    assert governed.permit().rows == 40


def test_retention_that_ran_out_closes_the_rows(govern: Govern) -> None:
    governed = govern(retention_days=0)
    assert governed.permit().rows == 40, "the last day is a day of use"
    today = int(time.time() // 86400)
    facts = Terms(purposes=["research"]).facts(["x"], "old", "train")
    last_days = [("public_task", today - 1, False), ("public_task", today, False)]
    rows = np.zeros(2, np.float32)
    stored = governed.vault.store_records("old", [("x", "f32", 1)], rows, ["a", "b"], last_days, facts, [0, 1])
    told = ComplianceEngine(governed.vault).explain(stored, Request(action="train", purpose="research"))
    assert (told["rows"], told["denied"]) == (1, {"core.retention": 1})
    governed.vault.shred(stored)
    stored = governed.vault.store_records("old", [("x", "f32", 1)], rows, ["a", "b"], last_days, facts, [0, 0])
    with pytest.raises(PolicyDenied) as error:
        ComplianceEngine(governed.vault).authorize(stored, Request(action="train", purpose="research"))
    assert "core.retention" in error.value.policies
    assert "aegis vault shred" in error.value.advice[0]


@pytest.mark.parametrize("same_process", [True, False])
def test_a_withdrawal_between_two_batches_ends_the_stream_at_the_next(governed: Any, same_process: bool) -> None:
    data = PermitDataset(governed.vault, governed.permit(), governed.spec)
    data.__getitems__([0, 1])
    vault = governed.vault if same_process else governed.reopen()
    vault.consent_withdraw("person-12", "research")
    with pytest.raises(PermitRevoked):
        data.__getitems__([0, 1])
    with pytest.raises(PermitRevoked):
        data[0]
    assert len(PermitDataset(governed.vault, governed.permit(), governed.spec)) == 38


def test_a_withdrawal_before_the_stream_is_opened_revokes_the_permit(governed: Any) -> None:
    permit = governed.permit()
    governed.vault.consent_withdraw("person-12", "research")
    with pytest.raises(PermitRevoked):
        everything(PermitDataset(governed.vault, permit, governed.spec))


def test_a_row_outside_the_permit_cannot_be_read(governed: Any) -> None:
    governed.vault.consent_withdraw("person-0", "research")
    reader = governed.vault.records(governed.permit())
    out = np.zeros(reader.record_len, np.uint8)
    reader.read_rows(np.array([2], np.uint32), out)
    assert out.any()
    for row in (0, 1, 40, 2**32 - 1):
        out[:] = 0
        with pytest.raises(PermitScope):
            reader.read_rows(np.array([row], np.uint32), out)
        with pytest.raises(PermitScope):
            reader.read_rows(np.array([2, row], np.uint32), np.zeros(2 * reader.record_len, np.uint8))
        assert not out.any()


# -- which columns ------------------------------------------------------------------------------------------------------


def test_a_column_that_was_not_asked_for_is_not_there(governed: Any) -> None:
    permit = governed.permit(columns=["height", "ill"])
    data = PermitDataset(governed.vault, permit, governed.spec)
    x, y = everything(data)
    np.testing.assert_array_equal(x[:, 0], governed.columns["height"])
    np.testing.assert_array_equal(y, governed.columns["ill"])
    assert x.shape == (40, 1)
    assert data.features == 1
    reader = governed.vault.records(permit)
    assert [name for name, _, _ in reader.columns()] == ["height", "ill"]
    assert reader.record_len == 4 + 8
    with pytest.raises(Exception, match="12"):  # a buffer for more than the permitted columns is refused
        reader.read_rows(np.array([0], np.uint32), np.zeros(4 + 12 + 8, np.uint8))


def test_features_alone_are_unlabelled(governed: Any) -> None:
    data = PermitDataset(governed.vault, governed.permit(columns=["pulse"]), governed.spec)
    assert not data.labelled
    assert not everything(data)[1].any()
    assert data.features == 3


def test_an_unapproved_column_is_refused_by_its_policy_and_left_out_by_default(govern: Govern) -> None:
    governed = govern(approved_columns=["height", "ill"])
    with pytest.raises(PolicyDenied) as error:
        governed.permit(columns=["pulse"])
    assert error.value.policies == ("core.columns",)
    assert decisions(governed)[-1]["decision"] == "deny"
    assert PermitDataset(governed.vault, governed.permit(), governed.spec).features == 1


# -- which purpose ------------------------------------------------------------------------------------------------------


def spoil_rows(governed: Any) -> None:
    """Turns the last byte of the rows' ciphertext: whoever decrypts them from now on fails."""
    (enc,) = (governed.folder / "objects").rglob(f"{governed.dataset}.enc")
    body = bytearray(enc.read_bytes())
    body[-1] ^= 1
    enc.write_bytes(body)


def test_a_purpose_outside_the_terms_fails_by_name_on_record_and_before_any_decryption(governed: Any) -> None:
    spoil_rows(governed)
    with pytest.raises(PolicyDenied, match=r"core\.purpose") as error:
        governed.permit(purpose="advertising")
    assert error.value.policies == ("core.purpose",)
    assert error.value.advice
    (record,) = decisions(governed)
    assert (record["decision"], record["purpose"], record["policies"]) == ("deny", "advertising", ["core.purpose"])
    # With the right purpose the spoiled rows are met, so the refusal above came before they were touched.
    with pytest.raises(VaultTampered):
        everything(PermitDataset(governed.vault, governed.permit(), governed.spec))


def test_the_decision_is_on_record_before_the_first_row_is_read(governed: Any) -> None:
    permit = governed.permit()
    (record,) = decisions(governed)
    assert (record["decision"], record["permit"]) == ("allow", permit.id)
    assert permit.uses == 0
    everything(PermitDataset(governed.vault, permit, governed.spec))
    assert permit.uses > 0


def test_no_person_and_no_value_is_in_the_log(governed: Any) -> None:
    governed.vault.consent_withdraw("person-12", "research")
    everything(PermitDataset(governed.vault, governed.permit(), governed.spec))
    log = b"".join(f.read_bytes() for f in (governed.folder / "audit").iterdir())
    assert b"person-" not in log


# -- permits ------------------------------------------------------------------------------------------------------------


def test_a_permit_cannot_be_made_copied_changed_or_derived_from(governed: Any) -> None:
    permit = governed.permit()
    for attempt in (
        Permit,
        lambda: Permit.__new__(Permit),
        lambda: object.__new__(Permit),
        lambda: type("Wider", (Permit,), {}),
        lambda: pickle.dumps(permit),
        lambda: copy.copy(permit),
        lambda: copy.deepcopy(permit),
    ):
        with pytest.raises(TypeError):
            attempt()
    for name in ("rows", "purpose", "anything"):
        with pytest.raises(AttributeError):
            setattr(permit, name, 1)


def test_nothing_but_a_permit_opens_a_stream(governed: Any) -> None:
    for other in (None, governed.dataset, b"", object()):
        with pytest.raises(TypeError):
            PermitDataset(governed.vault, other, governed.spec)  # type: ignore[arg-type]


def test_a_permit_of_another_vault_opens_nothing(govern: Govern) -> None:
    mine, other = govern(), govern()
    with pytest.raises(ObjectNotFound):
        everything(PermitDataset(mine.vault, other.permit(), mine.spec))


def test_a_governed_vault_gives_its_owner_no_rows_without_a_permit(governed: Any) -> None:
    with pytest.raises(PermitRequired):
        governed.vault.open_object(governed.dataset)
    with pytest.raises(PermitRequired):
        governed.vault.owner_permit(governed.dataset)


def test_decrypted_records_are_cleared_when_the_batch_is_made(governed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[np.ndarray] = []
    zeros = np.zeros

    def kept(*args: Any, **kwargs: Any) -> np.ndarray:
        made.append(zeros(*args, **kwargs))
        return made[-1]

    data = PermitDataset(governed.vault, governed.permit(), governed.spec)
    monkeypatch.setattr(np, "zeros", kept)
    x, _ = data.__getitems__([3, 4, 5])
    assert x.any()
    assert made
    assert not any(array.view(np.uint8).any() for array in made)


# -- sampling -------------------------------------------------------------------------------------------------------------


def test_each_row_joins_each_batch_on_its_own_with_the_rate() -> None:
    rows, rate, steps = 200, 0.3, 400
    batches = list(PoissonSampler(rows, rate, steps, Rng()))
    assert len(batches) == steps
    joined = np.zeros((steps, rows), bool)
    for step, batch in enumerate(batches):
        assert np.array_equal(batch, np.unique(batch))  # no row twice in a batch
        joined[step, batch] = True
    spread = rate * (1 - rate)
    for counts, trials in ((joined.sum(0), steps), (joined.sum(1), rows)):  # by row, by batch
        statistic = float(np.sum((counts - trials * rate) ** 2) / (trials * spread))
        low, high = stats.chi2.ppf([ALPHA / 2, 1 - ALPHA / 2], len(counts))
        assert low < statistic < high


def test_empty_batches_are_given_out_too() -> None:
    sampler = PoissonSampler(10, 1e-9, 5, Rng())
    assert len(sampler) == 5
    assert [len(batch) for batch in sampler] == [0] * 5
    assert [len(batch) for batch in PoissonSampler(10, 1.0, 2, Rng())] == [10, 10]


def test_batches_differ_from_run_to_run() -> None:
    torch.manual_seed(0)
    first = [b.tolist() for b in PoissonSampler(100, 0.5, 3, Rng())]
    torch.manual_seed(0)
    assert first != [b.tolist() for b in PoissonSampler(100, 0.5, 3, Rng())]
