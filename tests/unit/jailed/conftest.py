"""A vault and a client whose app trains in a real jail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from neighbouring import World

from aegis_flower.jailed import close_jails


@pytest.fixture
def world(govern: Callable[..., Any], tmp_path: Path) -> Iterator[World]:
    yield World(govern(rows=40, budget_epsilon=1e6), tmp_path)
    close_jails()
