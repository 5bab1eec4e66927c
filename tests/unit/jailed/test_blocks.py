"""Blocks of people: who is in which, when their tasks start, what the ledger and the record say of them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import JailError
from dp_training import assert_std
from neighbouring import MARK, START, neighbours, rows_of

from aegis_engine import ComplianceEngine, Request
from aegis_flower.accountant import epsilon, person_epsilon
from aegis_flower.errors import AegisError, ConfigError
from aegis_flower.jail import Ended, Limits, Result
from aegis_flower.jailed import blocks, suggested_blocks
from aegis_flower.jailed.tasks import Asked
from aegis_flower.ledger import Mechanism, RoundMechanism


def of_people(world: Any, dataset: str, people: list[str], count: int) -> dict[str, set[int]]:
    engine = ComplianceEngine(world.governed.vault)
    number = next(e["id"] for e in world.governed.vault.list() if e["name"] == dataset)
    permit = engine.authorize(number, Request(action="train", purpose="research"))
    chosen = blocks.places(world.governed.vault, permit, count)
    assert len(chosen) == count
    assert sorted(np.concatenate(chosen).tolist()) == list(range(len(people)))
    found: dict[str, set[int]] = {}
    for block, places in enumerate(chosen):
        for place in places:
            found.setdefault(people[place], set()).add(block)
    return found


def test_a_persons_rows_are_in_one_block_that_does_not_depend_on_who_else_is_there(world: Any) -> None:
    many = [f"person-{i % 60}" for i in range(180)]
    world.data("many", rows_of(np.arange(180.0)), many)
    few = [f"person-{i % 30}" for i in range(60)]
    world.data("few", rows_of(np.arange(60.0)), few)
    first, second = of_people(world, "many", many, 7), of_people(world, "few", few, 7)
    assert all(len(each) == 1 for each in first.values())
    assert {who: first[who] for who in second} == second
    assert len(set().union(*first.values())) == 7  # all are used by sixty people


def test_another_vault_has_other_blocks(world: Any, govern: Any) -> None:
    people = [f"person-{i // 2}" for i in range(40)]
    mine = of_people(world, "tiny", people, 1000)
    world.governed = govern(rows=40)
    assert mine != of_people(world, "tiny", people, 1000)


@pytest.mark.parametrize("count", [0, (1 << 16) + 1])
def test_a_number_of_blocks_that_no_session_has_is_refused(world: Any, count: int) -> None:
    permit = world.governed.permit()
    with pytest.raises(AegisError, match="65 536 blocks"):
        world.governed.vault.blocks(permit, count)


def test_the_ledger_the_record_and_the_noise_are_of_one_mechanism_whose_unit_is_a_person(world: Any) -> None:
    big = [np.zeros((40, 250), np.float32)]
    one, _ = neighbours(world, "other values")
    client = world.client("app:raises", "blocks", one, blocks=5, config={"privacy": {"clip": 0.5}})
    client.names = ("w",)
    made = client.train_round(big, 1, 2.0)
    (entry,) = client.node.ledger_of(made.permit.object, made.permit.facts).entries()
    assert (entry["mechanism"], entry["unit"], entry["relation"], entry["blocks"]) == (
        "blocks",
        "person",
        "replace_one",
        5,
    )
    assert (entry["steps"], entry["sample_rate"], entry["clip"], entry["noise_multiplier"]) == (1, 1.0, 0.5, 2.0)
    # Each of five blocks adds a vector of norm 0.5 at most to 10 000 values, which their spread does not show.
    assert_std(made.update.astype(np.float64) * 5, 2.0 * 2 * 0.5)
    client.release(made, [("w", (40, 250))], {}, secure_aggregation=True)
    record = client.node.vault.audit_records("release")[-1]
    assert (record["dp"], record["app_hash"]) == ("secure", "ab" * 32)
    counted = record["mechanism"]
    assert (counted["blocks"], float(counted["clip"]), float(counted["sensitivity"])) == (5, 0.5, 1.0)
    assert (counted["steps"], counted["steps_noised"], counted["coordinates_noised"]) == (1, 1, 10_000)


def test_a_release_says_the_same_whichever_blocks_failed(world: Any) -> None:
    one, other = neighbours(world, "other values")
    records = []
    for dataset in (one, other):
        client = world.client("app:crashes", "blocks", dataset, config={"privacy": {"clip": 0.5}})
        made = client.train_round(START, 1, 2.0)
        client.release(made, [("weight", (2, 4)), ("bias", (2,))], {}, secure_aggregation=True)
        record = client.node.vault.audit_records("release")[-1]
        records.append(record)
    told = [{k: v for k, v in each["mechanism"].items() if k != "reservation"} for each in records]
    assert told[0] == told[1]


def test_blocks_cost_a_person_what_one_gaussian_step_costs() -> None:
    made, update = Mechanism(3.0, 1.0, kind="blocks", blocks=20), Mechanism(3.0, 1.0, kind="update")
    whole = epsilon({made: 4}, 1e-5)
    assert whole == epsilon({update: 4}, 1e-5)
    for rows in (1, 5, 1000):
        assert person_epsilon({made: 4}, 1e-5, rows) == pytest.approx(whole, rel=2e-2)


def test_a_mechanism_of_blocks_says_how_many_there_are() -> None:
    for wrong in (0, -1, (1 << 16) + 1, 2.0):
        with pytest.raises(ConfigError, match=r"privacy\.blocks"):
            Mechanism(1.0, 1.0, kind="blocks", blocks=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"privacy\.blocks"):
        Mechanism(1.0, 1.0, kind="update", blocks=3)
    with pytest.raises(ConfigError, match="sample_rate"):
        Mechanism(1.0, 0.5, kind="blocks", blocks=3)


def test_a_block_has_about_twenty_people() -> None:
    assert [suggested_blocks(n) for n in (0, 19, 20, 5000, 10**9)] == [1, 1, 1, 250, 1 << 16]


class Timed:
    """A jail whose tasks take as long as they are told, by a clock that only they and waiting move."""

    def __init__(self, seconds: list[float]) -> None:
        self.now, self.starts, self.seconds = 50.0, [], list(seconds)
        self.pace = blocks.Pace(lambda: self.now, self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, work: Any, limits: Limits) -> Result:
        self.starts.append(self.now)
        self.now += self.seconds.pop(0)
        return Result(Ended.FAILED, None, 0.0, "")


class Summing:
    """A session that counts what it is given."""

    def __init__(self) -> None:
        self.added = 0

    def add_block(self, update: Any) -> None:
        self.added += 1

    def noise_blocks(self) -> bytes:
        return np.zeros(10, np.float32).tobytes()


def timed(seconds: list[float], people: list[int], reading: float = 0.0) -> tuple[list[float], float]:
    """When the tasks of blocks with so many rows start, and when the round ends, from its message on."""
    jail = Timed(seconds)
    began = jail.now
    jail.now += reading
    ends = np.cumsum([0, *people])
    places = [np.arange(a, b) for a, b in itertools.pairwise(ends)]
    rows = {"height": np.zeros(int(ends[-1]), np.float32)}
    asked = Asked("app:none", ("a", "b"), START)
    blocks.train(
        jail,
        asked,
        rows,
        places,
        Summing(),
        Limits(seconds=1.0),
        began=began,
        pace=jail.pace,  # type: ignore[arg-type]
    )
    return [at - began for at in jail.starts], jail.now - began


def test_tasks_start_at_fixed_times_whatever_the_others_did() -> None:
    usual, end = timed([0.1] * 4, [5, 5, 5, 5])
    assert usual == pytest.approx([0, 1.25, 2.5, 3.75])
    assert timed([1.0, 0.0, 0.9, 1.1], [5, 1, 9, 5]) == (pytest.approx(usual), pytest.approx(end))


def test_a_block_without_rows_takes_its_time_as_well() -> None:
    usual, end = timed([0.1] * 4, [5, 5, 5, 5])
    some, same = timed([0.1] * 3, [5, 0, 5, 5])
    assert some == pytest.approx([usual[0], *usual[2:]])
    assert same == pytest.approx(end)
    assert timed([], [0, 0, 0, 0])[1] == pytest.approx(end)


def test_how_long_reading_took_is_not_told_short_of_a_whole_slot() -> None:
    assert timed([0.1] * 2, [5, 5], reading=0.2) == timed([0.1] * 2, [5, 5], reading=1.1)


def test_a_task_that_is_not_cleared_away_in_time_ends_the_round() -> None:
    with pytest.raises(JailError) as error:
        timed([0.1, 2.0, 0.1], [5, 5, 5])
    assert error.value.code == "AEG-J005"


def test_a_round_that_outlasts_its_permit_is_refused_before_a_charge(world: Any) -> None:
    client = world.client("app:sums", "blocks", blocks=400, block_seconds=10.0)
    with pytest.raises(AegisError, match="permit_minutes"):
        client.preflight(START, trains=True, evaluates=False)


def test_more_than_the_blocks_of_the_mechanism_are_not_summed(world: Any) -> None:
    from aegis_flower import whole_update

    client = world.client("app:sums", "blocks", blocks=2)
    mechanism = RoundMechanism.of(client.config.privacy, 1.0)
    permit = client.authorize("train", 1)
    taken = client.node.ledger.reserve_round(mechanism, run="1", round_=1, delta=1e-5, budget=1e6)
    session = whole_update.session(permit, taken, 10)
    update = np.full(10, MARK, np.float32)
    session.add_block(update)
    session.add_block(update)
    with pytest.raises(AegisError, match="more blocks than"):
        session.add_block(update)
    with pytest.raises(AegisError, match="blocks"):
        session.noise(np.zeros(10))
    with pytest.raises(AegisError, match="blocks"):
        session.draw()
