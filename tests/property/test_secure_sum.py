"""Secure aggregation, whatever the cohort, the numbers and the losses: the sum is exact, or the round says why there is none."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import NotEnoughClients
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from secure import BINDING, METRICS, PLAN, SUMS, Case, Owner, revived, runs

from aegis_engine import SecAggClient, SecAggPlan, SecAggServer

ALPHA = 1e-6
MIN_COHORT = 3


def aggregate(owner: Owner, cases: dict[int, Case]) -> tuple[Any, dict[int, bytes]]:
    """One round as the strategy drives it; gives the sum and what the server received."""
    run = next(runs)
    dim = len(next(iter(cases.values())).update)
    server = SecAggServer(run, SecAggPlan(dim=dim, metrics=METRICS, min_clients=MIN_COHORT, **PLAN))
    server.bind(BINDING)
    clients = {n: SecAggClient(run, n, min_cohort=MIN_COHORT, min_threshold=2, **SUMS) for n in cases}
    there = {n: c for n, c in clients.items() if cases[n].gone > 0}
    for node, client in there.items():
        server.add_advert(node, client.advertise())
    request = server.begin_round(1, sorted(there))
    for node, client in there.items():
        if cases[node].gone > 1:
            server.add_share(node, client.share(request))
    received = {}
    for node in server.end_shares():
        ask = server.masked_request(node)
        if cases[node].gone > 2:
            case = cases[node]
            there[node] = revived(there[node])
            release = owner.release(case.update, case.weight, case.metrics)
            received[node] = there[node].masked_input(ask, release, binding=BINDING)
            server.add_masked(node, received[node])
    for node in server.end_masked():
        if cases[node].gone > 3:
            server.add_unmask(node, revived(there[node]).unmask(server.unmask_request(node)))
    return server.finish(), received


def expected_shortage(cases: dict[int, Case]) -> tuple[int, int] | None:
    """(have, need) where the documented minima are missed first, else None. Threshold: floor(2n/3) + 1 of the cohort."""
    alive = [sum(c.gone > step for c in cases.values()) for step in range(4)]
    if alive[0] < MIN_COHORT:
        return alive[0], MIN_COHORT
    threshold = 2 * alive[0] // 3 + 1
    for step in (1, 2):
        if alive[step] < max(threshold, MIN_COHORT):
            return alive[step], max(threshold, MIN_COHORT)
    return (alive[3], threshold) if alive[3] < threshold else None


values = st.floats(-1.5, 1.5, width=32)  # past the clip on both sides
stays = st.sampled_from([4, 4, 4, 4, 4, 3, 2, 1, 0])


@st.composite
def cohorts(draw: st.DrawFn) -> dict[int, Case]:
    nodes = draw(st.lists(st.integers(1, 2**63 - 1), min_size=3, max_size=7, unique=True))
    dim = draw(st.integers(1, 12))
    metric = st.integers(-PLAN["metric_max"], PLAN["metric_max"])
    return {
        node: Case(
            np.array(draw(st.lists(values, min_size=dim, max_size=dim)), np.float32),
            draw(st.integers(1, PLAN["weight_max"])),
            {m: draw(metric) for m in METRICS},
            draw(stays),
        )
        for node in nodes
    }


@settings(max_examples=25, deadline=None)
@given(cases=cohorts())
def test_the_sum_is_that_of_the_survivors_bit_for_bit_or_the_round_says_what_is_missing(
    owner: Owner, cases: dict[int, Case]
) -> None:
    shortage = expected_shortage(cases)
    if shortage is not None:
        with pytest.raises(NotEnoughClients) as error:
            aggregate(owner, cases)
        assert (error.value.have, error.value.need) == shortage
        return
    summed, received = aggregate(owner, cases)
    survivors = sorted(node for node, case in cases.items() if case.gone > 2)
    plain = np.sum([cases[n].encoded() for n in survivors], axis=0)
    assert summed.contributors == survivors == sorted(received)
    assert summed.integers() == plain.tolist()
    assert summed.weight == sum(cases[n].weight for n in survivors)
    assert summed.metrics == {m: sum(cases[n].metrics[m] for n in survivors) for m in METRICS}
    # The mean is off by half a step of the quantiser at most, per contribution, so half a step in all.
    weights = np.array([cases[n].weight for n in survivors], np.float64)
    clipped = np.array([np.clip(cases[n].update.astype(np.float64), -1, 1) for n in survivors])
    exact = weights @ clipped / weights.sum()
    step = PLAN["clip"] / (2 ** (PLAN["value_bits"] - 1) - 1)
    assert np.abs(np.frombuffer(summed.mean(), np.float64) - exact).max() <= step / 2 * (1 + 1e-9)


@pytest.mark.parametrize("gone", [1, 2, 3])
@pytest.mark.parametrize("nodes", [4, 7])
def test_a_client_lost_at_any_step_does_not_cost_the_round(owner: Owner, nodes: int, gone: int) -> None:
    update = np.linspace(-1, 1, 5, dtype=np.float32)
    cases = {n: Case(update * n / nodes, n, {"correct": n, "examples": 2 * n}, 4) for n in range(1, nodes + 1)}
    cases[2].gone = gone
    summed, _ = aggregate(owner, cases)
    left = [n for n in cases if n != 2 or gone == 3]
    assert summed.contributors == left
    assert summed.integers() == np.sum([cases[n].encoded() for n in left], axis=0).tolist()


@pytest.mark.parametrize("steps", list(itertools.combinations_with_replacement([1, 2, 3], 2)))
def test_two_gone_before_they_answered_are_one_too_many_of_five_and_seven_bear_them(
    owner: Owner, steps: tuple[int, int]
) -> None:
    """n - t = ceil(n/3) - 1 clients of a cohort may be gone before the unmask answer: one of five, two of seven."""
    for nodes in (5, 7):
        cases = {
            n: Case(np.full(3, n / 8, np.float32), n, {"correct": n, "examples": n}, 4) for n in range(1, nodes + 1)
        }
        cases[1].gone, cases[3].gone = steps
        if nodes == 5:
            with pytest.raises(NotEnoughClients) as error:
                aggregate(owner, cases)
            assert (error.value.have, error.value.need) == (3, 4)
        else:
            summed, _ = aggregate(owner, cases)
            left = [n for n, case in cases.items() if case.gone > 2]
            assert summed.contributors == left
            assert summed.integers() == np.sum([cases[n].encoded() for n in left], axis=0).tolist()


# -- what the server receives -------------------------------------------------------------------------------------------

DIM = 4096


def bodies(received: dict[int, bytes]) -> dict[int, np.ndarray]:
    """The packed vectors behind the messages' headers."""
    server = SecAggServer(1, SecAggPlan(dim=DIM, metrics=METRICS, min_clients=MIN_COHORT, **PLAN))
    size = (DIM + 1 + len(METRICS)) * server.ring_bits // 8
    return {node: np.frombuffer(message, np.uint8)[-size:] for node, message in received.items()}


