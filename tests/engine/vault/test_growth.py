"""What a vault costs as it grows, what it remembers, and what nobody else may write."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from aegis import Vault
from aegis.cli import app
from aegis_engine.errors import AegisError, PermitRequired, VaultError, VaultTampered
from typer.testing import CliRunner

from aegis_engine import ComplianceEngine, Request, audit_read, keys

KEY = bytes(range(32))

ENGINE_EVENTS = (
    "recovery.truncated",
    "vault.create",
    "store",
    "store.many",
    "store.rolled_back",
    "keystore",
    "keystore.backup",
    "keystore.restored",
    "keystore.accepted",
    "rename",
    "rotate",
    "reencrypt",
    "reencrypt.done",
    "shred",
    "govern",
    "fsck",
    "scrub",
    "destroy",
    "consent",
    "authorize",
    "release",
    "consent.grant",
    "consent.withdraw",
    "consent.object",
    "consent.restrict",
    "consent.lift",
    "consent.erase",
)
PLUGIN_EVENTS = ("privacy.reserve", "privacy.commit", "ingest.finished")


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault.create(tmp_path / "v", KEY)


def size(vault: Vault) -> int:
    return (Path(vault.path) / "keystore.akv").stat().st_size


def test_a_store_writes_a_few_hundred_bytes_of_keystore_however_many_objects_there_are(vault: Vault) -> None:
    vault.store_many([(f"{n}", b"x") for n in range(3000)])
    vault.rotate()  # a base
    before = (Path(vault.path) / "keystore.akv").read_bytes()
    vault.store_bytes(b"x", "one more")
    after = (Path(vault.path) / "keystore.akv").read_bytes()
    assert after.startswith(before)
    assert len(after) - len(before) < 500 < len(before) / 1000


def test_many_files_are_stored_in_one_commit_in_their_order(vault: Vault, tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.txt" for n in range(20)]
    for n, path in enumerate(paths):
        path.write_bytes(b"%d" % n * n)
    seen: list[int] = []
    ids = vault.store_files(paths, subject="ann", attrs={"k": "v"}, verify=True, progress=seen.append)
    for n, one in enumerate(ids):
        about = vault.stat(one)
        assert (about["name"], about["subject"], about["attrs"]) == (f"{n}.txt", "ann", {"k": "v"})
        assert vault.open_object(one).read() == b"%d" % n * n
    assert seen == sorted(seen)
    assert seen[-1] == sum(path.stat().st_size for path in paths)
    generations = [r["generation"] for r in audit_read(Path(vault.path) / "audit") if r["event"] == "keystore"]
    assert len(generations) == 1
    (stored,) = [r for r in audit_read(Path(vault.path) / "audit") if r["event"] == "store.many"]
    assert [one["object"] for one in stored["objects"]] == [str(one) for one in ids]
    assert vault.store_files([]) == []


def test_many_files_with_one_that_is_missing_are_none(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "key").write_bytes(b"b")
    with pytest.raises(AegisError):
        vault.store_files([tmp_path / "a", tmp_path / "missing"])
    with pytest.raises(VaultError) as error:
        vault.store_files([tmp_path / "a", "/dev/null"])
    assert error.value.code == "AEG-V023"

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vault.store_files([tmp_path / "a", tmp_path / "key"], progress=stop)
    assert vault.list() == []
    assert [p for p in Path(vault.path).rglob("*") if p.suffix in (".enc", ".tmp", ".stores")] == []


def test_add_of_several_files_stores_all_or_none(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o600)
    Vault.create(tmp_path / "v", KEY)
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode())
    run = CliRunner().invoke
    common = ["vault", "add", str(tmp_path / "v"), "--key-file", str(key)]
    failed = run(app, [*common, str(tmp_path / "a"), str(tmp_path / "missing")])
    assert failed.exit_code != 0
    assert Vault.open(tmp_path / "v", KEY).list() == []
    done = run(app, [*common, "--json", str(tmp_path / "a"), str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    assert [one["name"] for one in json.loads(done.stdout)] == ["a", "b"]
    assert sorted(one["name"] for one in Vault.open(tmp_path / "v", KEY).list()) == ["a", "b"]


@pytest.mark.parametrize(
    "event", [*ENGINE_EVENTS, *PLUGIN_EVENTS, "keystore.x", "shred.", "privacy", "", "a\nb", "x" * 257]
)
def test_no_application_records_an_event_of_the_engine(vault: Vault, event: str) -> None:
    with pytest.raises(VaultError) as error:
        vault.record(event, {"generation": 2**63, "objects": [], "decision": "allow"})
    assert error.value.code == "AEG-V023"
    if event not in PLUGIN_EVENTS and event != "privacy":
        with pytest.raises(VaultError):
            vault.record_plugin(event, {})
    assert Vault.open(vault.path, KEY).id == vault.id


@pytest.mark.parametrize("field", ["event", "time", "seq", "hash", "prev"])
def test_no_application_sets_a_field_of_the_log(vault: Vault, field: str) -> None:
    for record in (vault.record, vault.record_plugin):
        with pytest.raises(VaultError) as error:
            record("privacy.note" if record == vault.record_plugin else "app.note", {field: "2000-01-01T00:00:00.000Z"})
        assert error.value.code == "AEG-V023"


def test_applications_and_the_plugin_record_under_their_own_names(vault: Vault) -> None:
    vault.record("app.epoch", {"n": 1})
    vault.record_plugin("privacy.reserve", {"dataset": "d", "entries": 1})
    assert vault.audit_find_last("privacy.reserve", "dataset", "d")["entries"] == 1  # type: ignore[index]
    vault.record_plugin("privacy.reserve", {"dataset": "d", "entries": 2})
    vault.record_plugin("privacy.reserve", {"dataset": "e", "entries": 7})
    for entries in (2, 2):
        assert vault.audit_find_last("privacy.reserve", "dataset", "d")["entries"] == entries  # type: ignore[index]
    assert vault.audit_find_last("privacy.reserve", "dataset", "x") is None


def test_a_head_is_kept_and_an_older_keystore_is_found(vault: Vault, tmp_path: Path) -> None:
    vault.commit_head("ledger", 1, b"a" * 32)
    keystore = Path(vault.path) / "keystore.akv"
    old = keystore.read_bytes()
    vault.commit_head("ledger", 2, b"b" * 32)
    assert Vault.open(vault.path, KEY).head("ledger") == (2, b"b" * 32)
    vault.commit_head("ledger", 1, b"a" * 32)
    assert vault.head("ledger") == (2, b"b" * 32)
    assert vault.head("other") is None
    with pytest.raises(VaultTampered) as error:
        vault.commit_head("ledger", 2, b"c" * 32)
    assert error.value.code == "AEG-V081"
    keystore.write_bytes(old)
    with pytest.raises(VaultTampered) as error:
        Vault.open(vault.path, KEY)
    assert error.value.code == "AEG-V035"


def test_a_log_that_was_cut_behind_a_head_is_found(vault: Vault) -> None:
    log = Path(vault.path) / "audit/000001.log"
    vault.record("app.note", {})
    old = log.read_bytes()
    vault.record("app.note", {})
    vault.commit_head("ledger", 1, b"a" * 32)
    log.write_bytes(old)
    with pytest.raises(VaultTampered) as error:
        Vault.open(vault.path, KEY)
    assert error.value.code == "AEG-V018"


def test_proofs_belong_to_a_domain_and_a_vault(vault: Vault, tmp_path: Path) -> None:
    proof = vault.proof("consent", b"data")
    assert len(proof) == 32
    assert vault.check_proof("consent", b"data", proof)
    assert not vault.check_proof("consent", b"other", proof)
    assert not vault.check_proof("other", b"data", proof)
    assert not Vault.create(tmp_path / "w", KEY).check_proof("consent", b"data", proof)


def test_a_restored_backup_from_before_govern_is_governed(vault: Vault, tmp_path: Path) -> None:
    stored = vault.store_bytes(b"secret", "f")
    recovery = keys.raw(b"r" * 32)
    vault.backup_keystore(tmp_path / "b", recovery)
    vault.govern("core")
    head = vault.audit_head()
    restored = Vault.restore_keystore(vault.path, tmp_path / "b", recovery, key=KEY, expect=head)
    assert restored.governed
    with pytest.raises(PermitRequired):
        restored.open_object(stored)


def bundle(folder: Path) -> Path:
    """The core bundle under another name, so with another hash."""
    source = Path(__file__).resolve().parents[3] / "aegis_engine/crates/policy/policies/core"
    shutil.copytree(source, folder)
    one = min(folder.glob("*.cedar"))
    one.write_text(one.read_text() + "\n// another\n")
    return folder


def test_another_bundle_needs_a_permit_to_export_of_the_first(vault: Vault, tmp_path: Path) -> None:
    facts = {
        "purposes": ["research"],
        "columns": ["n"],
        "approved_columns": ["n"],
        "min_rows": 1,
        "min_subjects": 1,
        "require_dp": False,
        "require_secure_aggregation": False,
        "budget_micro_epsilon": 0,
        "controller": "hospital",
    }
    classes = [("contract", None, False)]
    stored = vault.store_records("d", [("n", "u8", 1)], bytes(10), [f"p{n}" for n in range(10)], classes, facts)
    owner = vault.owner_permit(stored, "export")
    vault.govern("core")
    vault.govern("core")  # the same one
    other = str(bundle(tmp_path / "other"))
    with pytest.raises(PermitRequired) as error:
        vault.govern(other)
    assert error.value.code == "AEG-V082"
    train = ComplianceEngine(vault).authorize(stored, Request(action="train", purpose="research"))
    for permit in (train, owner):
        with pytest.raises(PermitRequired):
            vault.govern(other, replace=permit)
    assert not list(Path(vault.path).glob("policy/**/*other*"))
    export = ComplianceEngine(vault).authorize(stored, Request(action="export", purpose="research"))
    vault.govern(other, replace=export)
    assert Vault.open(vault.path, KEY).governed
    with pytest.raises(PermitRequired):
        vault.govern("core", replace=export)
