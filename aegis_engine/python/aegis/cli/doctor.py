"""``aegis doctor`` and ``aegis vault doctor``: which engine is loaded, and what the machine does to a vault's promises."""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

import aegis_engine
from aegis.cli.output import AsJson, show
from aegis_engine import doctor as examine


def doctor(
    vault: Annotated[Path | None, typer.Argument(help="a vault, to check its folder too")] = None,
    as_json: AsJson = False,
) -> None:
    """Says which engine is loaded, from where, with its digest, and what on this machine weakens a vault."""
    import aegis_engine._native as native

    import aegis

    path = Path(str(native.__file__))
    facts: dict[str, Any] = {
        "engine": version("aegis-flower-engine"),
        "engine file": str(path),
        "engine sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "release build": not aegis_engine.debug_build(),
        "module aegis": aegis.__file__,
        "plugin": version("aegis-flower"),
        "flwr": version("flwr"),
        "torch": version("torch"),
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


def version(name: str) -> str | None:
    """Which version of a distribution is installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def vault_doctor(
    vault: Annotated[Path, typer.Argument(metavar="VAULT", help="a vault, or the folder it shall lie in")],
    as_json: AsJson = False,
) -> None:
    """Says what the machine does to the promises of a vault: file system, disk, swap, core dumps, attainable shred level.
    Needs no key.
    """
    if not vault.exists():
        raise typer.BadParameter(f"{vault} does not exist; give a vault, or the folder it shall lie in")
    facts = examine(str(vault))
    lines = [f"{f['topic'] + ':':<16} {f['found']}" for f in facts]
    notes = [f"note: {f['topic']}: {f['risk']}" for f in facts if f["risk"]]
    show(facts, [*lines, *(notes or ["nothing to complain about"])], as_json)
