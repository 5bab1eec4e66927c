"""What every command shares: exit codes, errors, keys, progress, printing."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from aegis_engine.errors import (
    AuditTampered,
    GateFailed,
    PermitError,
    PermitRequired,
    PolicyDenied,
    PolicyInvalid,
    VaultTampered,
)

from aegis_engine import keys

EXIT_CODES = """Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 refused by policy, permit, gate or budget ·
4 invalid policy · 5 integrity: something was tampered with."""

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
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


def exit_code(error: BaseException) -> int:
    """The documented exit code of an error."""
    declared = getattr(error, "exit_code", None)
    if isinstance(declared, int):
        return declared
    if isinstance(error, PolicyInvalid):
        return 4
    if isinstance(error, (PolicyDenied, PermitError, PermitRequired, GateFailed)):
        return 3
    # AEG-P006: the consent ledger, which is a hash-chained log too, is not what was written.
    if isinstance(error, (VaultTampered, AuditTampered)) or getattr(error, "code", "") == "AEG-P006":
        return 5
    return 1


def plain(text: str) -> str:
    """One line that a terminal only shows: whatever else a name has in it (escapes, line ends, changes of the direction of
    writing, bytes that are no UTF-8) is written as an escape.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(line: str, *, err: bool = False) -> None:
    """Prints one line."""
    typer.echo(plain(line), err=err)


def fail(error: BaseException) -> NoReturn:
    """Prints one line and ends with the error's exit code."""
    code = getattr(error, "code", "")
    say(f"aegis: {error}" + (f" [{code}]" if code else ""), err=True)
    raise SystemExit(exit_code(error))


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


def show(value: Any, lines: list[str], as_json: bool) -> None:
    """Prints one or the other; each line stays one, whatever names are in it."""
    typer.echo(json.dumps(value, indent=2, default=str) if as_json else "\n".join(map(plain, lines)))


@contextlib.contextmanager
def bar(total: int, label: str, *, quiet: bool, least: int = 64 * 2**20) -> Iterator[Callable[[int], None] | None]:
    """A progress bar on a terminal for long work, nothing elsewhere; yields the callback of the work done so far."""
    if quiet or not sys.stderr.isatty() or total < least:
        yield None
        return
    with typer.progressbar(length=total, label=plain(label), file=sys.stderr) as shown:
        yield lambda done: shown.update(done - shown.pos)


def size(count: float) -> str:
    """Bytes for people."""
    step = 1024
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < step:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= step
    return f"{count:.1f} TiB"


def log_head(text: str | None) -> tuple[int, bytes] | None:
    """A head of an audit log as `--expect` takes it, RECORDS:HASH."""
    if text is None:
        return None
    count, _, head = text.partition(":")
    try:
        records, digest = int(count), bytes.fromhex(head)
        if records < 0 or len(digest) != 32:
            raise ValueError(text)
    except ValueError:
        raise typer.BadParameter("give RECORDS:HASH, such as 42:9f86d0...", param_hint="--expect") from None
    return records, digest
