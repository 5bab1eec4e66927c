"""Neighbouring data sets: the same but for one person."""

from __future__ import annotations

from typing import Any

import numpy as np

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
