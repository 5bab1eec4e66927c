"""One byte flipped after a run, wherever it is: found, named, and the command says so by exit code 5."""

import random
import shutil

import pytest
from aegis_engine.errors import AegisError, AuditTampered, VaultTampered

from aegis_engine import Vault, audit_verify
from aegis_flower import compose, run_experiment
from aegis_flower.errors import LedgerTampered
from aegis_flower.ledger import Ledger

NODE = "hospital-1"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The vaults of a finished run; tests copy what they spoil."""
    folder = tmp_path_factory.mktemp("tampering")
    report = run_experiment(compose("quickstart", ["strategy.rounds=2", "tracking.html=false"]), folder)
    assert report.run.status == "finished"
    return folder, report


@pytest.fixture
def spoiled(finished, tmp_path):
    """A copy of one node's vault, its key file, and a function that flips bits of a file in it."""
    folder, _ = finished
    vault = tmp_path / "vault"
    shutil.copytree(folder / "vaults" / NODE, vault)
    key = folder / "vaults" / "keys" / f"{NODE}.key"

    def flip(path, position, mask):
        raw = bytearray(path.read_bytes())
        raw[position] ^= mask
        path.write_bytes(raw)

    return vault, key, flip


def _places(size, count):
    """Both ends and a spread of positions, each with a bit to flip; the seed is fixed so that a failure repeats."""
    rng = random.Random(size)
    chosen = {0, 1, size // 2, size - 1, *(rng.randrange(size) for _ in range(count))}
    return [(at, 1 << rng.randrange(8)) for at in sorted(chosen)]


def test_a_byte_flipped_anywhere_in_a_vault_object_is_found(spoiled):
    vault, key, flip = spoiled
    objects = sorted((vault / "objects").rglob("*.enc"))
    assert len(objects) >= 2
    for path in objects:
        for at, mask in _places(path.stat().st_size, 40):
            flip(path, at, mask)
            with pytest.raises(VaultTampered, match=path.stem):
                Vault.open(str(vault), key_file=str(key)).verify(path.stem)
            flip(path, at, mask)
    opened = Vault.open(str(vault), key_file=str(key))
    assert all(opened.verify(i) >= 1 for i in opened.object_ids())


def test_a_byte_flipped_anywhere_in_the_audit_log_is_found_without_a_key(spoiled):
    vault, _, flip = spoiled
    log = vault / "audit" / "000001.log"
    for at, mask in _places(log.stat().st_size, 300):
        flip(log, at, mask)
        with pytest.raises(AuditTampered, match=r"record \d+"):
            audit_verify(str(vault / "audit"))
        flip(log, at, mask)
    audit_verify(str(vault / "audit"))


def test_a_record_cut_off_the_audit_log_is_found_by_the_head_kept_in_the_report(spoiled, finished, aegis):
    vault, _, _ = spoiled
    client = next(c for c in finished[1].clients if c.node == NODE)
    kept = f"{client.audit.records}:{client.audit.head}"
    assert aegis("audit", "verify", vault, "--expect", kept).returncode == 0
    (log,) = (vault / "audit").glob("*.log")
    log.write_bytes(log.read_bytes()[:-1])
    assert aegis("audit", "verify", vault, "--expect", kept).returncode == 5
    while True:  # shorten until a whole record ends there: then the chain alone has nothing to say
        log.write_bytes(log.read_bytes()[:-1])
        try:
            audit_verify(str(vault / "audit"))
        except AuditTampered:
            continue
        break
    done = aegis("audit", "verify", vault, "--expect", kept)
    assert done.returncode == 5
    assert str(client.audit.records) in done.stderr


def test_a_byte_flipped_anywhere_in_the_consent_log_stops_every_use(spoiled):
    vault, key, flip = spoiled
    log = vault / "consent" / "000001.log"
    for at, mask in _places(log.stat().st_size, 100):
        flip(log, at, mask)
        with pytest.raises(AegisError, match=r"consent.*record \d+") as error:
            Vault.open(str(vault), key_file=str(key))
        assert error.value.code == "AEG-P006"
        flip(log, at, mask)
    Vault.open(str(vault), key_file=str(key))


def _ledger(vault):
    """The training rows' ledger, which has more entries than the holdout's."""
    return max((vault / "privacy").glob("*.record.jsonl"), key=lambda path: path.stat().st_size)


def test_a_byte_flipped_anywhere_in_the_privacy_ledger_is_found(spoiled):
    vault, key, flip = spoiled
    path = _ledger(vault)
    opened = Vault.open(str(vault), key_file=str(key))
    raw = path.read_bytes()
    assert Ledger(opened, "breast_cancer").spent(1e-5).epsilon > 0
    for at in range(len(raw) - 1):  # without its last newline the last entry counts as torn by a crash
        mask = 1 << random.Random(at).randrange(8)
        flip(path, at, mask)
        with pytest.raises(LedgerTampered, match=r"line \d+"):
            Ledger(opened, "breast_cancer").entries()
        flip(path, at, mask)
    assert path.read_bytes() == raw


def test_a_ledger_rolled_back_or_removed_is_found_by_the_audit_log(spoiled):
    vault, key, _ = spoiled
    path = _ledger(vault)
    lines = path.read_bytes().splitlines(keepends=True)
    opened = Vault.open(str(vault), key_file=str(key))
    path.write_bytes(b"".join(lines[:1]))
    with pytest.raises(LedgerTampered, match="rolled back"):
        Ledger(opened, "breast_cancer").entries()
    path.unlink()
    with pytest.raises(LedgerTampered, match="rolled back"):
        Ledger(opened, "breast_cancer").entries()


def test_the_commands_name_what_was_tampered_with_and_exit_with_5(spoiled, aegis):
    vault, key, flip = spoiled
    assert aegis("vault", "verify", vault, key_file=key).returncode == 0
    assert aegis("audit", "verify", vault).returncode == 0
    assert aegis("privacy", "show", vault, key_file=key).returncode == 0

    path = next(iter(sorted((vault / "objects").rglob("*.enc"))))
    at = path.stat().st_size - 20
    flip(path, at, 1)
    done = aegis("vault", "verify", vault, key_file=key)
    assert done.returncode == 5
    assert f"{path.stem}  DAMAGED" in done.stdout
    assert done.stdout.count("DAMAGED") == 1
    flip(path, at, 1)

    ledger = _ledger(vault)
    flip(ledger, 20, 1)
    done = aegis("privacy", "show", vault, key_file=key)
    assert (done.returncode, done.stdout) == (5, "")
    assert f"{ledger.name!r}, line 1" in done.stderr
    assert "AEG-B002" in done.stderr
    flip(ledger, 20, 1)

    consent = vault / "consent" / "000001.log"
    flip(consent, 100, 1)
    for command in (("privacy", "show"), ("vault", "ls")):
        done = aegis(*command, vault, key_file=key)
        assert done.returncode == 5
        assert "consent" in done.stderr
        assert "AEG-P006" in done.stderr
    flip(consent, 100, 1)

    audit = vault / "audit" / "000001.log"
    newest = audit.stat().st_size - 150
    # A vault that opens checks what lies behind the mark in its keystore; `audit verify` checks every record.
    for at, arguments, key_file in (
        (2000, ("audit", "verify"), None),
        (newest, ("audit", "verify"), None),
        (newest, ("vault", "ls"), key),
    ):
        flip(audit, at, 1)
        done = aegis(*arguments, vault, key_file=key_file)
        flip(audit, at, 1)
        assert done.returncode == 5
        assert "audit" in done.stderr
        assert "record" in done.stderr
        assert "AEG-A001" in done.stderr
        assert "Traceback" not in done.stderr
