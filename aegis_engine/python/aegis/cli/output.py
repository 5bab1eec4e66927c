"""What commands print, and the exit codes they end with."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
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

EXIT_CODES = """Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 refused by policy, permit, gate or budget ·
4 invalid policy · 5 integrity: something was tampered with."""

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
    # Names of people and purposes that are none, or nobody's.
    if getattr(error, "code", "") in ("AEG-P013", "AEG-P014"):
        return 2
    return 1


def plain(text: str) -> str:
    """One line that a terminal only shows: whatever else a name has in it (escapes, line ends, changes of the direction of
    writing, bytes that are no UTF-8) is written as an escape.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def sure(question: str, *, yes: bool) -> None:
    """Asks before something that cannot be undone, unless `yes` says that nobody is to be asked; a no ends the command."""
    if not yes:
        typer.confirm(plain(question), abort=True)


def say(line: str, *, err: bool = False) -> None:
    """Prints one line."""
    typer.echo(plain(line), err=err)


def fail(error: BaseException) -> NoReturn:
    """Prints one line and ends with the error's exit code."""
    code = getattr(error, "code", "")
    say(f"aegis: {error}" + (f" [{code}]" if code else ""), err=True)
    raise SystemExit(exit_code(error))


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
