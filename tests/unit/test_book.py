"""The ledger's file: nobody edits it unnoticed, and a crash leaves what can be gone on with."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from ledgers import DELTA, MECHANISM, Book

from aegis_engine import Vault, audit_read
from aegis_flower.errors import BudgetExceeded, LedgerTampered
from aegis_flower.ledger import (
    Ledger,
    epsilon,
)

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
    shutil.copy(tmp_path / "copy" / "privacy" / book.file.name, book.file)
    with pytest.raises(LedgerTampered):
        book.ledger.spent(DELTA)


def test_a_ledger_of_another_data_set_or_vault_is_refused(book: Book, tmp_path: Path) -> None:
    book.reserve()
    shutil.copy(book.file, Ledger(book.vault, "other").path)
    with pytest.raises(LedgerTampered):
        Ledger(book.vault, "other").entries()
    (tmp_path / "elsewhere").mkdir()
    stranger = Book(tmp_path / "elsewhere")
    stranger.file.parent.mkdir(exist_ok=True)
    shutil.copy(book.file, stranger.file)
    assert stranger.file.name != book.file.name
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


class Crashing:
    """A vault whose process dies at one call."""

    def __init__(self, vault: Vault, at: str) -> None:
        self._vault, self._at = vault, at

    def __getattr__(self, name: str) -> Any:
        if name == self._at:
            raise KeyboardInterrupt
        return getattr(self._vault, name)


@pytest.mark.parametrize("call", ["commit_head", "record_plugin"])
def test_an_entry_that_reached_the_disk_but_nothing_else_is_charged(book: Book, call: str) -> None:
    """A crash between the two: the chain is whole, the keystore or the log knows one entry less, and the next round goes on."""
    book.reserve(round_=1)
    asked: dict[str, Any] = {"mechanism": MECHANISM, "steps": 4, "delta": DELTA, "budget": 10.0}
    with pytest.raises(KeyboardInterrupt):
        Ledger(Crashing(book.vault, call), "d").reserve(run="1", round_=2, **asked)  # type: ignore[arg-type]
    assert Ledger(Vault.open(str(book.folder), key_file=str(book.key)), "d").spent(DELTA).steps == 8
    book.reserve(round_=3)
    assert book.ledger.spent(DELTA).steps == 12


def test_an_entry_is_durable_before_anybody_hears_of_it(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was synced is the whole line, in the file and in its folder, before head, log and caller know it."""
    seen: list[str] = []
    synced = os.fsync

    def fsync(descriptor: int) -> None:
        synced(descriptor)
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        if Path(f"/proc/self/fd/{descriptor}").readlink().parent in (book.file.parent, book.folder):
            seen.append(kind)
            assert kind == "folder" or book.file.read_bytes().endswith(b"}\n")

    class Watched(Crashing):
        def __getattr__(self, name: str) -> Any:
            if name in ("commit_head", "record_plugin"):
                seen.append(name)
            return getattr(self._vault, name)

    monkeypatch.setattr(os, "fsync", fsync)
    ledger = Ledger(Watched(book.vault, ""), "d")  # type: ignore[arg-type]
    for round_ in (1, 2):
        ledger.reserve(run="1", round_=round_, mechanism=MECHANISM, steps=1, delta=DELTA, budget=10.0)
    assert seen == ["file", "folder", "commit_head", "record_plugin", "file", "commit_head", "record_plugin"]


def test_the_ledger_holds_no_data_and_only_its_owner_reads_it(book: Book) -> None:
    book.reserve()
    known = {
        "v",
        "seq",
        "kind",
        "lineage",
        "id",
        "run",
        "round",
        "mechanism",
        "noise_multiplier",
        "sample_rate",
        "clip",
    }
    known |= {"steps", "delta", "asked_delta", "unit", "relation", "mac"}
    entry = json.loads(book.lines()[0])
    assert set(entry) == known
    assert (entry["unit"], entry["relation"], entry["mechanism"], entry["clip"]) == (
        "record",
        "add_remove",
        "dpsgd",
        1.0,
    )
    assert book.file.parent.stat().st_mode & 0o077 == 0
    assert book.file.stat().st_mode & 0o077 == 0


# -- entries that no accountant is trusted for ---------------------------------------------------------------------------------


def old_line(vault: Vault, name: str, previous: str, **entry: Any) -> bytes:
    """A line as earlier versions wrote it, under the data set's name."""
    body = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    mac = vault.mac("aegis/v1/privacy-ledger", f"{name}\n{previous}\n{body}".encode()).hex()
    return json.dumps({**entry, "mac": mac}, sort_keys=True).encode() + b"\n"


def old_entry(seq: int, **other: Any) -> dict[str, Any]:
    kept = {"noise_multiplier": 2.0, "sample_rate": 0.25, "steps": 4, "delta": DELTA}
    return {"seq": seq, "kind": "reserve", "id": f"{seq:032x}", "run": "old", "round": seq, **kept, **other}


def put_old(book: Book, *entries: dict[str, Any], name: str = "d") -> None:
    book.file.parent.mkdir(exist_ok=True)
    lines, previous = b"", ""
    for entry in entries:
        line = old_line(book.vault, name, previous, **entry)
        lines, previous = lines + line, json.loads(line)["mac"]
    (book.file.parent / f"{name}.record.jsonl").write_bytes(lines)


