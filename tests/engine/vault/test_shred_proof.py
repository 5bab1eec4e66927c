"""What a shred proves, and what it does not: a copy of the whole folder from before, with every secret of today."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from uuid import UUID

import pytest
from aegis import Vault
from reference import vault_decoder as decoder

from aegis_engine import errors, keys

KEY = b"k" * 32
DATA = b"the data that has to go " * 5000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "v"


def shredded(folder: Path) -> tuple[str, str, Path, dict[str, object]]:
    """(gone, kept, copy of the folder from before, receipt)."""
    vault = Vault.create(folder, KEY)
    gone, kept = (str(vault.store_bytes(DATA + one, one.decode(), subject="ann")) for one in (b"1", b"2"))
    del vault
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    with Vault.open(copy, KEY).open_object(gone) as reader:
        assert reader.read() == DATA + b"1"
    return gone, kept, copy, Vault.open(folder, KEY).shred(gone)


def reads(folder: Path, object_id: str, key: bytes | keys.KeyProvider = KEY) -> bytes:
    with Vault.open(folder, key).open_object(object_id) as reader:
        return reader.read()


def keystore_of(copy: Path, folder: Path, *, tell_the_truth: bool) -> None:
    """The old keystore, ciphertext and logs with today's epoch secret; `vault.json` of today, or the old one."""
    shutil.copy(folder / "epoch.key", copy / "epoch.key")
    if tell_the_truth:
        shutil.copy(folder / "vault.json", copy / "vault.json")


@pytest.mark.parametrize("tell_the_truth", [True, False])
def test_the_folder_from_before_and_all_secrets_of_today_open_nothing(folder: Path, tell_the_truth: bool) -> None:
    gone, kept, copy, receipt = shredded(folder)
    assert receipt["level"] == "ratcheted-file"
    keystore_of(copy, folder, tell_the_truth=tell_the_truth)
    with pytest.raises(errors.VaultError) as refused:
        Vault.open(copy, KEY)
    assert refused.value.code in {"AEG-V015", "AEG-V017"}
    # Not a check that another program could leave out: the decoder has none of the engine's code.
    for one in (gone, kept):
        with pytest.raises(decoder.Bad):
            decoder.Vault(copy, key=KEY).read(one)
    assert reads(folder, kept) == DATA + b"2"
    with pytest.raises(errors.ObjectShredded):
        reads(folder, gone)


def test_no_secret_of_today_opens_the_old_keystore_whatever_the_checks_say(folder: Path) -> None:
    gone, _, copy, _ = shredded(folder)
    today, old = decoder.Vault(folder, key=KEY), decoder.Envelope.parse((copy / "keystore.akv").read_bytes())
    # Every 32-byte secret a thief of today's folder and key has, as if it were the old epoch's.
    for secret in (today.epoch_secret, today.chain["root"], today.chain["epoch key"], today.body.node, KEY, bytes(32)):
        with pytest.raises(decoder.Bad, match="epoch secret"):
            old.chain(KEY, secret)
    assert UUID(gone) in today.body.shredded
    # The object's file and header are still there in the copy; its DEK is in no keystore that opens.
    raw = (copy / "objects" / gone[:2] / f"{gone}.enc").read_bytes()
    for dek in (*today.body.subjects.values(), today.body.node, today.chain["epoch key"]):
        with pytest.raises(decoder.Bad, match="commitment"):
            decoder.open_object(raw, dek)


def test_the_old_epoch_key_opens_the_old_folder_which_is_the_limit_the_receipt_names(folder: Path) -> None:
    gone, _, copy, receipt = shredded(folder)
    # Nothing was replaced in the copy: its epoch.key is the one that was overwritten in the folder.
    assert reads(copy, gone) == DATA + b"1"
    assert decoder.Vault(copy, key=KEY).read(gone)[1] == DATA + b"1"
    assert any("epoch.key" in caveat for caveat in receipt["caveats"])
    # Putting it back into the folder of today opens nothing there: its keystore is another epoch's.
    shutil.copy(copy / "epoch.key", folder / "epoch.key")
    with pytest.raises(errors.VaultError) as refused:
        Vault.open(folder, KEY)
    assert refused.value.code == "AEG-V015"


def test_an_old_keystore_with_its_old_epoch_key_is_refused_in_the_folder_of_today(folder: Path) -> None:
    gone, _, copy, _ = shredded(folder)
    for name in ("keystore.akv", "epoch.key"):
        shutil.copy(copy / name, folder / name)
    with pytest.raises(errors.VaultTampered) as refused:
        Vault.open(folder, KEY)
    assert refused.value.code == "AEG-V017"
    # A thief would not ask: with the old secret and the old file the bytes are readable. Only the destroyed secret counts.
    (folder / "vault.json").write_text((copy / "vault.json").read_text())
    (folder / "objects" / gone[:2]).mkdir(exist_ok=True)
    shutil.copy(copy / "objects" / gone[:2] / f"{gone}.enc", folder / "objects" / gone[:2])
    assert decoder.Vault(folder, key=KEY, log=False).read(gone)[1] == DATA + b"1"
    # The engine refuses even so: the audit log knows a newer generation.
    with pytest.raises(errors.VaultTampered) as refused:
        Vault.open(folder, KEY)
    assert refused.value.code == "AEG-V035"


