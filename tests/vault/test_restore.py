"""A restored keystore rests on the audit log, which has no secret: what that lets through (docs/VAULT_THREATS.md)."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from aegis import Vault

from aegis_engine import audit_verify, errors, keys

KEY, RECOVERY = bytes(range(32)), keys.raw(b"r" * 32)
LOG = "audit/000001.log"


@pytest.fixture
def lost(tmp_path: Path) -> tuple[Path, str, str]:
    """A vault that lost its keystore; one object was shredded after the backup, its file has come back."""
    folder = tmp_path / "v"
    vault = Vault.create(folder, KEY)
    kept, gone = str(vault.store_bytes(b"kept", "kept")), str(vault.store_bytes(b"gone", "gone"))
    vault.backup_keystore(tmp_path / "backup", RECOVERY)
    file = folder / "objects" / gone[:2] / f"{gone}.enc"
    sealed = file.read_bytes()
    vault.shred(gone)
    del vault
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(sealed)
    (folder / "keystore.akv").unlink()
    return folder, kept, gone


def restore(folder: Path) -> Vault:
    return Vault.restore_keystore(folder, folder.parent / "backup", RECOVERY, KEY)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def records(raw: bytes) -> tuple[list[int], bytes]:
    """Where each record of a log starts, where the last one ends, and its hash."""
    at, head, starts = 64, hashlib.sha256(b"\0" + raw[:64]).digest(), [64]
    while at < len(raw):
        end = at + 56 + int.from_bytes(raw[at : at + 4], "little")
        head = hashlib.sha256(b"\1" + struct.pack("<Q", len(starts) - 1) + head + raw[at + 56 : end]).digest()
        starts.append(at := end)
    return starts, head


def forge(folder: Path, event: dict[str, object]) -> None:
    """Appends a record as anybody can who has read crates/audit/src/lib.rs."""
    starts, head = records((folder / LOG).read_bytes())
    told = {**event, "time": "2026-01-01T00:00:00.000Z"}
    payload = json.dumps(told, sort_keys=True, separators=(",", ":")).encode()
    frame = struct.pack("<IQ32sII", len(payload), len(starts) - 1, head, 0, crc32c(payload))
    with (folder / LOG).open("ab") as log:
        log.write(frame + struct.pack("<I", crc32c(frame)) + payload)


def drop(folder: Path) -> None:
    shutil.rmtree(folder / "audit")


def empty(folder: Path) -> None:
    raw = (folder / LOG).read_bytes()
    (folder / LOG).write_bytes(raw[:64])


def cut(folder: Path) -> None:
    """Everything since the backup: the head that the backup remembers is still there."""
    raw = (folder / LOG).read_bytes()
    starts, _ = records(raw)
    shred = next(n for n, at in enumerate(starts) if b'"event":"shred"' in raw[at : [*starts, at][n + 1]])
    (folder / LOG).write_bytes(raw[: starts[shred]])


def test_what_was_shredded_since_the_backup_stays_shredded(lost: tuple[Path, str, str]) -> None:
    folder, kept, gone = lost
    vault = restore(folder)
    assert vault.load(kept) is not None
    with pytest.raises(errors.ObjectShredded):
        vault.stat(gone)


@pytest.mark.xfail(
    strict=True,
    raises=pytest.fail.Exception,
    reason="a restore compares the log with no head",
)
@pytest.mark.parametrize("change", [drop, empty])
def test_a_log_without_the_record_that_the_backup_remembers_is_refused(
    lost: tuple[Path, str, str], change: Callable[[Path], None]
) -> None:
    change(lost[0])
    with pytest.raises(errors.VaultError):
        restore(lost[0])


@pytest.mark.xfail(
    strict=True,
    raises=pytest.fail.Exception,
    reason="nothing in the folder knows a later head",
)
def test_a_log_cut_after_the_backup_brings_nothing_back(lost: tuple[Path, str, str]) -> None:
    folder, _, gone = lost
    cut(folder)
    with pytest.raises(errors.VaultError):
        restore(folder).load(gone)


@pytest.mark.xfail(
    strict=True, raises=errors.ObjectShredded, reason="the log has no secret: a restore believes a forged shred"
)
def test_a_forged_shred_in_the_log_drops_no_key(lost: tuple[Path, str, str]) -> None:
    folder, kept, _ = lost
    forge(folder, {"event": "shred", "objects": [kept], "when": 7})
    assert restore(folder).stat(kept)["name"] == "kept"


def test_a_head_kept_elsewhere_tells_a_cut_log(lost: tuple[Path, str, str]) -> None:
    folder = lost[0]
    starts, head = records((folder / LOG).read_bytes())
    audit_verify(folder / "audit", expect=(len(starts) - 1, head))
    cut(folder)
    with pytest.raises(errors.AuditTampered):
        audit_verify(folder / "audit", expect=(len(starts) - 1, head))