@pytest.mark.parametrize(
    "poison",
    [
        {"noise_multiplier": 1e-155},
        {"noise_multiplier": 1e300},
        {"sample_rate": 2.0},
        {"steps": -5},
        {"steps": 0},
        {"steps": "4"},
        {"noise_multiplier": "1"},
        {"noise_multiplier": None},
    ],
)
def test_an_old_entry_outside_the_bounds_makes_the_ledger_read_as_exhausted(book: Book, poison: dict[str, Any]) -> None:
    """One such message made every later round free: dp-accounting overflows to ε 0, and the sum with it."""
    put_old(book, old_entry(1), old_entry(2, **poison), old_entry(3))
    assert book.ledger.spent(DELTA).epsilon == float("inf")
    assert book.ledger.spent_by_person(DELTA, 2) == float("inf")
    with pytest.raises(BudgetExceeded, match="exhausted"):
        book.reserve(budget=1e9)
    with pytest.raises(BudgetExceeded):
        book.reserve(budget=float("inf"))


def test_a_file_of_an_earlier_version_is_found_and_continued(book: Book) -> None:
    put_old(book, old_entry(1), old_entry(2))
    assert book.ledger.spent(DELTA).steps == 8
    book.reserve()
    assert [e["kind"] for e in book.ledger.entries()] == ["reserve", "reserve", "continue", "reserve"]
    assert book.ledger.spent(DELTA).epsilon == epsilon({MECHANISM: 12}, DELTA)
    old = book.file.parent / "d.record.jsonl"
    whole = old.read_bytes()
    for changed in (whole.splitlines(keepends=True)[0], b"", whole.replace(b'"steps": 4', b'"steps": 1')):
        old.write_bytes(changed)
        with pytest.raises(LedgerTampered):
            book.ledger.spent(DELTA)
    old.unlink()
    with pytest.raises(LedgerTampered):
        book.ledger.spent(DELTA)


def test_an_entry_spliced_in_from_a_fork_is_found(tmp_path: Path) -> None:
    """Same number, a good MAC of its own, the newest entry untouched: the chain alone tells."""
    v = Vault.create(str(tmp_path / "v"), key_file=str(tmp_path / "k"), make_key=True)
    ask: dict[str, Any] = {"mechanism": MECHANISM, "delta": DELTA, "budget": 50.0}
    Ledger(v, "d").reserve(run="1", round_=1, steps=1, **ask)
    shutil.copytree(tmp_path / "v", tmp_path / "w")
    Ledger(v, "d").reserve(run="1", round_=2, steps=40, **ask)
    twin = Ledger(Vault.open(str(tmp_path / "w"), key_file=str(tmp_path / "k")), "d")
    twin.reserve(run="1", round_=2, steps=1, **ask)
    Ledger(v, "d").reserve(run="1", round_=3, steps=1, **ask)
    mine = Ledger(v, "d").path
    other = tmp_path / "w" / "privacy" / mine.name
    a, b = mine.read_bytes().splitlines(keepends=True), other.read_bytes().splitlines(keepends=True)
    mine.write_bytes(a[0] + b[1] + a[2])
    with pytest.raises(LedgerTampered):
        Ledger(v, "d").spent(DELTA)


def test_a_cut_ledger_with_an_older_reservation_appended_to_the_log_is_found(book: Book) -> None:
    """The log has no secret, so its last word was believed: a copy of an old record made a cut ledger whole."""
    book.reserve(round_=1)
    (first,) = [r for r in audit_read(str(book.folder / "audit")) if r["event"] == "privacy.reserve"]
    book.reserve(round_=2, steps=40)
    book.file.write_bytes(book.lines()[0])
    facts = {k: first[k] for k in ("dataset", "lineage", "entries", "mac", "reservation", "run", "round")}
    book.vault.record_plugin("privacy.reserve", facts)
    with pytest.raises(LedgerTampered):
        book.ledger.spent(DELTA)


@pytest.mark.parametrize("entries", [10**9, 0, -1, "1"])
def test_what_the_log_says_counts_only_against_granting(book: Book, entries: Any) -> None:
    book.reserve()
    book.vault.record_plugin("privacy.reserve", {"lineage": book.ledger.lineages[0], "entries": entries, "mac": "00"})
    with pytest.raises(LedgerTampered):
        book.reserve(round_=2)


def test_a_link_in_the_place_of_a_ledger_is_refused(book: Book, tmp_path: Path) -> None:
    book.reserve()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(book.file.read_bytes())
    book.file.unlink()
    book.file.symlink_to(elsewhere)
    with pytest.raises(LedgerTampered):
        book.ledger.entries()
    book.file.unlink()
    book.file.write_bytes(elsewhere.read_bytes())
    lock = book.file.with_suffix(".lock")
    lock.unlink()
    lock.symlink_to(tmp_path / "made")
    with pytest.raises(LedgerTampered):
        book.reserve(round_=2)
    assert not (tmp_path / "made").exists()
