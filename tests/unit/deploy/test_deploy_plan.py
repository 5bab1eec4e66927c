"""The plan of a federation: what would mean something else in a unit, in YAML or in a shell is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aegis_flower.deploy import Plan
from aegis_flower.errors import ConfigError


@pytest.mark.parametrize(
    "said",
    [
        {"hosts": ()},
        {"hosts": ("a b",)},
        {"hosts": ("a\nExecStart=evil",)},
        {"hosts": ('a"',)},
        {"hosts": ("$(x)",)},
        {"nodes": 0},
        {"nodes": 101},
        {"port": 0},
        {"port": 70000},
        {"port": 9094},
        {"place": Path("relative")},
        {"place": Path("/a b")},
        {"place": Path("/a/../b")},
        {"place": Path("/a%n")},
        {"programs": Path("/x;y")},
        {"user": "Root User"},
        {"user": "aegis-net"},
        {"network_user": ""},
        {"dataset": 'a"b'},
        {"dataset": "a\nb"},
        {"dataset": ""},
        {"days": 0},
        {"days": 366},
    ],
    ids=str,
)
def test_a_value_that_would_mean_something_else_in_a_file_is_refused(said: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be"):
        Plan(**{"hosts": ("localhost",), **said})


@pytest.mark.parametrize("host", ["::1", "192.0.2.1", "link", "a-b.example.org"])
def test_addresses_of_all_kinds_become_one_that_flower_reads(host: str) -> None:
    assert Plan((host,)).address == (f"[{host}]:8000" if ":" in host else f"{host}:8000")
