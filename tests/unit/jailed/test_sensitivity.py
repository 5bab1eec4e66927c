"""One person's data move the sum over blocks by twice the clip at most, whatever code trains: measured, in real jails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from neighbouring import MARK, START, neighbours

from aegis_flower.jailed import blocks, rows
from aegis_flower.jailed.pool import jail_of

CLIP, BLOCKS, SIGMA = 0.5, 4, 0.05
# What rounding to the noise's grid and to float32 can add, over ten values and the number of blocks.
ROUNDING = 1e-4
APPS = [
    "returns_rows",
    "counts",
    "opposite",
    "random_function",
    "crashes",
    "raises",
    "wrong_shapes",
    "nan",
    "infinite",
    "huge",
    "keeps_state",
]


def summed(world: Any, entry: str, dataset: str, **options: Any) -> np.ndarray:
    """The sum over blocks. Noise of a seed is the same for both data sets, so it is not in their difference."""
    privacy = {"clip": CLIP, "noise": "insecure_test"}
    client = world.client(
        f"app:{entry}",
        "blocks",
        dataset,
        blocks=BLOCKS,
        config={"privacy": privacy, "policy": {"require_dp": False}},
        **options,
    )
    made = client.train_round(START, 1, SIGMA)
    assert made.session is not None
    assert made.session.spent == (1, 1, 10, True)
    return made.update.astype(np.float64) * BLOCKS


def moved(world: Any, entry: str, change: str, **options: Any) -> float:
    one, other = neighbours(world, change)
    return float(np.linalg.norm(summed(world, entry, one, **options) - summed(world, entry, other, **options)))


@pytest.mark.parametrize("change", ["other values", "none"])
@pytest.mark.parametrize("entry", APPS)
def test_no_app_moves_the_sum_by_more_than_twice_the_clip_for_one_person(world: Any, entry: str, change: str) -> None:
    assert moved(world, entry, change) <= 2 * CLIP + ROUNDING


def test_an_app_that_hangs_for_one_person_moves_the_sum_by_one_clip(world: Any) -> None:
    distance = moved(world, "hangs", "other values", block_seconds=5.0)
    assert CLIP - ROUNDING <= distance <= CLIP + ROUNDING  # its block is zeros; the others are as they were


def test_the_bound_is_reached_so_the_measurement_could_show_more(world: Any) -> None:
    assert moved(world, "opposite", "other values") == pytest.approx(2 * CLIP, abs=ROUNDING)


class Recording:
    """A session that keeps what each block gave."""

    def __init__(self) -> None:
        self.updates: list[np.ndarray] = []

    def add_block(self, update: np.ndarray) -> None:
        self.updates.append(update.copy())

    def noise_blocks(self) -> bytes:
        return np.zeros(10, np.float32).tobytes()


def test_what_a_task_leaves_behind_is_found_by_no_other_block(world: Any) -> None:
    """Files, memory, environment, threads, processes, pipes, the machine's load: every other block's update is the same, to the
    bit."""
    found = []
    for dataset in neighbours(world, "other values"):
        client = world.client("app:keeps_state", "blocks", dataset, blocks=BLOCKS)
        permit, session = client.authorize("train", 1), Recording()
        chosen = blocks.places(client.node.vault, permit, BLOCKS)
        with jail_of(client._place) as jail:
            blocks.train(
                jail,
                client._asked(START, 1),
                rows.read(client.node.vault, permit, client.spec),
                chosen,
                session,  # type: ignore[arg-type]
                client._limits({}),
                began=client._began,
                pace=client.pace,
            )
        found.append(session.updates)
    assert [len(each) for each in found] == [BLOCKS, BLOCKS]
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_with_all_people_in_one_block_an_apps_own_update_is_within_the_clip(world: Any) -> None:
    """Mode any: the same apps, the whole update."""
    world.data(
        "alone", {"height": np.full(20, MARK, np.float32), "ill": np.zeros(20, np.int64)}, [f"p{i}" for i in range(20)]
    )
    for entry, norm in (("opposite", CLIP), ("raises", 0.0), ("nan", 0.0), ("huge", CLIP)):
        config = {"privacy": {"clip": CLIP, "noise": "insecure_test"}, "policy": {"require_dp": False}}
        client = world.client(f"app:{entry}", "any", "alone", config=config)
        freed = client.train_round(START, 1, SIGMA).update.astype(np.float64)
        room = 6 * SIGMA * 2 * CLIP * math.sqrt(10)
        assert norm - room <= np.linalg.norm(freed) <= norm + room
