"""The format is what docs/ENCRYPTION.md says: an independent decoder reads frozen and fresh vaults."""

from __future__ import annotations

import hashlib
import random
import re
import shutil
import struct
from pathlib import Path
from uuid import UUID

import pytest
from aegis import Vault
from aegis_engine.records import Block, Fixed, Rows
from golden import BOTH, GOLDEN, GOLDEN2, KEY, RENAMED, ROOT, SECRETS, VECTORS, expected
from reference import vault_decoder as decoder

from aegis_engine import ComplianceEngine, Request, keys

# -- frozen ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("name", SECRETS)
def test_the_golden_folders_hold_what_was_stored(name: str, golden: Path) -> None:
    vault, told = decoder.Vault(golden / name, **SECRETS[name]), expected(name, golden)
    assert str(vault.id) == told["vault"]
    assert vault.envelope.version == (1 if golden == GOLDEN else 2)
    assert not vault.torn
    assert (vault.envelope.epoch, vault.generation) == (told["epoch"], told["generation"])
    assert {name: [count, mac.hex()] for name, (count, mac) in vault.body.heads.items()} == told.get("heads", {})
    if golden == GOLDEN2:
        log = (golden / name / "audit/000001.log").read_bytes()
        start, end = vault.body.audit_place
        assert 64 <= start < end <= len(log)
        assert struct.unpack_from("<IQ", log, start) == (end - start - 56, vault.body.audit[0] - 1)
    assert (vault.body.bundle.hex() if vault.body.bundle else None) == told["bundle"]
    assert [str(one) for one in vault.body.shredded] == told["shredded"]
    assert vault.body.copies == told["copies"]
    assert [str(one) for one in vault.body.live] == [one["id"] for one in told["objects"]]
    for one in told["objects"]:
        sha256 = one.pop("sha256")
        info, plain = vault.read(one["id"])
        assert info == one
        assert sha256 in (None, hashlib.sha256(plain).hexdigest())
    with pytest.raises(decoder.Bad, match=r"shredded|unknown"):
        vault.read((told["shredded"] or ["00000000-0000-4000-8000-000000000000"])[0])


@BOTH
@pytest.mark.parametrize("name", SECRETS)
def test_the_keys_of_the_node_are_the_documents(name: str, golden: Path) -> None:
    vault, told = decoder.Vault(golden / name, **SECRETS[name]), expected(name, golden)
    assert vault.pseudonym("ä").hex() == told["pseudonym of ä"]
    assert vault.mac("aegis/test", b"data").hex() == told["mac of data in aegis/test"]
    blob = bytes.fromhex(told["blob in aegis/test, aad, plain"])
    assert vault.open_blob("aegis/test", b"aad", blob) == b"plain"
    with pytest.raises(decoder.Bad):
        vault.open_blob("aegis/test", b"other", blob)


@BOTH
def test_the_governance_rows_of_the_golden_dataset_are_the_documents(golden: Path) -> None:
    vault = decoder.Vault(golden / "passphrase", **SECRETS["passphrase"])
    (record,) = [one for one in vault.body.live.values() if one.rows]
    rows = vault.dataset(record.object)
    columns = [("id", "i64", 1), ("label", "u8", 1), ("values", "f32", 3)]
    assert rows["layout"] == {"columns": [{"name": n, "dtype": d, "count": c} for n, d, c in columns]}
    assert rows["facts"]["columns"] == ["id", "label", "values"]
    assert rows["facts"]["budget_micro_epsilon"] == 3_000_000
    assert rows["classes"] == [("consent", 20_000, True), ("legitimate_interests", None, False)]
    assert rows["class_of"] == [0, 1, 0, 0, 1]
    assert rows["subjects"] == [vault.pseudonym(person) for person in "abacd"]


@BOTH
def test_the_golden_backup_opens_without_an_epoch_key_and_has_what_was_shredded_since(golden: Path) -> None:
    envelope, body = decoder.open_backup(golden / "key.akb", passphrase="recovery words in the safe")
    told = expected("key", golden)
    assert (envelope.epoch, str(envelope.vault)) == (1, told["vault"])
    assert UUID(told["shredded"][0]) in body.live
    assert body.copies == told["copies"]


def test_the_object_alone_reads_with_its_dek() -> None:
    _, meta, plain = decoder.open_object((VECTORS / "v1.enc").read_bytes(), b"\xd1" * 32)
    assert plain == bytes(i % 251 for i in range(5000))
    assert meta == {
        "name": "golden.bin",
        "media_type": "application/octet-stream",
        "created": 1_700_000_000,
        "subject": "subject-1",
        "attrs": {"k": "v"},
    }


