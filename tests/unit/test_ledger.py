"""The privacy ledger: what it counts, what it refuses, and that nobody edits it unnoticed."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from aegis_engine import Vault, audit_read
from aegis_flower.errors import BudgetExceeded, ConfigError, LedgerTampered
from aegis_flower.ledger import Ledger, Mechanism, Reservation, calibrate, epsilon

DELTA = 1e-5
MECHANISM = Mechanism(2.0, 0.25)


class Book:
    """A vault with a ledger of the data set ``d``."""

    def __init__(self, folder: Path) -> None:
        self.vault = Vault.create(str(folder / "vault"), key_file=str(folder / "key"), make_key=True)
        self.folder, self.key = folder / "vault", folder / "key"
        self.file = self.folder / "privacy" / "d.record.jsonl"

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.vault, "d")

    def reserve(self, run: str = "1", round_: int = 1, **other: Any) -> Reservation:
        asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "delta": DELTA, "budget": 10.0, **other}
        return self.ledger.reserve(run=run, round_=round_, **asked)

    def lines(self) -> list[bytes]:
        return self.file.read_bytes().splitlines(keepends=True)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path)


def by_hand(parts: dict[Mechanism, int], delta: float, tool: Any) -> float:
    """ε by dp-accounting, with nothing of ours in between."""
    for m, steps in parts.items():
        gaussian = dp_accounting.GaussianDpEvent(m.noise_multiplier)
        tool.compose(dp_accounting.PoissonSampledDpEvent(m.sample_rate, gaussian), steps)
    return float(tool.get_epsilon(delta))


# -- how much ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta"),
    [(1.0, 0.25, 48, 1e-5), (0.8, 0.01, 500, 1e-3), (4.0, 0.04, 180, 1e-5), (1.2, 1.0, 4, 1e-6)],
)
def test_epsilon_is_that_of_dp_accounting(sigma: float, rate: float, steps: int, delta: float) -> None:
    parts = {Mechanism(sigma, rate): steps}
    exact = by_hand(parts, delta, PLDAccountant(value_discretization_interval=1e-4))
    assert exact - 1e-6 <= epsilon(parts, delta) <= exact + 1e-3


def test_the_live_bound_is_dp_accountings_rdp_on_fewer_orders() -> None:
    parts = {Mechanism(4.0, 0.04): 180}
    best = by_hand(parts, DELTA, RdpAccountant())
    assert best <= epsilon(parts, DELTA, "rdp") <= best * 1.01


def test_different_mechanisms_compose() -> None:
    parts = {Mechanism(1.0, 0.1): 10, Mechanism(2.0, 0.3): 20}
    exact = by_hand(parts, DELTA, PLDAccountant(value_discretization_interval=1e-4))
    assert epsilon(parts, DELTA) == pytest.approx(exact, abs=1e-3)
    assert epsilon(parts, DELTA) > max(epsilon({m: n}, DELTA) for m, n in parts.items())


def test_nothing_spent_is_zero() -> None:
    assert epsilon({}, DELTA) == 0.0
    assert epsilon({MECHANISM: 0}, DELTA) == 0.0


@pytest.mark.parametrize(("target", "rate", "steps"), [(3.0, 0.3, 48), (1.0, 0.04, 180), (8.0, 0.25, 4)])
def test_calibrate_gives_the_smallest_noise_that_keeps_the_target(target: float, rate: float, steps: int) -> None:
    sigma = calibrate(target, DELTA, rate, steps)
    assert epsilon({Mechanism(sigma, rate): steps}, DELTA) <= target
    assert epsilon({Mechanism(sigma * 0.999, rate): steps}, DELTA) > target


def test_a_target_no_noise_reaches_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        calibrate(1e-9, 1e-9, 1.0, 1)
    assert error.value.path == "privacy.epsilon"


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_a_noise_multiplier_that_is_no_positive_number_is_refused_before_anything_is_written(
    book: Book, sigma: float
) -> None:
    """The server names σ. NaN passes every comparison with a budget, and in the ledger it would spoil all that follows."""
    with pytest.raises(ConfigError) as error:
        book.reserve(mechanism=Mechanism(sigma, 0.25))
    assert error.value.path == "privacy.noise_multiplier"
    assert not book.file.exists()


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_a_sample_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError):
        Mechanism(1.0, rate)


# -- reserve and commit -------------------------------------------------------------------------------------------------


def test_what_was_reserved_is_spent_and_on_record(book: Book) -> None:
    taken = book.reserve(steps=4)
    spent = book.ledger.spent(DELTA)
    assert (spent.steps, spent.entries, spent.runs) == (4, 1, 1)
    assert spent.epsilon == epsilon({MECHANISM: 4}, DELTA)
    assert taken.epsilon_total == epsilon({MECHANISM: 4}, DELTA, "rdp")
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
    spent = epsilon({MECHANISM: 4}, DELTA)
    with pytest.raises(BudgetExceeded) as error:
        book.reserve(round_=2, steps=400, budget=spent + 0.5)
    assert book.file.read_bytes() == before
    assert len(audit_read(str(book.folder / "audit"))) == records
    assert error.value.spent == spent
    assert error.value.budget == spent + 0.5
    assert error.value.after > error.value.budget
    assert error.value.code == "AEG-B001"


def test_the_first_round_over_budget_leaves_no_file(book: Book) -> None:
    with pytest.raises(BudgetExceeded):
        book.reserve(steps=400, budget=0.5)
    assert not book.file.exists()


def test_hardly_any_noise_is_refused(book: Book) -> None:
    """A tight accountant runs for hours on such a σ: the refusal must not need it."""
    with pytest.raises(BudgetExceeded):
        book.reserve(mechanism=Mechanism(1e-3, 0.25))


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
    tight, safe = epsilon(both, DELTA), epsilon(both, DELTA, "rdp")
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
    budget = epsilon({MECHANISM: 4 * 5}, DELTA) + 1e-6  # five rounds fit, six do not
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


# -- tampering ------------------------------------------------------------------------------------------------------------


def test_any_byte_that_was_changed_is_found(book: Book) -> None:
    book.reserve()
    whole = book.file.read_bytes()
    book.ledger.entries()
    for at in range(len(whole)):
        flip = 0x80 if at % 2 else 0x01
        book.file.write_bytes(whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :])
        with pytest.raises(LedgerTampered):
            book.ledger.entries()
    book.file.write_bytes(whole)
    book.ledger.entries()


def test_an_edited_entry_is_named_by_its_line(book: Book) -> None:
    for round_ in (1, 2, 3):
        book.reserve(round_=round_)
    lines = book.lines()
    entry = json.loads(lines[1])
    entry["steps"] = 1
    book.file.write_bytes(lines[0] + json.dumps(entry, sort_keys=True).encode() + b"\n" + lines[2])
    with pytest.raises(LedgerTampered, match="line 2") as error:
        book.reserve(round_=4)
    assert error.value.code == "AEG-B002"


def test_removed_swapped_and_repeated_entries_are_found(book: Book) -> None:
    for round_ in (1, 2, 3):
        book.reserve(round_=round_)
    lines = book.lines()
    for kept in ([1, 2], [0, 2], [0, 1], [1, 0, 2], [0, 2, 1], [0, 1, 1, 2], [0, 0, 1, 2], []):
        book.file.write_bytes(b"".join(lines[i] for i in kept))
        with pytest.raises(LedgerTampered):
            book.ledger.spent(DELTA)
        with pytest.raises(LedgerTampered):
            book.reserve(round_=4)


def test_a_truncated_file_is_found(book: Book) -> None:
    book.reserve(round_=1)
    book.reserve(round_=2)
    whole = book.file.read_bytes()
    for cut in (1, 2, 40, len(whole) // 2, len(whole)):
        book.file.write_bytes(whole[:-cut])
        with pytest.raises(LedgerTampered):
            book.reserve(round_=3)


def test_a_deleted_file_is_found(book: Book) -> None:
    book.reserve()
    book.file.unlink()
    with pytest.raises(LedgerTampered, match="rolled back"):
        book.reserve(round_=2)


def test_an_old_copy_put_back_is_found(book: Book, tmp_path: Path) -> None:
    book.reserve(round_=1)
    shutil.copy(book.file, tmp_path / "old")
    book.reserve(round_=2)
    shutil.copy(tmp_path / "old", book.file)
    with pytest.raises(LedgerTampered, match="rolled back"):
        book.ledger.spent(DELTA)


def test_a_ledger_that_forked_from_an_old_copy_is_found(book: Book, tmp_path: Path) -> None:
    """As many entries as the log knows, each with a good MAC, but not the ones that were written last."""
    book.reserve(round_=1)
    shutil.copytree(book.folder, tmp_path / "copy")
    twin = Ledger(Vault.open(str(tmp_path / "copy"), key_file=str(book.key)), "d")
    book.reserve(run="expensive", round_=2, steps=8)
    twin.reserve(run="cheap", round_=2, mechanism=MECHANISM, steps=1, delta=DELTA, budget=10.0)
    shutil.copy(tmp_path / "copy" / "privacy" / "d.record.jsonl", book.file)
    with pytest.raises(LedgerTampered):
        book.ledger.spent(DELTA)


def test_a_ledger_of_another_data_set_or_vault_is_refused(book: Book, tmp_path: Path) -> None:
    book.reserve()
    shutil.copy(book.file, book.file.with_name("other.record.jsonl"))
    with pytest.raises(LedgerTampered):
        Ledger(book.vault, "other").entries()
    (tmp_path / "elsewhere").mkdir()
    stranger = Book(tmp_path / "elsewhere")
    stranger.file.parent.mkdir(exist_ok=True)
    shutil.copy(book.file, stranger.file)
    with pytest.raises(LedgerTampered):
        stranger.ledger.entries()


@pytest.mark.parametrize("torn", [b"{", b'{"seq": 2, "kind": "reser', b"\xff\xfe\x00"])
def test_a_line_torn_by_a_crash_is_dropped_and_the_next_round_goes_on(book: Book, torn: bytes) -> None:
    book.reserve(round_=1)
    with book.file.open("ab") as file:
        file.write(torn)
    assert book.ledger.spent(DELTA).steps == 4
    book.reserve(round_=2)
    assert book.ledger.spent(DELTA).steps == 8
    assert len(book.lines()) == 2


def test_a_first_line_torn_by_a_crash_is_dropped(book: Book) -> None:
    book.file.parent.mkdir(exist_ok=True)
    book.file.write_bytes(b'{"seq": 1, "ki')
    assert book.ledger.entries() == []
    book.reserve()
    assert book.ledger.spent(DELTA).entries == 1


def test_an_entry_that_reached_the_disk_but_not_the_log_is_charged(book: Book) -> None:
    """A crash between the two: the chain is whole, the log knows one entry less, and the next round goes on."""
    book.reserve(round_=1)
    log = book.folder / "audit"
    shutil.copytree(log, book.folder / "audit.old")
    book.reserve(round_=2)
    shutil.rmtree(log)
    (book.folder / "audit.old").rename(log)
    vault = Vault.open(str(book.folder), key_file=str(book.key))
    assert Ledger(vault, "d").spent(DELTA).steps == 8


def test_the_ledger_holds_no_data_and_only_its_owner_reads_it(book: Book) -> None:
    book.reserve()
    known = {"seq", "kind", "id", "run", "round", "noise_multiplier", "sample_rate", "steps", "delta", "mac"}
    assert set(json.loads(book.lines()[0])) == known
    assert book.file.parent.stat().st_mode & 0o077 == 0


def test_a_looser_delta_does_not_make_earlier_runs_cheaper(book: Book) -> None:
    book.reserve()
    budget = epsilon({MECHANISM: 8}, DELTA, "pld") - 0.01  # two rounds do not fit at the δ of the first
    asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "budget": budget}
    assert epsilon({MECHANISM: 8}, DELTA * 100, "rdp") < budget
    with pytest.raises(BudgetExceeded):
        book.ledger.reserve(run="2", round_=1, delta=DELTA * 100, **asked)
