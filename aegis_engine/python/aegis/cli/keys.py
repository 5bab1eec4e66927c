"""Where a command's key is: the options, and the provider that they name. Never the key itself."""

from __future__ import annotations

import functools
import inspect
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import ArgumentInfo

from aegis_engine import Vault, keys

KEY_FORMS = """where the key is, never the key itself: file:PATH · env:NAME (64 hex digits) · fd:NUMBER · command:PROGRAM ARGS ·
passphrase (asks) · passphrase-fd:NUMBER · keyring:SERVICE/USER · pkcs11:MODULE:TOKEN (asks for the PIN, or takes
AEGIS_PIN)"""

FOLDER = typer.Argument(metavar="VAULT", help="folder of the vault")
Folder = Annotated[Path, FOLDER]

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


@dataclass(frozen=True)
class Place:
    """The vault that a command is about. It is opened by `open`, once the command's other arguments are sound.

    Attributes:
        folder: of the vault.
        key_file: as given by ``--key-file``.
        key: as given by ``--key``; it goes first.
    """

    folder: Path
    key_file: Path | None
    key: str | None

    def provider(self) -> keys.KeyProvider:
        """Where its key is."""
        return provider(self.key_file, self.key)

    def open(self) -> Vault:
        """The open vault."""
        return Vault.open(str(self.folder), self.provider())


def on_vault(body: Callable[..., None]) -> Callable[..., None]:
    """Makes a command of its body: with the argument VAULT and the options of its key, handed on as a `Place` in first place.

    A body whose first parameter has a default makes a command that may be called without VAULT.
    """
    own = list(inspect.signature(body).parameters.values())
    hints = get_type_hints(body, include_extras=True)
    place, *others = [p.replace(annotation=hints[p.name]) for p in own]
    optional = place.default is not inspect.Parameter.empty
    vault = place.replace(annotation=Annotated[Path | None, FOLDER] if optional else Folder)
    given = [
        inspect.Parameter(name, place.kind, default=None, annotation=kind)
        for name, kind in (("key_file", KeyFile), ("key", Key))
    ]
    # Python wants what has no default first; so VAULT is before the other arguments, its key before the other options
    first = sum(p.default is inspect.Parameter.empty or _is_argument(p.annotation) for p in others)
    parameters = [vault, *others[:first], *given, *others[first:]]

    @functools.wraps(body)
    def called(**values: Any) -> None:
        folder, key_file, key = values.pop("vault"), values.pop("key_file", None), values.pop("key", None)
        body(None if folder is None else Place(folder, key_file, key), **values)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
    return called


def _is_argument(annotation: Any) -> bool:
    return any(isinstance(told, ArgumentInfo) for told in getattr(annotation, "__metadata__", ()))


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
