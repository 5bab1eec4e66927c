"""``aegis app`` and ``aegis inbox`` as people type them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from aegis.cli import build as build_cli
from aegis.cli.output import exit_code
from approval_world import World
from bundles import FILES, PROJECT, built, packed
from typer.testing import CliRunner

from aegis_flower.approval import Inbox, read
from aegis_flower.cli import register
from aegis_flower.errors import AppNotApproved, ApprovalsTampered, BadBundle

app = build_cli()
register(app)


def aegis(*words: str | Path, given: str | None = None) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], input=given, env={"COLUMNS": "200"})


@pytest.fixture
def file(tmp_path: Path, fab: bytes) -> Path:
    (tmp_path / "study.fab").write_bytes(fab)
    return tmp_path / "study.fab"


def approve(world: World, what: str | Path, *more: str | Path, given: str | None = None) -> Any:
    said = ("--folder", world.folder, "-i", world.key, "--mode", "any", "--purpose", "research", "--days", "9")
    return aegis("app", "approve", what, *said, *more, given=given)


def test_a_folder_and_its_bundle_have_one_hash_and_nothing_of_it_runs(tmp_path: Path, file: Path) -> None:
    folder = tmp_path / "app"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "study/linked.py").symlink_to(folder / "study/client.py")
    of_folder = json.loads(aegis("app", "inspect", folder, "--json").output)
    assert any("a link in the folder" in note for note in of_folder["notes"])
    (folder / "study/linked.py").unlink()
    of_folder = json.loads(aegis("app", "inspect", folder, "--json").output)
    of_file = json.loads(aegis("app", "inspect", file, "--json").output)
    assert of_folder == of_file
    assert of_file["hash"] == read(file.read_bytes()).fab_hash
    assert of_file["asks"]["experiment"] == "quickstart"
    assert {f["name"]: f["size"] for f in of_file["files"]}["study/client.py"] == 8
    assert not list(folder.rglob("__pycache__"))


def test_inspect_shows_what_changed(tmp_path: Path, file: Path, later_fab: bytes) -> None:
    (tmp_path / "later.fab").write_bytes(later_fab)
    shown = aegis("app", "inspect", tmp_path / "later.fab", "--against", file)
    assert "-app = 1" in shown.output
    assert "+app = 3" in shown.output
    assert "nothing changed" in aegis("app", "inspect", file, "--against", file).output


def test_what_an_app_says_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    evil = PROJECT.replace('"clinic"', r'"\u001b[2J\u202eevil"').replace("1.2.0", r"1\r\nhash          0000")
    (tmp_path / "evil.fab").write_bytes(
        packed({**FILES, "pyproject.toml": evil.encode(), "x.py": b"a\x1b[31m\x07\r\n"})
    )
    (tmp_path / "plain.fab").write_bytes(packed(FILES))
    shown = aegis("app", "inspect", tmp_path / "evil.fab", "--against", tmp_path / "plain.fab").output
    assert all(c.isprintable() or c == "\n" for c in shown)
    assert r"\x1b[2J\u202eevil" in shown
    assert len([line for line in shown.splitlines() if line.startswith("hash")]) == 1


def test_approve_asks_first_and_shows_the_change_since_the_last(
    world: World, file: Path, tmp_path: Path, later_fab: bytes
) -> None:
    refused = approve(world, file, given="n\n")
    assert refused.exit_code == 1
    assert not world.list.exists()
    assert approve(world, file, given="y\n").exit_code == 0
    (tmp_path / "later.fab").write_bytes(later_fab)
    shown = approve(world, tmp_path / "later.fab", "--dataset", "patients", given="y\n")
    assert "+app = 3" in shown.output
    assert "on the data set patients, mode any, for 9 days?" in shown.output
    found = json.loads(aegis("app", "list", "--folder", world.folder, "--signer", world.public.hex(), "--json").output)
    assert [(e["dataset"], e["serial"], e["counts"]) for e in found] == [(None, 1, True), ("patients", 2, True)]
    assert world.node().find(read(later_fab).fab_hash, "patients", "research", found[1]["since"]).mode == "any"


def test_revoke_and_approve_again_by_the_hash_that_is_kept(world: World, file: Path) -> None:
    approve(world, file, "--yes")
    app_hash = read(file.read_bytes()).fab_hash
    file.unlink()
    assert "revoked" in aegis("app", "revoke", app_hash, "--folder", world.folder, "-i", world.key).output
    assert "revoked " in aegis("app", "list", "--folder", world.folder, "-i", world.key).output
    assert approve(world, app_hash, "--yes").exit_code == 0
    assert "counts " in aegis("app", "list", "--folder", world.folder, "-i", world.key).output


def test_what_cannot_be_approved_is_refused_with_its_reason(world: World, tmp_path: Path, file: Path) -> None:
    (tmp_path / "bad.fab").write_bytes(packed({**FILES, "../x.py": b""}))
    for words, kind, said in (
        ((tmp_path / "bad.fab", "--yes"), BadBundle, "leads out"),
        (("0" * 64, "--yes"), BadBundle, "keeps no bundle"),
        ((world.key, "--yes"), BadBundle, "no Flower App Bundle"),
        ((tmp_path / "none.fab", "--yes"), FileNotFoundError, "No such file"),
    ):
        done = approve(world, *words)
        assert isinstance(done.exception, kind), done.output
        assert said in str(done.exception)
    assert not world.list.exists()
    for words, said in ((("--mode", "all"), "none of recipe"), (("--purpose", ""), "purpose of an approval")):
        done = approve(world, file, *words, "--yes")
        assert done.exit_code == 2
        assert said in done.output


def test_a_list_that_was_changed_ends_with_the_code_of_tampering(world: World, file: Path) -> None:
    approve(world, file, "--yes")
    world.list.write_bytes(world.list.read_bytes().replace(b"any", b"any "))
    for words in (("app", "list", "--folder", world.folder, "--signer", world.public.hex()), ()):
        done = aegis(*words) if words else approve(world, file, "--yes")
        assert isinstance(done.exception, ApprovalsTampered)
        assert exit_code(done.exception) == 5
    none = aegis("app", "list", "--folder", world.folder / "none", "--signer", world.public.hex())
    assert isinstance(none.exception, AppNotApproved)


def test_the_inbox_lists_shows_approves_and_forgets(world: World, fab: bytes, later_fab: bytes, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    assert "no run waits" in aegis("inbox", inbox).output
    Inbox(inbox).ask(7, read(fab).fab_hash, fab, {"aegis-overrides": "policy.purpose=audit"})
    assert "1 runs of it no longer wait" in approve(world, read(fab).fab_hash, "--inbox", inbox, "--yes").output
    assert "no run waits" in aegis("inbox", inbox).output
    Inbox(inbox).ask(7, read(fab).fab_hash, fab, {"aegis-overrides": "policy.purpose=audit"})
    Inbox(inbox).ask(8, read(later_fab).fab_hash, later_fab, {})
    listed = aegis("inbox", inbox).output
    assert "run 7, waiting" in listed
    assert "purpose       audit" in listed
    assert [one["run"] for one in json.loads(aegis("inbox", inbox, "--json").output)] == [7, 8]
    shown = aegis("inbox", "show", inbox, "8", "--approvals", world.folder, "--signer", world.public.hex()).output
    assert "+app = 3" in shown
    assert "run config    aegis-overrides" in aegis("inbox", "show", inbox, "7").output
    first = aegis("inbox", "show", inbox, "7", "--approvals", world.folder, "--signer", world.public.hex()).output
    assert "no earlier version" in first
    assert aegis("inbox", "show", inbox, "9").exit_code == 2
    assert aegis("inbox", "show", inbox, "8", "--approvals", world.folder).exit_code == 2
    assert aegis("inbox", "drop", inbox).exit_code == 2
    assert "1 forgotten" in aegis("inbox", "drop", inbox, "7").output
    assert "1 forgotten" in aegis("inbox", "drop", inbox, "--all").output
    assert "no run waits" in aegis("inbox", inbox).output


def test_a_bundle_that_waits_and_is_none_is_shown_as_such(tmp_path: Path) -> None:
    junk = os.urandom(100)
    from aegis_flower.approval.bundle import hash_of

    Inbox(tmp_path).ask(1, hash_of(junk), junk, {})
    assert "no Flower App Bundle" in aegis("inbox", tmp_path).output


def test_a_file_that_is_a_pipe_or_too_large_is_no_app(tmp_path: Path, world: World) -> None:
    os.mkfifo(tmp_path / "pipe.fab")
    with (tmp_path / "big.fab").open("wb") as file:
        file.truncate(1 << 36)
    for name in ("pipe.fab", "big.fab"):
        assert isinstance(aegis("app", "inspect", tmp_path / name).exception, OSError)


def test_two_versions_have_two_hashes() -> None:
    assert read(built(study__client=b"app = 1\n#")).fab_hash != read(built()).fab_hash
