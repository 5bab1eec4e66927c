"""Where a vault's key comes from.

    from aegis import Vault, keys
    vault = Vault.open("vault", keys.file("/etc/aegis/vault.key"))

Which one? On a server, `file` on another disk than the vault, or `command`. For people, `passphrase` or `keyring`. For
erasure that does not depend on overwriting a file, `pkcs11` or a `KeyService`: they destroy the key of an epoch
themselves, and receipts then state the level ``hardware`` or ``kms``. All but `raw`, `passphrase`, `descriptor` and
`pkcs11` travel to worker processes: what is pickled says where the key is, never the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from aegis_engine._native import KeyProvider

if TYPE_CHECKING:
    from os import PathLike

raw = KeyProvider.raw
file = KeyProvider.file
passphrase = KeyProvider.passphrase
descriptor = KeyProvider.descriptor
environment = KeyProvider.environment
callback = KeyProvider.callback
kms = KeyProvider.kms


def command(*argv: str, timeout: float = 60.0) -> KeyProvider:
    """A program that prints the key: the plugin protocol.

    It is started once an open, without a shell. One line comes on its standard input,
    ``{"aegis": 1, "ask": "key"}``, then the end of file. It answers on its standard output with 32 raw bytes, or 64 hex
    digits and an optional newline, and ends with status 0. On failure the first line of its standard error is shown.

    Args:
        argv: program and arguments.
        timeout: seconds to answer.
    """
    return KeyProvider.command(argv, timeout)


def pkcs11(module: str | PathLike[str], token: str, pin: str) -> KeyProvider:
    """A PKCS#11 token: wraps the secret of each epoch under a non-extractable AES-256 key of its own.

    Args:
        module: the token's library, such as ``/usr/lib/softhsm/libsofthsm2.so``.
        token: label of the token.
        pin: the user's PIN.
    """
    return KeyProvider.pkcs11(module, token, pin)


class KeyService(Protocol):
    """A key management service, for `kms`: shows what the vault asks of it. Calls come under the vault's lock."""

    def wrap(self, vault: str, epoch: int, secret: bytearray) -> bytes:
        """Encrypts 32 bytes so that only `unwrap` opens them, until `destroy`; at most 4096 bytes are stored.

        Use a key (version) of its own for each epoch; a second call for one epoch replaces the first.
        """

    def unwrap(self, vault: str, epoch: int, blob: bytes) -> bytes:
        """The 32 bytes again.

        Raises:
            aegis_engine.errors.KeyDestroyed: the key of that epoch was destroyed. Any other exception means that the service
                could not be asked.
        """

    def destroy(self, vault: str, epoch: int) -> str | None:
        """Destroys the key of that epoch; one that is gone is a success.

        Returns:
            What the receipt must say, such as "destruction scheduled for 2026-12-01".
        """


class _Keyring:
    def __init__(self, service: str, username: str) -> None:
        self.service, self.username = service, username

    def __call__(self) -> bytes:
        stored = _keyring().get_password(self.service, self.username)
        if stored is None:
            raise LookupError(
                f"the OS keyring has no entry {self.service!r} for {self.username!r}; make one with "
                "aegis_engine.keys.keyring(..., make=True)"
            )
        return bytes.fromhex(stored)


def _keyring() -> Any:
    try:
        import keyring as library
    except ImportError:
        raise ModuleNotFoundError(
            "the OS keyring needs the package keyring: pip install 'aegis-flower-engine[keyring]'"
        ) from None
    return library


def keyring(service: str, username: str, *, make: bool = False) -> KeyProvider:
    """A key in the keyring of the operating system, as 64 hex digits.

    Args:
        service: name of the entry, such as "aegis".
        username: whose it is, such as the vault's name.
        make: put a new random key there first; an entry that exists is an error.

    Raises:
        ModuleNotFoundError: the extra ``keyring`` is not installed.
        FileExistsError: there is an entry, and `make` would lose its key.
    """
    library = _keyring()
    if make:
        import secrets

        if library.get_password(service, username) is not None:
            raise FileExistsError(
                f"the OS keyring has an entry {service!r} for {username!r} already; use it, or another name"
            )
        library.set_password(service, username, secrets.token_hex(32))
    return KeyProvider.callback(_Keyring(service, username))


__all__ = [
    "KeyProvider",
    "KeyService",
    "callback",
    "command",
    "descriptor",
    "environment",
    "file",
    "keyring",
    "kms",
    "passphrase",
    "pkcs11",
    "raw",
]
