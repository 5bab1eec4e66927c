"""An operator, a node, and a folder between them; two bundles of one app."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from approval_world import World
from bundles import built


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(scope="session")
def fab() -> bytes:
    return built()


@pytest.fixture(scope="session")
def later_fab() -> bytes:
    return built(study__client=b"app = 3\n")