def test_the_overwritten_secret_is_nowhere_in_the_folder(folder: Path) -> None:
    _, _, copy, _ = shredded(folder)
    old = decoder.Vault(copy, key=KEY)
    secrets = {"epoch secret": old.epoch_secret, "root": old.chain["root"], "epoch key": old.chain["epoch key"]}
    for file in folder.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not [name for name, secret in secrets.items() if secret in content], file


def test_a_receipt_lists_every_known_copy_and_says_what_was_not_reached(folder: Path, tmp_path: Path) -> None:
    vault = Vault.create(folder, KEY)
    gone = vault.store_bytes(DATA, "n")
    vault.backup_keystore(tmp_path / "a.akb", keys.raw(b"r" * 32))
    vault.rotate()
    vault.backup_keystore(tmp_path / "b.akb", keys.raw(b"r" * 32))
    receipt = vault.shred(gone)
    assert [(Path(copy["label"]).name, copy["epoch"]) for copy in receipt["copies"]] == [("a.akb", 1), ("b.akb", 2)]
    told = " ".join(receipt["caveats"])
    for word in ("epoch.key", "snapshots", "solid-state", "exports", "models"):
        assert word in told
    assert (
        json.loads(json.dumps({**receipt, "objects": list(map(str, receipt["objects"]))}))["level"] == "ratcheted-file"
    )
    # The caveat is true: the backup still has the key, and restoring through the engine still does not bring it back.
    _, body = decoder.open_backup(tmp_path / "a.akb", key=b"r" * 32)
    assert UUID(str(gone)) in body.live
    del vault
    again = Vault.restore_keystore(folder, tmp_path / "a.akb", keys.raw(b"r" * 32), KEY)
    with pytest.raises(errors.ObjectShredded):
        again.stat(gone)


def test_a_level_that_cannot_be_reached_is_refused_before_anything_happens(folder: Path) -> None:
    vault = Vault.create(folder, KEY)
    stored = vault.store_bytes(DATA, "n")
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "lock"}
    for level in ("hardware", "kms"):
        with pytest.raises(errors.InsufficientAssurance):
            vault.shred(stored, require=level)
    assert before == {file: file.read_bytes() for file in before}
    assert vault.shred(stored, require="ratcheted-file")["level"] == "ratcheted-file"


def test_after_a_rotation_the_old_key_and_everything_of_today_open_no_old_keystore(folder: Path) -> None:
    vault = Vault.create(folder, KEY)
    stored = str(vault.store_bytes(DATA, "n"))
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    vault.rotate(bytes(32))
    del vault
    keystore_of(copy, folder, tell_the_truth=False)
    with pytest.raises(errors.VaultError):
        Vault.open(copy, KEY)
    with pytest.raises(errors.WrongKey):
        Vault.open(folder, KEY)
    with pytest.raises(errors.WrongKey):
        Vault.open(copy, bytes(32))
    assert reads(folder, stored, bytes(32)) == DATA


def test_a_destroyed_vault_opens_no_more_with_anything_that_is_left(folder: Path) -> None:
    vault = Vault.create(folder, KEY)
    stored = str(vault.store_bytes(DATA, "n"))
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    receipt = vault.destroy()
    assert stored in map(str, receipt["objects"])
    left = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert left <= {"vault.json", "lock", "audit/000001.log", "consent/000001.log"}
    with pytest.raises(errors.VaultError) as refused:
        Vault.open(folder, KEY)
    assert refused.value.code == "AEG-V038"
    # The old keystore and ciphertext without the destroyed epoch.key.
    (copy / "epoch.key").unlink()
    with pytest.raises(errors.VaultError) as refused:
        Vault.open(copy, KEY)
    assert refused.value.code == "AEG-V015"


class Service:
    """A key service that remembers what it was told to destroy."""

    def __init__(self) -> None:
        self.destroyed: list[int] = []

    def wrap(self, vault: str, epoch: int, secret: bytearray) -> bytes:
        return bytes(secret[::-1])

    def unwrap(self, vault: str, epoch: int, blob: bytes) -> bytes:
        return blob[::-1]

    def destroy(self, vault: str, epoch: int) -> None:
        self.destroyed.append(epoch)


def forge_destruction(folder: Path) -> None:
    """As somebody who can write files and has no key."""
    about = json.loads((folder / "vault.json").read_text())
    (folder / "vault.json").write_text(json.dumps({**about, "destroyed": 1}))
    (folder / "journal/vault.destroy").write_text("00" * 32)


def test_a_forged_destruction_destroys_no_key_of_a_service(folder: Path) -> None:
    service = Service()
    vault = Vault.create(folder, keys.kms(service))
    vault.store_bytes(DATA, "n")
    del vault
    forge_destruction(folder)
    with pytest.raises(errors.VaultError, match="forged"):
        Vault.open(folder, keys.kms(service))
    assert service.destroyed == []
    assert (folder / "keystore.akv").exists()


def test_a_forged_destruction_beside_a_damaged_keystore_destroys_no_key_of_a_service(folder: Path) -> None:
    service = Service()
    vault = Vault.create(folder, keys.kms(service))
    vault.store_bytes(DATA, "n")
    del vault
    copy = folder.parent / "copy"
    shutil.copytree(folder, copy)
    forge_destruction(folder)
    damaged = bytearray((folder / "keystore.akv").read_bytes())
    damaged[-1] ^= 1
    (folder / "keystore.akv").write_bytes(damaged)
    with pytest.raises(errors.VaultError):
        Vault.open(folder, keys.kms(service))
    # A backup elsewhere must still open: only the service's key could be lost for good.
    assert service.destroyed == []
