"""A site: nodes with vaults of real data, an operator who approves, and an app that says so when it is imported."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from flwr.cli.build import build_fab_from_files

from aegis_engine import Identity
from aegis_flower.approval import Desk
from aegis_flower.configs import compose
from aegis_flower.node.node import close_nodes, keep_states
from aegis_flower.simulations.provision import provision

OVERRIDES = ["data.clients=3", "secagg.min_cohort=2", "model.kind=logistic", "model.device=cpu", "strategy.rounds=2"]
PROJECT = b"""
[project]
name = "study"
version = "1.0.0"
dependencies = ["flwr>=1.41"]
license = "MIT"
[tool.flwr.app]
publisher = "clinic"
[tool.flwr.app.components]
serverapp = "study.server:app"
clientapp = "study.client:app"
"""
FILES = {
    "pyproject.toml": PROJECT,
    "study/__init__.py": b"raise SystemExit('an app was imported')\n",
    "study/client.py": b"app = 1\n",
    "study/server.py": b"app = 2\n",
}


class Site:
    """Nodes of three vaults.

    Attributes:
        files: NODE.TOML of each node.
        fab: the app's bundle; its file is `fab_file`.
        config: the run config.
    """

    def __init__(self, folder: Path, files: dict[str, bytes] | None = None, overrides: Sequence[str] = ()) -> None:
        self.folder = folder
        asked = [*OVERRIDES, *overrides]
        self.cfg = compose("quickstart", asked)
        self.config = {"aegis-experiment": "quickstart", "aegis-overrides": " ".join(asked)}
        self.nodes = provision(self.cfg, folder / "vaults")
        self.fab: bytes = build_fab_from_files({**FILES, **(files or {})})[0]
        self.fab_file = folder / "app.fab"
        self.fab_file.write_bytes(self.fab)
        operator = folder / "operator.key"
        self._signer = Identity.create(str(operator)).public.hex()
        self.approvals = folder / "approvals"
        self.approvals.mkdir()
        self.desk = Desk(self.approvals, operator)
        self.files = [self.write(i) for i in range(len(self.nodes))]

    def write(self, index: int, **more: Any) -> Path:
        file = self.folder / f"node-{index}.toml"
        said = {
            **self.nodes[index].node_config,
            "aegis-approvals": str(self.approvals),
            "aegis-approval-signer": self._signer,
            "aegis-log": f"node-{index}.jsonl",
            "aegis-require-layers": "",
            **more,
        }
        file.write_text(tomli_w.dumps(said))
        return file

    def approve(self, mode: str = "recipe", purpose: str = "research", **more: Any) -> str:
        return self.desk.approve(self.fab, mode=mode, purpose=purpose, days=1, **more).fab_hash


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    yield lambda **how: Site(tmp_path, **how)
    keep_states(on=False)
    close_nodes()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()
