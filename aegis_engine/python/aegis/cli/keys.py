"""Where a command's key is: the options, and the provider that they name. Never the key itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from aegis_engine import keys

KEY_FORMS = """where the key is, never the key itself: file:PATH · env:NAME (64 hex digits) · fd:NUMBER · command:PROGRAM ARGS ·
passphrase (asks) · passphrase-fd:NUMBER · keyring:SERVICE/USER · pkcs11:MODULE:TOKEN (asks for the PIN, or takes
AEGIS_PIN)"""

Folder = Annotated[Path, typer.Argument(metavar="VAULT", help="folder of the vault")]

KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file", "-k", envvar="AEGIS_KEY_FILE", help="file with the 32-byte key, mode 0600 (never the key itself)"
    ),
]

Key = Annotated[str | None, typer.Option("--key", envvar="AEGIS_KEY", metavar="WHERE", help=KEY_FORMS)]


def provider(key_file: Path | None, key: str | None, *, option: str = "--key") -> keys.KeyProvider:
    """The key provider of the two options. ``--key-file`` may come from the environment; ``--key`` goes first."""
    if key is None and key_file is None:
        raise typer.BadParameter(f"say where the key is: --key-file PATH, or {option} {KEY_FORMS}", param_hint=option)
    if key is None:
        return keys.file(str(key_file))
    kind, _, rest = key.partition(":")
    make = _PLACES.get(kind)
    try:
        if make is not None:
            return make(rest)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise typer.BadParameter(str(error) or f"give {KEY_FORMS}", param_hint=option) from None
    # The value is not repeated: somebody may have put a key there.
    raise typer.BadParameter(f"that says no place of a key; give {KEY_FORMS}", param_hint=option)


def _some(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


PASSPHRASE_MAX = 4096


def _passphrase_fd(number: str) -> keys.KeyProvider:
    with open(int(number), "rb", closefd=False) as source:
        given = source.read(PASSPHRASE_MAX + 3)  # a line end, and one byte that is too many
    words = given.rstrip(b"\r\n")
    # Not cut: the rest would not be asked for when the vault is opened.
    if len(given) == PASSPHRASE_MAX + 3 or len(words) > PASSPHRASE_MAX:
        raise ValueError(f"the passphrase has more than {PASSPHRASE_MAX} bytes; a key file is given as file:PATH")
    return keys.passphrase(words)


def _pkcs11(place: str) -> keys.KeyProvider:
    module, _, token = place.partition(":")
    pin = os.environ.get("AEGIS_PIN") or typer.prompt("PIN", hide_input=True, err=True)
    return keys.pkcs11(module, _some(token), pin)


def _keyring(place: str) -> keys.KeyProvider:
    service, _, user = place.partition("/")
    return keys.keyring(service, _some(user))


_PLACES: dict[str, Callable[[str], keys.KeyProvider]] = {
    "file": lambda rest: keys.file(_some(rest)),
    "env": lambda rest: keys.environment(_some(rest)),
    "fd": lambda rest: keys.descriptor(int(rest)),
    "command": lambda rest: keys.command(*shlex.split(_some(rest))),
    "passphrase": lambda _: keys.passphrase(typer.prompt("passphrase", hide_input=True, err=True)),
    "passphrase-fd": _passphrase_fd,
    "keyring": _keyring,
    "pkcs11": _pkcs11,
}
