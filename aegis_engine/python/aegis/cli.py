"""The ``aegis`` command: vaults, audit logs, doctor. Commands of the plugin appear when it is installed."""

from __future__ import annotations

import contextlib
import enum
import hashlib
import importlib.metadata
import json
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from aegis_engine.errors import (
    AegisError,
    AuditError,
    AuditTampered,
    EngineFault,
    GateFailed,
    ObjectNotFound,
    PermitError,
    PermitRequired,
    PolicyDenied,
    PolicyInvalid,
    VaultTampered,
)

import aegis_engine
from aegis_engine import Vault, audit_read, audit_verify

EXIT_CODES = """Exit codes: 0 done · 1 failed · 2 wrong usage or configuration · 3 refused by policy, permit, gate or budget ·
4 invalid policy · 5 integrity: something was tampered with."""

app = typer.Typer(
    name="aegis",
    help="Train together on data that nobody hands over: encrypted vaults, permits, audit, federated learning.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
vault_app = typer.Typer(
    help="Encrypted vaults: make, fill, list, check, shred.", epilog=EXIT_CODES, no_args_is_help=True
)
audit_app = typer.Typer(help="Tamper-evident audit logs.", epilog=EXIT_CODES, no_args_is_help=True)
app.add_typer(vault_app, name="vault")
app.add_typer(audit_app, name="audit")


class Level(enum.StrEnum):
    """How thoroughly an object can be destroyed, weakest first."""

    LOGICAL = "logical"
    RATCHETED_FILE = "ratcheted-file"
    HARDWARE = "hardware"
    KMS = "kms"


def _object_id(given: str | None) -> str | None:
    """Refuses what is no id as wrong usage."""
    try:
        return given and str(uuid.UUID(given))
    except ValueError:
        raise typer.BadParameter(f"{given!r} is no object id; ids are UUIDs, `aegis vault ls` lists them") from None


Folder = Annotated[Path, typer.Argument(metavar="VAULT", help="folder of the vault")]
KeyFile = Annotated[
    Path,
    typer.Option(
        "--key-file", "-k", envvar="AEGIS_KEY_FILE", help="file with the 32-byte key, mode 0600 (never the key itself)"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable output")]


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


def fail(error: BaseException) -> NoReturn:
    """Prints one line and ends with the error's exit code."""
    code = getattr(error, "code", "")
    typer.echo(f"aegis: {error}" + (f" [{code}]" if code else ""), err=True)
    raise SystemExit(exit_code(error))


def main() -> None:
    """Entry point."""
    _check_not_shadowed()
    for entry in importlib.metadata.entry_points(group="aegis.commands"):
        entry.load()(app)
    try:
        app()
    except (AegisError, OSError) as error:
        fail(error)


def _check_not_shadowed() -> None:
    import aegis

    if getattr(aegis, "DISTRIBUTION", None) != "aegis-flower-engine":
        fail(
            EngineFault(
                f"the module 'aegis' at {aegis.__file__} is another project's; uninstall it (pip uninstall aegis) and "
                "reinstall aegis-flower-engine"
            )
        )


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


@vault_app.command("init")
def vault_init(
    vault: Folder,
    key_file: KeyFile,
    make_key: Annotated[bool, typer.Option("--make-key", help="make a new random key in KEY_FILE first")] = False,
    govern: Annotated[
        str | None, typer.Option(help="put the vault under a policy bundle: 'core', or a folder; cannot be undone")
    ] = None,
) -> None:
    """Makes an empty vault."""
    if govern:  # tried on a throw-away vault first: a bad bundle must not leave an ungoverned vault behind
        with tempfile.TemporaryDirectory() as trial:
            Vault.create(trial, key=bytes(32)).govern(govern)
    made = Vault.create(str(vault), key_file=str(key_file), make_key=make_key)
    if govern:
        made.govern(govern)
    typer.echo(f"vault {made.id} in {vault}" + (f", governed by {govern}" if govern else ""))
    if make_key:
        typer.echo(f"key in {key_file}: keep it apart from the vault; without it the data are gone")


@vault_app.command("add")
def vault_add(
    vault: Folder,
    files: Annotated[list[Path], typer.Argument(help="files to encrypt into the vault; they are streamed")],
    key_file: KeyFile,
    subject: Annotated[str | None, typer.Option(help="the person the file is about; kept encrypted")] = None,
    as_json: AsJson = False,
) -> None:
    """Encrypts files into the vault. The sources stay where they are."""
    opened = Vault.open(str(vault), key_file=str(key_file))
    done = []
    for file in files:
        with _bar(file.stat().st_size if file.is_file() else 0, file.name, quiet=as_json) as progress:
            done.append(
                {"id": str(opened.store_file(str(file), subject=subject, progress=progress)), "name": file.name}
            )
    _print(done, [f"{d['id']}  {d['name']}" for d in done], as_json)


@contextlib.contextmanager
def _bar(total: int, label: str, *, quiet: bool) -> Any:
    """A progress bar on a terminal, nothing elsewhere; yields the callback of bytes done so far."""
    if quiet or not sys.stderr.isatty() or total < 64 * 2**20:
        yield None
        return
    with typer.progressbar(length=total, label=label, file=sys.stderr) as bar:
        yield lambda done: bar.update(done - bar.pos)


@vault_app.command("ls")
def vault_ls(vault: Folder, key_file: KeyFile, as_json: AsJson = False) -> None:
    """Lists the objects of a vault."""
    entries = Vault.open(str(vault), key_file=str(key_file)).list()
    rows = [f"{e['id']}  {_size(e['bytes']):>10}  {e['name']}" for e in entries]
    _print(entries, rows or ["(empty)"], as_json)


@vault_app.command("stat")
def vault_stat(
    vault: Folder,
    object_id: Annotated[str, typer.Argument(metavar="ID", callback=_object_id)],
    key_file: KeyFile,
    as_json: AsJson = False,
) -> None:
    """Shows what is known of one object."""
    entry = Vault.open(str(vault), key_file=str(key_file)).stat(object_id)
    shown = {**entry, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry["created"]))}
    _print(shown, [f"{k + ':':<13} {v}" for k, v in shown.items()], as_json)


@vault_app.command("verify")
def vault_verify(
    vault: Folder,
    key_file: KeyFile,
    object_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="one object; all of them by default", callback=_object_id)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Authenticates every byte of one object, or of all, and names what is damaged. Hands out no plaintext."""
    opened = Vault.open(str(vault), key_file=str(key_file))
    ids = [object_id] if object_id else opened.object_ids()
    results, worst = [], 0
    for one in ids:
        try:
            chunks = opened.verify(one)
            results.append({"id": one, "ok": True, "chunks": chunks})
        except AegisError as error:
            worst = max(worst, exit_code(error))
            results.append({"id": one, "ok": False, "error": str(error), "code": error.code})
    rows = [f"{r['id']}  ok, {r['chunks']} chunks" if r["ok"] else f"{r['id']}  DAMAGED: {r['error']}" for r in results]
    good = sum(bool(r["ok"]) for r in results)
    _print(results, [*rows, f"{good} of {len(results)} objects are whole"], as_json)
    raise SystemExit(worst)


@vault_app.command("shred")
def vault_shred(
    vault: Folder,
    object_id: Annotated[str, typer.Argument(metavar="ID", callback=_object_id)],
    key_file: KeyFile,
    require: Annotated[Level | None, typer.Option(help="fail unless this level is reached")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: AsJson = False,
) -> None:
    """Destroys the key of an object, for good, and prints the receipt."""
    opened = Vault.open(str(vault), key_file=str(key_file))
    if not yes:
        typer.confirm(f"destroy the key of {object_id} ({opened.stat(object_id)['name']}) for ever?", abort=True)
    receipt = opened.shred(object_id, require=require)
    lines = [
        f"shredded {', '.join(receipt['objects'])}",
        f"level: {receipt['level']} (epoch {receipt['epoch_before']} -> {receipt['epoch_after']})",
        *(f"note: {c}" for c in receipt["caveats"]),
    ]
    _print(receipt, lines, as_json)


def _audit_folder(folder: Path) -> Path:
    return folder / "audit" if (folder / "audit").is_dir() else folder


@audit_app.command("verify")
def audit_verify_command(
    folder: Annotated[Path, typer.Argument(metavar="VAULT", help="folder of a vault, or of an audit log")],
    expect: Annotated[
        str | None, typer.Option(help="RECORDS:HASH kept elsewhere (a report has them); finds truncation and rewriting")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Recomputes the chain of an audit log, offline and without any key, and names the first record that is wrong."""
    kept = None
    if expect:
        count, _, head = expect.partition(":")
        try:
            kept = (int(count), bytes.fromhex(head))
            if kept[0] < 0 or len(kept[1]) != 32:
                raise ValueError(expect)
        except ValueError:
            raise typer.BadParameter("give RECORDS:HASH, such as 42:9f86d0...", param_hint="--expect") from None
    result = audit_verify(str(_audit_folder(folder)), expect=kept)
    seen = "; the head kept elsewhere lies in it" if kept else ""
    _print(result, [f"{result['records']} records, chain whole, head {result['head']}{seen}"], as_json)


@audit_app.command("tail")
def audit_tail(
    folder: Annotated[Path, typer.Argument(metavar="VAULT", help="folder of a vault, or of an audit log")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="how many records")] = 10,
    as_json: AsJson = False,
) -> None:
    """Shows the newest records: what was asked, what was decided, by which policies."""
    records = audit_read(str(_audit_folder(folder)))[-lines:]
    _print(records, [_record_line(r) for r in records], as_json)


