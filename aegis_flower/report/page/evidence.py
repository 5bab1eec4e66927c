"""What an auditor compares with other records: configuration, heads of audit logs, software, time, files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegis_flower.report.page.view import beside
from aegis_flower.report.words import UNKNOWN, plural, seconds

if TYPE_CHECKING:
    from aegis_flower.report.model import RunReport
    from aegis_flower.report.page.view import Facts


@dataclass(frozen=True, slots=True)
class Evidence:
    """The folded parts at the end of the page. `resolved` is the configuration as JSON, line by line; `links` are files: what,
    path, and the path once more where it is safe to lead there.
    """

    rounds: str
    digest: str
    config: Facts
    resolved: tuple[str, ...]
    heads: Facts
    version: str
    software: Facts
    total: str
    clock: Facts
    files: str
    paths: Facts
    links: tuple[tuple[str, str, str], ...]


def evidence(report: RunReport, json_sha256: str) -> Evidence:
    """The evidence of `report`, whose ``report.json`` has the digest `json_sha256`."""
    config, versions, timings = report.config, report.versions, report.timings
    heads = [
        (
            f"{each.name}, {each.node}" if each.name else each.node,
            "no log" if each.audit is None else f"{each.audit.head}  ({plural(each.audit.records, 'record')})",
        )
        for each in report.clients
    ]
    software = [
        ("aegis-flower", versions.aegis_flower),
        ("engine", versions.aegis_engine or UNKNOWN),
        ("engine digest", versions.engine_digest or UNKNOWN),
        ("engine path", versions.engine_path or UNKNOWN),
        *(
            (name.replace("_", "-"), getattr(versions, name) or "not loaded")
            for name in ("flwr", "torch", "opacus", "dp_accounting")
        ),
        ("python", versions.python),
        ("platform", versions.platform),
    ]
    resolved = json.dumps(config.resolved, ensure_ascii=False, indent=2, default=_plain)
    return Evidence(
        rounds=plural(len(report.rounds), "round"),
        digest=f"SHA-256 {config.sha256[:16]}…",
        config=(("overrides", ", ".join(config.overrides) or "none"), ("SHA-256", config.sha256)),
        resolved=tuple(resolved.split("\n")),
        heads=tuple(heads),
        version=f"aegis-flower {versions.aegis_flower}",
        software=tuple(software),
        total=f"{seconds(timings.total)} in all",
        clock=tuple((name, seconds(getattr(timings, name))) for name in ("provision", "train", "report", "total")),
        files=plural(len(report.files), "file"),
        paths=(("SHA-256 of report.json", json_sha256),),
        links=tuple((name, path, beside(path)) for name, path in report.files.items()),
    )


def _plain(value: object) -> object:
    """Mappings of any class, as the report lets them in, for `json.dumps`."""
    return dict(value) if isinstance(value, Mapping) else str(value)
