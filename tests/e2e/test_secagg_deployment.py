"""Five real SuperNodes, two of them killed at different steps of one round: what the protocol bears, it bears bit for bit.

A cohort of five unmasks with t = floor(10/3) + 1 = 4 answers. So of two lost in one round at most one may be gone before it
answered the unmask step; with both gone before, the round ends with `NotEnoughClients` and no model comes of it.
"""

import numpy as np
import pytest

OVERRIDES = (
    "data.clients=5",
    "secagg.min_cohort=3",
    "secagg.weighting=rows",
    "policy.require_dp=false",  # which weights by rows need
    "strategy.rounds=3",
    "runtime=deployment",
    "runtime.round_deadline=400",  # the SuperLink says after 60 s that a node is gone; slow machines are not
)
THE_FIRST, THE_SECOND, THE_SLOW = 0, 1, 2


def assert_the_model_is_the_start_plus_the_plain_means(run):
    exact, plain, bound = run.predicted()
    assert (np.abs(run.model - plain) <= bound).all()
    np.testing.assert_array_equal(run.model, exact)


def assert_the_steady_state_takes_two_trips(run):
    """Counted twice: by the strategy, and at Flower's grid beside it."""
    assert [(r["task"], r["trips"]) for r in run.rounds] == [("train", 4), ("train", 2), ("train", 2), ("evaluate", 2)]
    steps = ["advertise", "share", "masked", "unmask", *["masked", "unmask"] * 3]
    assert [trip["step"] for trip in run.trips] == steps


def names(run, *nodes):
    return sorted(run.node_ids[node] for node in nodes)


def losses(record):
    return [(x["node"], x["step"]) for x in record["lost"]]


@pytest.mark.deployment
@pytest.mark.timeout(1500)
def test_two_of_five_killed_before_the_masked_input_and_after_the_answer_leave_an_exact_round(recorded):
    run = recorded(*OVERRIDES)
    run.hold(THE_FIRST, "masked-2")
    run.hold(THE_SLOW, "unmask-2")

    def script(deployment, wait):
        wait(lambda: run.is_ready(THE_FIRST, "masked-2"))  # its shares came with round 1, its masked input never will
        deployment.kill(THE_FIRST)
        wait(lambda: run.has_arrived(THE_SECOND, "unmask-2"))
        deployment.kill(THE_SECOND)  # the round is open: the slow one has not answered
        run.let_go(THE_SLOW, "unmask-2")

    run.run(script, timeout=1300)
    first, second, third, evaluation = run.rounds
    assert first["participants"] == names(run, 0, 1, 2, 3, 4)
    assert (second["failed"], second["participants"]) == ("", names(run, 1, 2, 3, 4))
    assert losses(second) == [(run.node_ids[THE_FIRST], "masked")]
    assert (third["failed"], third["participants"]) == ("", names(run, 2, 3, 4))
    assert losses(third) == [(run.node_ids[THE_SECOND], "masked")]
    assert evaluation["participants"] == names(run, 2, 3, 4)
    assert_the_model_is_the_start_plus_the_plain_means(run)
    assert_the_steady_state_takes_two_trips(run)


@pytest.mark.deployment
@pytest.mark.timeout(1500)
def test_two_of_five_killed_before_they_answered_end_the_round_and_the_next_is_exact_over_three(recorded):
    run = recorded(*OVERRIDES)
    run.hold(THE_FIRST, "masked-2")
    run.hold(THE_SECOND, "unmask-2")

    def script(deployment, wait):
        wait(lambda: run.is_ready(THE_FIRST, "masked-2"))
        deployment.kill(THE_FIRST)
        wait(lambda: run.is_ready(THE_SECOND, "unmask-2"))  # its masked input is in the sum, its shares are not there
        assert run.has_arrived(THE_SECOND, "masked-2")
        deployment.kill(THE_SECOND)

    run.run(script, timeout=1300)
    first, second, third, evaluation = run.rounds
    assert first["participants"] == names(run, 0, 1, 2, 3, 4)
    assert second["failed"].startswith("[AEG-S015] not enough clients: 3 remain, 4 are needed")
    assert second["participants"] == []
    assert losses(second) == [(run.node_ids[THE_FIRST], "masked"), (run.node_ids[THE_SECOND], "unmask")]
    assert (third["failed"], third["participants"]) == ("", names(run, 2, 3, 4))
    assert evaluation["participants"] == names(run, 2, 3, 4)
    assert set(run.noted(2)) == set(run.node_ids), "all five trained in the round that gave no model"
    assert_the_model_is_the_start_plus_the_plain_means(run)
    assert_the_steady_state_takes_two_trips(run)