def test_the_vectors_in_the_document_are_true() -> None:
    text = (ROOT / "docs/ENCRYPTION.md").read_text()
    (block,) = re.findall(r"```vectors\n(.*?)```", text, re.DOTALL)
    told = dict(line.split(" = ") for line in block.replace("\n    ", "").splitlines())
    vault = decoder.Vault(GOLDEN / "key", key=KEY)
    assert {name: value.hex() for name, value in vault.vectors(RENAMED)} == told
    assert bytes.fromhex(told["plaintext"]) == b"renamed"


# -- fresh -----------------------------------------------------------------------------------------------------------


def test_vaults_the_engine_writes_now_read_the_same(tmp_path: Path) -> None:
    draw = random.Random(20260101)
    vault = Vault.create(tmp_path / "v", KEY)
    told: dict[str, bytes] = {}
    mib = 1 << 20
    for n, size in enumerate([0, 1, mib - 1, mib, mib + 1, 2 * mib, *(draw.randrange(3 * mib) for _ in range(6))]):
        data = draw.randbytes(size)
        source = tmp_path / "source"
        source.write_bytes(data)
        subject, attrs = [(None, {}), ("ann", {"å": "ß", "b": ""})][n % 2]
        told[str(vault.store_file(source, name=f"object {n} ✓", subject=subject, attrs=attrs))] = data
    with vault.create_object("in pieces", media_type="text/plain") as writer:
        for _ in range(50):
            writer.write(b"0123456789" * 1000)
    told[writer.id] = b"0123456789" * 50_000
    first = next(iter(told))
    vault.rename(first, "ein anderer Name")
    moved = list(told)[1]
    told[str(vault.reencrypt(moved))] = told.pop(moved)
    gone = str(vault.store_bytes(b"gone", "gone", subject="bob"))
    vault.shred(gone)
    other = decoder.Vault(tmp_path / "v", key=KEY)
    assert {str(one) for one in other.body.live} == set(told)
    assert set(map(str, other.body.shredded)) == {gone, moved}
    for one, data in told.items():
        info, plain = other.read(one)
        assert plain == data
        del info["rows"]
        assert info == vault.stat(one)
    assert other.read(first)[0]["name"] == "ein anderer Name"
    blob = vault.seal_blob("domain", b"aad", b"state")
    assert other.open_blob("domain", b"aad", blob) == b"state"
    assert other.mac("domain", b"x") == vault.mac("domain", b"x")
    assert other.proof("domain", b"x") == vault.proof("domain", b"x")
    vault.commit_head("ledger", 3, b"m" * 32)
    found = decoder.Vault(tmp_path / "v", key=KEY).body.heads
    assert found["ledger"] == (3, b"m" * 32) == vault.head("ledger")
    assert found == {name: vault.head(name) for name in ("consent", "ledger")}  # consent's is there from the start
    vault.rotate(keys.passphrase("pass ✓"))
    vault.backup_keystore(tmp_path / "backup", keys.raw(b"r" * 32))
    again = decoder.Vault(tmp_path / "v", passphrase="pass ✓")
    assert {str(one) for one in again.body.live} == set(told)
    assert [one["label"] for one in again.body.copies] == [str(tmp_path / "backup")]
    _, body = decoder.open_backup(tmp_path / "backup", key=b"r" * 32)
    assert set(body.live) == set(again.body.live)
    with pytest.raises(decoder.Bad, match="kind passphrase is needed"):
        decoder.Vault(tmp_path / "v", key=KEY)


