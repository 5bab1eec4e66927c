"""A vault, clients of jailed apps on its data sets, and neighbouring data sets: the same but for one person."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, RecordDict

from aegis_flower.configs import from_dict
from aegis_flower.data import Spec
from aegis_flower.ingest import Terms, ingest
from aegis_flower.jailed import JailedClient, Options
from aegis_flower.jailed.app import Tried
from aegis_flower.jailed.blocks import Pace
from aegis_flower.node.node import Node, NodeConfig

APPS = Path(__file__).parent / "apps"
HASH = "ab" * 32


class Still:
    """A clock that only waiting moves: tasks take no time by it, and nothing of a test waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pace = Pace(lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclasses.dataclass
class World:
    """A vault, and clients on its data sets."""

    governed: Any
    tmp: Path

    def data(self, name: str, columns: dict[str, np.ndarray], people: list[str], **terms: Any) -> str:
        """One more data set in the same vault."""
        ingest(
            self.governed.vault,
            name,
            columns,
            people,
            Terms(**{"purposes": ["research"], "budget_epsilon": 1e6, **terms}),
        )
        return name

    def client(
        self,
        entry: str,
        mode: str = "any",
        dataset: str = "tiny",
        *,
        app: Path = APPS / "hostile",
        spec: Spec | None = None,
        config: dict[str, Any] | None = None,
        approval: Any = None,
        blocks: int = 4,
        run_config: dict[str, Any] | None = None,
        **options: Any,
    ) -> JailedClient:
        """A client of an app that is approved for the mode."""
        g = self.governed
        node = Node(NodeConfig(g.folder, g.key_file, dataset, "clinic"))
        mechanism = {"any": "update", "blocks": "blocks"}[mode]
        privacy = {"mode": mechanism, "blocks": blocks, **(config or {}).pop("privacy", {})}
        given = {"evaluation": {"rounds": "never"}, "strategy": {"max_norm": 1e6}, **(config or {}), "privacy": privacy}
        context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=run_config or {"lr": 0.1})
        opened = Options(
            **{
                "entry": entry,
                "block_seconds": 20.0,
                "seconds": 60.0,
                "memory": 4 << 30,
                "preload": ("numpy",),
                **options,
            }
        )
        approved = approval or Tried(HASH, mode, "research")
        made = JailedClient(node, from_dict(given), context, approval=approved, app=app, options=opened)
        made.pace, made.names, made.spec = Still().pace, NAMES, spec or g.spec
        made._began = made.pace.clock()
        return made


START = [np.zeros((2, 4), np.float32), np.zeros(2, np.float32)]
NAMES = ("weight", "bias")
MARK = np.float32(777.0)
BLOCKS = 4


def rows_of(values: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "height": values.astype(np.float32),
        "pulse": np.stack([values + 1000, values + 2000, values + 3000], axis=1).astype(np.float32),
        "ill": (np.arange(len(values)) % 2).astype(np.int64),
    }


def _of_the_first_block(world: Any, people: list[str]) -> str:
    """Somebody whose block is trained before the others, so that these could find what it left."""
    of = np.frombuffer(world.governed.vault.blocks(world.governed.permit(), BLOCKS), "<u4")
    return people[int(np.argmin(of))]


def neighbours(world: Any, change: str) -> tuple[str, str]:
    """Two data sets of one vault, so that people are in the same blocks. In the first the person is marked."""
    people = [f"person-{i // 2}" for i in range(40)]
    values = np.arange(40, dtype=np.float32)
    marked_one = _of_the_first_block(world, people)
    own = np.array([who == marked_one for who in people])
    marked = np.where(own, MARK, values)
    one = world.data("one", rows_of(marked), people)
    if change == "none":
        return one, world.data(
            "other", rows_of(values[~own]), [who for who, mine in zip(people, own, strict=True) if not mine]
        )
    return one, world.data("other", rows_of(values), people)