def _record_line(record: dict[str, Any]) -> str:
    hidden = {"seq", "time", "event", "hash", "bundle", "schema", "row_set", "columns", "app_hash"}
    rest = " ".join(
        f"{k}={json.dumps(v) if isinstance(v, (dict, list)) else v}"
        for k, v in record.items()
        if k not in hidden and v not in ("", [], {})
    )
    return f"{record['seq']:>6}  {record.get('time', '')}  {record.get('event', '?'):<18} {rest}"


def _print(value: Any, lines: list[str], as_json: bool) -> None:
    typer.echo(json.dumps(value, indent=2, default=str) if as_json else "\n".join(lines))


@app.command()
def doctor(
    vault: Annotated[Path | None, typer.Argument(help="a vault, to check its folder too")] = None,
    as_json: AsJson = False,
) -> None:
    """Says which engine is loaded, from where, with its digest, and what on this machine weakens a vault."""
    import aegis_engine._native as native

    import aegis

    path = Path(str(native.__file__))
    facts: dict[str, Any] = {
        "engine": _version("aegis-flower-engine"),
        "engine file": str(path),
        "engine sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "release build": not aegis_engine.debug_build(),
        "module aegis": aegis.__file__,
        "plugin": _version("aegis-flower"),
        "flwr": _version("flwr"),
        "torch": _version("torch"),
        "python": sys.version.split()[0],
    }
    notes = []
    if aegis_engine.debug_build():
        notes.append("the engine was compiled without optimisation; build it with --release")
    with contextlib.suppress(OSError):
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            notes.append("swap is on: decrypted pages can reach the disk; swapoff, or encrypt the swap")
    with contextlib.suppress(ImportError):
        import resource

        if resource.getrlimit(resource.RLIMIT_CORE)[0] != 0:
            notes.append("core dumps are on: a crash can write decrypted data; ulimit -c 0")
    if vault is not None:
        facts["vault"] = str(vault)
        if not (vault / "vault.json").is_file():
            notes.append(f"{vault} is no vault")
        elif (vault / "epoch.key").is_file() and (vault / "epoch.key").stat().st_mode & 0o077:
            notes.append(f"{vault}/epoch.key can be read by others; chmod 600")
        if vault.stat().st_mode & 0o077:
            notes.append(f"{vault} can be read by others (ciphertext, sizes, times); chmod 700")
    lines = [f"{k + ':':<15} {v if v is not None else 'not installed'}" for k, v in facts.items()]
    _print(
        {**facts, "notes": notes}, [*lines, *(f"note: {n}" for n in notes or ["nothing to complain about"])], as_json
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


__all__ = ["AuditError", "ObjectNotFound", "app", "exit_code", "fail", "main"]
