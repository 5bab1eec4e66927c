"""Disks that fail: full, read-only, I/O errors at each call. The error is clear, and nothing that was there is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from aegis import Vault

KEY = bytes(32)
KEPT = b"kept" * 5000
SOURCE = Path(__file__).parent / "shim/fault.c"

CHILD = """
import sys
from aegis import Vault
from aegis_engine import errors
folder, source, step, stored = sys.argv[1:]
try:
    vault = Vault.open(folder, bytes(32))
    if step == "store":
        vault.store_file(source)
    elif step == "rename":
        vault.rename(stored, "new name")
    elif step == "shred":
        vault.shred(stored)
    elif step == "rotate":
        vault.rotate()
    elif step == "reencrypt":
        vault.reencrypt(stored)
    elif step == "read":
        vault.open_object(stored).read()
    print("done")
except errors.AegisError as error:
    print(type(error).__name__, error.code, error)
"""


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is among what `make test` needs"
    target = tmp_path_factory.mktemp("shim") / "fault.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", target, SOURCE, "-ldl"], check=True)
    return target


def run(folder: Path, source: Path, step: str, stored: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, folder, source, step, stored],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sound(folder: Path, kept: str, other: str) -> None:
    """Opens, has all that was there, and is clean."""
    vault = Vault.open(folder, KEY)
    with vault.open_object(kept) as reader:
        assert reader.read() == KEPT
    names = {entry["id"]: entry["name"] for entry in vault.list()}
    assert kept in names
    for one in names:
        vault.verify(one)
    del vault
    found = Vault.fsck(folder, KEY)
    assert found["clean"], found
    assert not found["findings"], found
    assert not list(folder.rglob("*.tmp"))
    assert not list((folder / "journal").iterdir())


CALLS = {"store": 40, "rename": 25, "shred": 40, "rotate": 30, "reencrypt": 40}


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
# Renames go by descriptors, past the C library: a failing one is in `durable.rs`, at the point `file.renaming`.
@pytest.mark.parametrize("function", ["pwrite", "write", "fsync"])
@pytest.mark.parametrize("step", CALLS)
def test_a_failing_disk_says_so_and_loses_nothing(
    tmp_path: Path, shim: Path, step: str, function: str, code: int
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2 * 2**20 + 5))
    injected = 0
    for number in range(1, CALLS[step]):
        folder = tmp_path / f"v{number}"
        vault = Vault.create(folder, KEY)
        kept, other = (str(vault.store_bytes(data, name)) for name, data in (("n", KEPT), ("o", b"other" * 3000)))
        del vault
        done = run(
            folder, source, step, other,
            LD_PRELOAD=str(shim), AEGIS_FAULT=f"{function}:{number}:{code}", AEGIS_FAULT_UNDER=str(folder),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        if "fault injected" not in done.stderr:
            assert done.stdout == "done\n"
            break
        injected += 1
        # A call that may fail without harm (such as the note in the lock file) may also succeed.
        if done.stdout != "done\n":
            expected = ("no space left", "os error 28") if code == errno.ENOSPC else ("os error 5",)
            assert any(text in done.stdout for text in expected), (number, done.stdout)
            assert "AEG-" in done.stdout
        sound(folder, kept, other)
        shutil.rmtree(folder)
    assert injected or function == "pwrite", "no call of it was made"


def test_a_failing_read_is_an_error_of_the_disk_not_of_the_data(tmp_path: Path, shim: Path) -> None:
    folder = tmp_path / "v"
    stored = str(Vault.create(folder, KEY).store_bytes(KEPT, "n"))
    seen = set()
    for number in (1, 2):
        done = run(
            folder, tmp_path, "read", stored,
            LD_PRELOAD=str(shim), AEGIS_FAULT=f"pread:{number}:{errno.EIO}", AEGIS_FAULT_UNDER=str(folder / "objects"),
        )  # fmt: skip
        seen.add(done.stdout.split()[1])
        assert "os error 5" in done.stdout
        assert stored in done.stdout
    assert seen == {"AEG-V028"}
    sound(folder, stored, stored)


@pytest.fixture
def mount(tmp_path: Path):
    """A small tmpfs, where this user may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("mounting a tmpfs is not permitted here; the injected faults cover the same errors")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_named_and_a_store_fits_again_afterwards(tmp_path: Path, mount: Path) -> None:
    folder = mount / "v"
    vault = Vault.create(folder, KEY)
    kept = str(vault.store_bytes(KEPT, "n"))
    del vault
    source = tmp_path / "source"
    source.write_bytes(os.urandom(16 * 2**20))
    done = run(folder, source, "store", kept)
    assert done.stdout.startswith("NoSpace AEG-V027"), done.stdout
    assert "nothing stored before was lost" in done.stdout
    sound(folder, kept, kept)
    source.write_bytes(os.urandom(2**20))
    assert run(folder, source, "store", kept).stdout == "done\n"


def test_a_read_only_disk_is_named(tmp_path: Path, mount: Path) -> None:
    folder = mount / "v"
    stored = str(Vault.create(folder, KEY).store_bytes(KEPT, "n"))
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    done = run(folder, tmp_path, "shred", stored)
    assert done.stdout.startswith("VaultError AEG-V074"), done.stdout
    assert "read-only file system" in done.stdout
    subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
    sound(folder, stored, stored)
