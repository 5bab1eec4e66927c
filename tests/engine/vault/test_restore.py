"""A restored keystore rests on the audit log, which has no secret: what that lets through (docs/VAULT_THREATS.md)."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aegis import Vault

from aegis_engine import audit_read, audit_verify, errors, keys

KEY, RECOVERY = bytes(range(32)), keys.raw(b"r" * 32)
LOG = "audit/000001.log"


def lose(folder: Path, end: Callable[[Vault, str], object]) -> tuple[str, str]:
    """A vault that lost its keystore; the keys of one object ended after the backup, its file has come back."""
    vault = Vault.create(folder, KEY)
    kept, gone = str(vault.store_bytes(b"kept", "kept")), str(vault.store_bytes(b"gone", "gone"))
    vault.backup_keystore(folder.parent / "backup", RECOVERY)
    file = folder / "objects" / gone[:2] / f"{gone}.enc"
    sealed = file.read_bytes()
    end(vault, gone)
    del vault
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(sealed)
    (folder / "keystore.akv").unlink()
    return kept, gone


@pytest.fixture
def lost(tmp_path: Path) -> tuple[Path, str, str]:
    return tmp_path / "v", *lose(tmp_path / "v", Vault.shred)


def restore(folder: Path, **options: Any) -> Vault:
    return Vault.restore_keystore(folder, folder.parent / "backup", RECOVERY, KEY, **options)


def last(folder: Path, event: str) -> dict[str, Any]:
    return [record for record in audit_read(folder / "audit") if record["event"] == event][-1]


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


@pytest.mark.parametrize("change", [drop, empty])
def test_a_log_without_the_record_that_the_backup_remembers_is_refused(
    lost: tuple[Path, str, str], change: Callable[[Path], None]
) -> None:
    folder, kept, gone = lost
    change(folder)
    with pytest.raises(errors.VaultTampered, match="does not contain the record"):
        restore(folder)
    assert not (folder / "keystore.akv").exists()
    # What is lost is lost: on request it goes on, says so, and what the lost records said is back.
    vault = restore(folder, accept_lost_log=True)
    assert vault.load(kept) is not None
    assert vault.load(gone) is not None
    assert last(folder, "keystore.restored")["log_lost"] is True


def test_a_log_cut_after_the_backup_is_found_by_a_head_kept_elsewhere_and_by_nothing_else(
    lost: tuple[Path, str, str],
) -> None:
    folder, _, gone = lost
    starts, head = records((folder / LOG).read_bytes())
    cut(folder)
    with pytest.raises(errors.VaultTampered, match="records are left"):
        restore(folder, expect=(len(starts) - 1, head))
    # The limit that docs/VAULT_THREATS.md states.
    assert restore(folder).load(gone) is not None


def test_a_head_kept_elsewhere_that_the_log_goes_on_from_lets_the_restore_pass(lost: tuple[Path, str, str]) -> None:
    folder, _, gone = lost
    starts, head = records((folder / LOG).read_bytes())
    with pytest.raises(errors.VaultTampered, match="another one"):
        restore(folder, expect=(len(starts) - 1, bytes(32)))
    with pytest.raises(errors.ObjectShredded):
        restore(folder, expect=(len(starts) - 1, head)).stat(gone)


def test_a_forged_shred_in_the_log_drops_no_key_and_is_counted(lost: tuple[Path, str, str]) -> None:
    folder, kept, gone = lost
    proof = last(folder, "shred")["proof"]
    for told in ({}, {"proof": proof}, {"proof": 7}):
        forge(folder, {"event": "shred", "objects": [kept], "when": 7, **told})
    forge(folder, {"event": "reencrypt.done", "objects": [kept], "when": 7, "proof": proof})
    vault = restore(folder)
    assert vault.stat(kept)["name"] == "kept"
    with pytest.raises(errors.ObjectShredded):
        vault.stat(gone)
    assert last(folder, "keystore.restored")["unproven"] == 4


def test_what_was_reencrypted_since_the_backup_does_not_come_back(tmp_path: Path) -> None:
    kept, gone = lose(tmp_path / "v", Vault.reencrypt)
    vault = restore(tmp_path / "v")
    assert bytes(vault.load(kept)) == b"kept"
    with pytest.raises(errors.ObjectShredded):
        vault.load(gone)


@pytest.mark.parametrize("claimed", [2**63, 2**64 - 1])
def test_a_forged_generation_does_not_count_and_never_wraps(lost: tuple[Path, str, str], claimed: int) -> None:
    folder, kept, _ = lost
    forge(folder, {"event": "keystore", "generation": claimed, "epoch": 1})
    vault = restore(folder)
    assert bytes(vault.load(kept)) == b"kept"
    vault.store_bytes(b"more", "more")
    del vault
    assert Vault.open(folder, KEY).list()


def test_a_head_kept_elsewhere_tells_a_cut_log(lost: tuple[Path, str, str]) -> None:
    folder = lost[0]
    starts, head = records((folder / LOG).read_bytes())
    audit_verify(folder / "audit", expect=(len(starts) - 1, head))
    cut(folder)
    with pytest.raises(errors.AuditTampered):
        audit_verify(folder / "audit", expect=(len(starts) - 1, head))
