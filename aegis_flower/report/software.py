"""The software of a run: versions, and which engine was loaded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path

from aegis_flower.report.records import VersionsReport


def versions() -> VersionsReport:
    """Versions of what ran, and which engine was loaded, from where, with its digest."""
    import aegis_engine._native as native

    def of(name: str) -> str | None:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None

    path = Path(str(native.__file__))
    return VersionsReport(
        aegis_flower=of("aegis-flower") or "unknown",
        aegis_engine=of("aegis-flower-engine"),
        engine_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        engine_path=str(path),
        flwr=of("flwr"),
        torch=of("torch"),
        opacus=of("opacus"),
        dp_accounting=of("dp-accounting"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
    )
