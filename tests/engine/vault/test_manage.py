"""Names, rotation, re-encryption, backups, erasure, care: through Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from aegis import Vault

from aegis_engine import doctor, errors, keys

KEY = bytes(32)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "v", KEY)


def reads(vault: Vault, stored: object) -> bytes:
    with vault.open_object(str(stored)) as reader:
        return reader.read()


def test_rename_rotate_and_reencrypt_keep_the_content(vault: Vault) -> None:
    stored = vault.store_bytes(b"x" * 3_000_000, "old", subject="ann", attrs={"k": "v"})
    vault.rename(stored, "new")
    assert vault.rotate(bytes(range(32))) == 2
    told: list[int] = []
    again = vault.reencrypt(stored, progress=told.append)
    assert told[-1] == 3_000_000
    assert told == sorted(told)
    shown = vault.stat(again)
    assert (shown["name"], shown["subject"], shown["attrs"]) == ("new", "ann", {"k": "v"})
    assert reads(vault, again) == b"x" * 3_000_000
    with pytest.raises(errors.ObjectShredded):
        vault.stat(stored)


def test_a_callback_that_raises_is_heard(vault: Vault) -> None:
    stored = vault.store_bytes(b"x", "n")

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.reencrypt(stored, progress=stop)
    with pytest.raises(KeyboardInterrupt):
        vault.scrub(progress=lambda *_: stop(0))


def test_subjects_and_many_objects_are_shredded_at_once(vault: Vault) -> None:
    ann = [vault.store_bytes(b"a", "n", subject="ann") for _ in range(3)]
    bob = [vault.store_bytes(b"b", "n", subject="bob") for _ in range(3)]
    receipt = vault.shred_subject("ann")
    assert sorted(receipt["objects"]) == sorted(map(str, ann))
    receipt = vault.shred_many(bob[:2])
    assert (receipt["epoch_before"], receipt["epoch_after"]) == (2, 3)
    assert [entry["id"] for entry in vault.list()] == [str(bob[2])]
    with pytest.raises(errors.ObjectNotFound):
        vault.shred_subject("ann")


def test_a_backup_is_listed_in_receipts_and_brings_a_lost_keystore_back(vault: Vault, tmp_path: Path) -> None:
    kept, gone = vault.store_bytes(b"kept", "n"), vault.store_bytes(b"gone", "n")
    recovery = keys.passphrase("in the safe")
    vault.backup_keystore(tmp_path / "backup", recovery)
    receipt = vault.shred(gone)
    assert [Path(copy["label"]).name for copy in receipt["copies"]] == ["backup"]
    folder = Path(vault.path)
    del vault
    (folder / "keystore.akv").unlink()
    (folder / "epoch.key").unlink()
    with pytest.raises(errors.VaultTampered):
        Vault.open(folder, KEY)
    again = Vault.restore_keystore(folder, tmp_path / "backup", recovery, KEY)
    assert reads(again, kept) == b"kept"
    with pytest.raises(errors.ObjectShredded):
        again.stat(gone)


def test_a_destroyed_vault_says_so(vault: Vault) -> None:
    stored = vault.store_bytes(b"x", "n")
    receipt = vault.destroy()
    assert receipt["objects"] == [str(stored)]
    for again in (vault.list, lambda: Vault.open(vault.path, KEY), lambda: Vault.new(vault.path, KEY)):
        with pytest.raises(errors.VaultDestroyed, match=r"was destroyed at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ; "):
            again()


def test_fsck_names_and_mends_and_scrub_reads_everything(vault: Vault) -> None:
    stored = vault.store_bytes(b"x" * 10_000, "n")
    folder = Path(vault.path)
    (folder / "vault.json").write_text("{")
    found = Vault.fsck(folder, KEY)
    assert not found["clean"]
    assert found["findings"][0]["place"] == "vault.json"
    assert Vault.fsck(folder, KEY, repair=True)["clean"]
    assert vault.scrub()["damaged"] == []
    (file,) = folder.glob("objects/*/*.enc")
    with file.open("r+b") as opened:
        opened.seek(5000)
        (byte,) = opened.read(1)
        opened.seek(5000)
        opened.write(bytes([byte ^ 1]))
    (damage,) = vault.scrub(0.5)["damaged"]
    assert (damage["object"], damage["code"]) == (str(stored), "AEG-V009")
    with pytest.raises(errors.WrongKey):
        Vault.fsck(folder, bytes(range(32)))


def test_a_strangers_file_is_a_notice_and_no_damage(vault: Vault) -> None:
    vault.store_bytes(b"x", "n")
    folder = Path(vault.path)
    for name in ("objects/.DS_Store", "objects/.nfs000001", ".sync-conflict"):
        (folder / name).write_text("of a desktop")
    found = Vault.fsck(folder, KEY)
    assert found["clean"]
    assert {f["severity"] for f in found["findings"]} == {"notice"}
    assert len(vault.list()) == 1


def test_the_doctor_names_what_the_machine_weakens(vault: Vault) -> None:
    topics = {fact["topic"]: fact for fact in doctor(vault.path)}
    assert {"file system", "swap", "core dumps", "locked memory", "shred level"} <= set(topics)
    assert topics["shred level"]["found"] == vault.shred_level