def test_a_dataset_the_engine_writes_now_reads_the_same(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    people = [f"person {n % 7}" for n in range(500)]
    data = random.Random(1).randbytes(500 * 21)
    facts = {
        "purposes": ["research"],
        "columns": ["id", "label", "values"],
        "approved_columns": ["label"],
        "min_rows": 2,
        "min_subjects": 1,
        "require_dp": False,
        "require_secure_aggregation": False,
        "budget_micro_epsilon": 1_500_000,
        "controller": "hospital",
    }
    schema = [("id", "i64", 1), ("label", "u8", 1), ("values", "f32", 3)]
    stored = vault.store_records("d", schema, data, people, [("consent", None, False), ("contract", 30_000, True)],
                                 facts, [n % 2 for n in range(500)])  # fmt: skip
    vault.govern("core")
    other = decoder.Vault(tmp_path / "v", key=KEY)
    assert other.body.bundle is not None
    assert other.read(stored)[1] == data
    rows = other.dataset(stored)
    assert rows["subjects"] == [other.pseudonym(person) for person in people]
    assert rows["classes"] == [("consent", None, False), ("contract", 30_000, True)]
    assert rows["class_of"] == [n % 2 for n in range(500)]
    assert [column["name"] for column in rows["layout"]["columns"]] == ["id", "label", "values"]
    vault.reencrypt(stored)
    (record,) = [one for one in decoder.Vault(tmp_path / "v", key=KEY).body.live.values() if one.rows]
    again = decoder.Vault(tmp_path / "v", key=KEY)
    assert again.dataset(record.object) == rows
    assert again.read(record.object)[1] == data


def test_a_table_is_an_object_with_another_layout(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    text = "who,n\n" + "".join(f"ä{n},{n}\n" for n in range(300))
    (tmp_path / "t.csv").write_text(text)
    facts = {
        "purposes": ["research"],
        "columns": ["who", "n"],
        "approved_columns": ["n"],
        "min_rows": 1,
        "min_subjects": 1,
        "require_dp": False,
        "require_secure_aggregation": False,
        "budget_micro_epsilon": 0,
        "controller": "hospital",
    }
    classes = [("contract", None, False)]
    stored = vault.store_table(tmp_path / "t.csv", subjects=[f"p{n}" for n in range(300)], classes=classes, facts=facts)
    other = decoder.Vault(tmp_path / "v", key=KEY)
    assert other.read(stored)[1] == text.encode()
    rows = other.dataset(stored)
    assert rows["layout"]["layout"] == "table"
    assert rows["class_of"] == [0] * 300
    assert rows["subjects"] == [other.pseudonym(f"p{n}") for n in range(300)]


@pytest.mark.parametrize(("window", "shards"), [(1, 1), (2, 1), (3, 2), (9, 3)])
def test_the_order_of_records_is_the_documents(tmp_path: Path, window: int, shards: int) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    # Records of 3000 bytes: their ends do not meet those of the chunks.
    counts, size, first = [2000, 700], 3000, 0
    ids, blocks = [], []
    for count in counts:
        data = b"".join(struct.pack("<I", first + n).ljust(size, b".") for n in range(count))
        ids.append(vault.store_bytes(data, "n"))
        starts: dict[int, list[int]] = {}
        for n in range(count):
            starts.setdefault(n * size >> 20, []).append(first + n)
        blocks += starts.values()
        first += count
    for epoch in (0, 5):
        seen = []
        for shard in range(shards):
            dataset = vault.dataset(ids, Fixed(nbytes=size), shuffle=Block(window, 77), shard=(shard, shards))
            dataset.set_epoch(epoch)
            found = [struct.unpack("<I", bytes(record[:4]))[0] for record in dataset]
            told = decoder.order_of_records(blocks, seed=77, epoch=epoch, window=window, shard=shard, shards=shards)
            assert found == told
            seen += found
        assert sorted(seen) == list(range(sum(counts)))


@pytest.mark.parametrize("columns", [None, ("label", "id")])
def test_the_order_of_permitted_rows_is_the_documents(tmp_path: Path, columns: tuple[str, ...] | None) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    vault.govern("core")
    count, people = 9000, [f"p{n % 7}" for n in range(9000)]
    data = b"".join(struct.pack("<qB3f", n, n % 3, n, 0, 0) for n in range(count))
    facts = {
        "purposes": ["research"],
        "columns": ["id", "label", "values"],
        "approved_columns": ["id", "label", "values"],
        "min_rows": 2,
        "min_subjects": 2,
        "require_dp": False,
        "require_secure_aggregation": False,
        "budget_micro_epsilon": 0,
        "controller": "hospital",
    }
    schema = [("id", "i64", 1), ("label", "u8", 1), ("values", "f32", 3)]
    classes = [("consent", None, False)]
    stored = vault.store_records("d", schema, data, people, classes, facts)
    vault.consent_grant(sorted(set(people)), "research")
    vault.consent_withdraw("p0", "research")
    permit = ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research", columns=columns))
    permitted = [n for n in range(count) if n % 7]
    step = (1 << 16) // (21 if columns is None else 9)
    blocks = [permitted[at : at + step] for at in range(0, len(permitted), step)]
    dataset = vault.dataset(stored, Rows(), shuffle=Block(2, 5), permit=permit)
    dataset.set_epoch(3)
    assert [int(row["id"]) for row in dataset] == decoder.order_of_records(blocks, seed=5, epoch=3, window=2)
    assert len(blocks) > 1


def test_a_backup_may_be_named_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    monkeypatch.chdir(tmp_path)
    vault.backup_keystore("bare.akb", keys.raw(b"r" * 32))
    _, body = decoder.open_backup(tmp_path / "bare.akb", key=b"r" * 32)
    assert [one["label"] for one in body.copies] == ["bare.akb"]


def test_a_copy_without_its_empty_folders_opens_and_stores(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "key", tmp_path / "v")
    shutil.rmtree(tmp_path / "v/journal", ignore_errors=True)
    assert Vault.fsck(tmp_path / "v", KEY, repair=True)["clean"]
    vault = Vault.open(tmp_path / "v", KEY)
    vault.store_bytes(b"more", "n")
    assert len(vault.list()) == len(expected("key")["objects"]) + 1
    del vault
    Vault.create(tmp_path / "e", KEY)
    (tmp_path / "e/journal").rmdir()
    (tmp_path / "e/objects").rmdir()
    Vault.open(tmp_path / "e", KEY).store_bytes(b"first", "n")
