"""The privacy ledger: what it grants, what it refuses, and whose it is."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from ledgers import DELTA, HALF, MECHANISM, Book

from aegis_engine import Vault, audit_read
from aegis_flower.errors import BudgetExceeded
from aegis_flower.ingest import Terms, ingest
from aegis_flower.ledger import (
    Ledger,
    Mechanism,
    calibrate,
    epsilon,
    gate_epsilon,
)

# -- reserve and commit -------------------------------------------------------------------------------------------------


def test_what_was_reserved_is_spent_and_on_record(book: Book) -> None:
    taken = book.reserve(steps=4)
    spent = book.ledger.spent(DELTA)
    assert (spent.steps, spent.entries, spent.runs) == (4, 1, 1)
    assert spent.epsilon == epsilon({MECHANISM: 4}, DELTA)
    assert taken.epsilon_total == epsilon({MECHANISM: 4}, HALF, "rdp")
    (record,) = [r for r in audit_read(str(book.folder / "audit")) if r["event"] == "privacy.reserve"]
    assert record["reservation"] == taken.id
    assert record["mac"] == book.ledger.entries()[0]["mac"]


def test_a_reservation_without_commit_stays_charged_and_a_commit_charges_nothing_more(book: Book) -> None:
    book.reserve(round_=1)  # its client crashed
    before = book.ledger.spent(DELTA)
    second = book.reserve(round_=2)
    book.ledger.commit(second)
    after = Ledger(Vault.open(str(book.folder), key_file=str(book.key)), "d").spent(DELTA)
    assert before.steps == 4
    assert after.steps == 8
    assert after.entries == 3
    assert after.epsilon == epsilon({MECHANISM: 8}, DELTA)


def test_a_round_over_budget_is_refused_and_nothing_is_written(book: Book) -> None:
    book.reserve(steps=4)
    before, records = book.file.read_bytes(), len(audit_read(str(book.folder / "audit")))
    spent = epsilon({MECHANISM: 4}, HALF, "rdp")
    with pytest.raises(BudgetExceeded) as error:
        book.reserve(round_=2, steps=400, budget=spent + 0.5)
    assert book.file.read_bytes() == before
    assert len(audit_read(str(book.folder / "audit"))) == records
    assert error.value.spent == spent
    assert error.value.budget == spent + 0.5
    assert error.value.after > error.value.budget
    assert error.value.code == "AEG-B001"


def test_a_budget_is_held_to_its_last_digit(book: Book) -> None:
    both = gate_epsilon({MECHANISM: 8}, DELTA, tight=True)
    book.reserve(round_=1, budget=both)
    with pytest.raises(BudgetExceeded):
        book.reserve(round_=2, budget=both * (1 - 1e-9))
    book.reserve(round_=2, budget=both)


def test_the_first_round_over_budget_leaves_no_file(book: Book) -> None:
    with pytest.raises(BudgetExceeded):
        book.reserve(steps=400, budget=0.5)
    assert not book.file.exists()


def test_hardly_any_noise_is_refused(book: Book) -> None:
    """A tight accountant runs for long on such a σ: the refusal must not need it."""
    with pytest.raises(BudgetExceeded):
        book.reserve(mechanism=Mechanism(0.05, 0.25))


def test_a_calibrated_run_fits_its_own_epsilon_to_the_last_round(book: Book) -> None:
    """The looser RDP must not cost a run its last rounds where all steps are of one mechanism."""
    sigma = calibrate(3.0, DELTA, 0.3, 48)
    for round_ in range(1, 13):
        book.reserve(round_=round_, mechanism=Mechanism(sigma, 0.3), budget=3.0)
    with pytest.raises(BudgetExceeded):
        book.reserve(round_=13, mechanism=Mechanism(sigma, 0.3), budget=3.0)
    assert book.ledger.spent(DELTA).epsilon <= 3.0


def test_mixed_mechanisms_are_held_to_the_accountant_that_composes_adaptively(book: Book) -> None:
    first, second = Mechanism(2.0, 0.25), Mechanism(3.0, 0.25)
    both = {first: 20, second: 20}
    tight, safe = epsilon(both, HALF), epsilon(both, HALF, "rdp")
    assert tight < safe
    book.reserve(mechanism=first, steps=20, budget=(tight + safe) / 2)
    with pytest.raises(BudgetExceeded):
        book.reserve(mechanism=second, steps=20, budget=(tight + safe) / 2)
    book.reserve(mechanism=second, steps=20, budget=safe + 1e-9)


def test_runs_add_up_and_can_be_told_apart(book: Book) -> None:
    book.reserve(run="1")
    book.reserve(run="2")
    book.reserve(run="2", round_=2)
    assert book.ledger.spent(DELTA).runs == 2
    assert book.ledger.spent(DELTA).epsilon == epsilon({MECHANISM: 12}, DELTA)
    assert book.ledger.spent(DELTA, run="1").epsilon == epsilon({MECHANISM: 4}, DELTA)
    assert book.ledger.spent(DELTA, run="2").steps == 8
    assert book.ledger.spent(DELTA, run="3").epsilon == 0.0


def test_data_sets_have_ledgers_of_their_own(book: Book) -> None:
    book.reserve()
    assert Ledger(book.vault, "other").spent(DELTA).epsilon == 0.0


def test_threads_never_pass_the_budget_together(book: Book) -> None:
    budget = epsilon({MECHANISM: 4 * 5}, HALF) + 1e-6  # five rounds fit, six do not
    granted: list[str] = []
    refused: list[BudgetExceeded] = []
    start = threading.Barrier(2)

    def spend(run: str) -> None:
        vault = Vault.open(str(book.folder), key_file=str(book.key))
        start.wait()
        for round_ in range(1, 6):
            try:
                asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "delta": DELTA, "budget": budget}
                granted.append(Ledger(vault, "d").reserve(run=run, round_=round_, **asked).id)
            except BudgetExceeded as error:
                refused.append(error)

    threads = [threading.Thread(target=spend, args=(str(i),)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == len(set(granted)) == 5
    assert len(refused) == 5
    assert Ledger(Vault.open(str(book.folder), key_file=str(book.key)), "d").spent(DELTA).epsilon <= budget


# -- the terms' δ -----------------------------------------------------------------------------------------------------------


def test_a_looser_delta_than_the_terms_is_refused(book: Book) -> None:
    with pytest.raises(BudgetExceeded, match="terms allow 1e-05"):
        book.reserve(delta=DELTA * 1.01)
    assert not book.file.exists()
    Ledger(book.vault, "d", delta=1e-4).reserve(
        run="1", round_=1, mechanism=MECHANISM, steps=4, delta=1e-4, budget=10.0
    )


def test_a_stricter_delta_of_one_run_binds_no_other(book: Book) -> None:
    """Accounted at the terms' δ whatever the message says: one cheap round at 1e-12 took two thirds of the budget once."""
    folder = book.folder.parent / "alone"
    folder.mkdir()
    alone = Book(folder)
    taken = book.reserve(run="evil", mechanism=Mechanism(3.2, 0.3), steps=1, delta=1e-12)
    assert taken.epsilon_total == epsilon({Mechanism(3.2, 0.3): 1}, HALF, "rdp")

    def granted(which: Book) -> int:
        for round_ in range(1, 200):
            try:
                which.reserve(run="good", round_=round_, mechanism=Mechanism(3.2, 0.3), budget=6.0)
            except BudgetExceeded:
                return round_ - 1
        return 200

    assert 0 <= granted(alone) - granted(book) <= 1
    entries = book.ledger.entries()
    assert (entries[0]["delta"], entries[0]["asked_delta"]) == (DELTA, 1e-12)


