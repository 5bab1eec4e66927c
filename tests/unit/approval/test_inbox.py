"""Runs that wait: told once, and never more than there is room for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bundles import built

from aegis_flower.approval import Inbox, read
from aegis_flower.approval import inbox as rooms
from aegis_flower.errors import BadBundle

CONFIG: dict[str, Any] = {"aegis-experiment": "quickstart", "rounds": 3, "lr": 0.5, "on": True}


@pytest.fixture
def app(fab: bytes) -> str:
    return read(fab).fab_hash


def test_a_run_is_told_once_with_what_it_asks(tmp_path: Path, fab: bytes, app: str) -> None:
    inbox = Inbox(tmp_path / "inbox")
    assert inbox.waiting() == []
    assert inbox.ask(2**64 - 1, app, fab, CONFIG)
    before = {p.name: p.read_bytes() for p in (tmp_path / "inbox").iterdir()}
    assert inbox.ask(2**64 - 1, app, fab, {"other": 1})
    assert {p.name: p.read_bytes() for p in (tmp_path / "inbox").iterdir()} == before
    (one,) = Inbox(tmp_path / "inbox").waiting()
    assert (one.run_id, one.fab_hash, one.config) == (2**64 - 1, app, CONFIG)
    assert inbox.bundle(app) == fab


def test_a_million_runs_do_not_fill_the_disk(
    tmp_path: Path, fab: bytes, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MOST_RUNS", 5)
    inbox = Inbox(tmp_path)
    assert [inbox.ask(run, app, fab, {}) for run in range(8)] == [True] * 5 + [False] * 3
    assert [one.run_id for one in inbox.waiting()] == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.glob("*.fab"))) == 1
    assert inbox.drop(3) == 1
    assert inbox.ask(9, app, fab, {})


def test_bundles_have_a_bound_together(tmp_path: Path, fab: bytes, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    later = built(study__client=b"app = 9\n")
    monkeypatch.setattr(rooms, "MOST_BYTES", len(fab) + 10)
    inbox = Inbox(tmp_path)
    assert inbox.ask(1, app, fab, {})
    assert not inbox.ask(2, read(later).fab_hash, later, {})
    assert inbox.ask(3, app, fab, {})  # the same bundle needs no more room
    assert inbox.drop() == 2
    assert inbox.ask(2, read(later).fab_hash, later, {})
    assert [p.stem for p in tmp_path.glob("*.fab")] == [read(later).fab_hash]


def test_a_config_too_large_is_left_out_and_the_run_is_told(tmp_path: Path, fab: bytes, app: str) -> None:
    inbox = Inbox(tmp_path)
    assert inbox.ask(1, app, fab, {"k": "x" * 100_000})
    assert inbox.waiting()[0].config is None
    assert sum(p.stat().st_size for p in tmp_path.glob("*.json")) < 1000


@pytest.mark.parametrize("run", [-1, 2**64, 1.0, True, "1", None, "../x"])
def test_what_is_no_run_is_refused(tmp_path: Path, fab: bytes, app: str, run: Any) -> None:
    with pytest.raises(BadBundle, match="no id of a run"):
        Inbox(tmp_path / "i").ask(run, app, fab, {})
    assert not (tmp_path / "i").exists()


def test_a_bundle_of_another_hash_is_refused(tmp_path: Path, fab: bytes, app: str) -> None:
    for hash_, data in (("0" * 64, fab), ("../x", fab), (app, b""), (app, fab + b"x"), (app, b"\0" * (11 << 20))):
        with pytest.raises(BadBundle):
            Inbox(tmp_path / "i").ask(1, hash_, data, {})
    with pytest.raises(BadBundle):
        Inbox(tmp_path / "i").bundle("../../etc/passwd")
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 99_999,
        b'{"run_id": 1, "fab_hash": "x", "when": 0, "config": {}}',
        b"x" * 300_000,
    ],
)
def test_files_of_others_are_left_out(tmp_path: Path, fab: bytes, app: str, junk: bytes) -> None:
    inbox = Inbox(tmp_path)
    inbox.ask(7, app, fab, {})
    (tmp_path / f"1-{app}.json").write_bytes(junk)
    (tmp_path / "notes.json").write_bytes(junk)
    (tmp_path / f"2-{app}.json").symlink_to("/etc/passwd")
    assert [one.run_id for one in inbox.waiting()] == [7]


def test_two_processes_tell_each_run_once(tmp_path: Path, fab: bytes, app: str) -> None:
    (tmp_path / "fab").write_bytes(fab)
    script = (
        "import sys\nfrom pathlib import Path\nfrom aegis_flower.approval import Inbox\n"
        "for run in range(30): assert Inbox(Path(sys.argv[1])).ask(run, sys.argv[2], Path(sys.argv[3]).read_bytes(), {})\n"
    )
    given = [sys.executable, "-c", script, str(tmp_path / "inbox"), app, str(tmp_path / "fab")]
    both = [subprocess.Popen(given) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    assert sorted(one.run_id for one in Inbox(tmp_path / "inbox").waiting()) == list(range(30))


def test_what_is_kept_is_plain_json(tmp_path: Path, fab: bytes, app: str) -> None:
    Inbox(tmp_path).ask(1, app, fab, {"a": b"\x00", "b": [1]})
    said = json.loads((tmp_path / f"1-{app}.json").read_text())
    assert said["config"] == {"a": "b'\\x00'", "b": "[1]"}


def test_what_waited_for_thirty_days_makes_room_and_nothing_newer_does(
    tmp_path: Path, fab: bytes, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "MOST_RUNS", 3)
    inbox = Inbox(tmp_path)
    assert all(inbox.ask(run, app, fab, {}) for run in range(3))
    for run, days in ((0, 31), (1, 29)):
        at = time.time() - days * 86_400
        os.utime(tmp_path / f"{run}-{app}.json", (at, at))
    assert inbox.ask(3, app, fab, {})
    assert sorted(one.run_id for one in inbox.waiting()) == [1, 2, 3]
    assert not inbox.ask(4, app, fab, {})
    assert inbox.bundle(app) == fab


def test_an_app_that_was_decided_on_waits_no_more(tmp_path: Path, fab: bytes, app: str, later_fab: bytes) -> None:
    inbox = Inbox(tmp_path)
    for run in (1, 2):
        inbox.ask(run, app, fab, {})
    inbox.ask(3, read(later_fab).fab_hash, later_fab, {})
    assert inbox.decided(app) == 2
    assert [one.run_id for one in inbox.waiting()] == [3]
    assert [p.stem for p in tmp_path.glob("*.fab")] == [read(later_fab).fab_hash]