def uniformity(raw: np.ndarray) -> float:
    """p-value of a chi-square test that all 256 byte values are equally likely."""
    return float(stats.chisquare(np.bincount(raw, minlength=256)).pvalue)


def typical() -> dict[int, Case]:
    rng = np.random.default_rng(4)
    return {n: Case(rng.normal(0, 0.1, DIM).astype(np.float32), 1, dict.fromkeys(METRICS, 9), 4) for n in (1, 2, 3)}


def test_masked_vectors_are_uniform_and_plain_ones_are_not(owner: Owner) -> None:
    cases = typical()
    _, received = aggregate(owner, cases)
    for node, raw in bodies(received).items():
        width = len(raw) // (DIM + 1 + len(METRICS))
        plain = np.array(cases[node].encoded(), "<i8").view(np.uint8).reshape(-1, 8)[:, :width].ravel()
        assert plain.size == raw.size
        assert uniformity(raw) > ALPHA
        assert uniformity(plain) < ALPHA
        with np.errstate(over="ignore"):
            assert uniformity(raw - plain) > ALPHA  # what is left after taking the update away tells nothing either
        for place in range(width):  # the high bytes of small numbers, too
            assert uniformity(raw[place::width]) > ALPHA


def test_an_update_of_zeros_is_masked_like_any_other(owner: Owner) -> None:
    zeros = {n: Case(np.zeros(DIM, np.float32), 1, dict.fromkeys(METRICS, 0), 4) for n in (1, 2, 3)}
    summed, received = aggregate(owner, zeros)
    assert set(summed.integers()[:DIM]) == {0}
    assert all(uniformity(raw) > ALPHA for raw in bodies(received).values())


def test_the_same_update_never_looks_the_same_twice(owner: Owner) -> None:
    first, second = (bodies(aggregate(owner, typical())[1]) for _ in range(2))
    for node in first:
        assert uniformity(first[node] ^ second[node]) > ALPHA


def test_masks_of_two_clients_have_nothing_in_common(owner: Owner) -> None:
    zeros = {n: Case(np.zeros(DIM, np.float32), 1, dict.fromkeys(METRICS, 0), 4) for n in (1, 2, 3)}
    found = bodies(aggregate(owner, zeros)[1])
    for one, other in itertools.combinations(found.values(), 2):
        assert uniformity(one ^ other) > ALPHA


def test_a_vector_is_masked_only_once_and_only_from_a_release(owner: Owner) -> None:
    case = Case(np.zeros(3, np.float32), 1, dict.fromkeys(METRICS, 1), 4)
    server = SecAggServer(1, SecAggPlan(dim=3, metrics=METRICS, min_clients=MIN_COHORT, **PLAN))
    clients = {n: SecAggClient(1, n, min_cohort=MIN_COHORT, min_threshold=2, **SUMS) for n in (1, 2, 3)}
    for node, client in clients.items():
        server.add_advert(node, client.advertise())
    request = server.begin_round(1, [1, 2, 3])
    for node, client in clients.items():
        server.add_share(node, client.share(request))
    asks = {node: server.masked_request(node) for node in server.end_shares()}
    for forged in (None, case.update, case.update.tobytes(), object()):
        with pytest.raises(TypeError):
            clients[1].masked_input(asks[1], forged, binding=BINDING)  # type: ignore[arg-type]
    clients[1].masked_input(asks[1], owner.release(case.update, 1, case.metrics), binding=BINDING)
    with pytest.raises(Exception, match="round 1") as error:
        clients[1].masked_input(asks[1], owner.release(case.update, 1, case.metrics), binding=BINDING)
    assert error.value.code.startswith("AEG-S")  # type: ignore[attr-defined]
