"""``aegis vault``: make, fill, list, read."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import unicodedata
import uuid
from pathlib import Path
from typing import Annotated, Any

import typer
from aegis_engine.errors import AegisError

from aegis.cli.keys import Place, on_vault
from aegis.cli.output import AsJson, bar, exit_code, plain, say, show, size
from aegis_engine import Vault

Object = Annotated[str, typer.Argument(metavar="OBJECT", help="id of the object, or its name when it is the only one")]

BLOCK = 4 * 2**20

# What changes the direction of writing: refused by the engine, as control characters are.
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

# Names of files that are listed after a failure.
SHOWN = 20


def object_id(vault: Vault, given: str) -> str:
    """An id, or a name that only one object has."""
    try:
        return str(uuid.UUID(given))
    except ValueError:
        named = [entry["id"] for entry in vault.list() if entry["name"] == given]
    if len(named) == 1:
        return str(named[0])
    if named:
        raise typer.BadParameter(f"{len(named)} objects are named {given!r}; give the id: {', '.join(named)}")
    raise typer.BadParameter(
        f"{given!r} is no object id and no object's name; ids are UUIDs, `aegis vault ls` lists them"
    )


@on_vault
def vault_init(
    vault: Place,
    make_key: Annotated[bool, typer.Option("--make-key", help="make a new random key in KEY_FILE first")] = False,
    govern: Annotated[
        str | None, typer.Option(help="put the vault under a policy bundle: 'core', or a folder; cannot be undone")
    ] = None,
) -> None:
    """Makes an empty vault."""
    if govern:  # tried on a throw-away vault first: a bad bundle must not leave an ungoverned vault behind
        with tempfile.TemporaryDirectory() as trial:
            Vault.create(trial, key=bytes(32)).govern(govern)
    if make_key and (vault.key_file is None or vault.key is not None):
        raise typer.BadParameter("--make-key writes a key file; name it with --key-file", param_hint="--make-key")
    if make_key:
        made = Vault.create(str(vault.folder), key_file=str(vault.key_file), make_key=True)
    elif vault.key == "passphrase":  # a typing mistake here would cost the data
        twice = typer.prompt("new passphrase", hide_input=True, confirmation_prompt=True, err=True)
        from aegis_engine import keys

        made = Vault.create(str(vault.folder), keys.passphrase(twice))
    else:
        made = Vault.create(str(vault.folder), vault.provider())
    if govern:
        made.govern(govern)
    say(f"vault {made.id} in {vault.folder}" + (f", governed by {govern}" if govern else ""))
    if make_key:
        say(f"key in {vault.key_file}: keep it apart from the vault; without it the data are gone")


def _storable(name: str) -> str | None:
    """The name, with escapes in the place of characters that no object's name may have; that is said. A name that is no
    UTF-8 is the engine's to refuse.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    shown = plain(name)
    if shown != name and any(unicodedata.category(c) in ("Cc", "Zl", "Zp") or c in TURNING for c in name):
        say(f"the name has control characters; they are stored as escapes: {shown}", err=True)
        return shown
    return name


@on_vault
def vault_add(
    vault: Place,
    files: Annotated[
        list[str], typer.Argument(metavar="FILES...", help="files to encrypt into the vault; - is standard input")
    ],
    name: Annotated[str | None, typer.Option(help="name in the vault; needed for standard input")] = None,
    subject: Annotated[str | None, typer.Option(help="the person the file is about; kept encrypted")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="read back and authenticate before it counts")] = False,
    as_json: AsJson = False,
) -> None:
    """Encrypts files into the vault, several in one commit: all or none. They are streamed; the sources stay where they are."""
    if name is not None and len(files) > 1:
        raise typer.BadParameter("one name for several files; add them one by one", param_hint="--name")
    if "-" in files and name is None:
        raise typer.BadParameter("standard input has no name; give one", param_hint="--name")
    into = vault.open()
    if into.governed:
        raise typer.BadParameter(
            "this vault is governed, and a plain file in it has no terms: nobody could ever read it. Take rows in by "
            "aegis_flower.ingest.ingest and tables by Vault.store_table, which ask for them; keep plain files in another vault",
            param_hint="VAULT",
        )
    done = []
    if len(files) > 1:
        paths = [Path(given) for given in files]
        whole = sum(path.stat().st_size for path in paths if path.is_file())
        with bar(whole, f"{len(paths)} files", quiet=as_json) as progress:
            # One commit: a file that is missing or fails leaves nothing behind.
            try:
                ids = into.store_files(paths, subject=subject, verify=verify, progress=progress)
            except (AegisError, OSError):
                say("nothing was stored, neither of these files:", err=True)
                for path in paths[:SHOWN]:
                    say(f"  {path}", err=True)
                if len(paths) > SHOWN:
                    say(f"  and {len(paths) - SHOWN} more", err=True)
                raise
        done = [{"id": str(stored), "name": path.name} for stored, path in zip(ids, paths, strict=True)]
        show(done, [f"{d['id']}  {d['name']}" for d in done], as_json)
        return
    for given in files:
        file = Path(given)
        shown = _storable(name or file.name)
        with bar(file.stat().st_size if file.is_file() else 0, shown or given, quiet=as_json) as progress:
            if given == "-":
                stored = into.store_stream(
                    sys.stdin.buffer, shown or given, subject=subject, verify=verify, progress=progress
                )
            else:
                stored = into.store_file(str(file), name=shown, subject=subject, verify=verify, progress=progress)
        done.append({"id": str(stored), "name": shown or file.name})
    show(done, [f"{d['id']}  {d['name']}" for d in done], as_json)


