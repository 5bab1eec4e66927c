"""The frozen vaults, and what opens them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
VECTORS = ROOT / "tests/vectors/vault"
GOLDEN = VECTORS / "golden"
GOLDEN2 = VECTORS / "golden2"
BOTH = pytest.mark.parametrize("golden", [GOLDEN, GOLDEN2], ids=["v1", "v2"])
KEY = bytes(range(32))
SECRETS: dict[str, dict[str, Any]] = {
    "key": {"key": KEY},
    "passphrase": {"passphrase": "correct horse battery staple"},
}
RENAMED = "99720c49-a3ba-4b73-8065-56bcfc7ad64a"


def expected(name: str, golden: Path = GOLDEN) -> dict[str, Any]:
    return json.loads((golden / f"{name}.json").read_text())


def renamed(golden: Path) -> str:
    """The object whose derivation the document has, and its like in version 2."""
    (one,) = [one["id"] for one in expected("key", golden)["objects"] if one["name"] == "nachher – après.csv"]
    return str(one)