def test_one_cheap_round_of_another_mechanism_hardly_costs_anything(book: Book) -> None:
    """From then on RDP decides. With orders near 1 it is within a tenth of the tight accountant where ε is large."""
    sigma = 3.2
    tight = {Mechanism(sigma, 0.3): 4 * 60}
    assert epsilon({**tight, Mechanism(200.0, 0.3): 1}, HALF, "rdp") < epsilon(tight, HALF) * 1.12


# -- whose ledger it is --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../evil", "a/b", "/etc/passwd", "..", "", "line\nbreak", "\x00", "k" * 5000, "é\u202e"]
)
def test_no_name_becomes_a_path(book: Book, name: str) -> None:
    ledger = Ledger(book.vault, name)
    assert ledger.path.parent == book.folder / "privacy"
    assert re.fullmatch(r"[0-9a-f]{32}\.record\.jsonl", ledger.path.name)
    before = {p for p in book.folder.parent.rglob("*") if not {"audit", "lineage"} & set(p.parts)}
    ledger.reserve(run="1", round_=1, mechanism=MECHANISM, steps=4, delta=DELTA, budget=10.0)
    made = {
        p.name for p in book.folder.parent.rglob("*") if not {"audit", "lineage"} & set(p.parts) and p not in before
    }
    assert made - {"privacy"} == {ledger.path.name, ledger.path.with_suffix(".lock").name}
    assert Ledger(book.vault, name).spent(DELTA).steps == 4


def test_a_rename_and_a_new_ingest_of_the_same_people_keep_the_ledger(govern: Any) -> None:
    g = govern()
    asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "delta": DELTA, "budget": 10.0}
    Ledger(g.vault, "tiny").reserve(run="1", round_=1, **asked)
    g.vault.rename(g.dataset, "other")
    assert Ledger(g.vault, "other").spent(DELTA).steps == 4
    assert Ledger(g.vault, g.dataset).path == Ledger(g.vault, "other").path
    again = ingest(g.vault, "again", g.columns, g.subjects, Terms(["research"]))
    Ledger(g.vault, again).reserve(run="2", round_=1, **asked)
    assert Ledger(g.vault, "other").spent(DELTA).steps == 8


def test_rows_of_two_lineages_charge_both(govern: Any) -> None:
    g = govern()
    strangers = [f"stranger-{i}" for i in range(40)]
    ingest(g.vault, "strangers", g.columns, strangers, Terms(["research"]))
    both = [*g.subjects[:20], *strangers[:20]]
    ingest(g.vault, "both", g.columns, both, Terms(["research"]))
    ledger = Ledger(g.vault, "both")
    assert len(ledger.lineages) == 2
    asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "delta": DELTA}
    taken = ledger.reserve(run="1", round_=1, budget=10.0, **asked)
    ledger.commit(taken)
    for name in ("tiny", "strangers", "both"):
        assert Ledger(g.vault, name).spent(DELTA).steps == 4
        assert [e["kind"] for e in Ledger(g.vault, name).entries()] == ["reserve", "commit"]
    Ledger(g.vault, "tiny").reserve(run="1", round_=2, budget=10.0, **{**asked, "steps": 40})
    most = epsilon({MECHANISM: 44}, DELTA)
    assert ledger.spent(DELTA).epsilon == most
    again = ledger.reserve(run="1", round_=3, budget=100.0, **asked)
    assert again.epsilon_total == epsilon({MECHANISM: 48}, HALF, "rdp"), "a release tells what the poorer has spent"
    with pytest.raises(BudgetExceeded):  # the poorer of the two decides
        ledger.reserve(run="1", round_=4, budget=most, **asked)
    assert Ledger(g.vault, "strangers").spent(DELTA).steps == 8
