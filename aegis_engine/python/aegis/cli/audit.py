"""``aegis audit``: tamper-evident logs, without any key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from aegis_engine.types import AuditRecord

from aegis.cli.output import AsJson, log_head, show
from aegis_engine import audit_read, audit_verify


def _audit_folder(folder: Path) -> Path:
    return folder / "audit" if (folder / "audit").is_dir() else folder


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


def audit_tail(
    folder: Annotated[Path, typer.Argument(metavar="VAULT", help="folder of a vault, or of an audit log")],
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="how many records")] = 10,
    as_json: AsJson = False,
) -> None:
    """Shows the newest records: what was asked, what was decided, by which policies."""
    records = audit_read(str(_audit_folder(folder)))[-lines:]
    show(records, [_record_line(r) for r in records], as_json)


def _record_line(record: AuditRecord) -> str:
    hidden = {"seq", "time", "event", "hash", "bundle", "schema", "row_set", "columns", "app_hash"}
    rest = " ".join(
        f"{k}={json.dumps(v) if isinstance(v, (dict, list)) else v}"
        for k, v in record.items()
        if k not in hidden and v not in ("", [], {})
    )
    if app := record.get("app_hash"):
        rest += f" app={app[:16]}"
    return f"{record['seq']:>6}  {record.get('time', '')}  {record.get('event', '?'):<18} {rest}"