@on_vault
def vault_ls(vault: Place, as_json: AsJson = False) -> None:
    """Lists the objects of a vault."""
    entries = vault.open().list()
    rows = [f"{e['id']}  {size(e['bytes']):>10}  {e['name']}" for e in entries]
    show(entries, rows or ["(empty)"], as_json)


@on_vault
def vault_stat(vault: Place, target: Object, as_json: AsJson = False) -> None:
    """Shows what is known of one object."""
    within = vault.open()
    entry = within.stat(object_id(within, target))
    shown = {**entry, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry["created"]))}
    show(shown, [f"{k + ':':<13} {'-' if v is None or v == {} else v}" for k, v in shown.items()], as_json)


@on_vault
def vault_cat(
    vault: Place,
    target: Object,
    offset: Annotated[int, typer.Option(min=0, help="first byte")] = 0,
    length: Annotated[int | None, typer.Option(min=0, help="how many bytes; all by default")] = None,
) -> None:
    """Writes the decrypted content to standard output, for another program. Refuses a terminal."""
    if sys.stdout.isatty():
        raise typer.BadParameter(
            "decrypted data are not shown on a terminal, which keeps them; pipe them into a program",
            param_hint="OBJECT",
        )
    within = vault.open()
    _copy(within, object_id(within, target), sys.stdout.buffer, offset, length, quiet=True)
    sys.stdout.buffer.flush()


@on_vault
def vault_export(
    vault: Place,
    target: Object,
    file: Annotated[Path, typer.Argument(help="new file to write, mode 0600")],
    understood: Annotated[
        bool,
        typer.Option("--i-understand-plaintext", help="the file is not encrypted, and shredding does not reach it"),
    ] = False,
) -> None:
    """Writes the decrypted content to a file."""
    if not understood:
        raise typer.BadParameter(
            "an export is plaintext that no policy and no shred reaches; say --i-understand-plaintext if you want it",
            param_hint="--i-understand-plaintext",
        )
    within = vault.open()
    found = object_id(within, target)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise typer.BadParameter(f"{file} exists; choose a new file", param_hint="FILE") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            count = _copy(within, found, out, 0, None, quiet=False)
    except BaseException:
        file.unlink(missing_ok=True)  # half an export is of no use, and it is plaintext
        raise
    say(f"{size(count)} of plaintext in {file}")


def _copy(vault: Vault, found: str, out: Any, offset: int, length: int | None, *, quiet: bool) -> int:
    """Block by block through one buffer; gives the number of bytes."""
    buffer = memoryview(bytearray(BLOCK))
    done = 0
    with vault.open_object(found) as reader:
        end = reader.seek(0, 2)
        total = max(0, end - offset) if length is None else max(0, min(length, end - offset))
        reader.seek(offset)
        with bar(total, "decrypting", quiet=quiet) as progress:
            while done < total:
                got = reader.readinto(buffer[: min(BLOCK, total - done)])
                if not got:
                    break
                out.write(buffer[:got])
                done += got
                if progress:
                    progress(done)
    buffer[:] = bytes(BLOCK)
    return done


@on_vault
def vault_verify(
    vault: Place,
    target: Annotated[
        str | None, typer.Argument(metavar="[OBJECT]", help="id or name of one object; all of them by default")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Authenticates every byte of one object, or of all, and names what is damaged. Hands out no plaintext."""
    within = vault.open()
    ids = [object_id(within, target)] if target else within.object_ids()
    results, worst = [], 0
    with bar(len(ids), "objects", quiet=as_json, least=20) as progress:
        for number, one in enumerate(ids, 1):
            try:
                results.append({"id": one, "ok": True, "chunks": within.verify(one)})
            except AegisError as error:
                worst = max(worst, exit_code(error))
                results.append({"id": one, "ok": False, "error": str(error), "code": error.code})
            if progress:
                progress(number)
    rows = [f"{r['id']}  ok, {r['chunks']} chunks" if r["ok"] else f"{r['id']}  DAMAGED: {r['error']}" for r in results]
    good = sum(bool(r["ok"]) for r in results)
    show(results, [*rows, f"{good} of {len(results)} objects are whole"], as_json)
    raise SystemExit(worst)
