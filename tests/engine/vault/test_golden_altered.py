"""Frozen vaults that were altered: every byte counts, for the engine and for an independent decoder."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import pytest
from aegis import Vault
from aegis_engine.errors import VaultTampered
from golden import GOLDEN, GOLDEN2, KEY, RENAMED, expected, renamed
from reference import vault_decoder as decoder


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN / "key", tmp_path / "v")
    return tmp_path / "v"


@pytest.fixture
def copy2(tmp_path: Path) -> Path:
    shutil.copytree(GOLDEN2 / "key", tmp_path / "v2")
    return tmp_path / "v2"


def refused(folder: Path, object_id: str = RENAMED) -> str:
    """What refuses; fails the test when everything opens."""
    try:
        decoder.Vault(folder, key=KEY).read(object_id)
    except decoder.Bad as error:
        return str(error)
    pytest.fail("it opened")


def object_file(folder: Path, object_id: str = RENAMED) -> Path:
    return folder / "objects" / object_id[:2] / f"{object_id}.enc"


def test_every_byte_of_an_object_counts(copy: Path) -> None:
    file = object_file(copy)
    good = file.read_bytes()
    vault = decoder.Vault(copy, key=KEY)
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        file.write_bytes(bad)
        with pytest.raises(decoder.Bad):
            vault.read(RENAMED)
    file.write_bytes(good)
    assert vault.read(RENAMED)[1] == b"renamed"


def test_every_byte_of_the_keystore_counts(copy: Path) -> None:
    file = copy / "keystore.akv"
    good = file.read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        file.write_bytes(bad)
        refused(copy)


def test_every_byte_of_a_keystore_with_changes_counts(copy2: Path) -> None:
    file = copy2 / "keystore.akv"
    good = file.read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        file.write_bytes(bad)
        with pytest.raises(decoder.Bad):
            decoder.Vault(copy2, key=KEY)


def test_a_cut_anywhere_in_the_changes_is_found_by_the_log_and_leaves_whole_commits(copy2: Path) -> None:
    file = copy2 / "keystore.akv"
    good, whole = file.read_bytes(), decoder.Vault(copy2, key=KEY)
    log = copy2 / "audit/000001.log"
    kept, seen = log.read_bytes(), set()
    for cut in range(whole.envelope.end, len(good)):
        file.write_bytes(good[:cut])
        with pytest.raises(decoder.Bad, match="later generation"):
            decoder.Vault(copy2, key=KEY)
        # Without the log nobody knows: what was committed before the cut is there.
        log.unlink()
        vault = decoder.Vault(copy2, key=KEY)
        seen.add((vault.generation, len(vault.body.live), len(vault.body.heads)))
        log.write_bytes(kept)
    assert {generation for generation, _, _ in seen} == set(range(whole.envelope.generation, whole.generation))
    file.write_bytes(good + b"\0" * 30)
    assert decoder.Vault(copy2, key=KEY).torn


def test_the_engine_and_the_decoder_agree_on_torn_and_cut_keystores(copy2: Path) -> None:
    file = copy2 / "keystore.akv"
    good, end = file.read_bytes(), decoder.Vault(copy2, key=KEY).envelope.end
    for cut in range(end, len(good), 41):
        file.write_bytes(good[:cut])
        with pytest.raises(VaultTampered) as error:
            Vault.open(copy2, KEY)
        assert error.value.code in ("AEG-V016", "AEG-V035")
    file.write_bytes(good + b"\7" * 40)
    vault = Vault.open(copy2, KEY)
    assert {str(one["id"]) for one in vault.list()} == set(map(str, decoder.Vault(copy2, key=KEY).body.live))
    vault.rename(renamed(GOLDEN2), "once more")
    again = decoder.Vault(copy2, key=KEY)
    assert not again.torn
    assert again.read(renamed(GOLDEN2))[0]["name"] == "once more"


def test_a_vault_of_version_1_is_version_2_after_its_first_commit(copy: Path) -> None:
    vault = Vault.open(copy, KEY)
    assert decoder.Vault(copy, key=KEY).envelope.version == 1
    vault.rename(RENAMED, "new name")
    after = decoder.Vault(copy, key=KEY)
    assert after.envelope.version == 2
    assert after.read(RENAMED)[0]["name"] == "new name"
    assert {one["id"] for one in expected("key")["objects"]} == set(map(str, after.body.live))


def test_cut_and_longer_objects_are_refused(copy: Path) -> None:
    several = next(one["id"] for one in expected("key")["objects"] if one["name"] == "several chunks")
    file = object_file(copy, several)
    good = file.read_bytes()
    for cut in (0, 4095, 4096, 4096 + 4112, len(good) - 17, len(good) - 1):
        file.write_bytes(good[:cut])
        refused(copy, several)
    file.write_bytes(good + b"\0")
    assert "size" in refused(copy, several)


def test_moved_chunks_and_foreign_files_are_refused(copy: Path) -> None:
    named = {one["name"]: one["id"] for one in expected("key")["objects"]}
    several = named["several chunks"]
    file = object_file(copy, several)
    good = file.read_bytes()
    first, second = good[4096 : 4096 + 4112], good[4096 + 4112 : 4096 + 2 * 4112]
    for chunks in (second + first, first + first, second + second):
        file.write_bytes(good[:4096] + chunks + good[4096 + 2 * 4112 :])
        assert "chunk" in refused(copy, several)
    file.write_bytes(object_file(copy, named["one chunk"]).read_bytes())
    refused(copy, several)
    # A genuine header with a genuine chunk of another object of the same size.
    one = object_file(copy, named["one chunk"])
    other = object_file(copy, named["one chunk and a byte"]).read_bytes()
    one.write_bytes(one.read_bytes()[:4096] + other[4096 : 4096 + 4112])
    assert "chunk 0" in refused(copy, named["one chunk"])


def test_another_key_another_secret_and_an_older_keystore_are_told_apart(copy: Path) -> None:
    with pytest.raises(decoder.Bad, match="wrong key"):
        decoder.Vault(copy, key=bytes(32))
    secret = (copy / "epoch.key").read_bytes()
    (copy / "epoch.key").write_bytes(secret[:40] + bytes(32))
    assert "epoch secret" in refused(copy)
    (copy / "epoch.key").write_bytes(secret[:8] + struct.pack("<Q", 1) + secret[16:])
    assert "no secret" in refused(copy)
    # A crash between the steps of a ratchet leaves the new secret under the other name.
    (copy / "epoch.key.next").write_bytes(secret)
    assert decoder.Vault(copy, key=KEY).read(RENAMED)[1] == b"renamed"
    about = json.loads((copy / "vault.json").read_text())
    (copy / "vault.json").write_text(json.dumps({**about, "epoch": 3}))
    assert "rolled back" in refused(copy)


def test_a_costly_passphrase_parameter_is_refused_before_it_costs(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "passphrase", tmp_path / "v")
    file = tmp_path / "v/keystore.akv"
    good = file.read_bytes()
    for at, value in ((253, 1 << 21), (257, 17), (261, 0), (261, 17), (253, 31)):
        file.write_bytes(good[:at] + struct.pack("<I", value) + good[at + 4 :])
        with pytest.raises(decoder.Bad, match="Argon2id"):
            decoder.Vault(tmp_path / "v", passphrase="x")
