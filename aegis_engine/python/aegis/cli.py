"""The ``aegis`` command: vaults, audit logs, doctor. Commands of the plugin appear when it is installed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from aegis_engine.errors import AegisError, AuditError, EngineFault, ObjectNotFound

import aegis_engine
from aegis.cli_base import EXIT_CODES, AsJson, exit_code, fail, log_head, show
from aegis.cli_manage import vault_app  # and with it the commands of cli_vault
from aegis.cli_roster import identity_app, roster_app
from aegis_engine import audit_read, audit_verify
from aegis_engine import doctor as examine

app = typer.Typer(
    name="aegis",
    help="Train together on data that nobody hands over: encrypted vaults, permits, audit, federated learning.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
audit_app = typer.Typer(help="Tamper-evident audit logs.", epilog=EXIT_CODES, no_args_is_help=True)
app.add_typer(vault_app, name="vault")
app.add_typer(audit_app, name="audit")
app.add_typer(identity_app, name="identity")
app.add_typer(roster_app, name="roster")


PLUGIN = ("run", "privacy", "report", "init", "certs")


def _print_versions(wanted: bool) -> None:
    if wanted:
        names = ("aegis-flower-engine", "aegis-flower", "flwr")
        typer.echo(", ".join(f"{name} {_version(name) or 'not installed'}" for name in names))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_versions, is_eager=True, help="say which versions are installed"),
    ] = False,
) -> None:
    del version


def main() -> None:
    """Entry point."""
    _check_not_shadowed()
    entries = importlib.metadata.entry_points(group="aegis.commands")
    for entry in entries:
        entry.load()(app)
    if not entries and sys.argv[1:2] and sys.argv[1] in PLUGIN:
        typer.echo(f"aegis: `aegis {sys.argv[1]}` is of the plugin: pip install aegis-flower", err=True)
        raise SystemExit(2)
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
    kept = log_head(expect)
    result = audit_verify(str(_audit_folder(folder)), expect=kept)
    seen = "; the head kept elsewhere lies in it" if kept else ""
    show(result, [f"{result['records']} records, chain whole, head {result['head']}{seen}"], as_json)


@audit_app.command("tail")
def audit_tail(
    folder: Annotated[Path, typer.Argument(metavar="VAULT", help="folder of a vault, or of an audit log")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="how many records")] = 10,
    as_json: AsJson = False,
) -> None:
    """Shows the newest records: what was asked, what was decided, by which policies."""
    records = audit_read(str(_audit_folder(folder)))[-lines:]
    show(records, [_record_line(r) for r in records], as_json)


def _record_line(record: dict[str, Any]) -> str:
    hidden = {"seq", "time", "event", "hash", "bundle", "schema", "row_set", "columns", "app_hash"}
    rest = " ".join(
        f"{k}={json.dumps(v) if isinstance(v, (dict, list)) else v}"
        for k, v in record.items()
        if k not in hidden and v not in ("", [], {})
    )
    return f"{record['seq']:>6}  {record.get('time', '')}  {record.get('event', '?'):<18} {rest}"


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
    if vault is not None and not vault.exists():
        raise typer.BadParameter(f"{vault} does not exist; give a vault, or the folder it shall lie in")
    for fact in examine(str(vault or Path.cwd())):
        facts[fact["topic"]] = fact["found"]
        if fact["risk"]:
            notes.append(fact["risk"])
    if vault is not None:
        facts["vault"] = str(vault)
        if not (vault / "vault.json").is_file():
            notes.append(f"{vault} is no vault")
        elif (vault / "epoch.key").is_file() and (vault / "epoch.key").stat().st_mode & 0o077:
            notes.append(f"{vault}/epoch.key can be read by others; chmod 600")
        if vault.stat().st_mode & 0o077:
            notes.append(f"{vault} can be read by others (ciphertext, sizes, times); chmod 700")
    lines = [f"{k + ':':<15} {v if v is not None else 'not installed'}" for k, v in facts.items()]
    show({**facts, "notes": notes}, [*lines, *(f"note: {n}" for n in notes or ["nothing to complain about"])], as_json)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


__all__ = ["AuditError", "ObjectNotFound", "app", "exit_code", "fail", "main"]
