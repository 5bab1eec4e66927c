"""The folder of a vault as somebody else may have left it, names as somebody else may have given them, keys that can be asked
for once.
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aegis import Vault
from aegis_engine.errors import VaultError

from aegis_engine import keys

KEY = bytes(range(32))
CLI = [sys.executable, "-m", "aegis"]


def code_of(refused: pytest.ExceptionInfo[BaseException]) -> str:
    return str(getattr(refused.value, "code", ""))


def run(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*CLI, *arguments], input=given, capture_output=True, check=False, timeout=120)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


# -- the path and the key ---------------------------------------------------------------------------------------------


def test_a_vault_of_a_relative_path_stays_itself_when_the_process_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        vault = Vault.new("vault", KEY)
        vault.store_bytes(folder.encode(), folder)
        if folder == "a":
            first = vault
    assert first.path == tmp_path / "a" / "vault"
    assert [entry["name"] for entry in first.list()] == ["a"]
    assert first.open_object(first.list()[0]["id"]).read() == b"a"
    first.store_bytes(b"more", "more")
    assert first.audit_head()[0] > 0


@pytest.mark.parametrize("make", ["create", "new", "restore"])
def test_the_key_of_a_new_vault_is_asked_for_once(tmp_path: Path, make: str) -> None:
    asked = []

    def ask() -> bytes:
        asked.append(1)
        return KEY

    if make == "restore":
        vault = Vault.create(tmp_path / "v", KEY)
        vault.backup_keystore(tmp_path / "b", keys.raw(bytes(32)))
        (tmp_path / "v" / "keystore.akv").unlink()
        vault = Vault.restore_keystore(tmp_path / "v", tmp_path / "b", keys.raw(bytes(32)), keys.callback(ask))
    else:
        vault = getattr(Vault, make)(tmp_path / "v", keys.callback(ask))
    vault.store_bytes(b"x", "x")
    assert asked == [1]


def test_a_key_from_a_pipe_makes_a_vault(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, KEY)
    os.close(write)
    Vault.create(tmp_path / "v", keys.descriptor(read)).store_bytes(b"x", "x")
    os.close(read)
    assert len(Vault.open(tmp_path / "v", KEY).list()) == 1


def test_a_passphrase_that_is_too_long_is_refused_not_cut(tmp_path: Path) -> None:
    folder = str(tmp_path / "v")
    longest = b"a" * 4096
    for given in (longest + b"a", longest + b"a" * 900, longest + b"b\n"):
        done = run("vault", "init", folder, "--key", "passphrase-fd:0", given=given)
        assert done.returncode == 2
        assert b"4096" in done.stderr
        assert not Path(folder).exists()
    assert run("vault", "init", folder, "--key", "passphrase-fd:0", given=longest + b"\r\n").returncode == 0
    assert run("vault", "ls", folder, "--key", "passphrase-fd:0", given=longest).returncode == 0


def test_an_empty_folder_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    folder.chmod(0o777)
    Vault.create(folder, KEY)
    assert folder.stat().st_mode & 0o777 == 0o700


# -- names ------------------------------------------------------------------------------------------------------------

CLEAR = "x\x1b]0;pwned\x07\x1b[2K\rharmless"
ROW = "y\nffffffff-ffff-4fff-8fff-ffffffffffff   1.0 GiB  payroll.csv"
TURNED = "gnp\u202eexe"


def test_store_refuses_the_names_that_rename_refuses(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    kept = vault.store_bytes(b"x", "kept")
    for name in ("", "n" * 1025, "n" * 3000, CLEAR, ROW, TURNED, "nul\0"):
        with pytest.raises(VaultError) as stored:
            vault.store_bytes(b"x", name)
        with pytest.raises(VaultError) as renamed:
            vault.rename(kept, name)
        assert code_of(stored) == code_of(renamed) == "AEG-V023"
    assert len(vault.list()) == 1


def test_plain_objects_may_share_a_name_and_a_data_set_shares_it_with_nobody(tmp_path: Path) -> None:
    from aegis_flower.ingest import Terms, ingest

    vault = Vault.create(tmp_path / "v", KEY)
    first = vault.store_bytes(b"1", "a")
    assert vault.store_bytes(b"2", "a") != first
    vault.govern("core")
    patients = ingest(vault, "patients", {"x": [1.0, 2.0]}, ["p", "q"], Terms(["research"], min_rows=1, min_subjects=1))
    for taken in (lambda: vault.store_bytes(b"x", "patients"), lambda: vault.rename(first, "patients")):
        with pytest.raises(VaultError, match=patients) as refused:
            taken()
        assert code_of(refused) == "AEG-V075"
    with pytest.raises(VaultError) as refused:
        vault.rename(patients, "a")
    assert code_of(refused) == "AEG-V075"


def test_names_are_printed_and_never_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aegis import cli_base

    for name in (CLEAR, ROW, TURNED, "caf\udce9", "tab\t", "\x9b2J"):
        shown = cli_base.plain(name)
        assert shown.isprintable(), name
        assert "\n" not in shown
    assert cli_base.plain("Müller 測定 🩺.csv") == "Müller 測定 🩺.csv"
    lines: list[str] = []
    monkeypatch.setattr("typer.echo", lambda text, **_: lines.append(text))
    cli_base.show([], [f"id  {ROW}", f"id  {CLEAR}"], as_json=False)
    assert lines[0].count("\n") == 1
    assert "\x1b" not in lines[0]


def test_a_terminal_gets_no_escapes_from_a_file_name(tmp_path: Path, key_file: Path) -> None:
    Vault.create(tmp_path / "v", key_file=key_file)
    (tmp_path / CLEAR.replace("/", "")).write_text("1")
    (tmp_path / "fine").write_text("1")
    master, slave = pty.openpty()
    arguments = ["vault", "add", "v", CLEAR.replace("/", ""), "fine", "--key-file", str(key_file)]
    done = subprocess.Popen([*CLI, *arguments], cwd=tmp_path, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while True:
        try:
            more = os.read(master, 4096)
        except OSError:
            break
        if not more:
            break
        seen += more
    os.close(master)
    assert done.wait() == 1
    assert b"\x1b]0;" not in seen
    assert b"AEG-V023" in seen
    assert b"nothing was stored" in seen
    assert b"  fine" in seen
    assert Vault.open(tmp_path / "v", key_file=key_file).list() == [], "all or none"


def test_a_single_file_of_such_a_name_is_stored_under_its_escapes_and_that_is_said(
    tmp_path: Path, key_file: Path
) -> None:
    Vault.create(tmp_path / "v", key_file=key_file)
    (tmp_path / "f").write_text("1")
    for name in (CLEAR, ROW, TURNED):
        done = run("vault", "add", str(tmp_path / "v"), str(tmp_path / "f"), "--name", name, "-k", str(key_file))
        assert done.returncode == 0, done.stderr
        assert b"stored as escapes" in done.stderr
    listed = run("vault", "ls", str(tmp_path / "v"), "-k", str(key_file)).stdout.decode()
    assert listed.count("\n") == 3
    assert all(line.isprintable() for line in listed.splitlines())


def test_two_names_that_are_no_utf_8_do_not_become_one(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    for byte in (b"\xe9", b"\xe8"):
        path = os.fsencode(tmp_path / "caf") + byte
        Path(os.fsdecode(path)).write_bytes(byte)
        with pytest.raises(VaultError, match="UTF-8"):
            vault.store_file(os.fsdecode(path))
    assert vault.list() == []


# -- a file system that is only for reading ----------------------------------------------------------------------------

READ_ONLY = """
import sys
from aegis import Vault
from aegis_engine.errors import AegisError
folder, object_id = sys.argv[1:]
vault = Vault.open(folder, bytes(range(32)))
def code(act):
    try:
        act()
    except AegisError as error:
        return error.code
    return "done"
