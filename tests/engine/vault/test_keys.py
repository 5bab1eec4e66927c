"""Key providers, as a user of the engine has them."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from aegis import Vault

from aegis_engine import errors, keys

EXAMPLES = Path(__file__).parents[3] / "examples"
KEY = bytes(range(32))


def reads(vault: Vault, stored: object) -> bytes:
    with vault.open_object(str(stored)) as reader:
        return reader.read()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_every_source_of_the_same_bytes_opens_the_vault(
    tmp_path: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Vault.create(tmp_path / "v", KEY)
    stored = made.store_bytes(b"x", "n")
    monkeypatch.setenv("AEGIS_TEST_KEY", KEY.hex())
    with key_file.open("rb") as opened:
        for provider in (
            keys.raw(bytearray(KEY)),
            keys.file(key_file),
            keys.environment("AEGIS_TEST_KEY"),
            keys.descriptor(opened.fileno()),
            keys.command("cat", str(key_file)),
            keys.callback(lambda: KEY),
        ):
            assert (provider.kind, provider.level) == ("key", "ratcheted-file")
            assert reads(Vault.open(tmp_path / "v", provider), stored) == b"x"


def test_a_key_comes_through_a_pipe(tmp_path: Path) -> None:
    Vault.create(tmp_path / "v", KEY)
    end, start = os.pipe()
    os.write(start, KEY.hex().encode() + b"\n")
    os.close(start)
    try:
        assert Vault.open(tmp_path / "v", keys.descriptor(end)).list() == []
    finally:
        os.close(end)


def test_a_passphrase_is_told_apart_from_a_key(tmp_path: Path) -> None:
    made = Vault.create(tmp_path / "v", keys.passphrase("correct horse"))
    stored = made.store_bytes(b"x", "n")
    assert reads(Vault.open(tmp_path / "v", keys.passphrase(b"correct horse")), stored) == b"x"
    with pytest.raises(errors.WrongKey, match="does not open"):
        Vault.open(tmp_path / "v", keys.passphrase("correct house"))
    with pytest.raises(errors.WrongKey, match="kind passphrase"):
        Vault.open(tmp_path / "v", KEY)


def test_failures_of_a_provider_say_what_to_do(tmp_path: Path, key_file: Path) -> None:
    Vault.create(tmp_path / "v", KEY)

    def broken() -> bytes:
        raise ConnectionError("no route to the vault of keys")

    for provider, text in (
        (keys.file(tmp_path / "none"), "correct the path"),
        (keys.environment("AEGIS_NOT_SET"), "is not set"),
        (keys.command("false"), "failed"),
        (keys.command(str(tmp_path / "none")), "cannot be started"),
        (keys.descriptor(987), "open it for reading"),
        (keys.callback(broken), "ConnectionError: no route"),
    ):
        with pytest.raises(errors.KeyProviderError, match=text):
            Vault.open(tmp_path / "v", provider)
    with pytest.raises(errors.WrongKeyLength, match="31 bytes"):
        Vault.open(tmp_path / "v", keys.callback(lambda: KEY[:31]))
    key_file.chmod(0o644)
    with pytest.raises(errors.KeyProviderError, match="chmod 600"):
        Vault.open(tmp_path / "v", keys.file(key_file))


def test_a_pickled_vault_says_where_the_key_is_and_holds_none(tmp_path: Path, key_file: Path) -> None:
    made = Vault.create(tmp_path / "v", key_file=key_file)
    stored = made.store_bytes(b"x", "n")
    sent = pickle.dumps(made)
    assert KEY not in sent
    assert KEY.hex().encode() not in sent
    assert reads(pickle.loads(sent), stored) == b"x"
    for secret in (keys.raw(KEY), keys.passphrase("p")):
        with pytest.raises(TypeError, match="key file"):
            pickle.dumps(secret)
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(Vault.open(tmp_path / "v", KEY))


def test_a_pickled_vault_follows_its_rotation(tmp_path: Path, key_file: Path) -> None:
    made = Vault.create(tmp_path / "v", KEY)
    stored = made.store_bytes(b"x", "n")
    key_file.write_bytes(bytes(32))
    assert made.rotate(key_file=key_file) == 2
    assert reads(pickle.loads(pickle.dumps(made)), stored) == b"x"
    with pytest.raises(errors.WrongKey):
        Vault.open(tmp_path / "v", KEY)


def test_a_made_key_file_is_private(tmp_path: Path) -> None:
    Vault.create(tmp_path / "v", key_file=tmp_path / "made", make_key=True)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o600
    with pytest.raises(errors.KeyProviderError, match="choose a new path"):
        Vault.create(tmp_path / "w", key_file=tmp_path / "made", make_key=True)


def test_the_operating_system_keyring_keeps_the_key(tmp_path: Path) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backend import KeyringBackend

    class InMemory(KeyringBackend):
        priority = 1  # type: ignore[assignment]
        entries: ClassVar[dict[tuple[str, str], str]] = {}

        def get_password(self, service: str, username: str) -> str | None:
            return self.entries.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.entries[service, username] = password

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    try:
        with pytest.raises(errors.KeyProviderError, match="no entry"):
            Vault.create(tmp_path / "v", keys.keyring("aegis", "v"))
        made = Vault.create(tmp_path / "v", keys.keyring("aegis", "v", make=True))
        stored = made.store_bytes(b"x", "n")
        assert reads(pickle.loads(pickle.dumps(made)), stored) == b"x"
        with pytest.raises(FileExistsError, match="already"):
            keys.keyring("aegis", "v", make=True)
    finally:
        keyring.set_keyring(before)


@pytest.fixture
def service() -> Iterator[str]:
    started = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "kms/server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout
    assert started.stdin
    try:
        yield started.stdout.readline().strip()
    finally:
        started.stdin.close()
        started.wait(timeout=20)
        started.stdout.close()


def test_a_key_service_keeps_and_destroys_the_secret_of_an_epoch(
    tmp_path: Path, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES / "kms"))
    from client import HttpKeyService

    provider = keys.kms(HttpKeyService(service))
    made = Vault.create(tmp_path / "v", provider)
    gone, kept = made.store_bytes(b"gone", "n"), made.store_bytes(b"kept", "n")
    assert made.shred_level == "kms"
    shutil.copytree(tmp_path / "v", tmp_path / "copy")
    receipt = made.shred(gone, require="kms")
    assert receipt["level"] == "kms"
    assert "key of epoch 1 destroyed by the example service" in receipt["caveats"]
    # The whole old folder and the service itself do not bring it back.
    with pytest.raises(errors.KeyDestroyed, match=r"the key of .*/1 is destroyed"):
        Vault.open(tmp_path / "copy", provider)
    assert reads(Vault.open(tmp_path / "v", pickle.loads(pickle.dumps(provider))), kept) == b"kept"


def test_the_example_of_a_key_service_runs_as_it_stands(tmp_path: Path, service: str) -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "kms/client.py"), str(tmp_path / "v"), service],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "level kms, epoch 1 destroyed" in ran.stdout


def test_a_service_that_is_down_loses_nothing(tmp_path: Path) -> None:
    class Service:
        up = True

        def wrap(self, vault: str, epoch: int, secret: bytearray) -> bytes:
            self.check()
            return bytes(secret[::-1])

        def unwrap(self, vault: str, epoch: int, blob: bytes) -> bytes:
            self.check()
            return blob[::-1]

        def destroy(self, vault: str, epoch: int) -> None:
            self.check()

        def check(self) -> None:
            if not self.up:
                raise TimeoutError("the service is down")

    service = Service()
    made = Vault.create(tmp_path / "v", keys.kms(service))
    stored = made.store_bytes(b"x", "n")
    service.up = False
    with pytest.raises(errors.KeyProviderError, match="TimeoutError"):
        made.shred(stored)
    assert reads(made, stored) == b"x"  # the epoch secret is known to this process, and nothing was shredded
    service.up = True
    again = Vault.open(tmp_path / "v", keys.kms(service))
    with pytest.raises(errors.ObjectShredded):  # the intent was durable: it goes forward
        again.open_object(str(stored))
    with pytest.raises(TypeError, match="destroy is missing"):
        keys.kms(type("Half", (), {"wrap": None, "unwrap": None})())
