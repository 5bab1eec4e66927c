"""Nodes that are driven by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from by_hand import ByHand

from aegis_flower.node.node import close_nodes


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made = []

    def start(cfg: Any = None, **options: Any) -> ByHand:
        made.append(ByHand(tmp_path / f"{len(made)}", cfg, **options))
        return made[-1]

    yield start
    close_nodes()