print([entry["name"] for entry in vault.list()], vault.stat(object_id)["bytes"])
print(code(lambda: vault.verify(object_id)), code(lambda: vault.scrub()), Vault.fsck(folder, bytes(range(32)))["clean"])
print(code(lambda: vault.open_object(object_id)))
print(code(lambda: vault.store_bytes(b"x", "y")), code(lambda: vault.rename(object_id, "z")),
      code(lambda: vault.shred(object_id)), code(lambda: Vault.fsck(folder, bytes(range(32)), repair=True)))
"""


@pytest.fixture
def shelf() -> Iterator[Path]:
    """Where another user may look."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_vault_on_a_read_only_file_system_is_listed_and_checked_and_gives_out_nothing(shelf: Path) -> None:
    folder = shelf / "v"
    vault = Vault.create(folder, KEY)
    stored = str(vault.store_bytes(b"abc", "x"))
    before = _bytes(folder)
    # By a read-only mount where that is allowed, else by permissions, as a user who is not root.
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", str(folder), sys.executable, READ_ONLY, stored]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        other = {"user": 65534} if os.geteuid() == 0 else {}
        command = [sys.executable, "-c", READ_ONLY, str(folder), stored]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **other)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        fsck = "False"  # open to others, which is worth a note
    else:
        fsck = "True"
    assert done.stdout.splitlines() == [
        "['x'] 3",
        f"done done {fsck}",
        "AEG-V074",
        "AEG-V074 AEG-V074 AEG-V074 AEG-V074",
    ], done.stderr
    assert _bytes(folder) == before
