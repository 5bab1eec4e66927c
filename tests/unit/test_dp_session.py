"""The engine's session: the noise and the draws of a reservation, counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dp_training import assert_std
from scipy import stats

from aegis_engine import DpSession, Permit, Rng
from aegis_flower.errors import AegisError


def opened(govern: Any, **plan: Any) -> tuple[Permit, DpSession]:
    permit = govern(rows=40).permit()
    asked = {"noise_multiplier": 1.5, "clip": 0.5, "sample_rate": 0.3, "steps": 3, "expected_batch": 10.0, "dim": 4}
    return permit, DpSession(permit, **{**asked, "reservation": "r", **plan})


def test_a_session_counts_what_it_drew_and_noised_and_refuses_the_rest(govern: Any) -> None:
    _, made = opened(govern)
    assert made.spent == (0, 0, 0, False)
    for step in range(1, 4):
        made.draw()
        with pytest.raises(AegisError, match=r"never noised|every step"):
            made.draw()
        with pytest.raises(AegisError, match="another dimension"):
            made.noise(np.zeros(3))
        made.noise(np.zeros(4))
        with pytest.raises(AegisError, match="noised once"):
            made.noise(np.zeros(4))
        assert made.spent == (step, step, 4 * step, True)
    with pytest.raises(AegisError, match="every step that was reserved"):
        made.draw()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.75 * 2**22 * 1.001, -0.75 * 2**22 * 1.001])
def test_a_sum_without_room_for_its_noise_is_refused(govern: Any, value: float) -> None:
    _, made = opened(govern)
    made.draw()
    with pytest.raises(AegisError, match=r"2\^22"):
        made.noise(np.array([0.0, value, 0.0, 0.0]))
    assert not made.spent[3]


EXTREMES = [0.0, -1.0, 1e-155, 1e300, float("nan"), float("inf")]


@pytest.mark.parametrize("what", ["noise_multiplier", "clip", "sample_rate", "expected_batch"])
def test_the_engine_bounds_a_mechanism_itself(govern: Any, what: str) -> None:
    for value in EXTREMES:
        if (what, value) == ("sample_rate", 1e-155):
            continue
        with pytest.raises(AegisError) as error:
            opened(govern, **{what: value})
        assert error.value.code == "AEG-N005"
    for steps in (0, 1_000_001):
        with pytest.raises(AegisError):
            opened(govern, steps=steps)


def test_noise_is_there_in_every_coordinate_of_a_long_vector_and_never_comes_again(govern: Any) -> None:
    """Its autocorrelation over all lags, and its end: a tensor may be longer than any block."""
    n = (1 << 20) + 4097
    _, made = opened(govern, dim=n, noise_multiplier=2.0, clip=1.0)
    made.draw()
    for noise in (np.frombuffer(made.noise(np.zeros(n)), np.float32), drawn(n)):
        z = noise.astype(np.float64) / 2
        assert np.count_nonzero(z) > n * (1 - 1e-5)
        assert_std(z[-4097:], 1.0)
        spectrum = np.abs(np.fft.rfft(z, 1 << 22)) ** 2
        lags = np.fft.irfft(spectrum)[1 : n // 2] / np.sqrt(n)
        assert np.abs(lags).max() < 7.0
        for beyond in (3.5, 4.0):  # a cut tail has none of them
            expected = 2 * n * stats.norm.sf(beyond)
            assert abs((np.abs(z) > beyond).sum() - expected) < 6 * np.sqrt(expected)


def drawn(n: int) -> np.ndarray:
    values = np.zeros(n, np.float32)
    Rng().add_gaussian(values, 2.0)
    return values


@pytest.mark.parametrize("rate", [0.04, 0.5])
def test_rows_are_drawn_at_the_rate_to_a_part_in_a_hundred(govern: Any, rate: float) -> None:
    """Three hundredths more would be 3 % more privacy than there is."""
    g = govern(rows=20_000)
    draws = 60
    plan = {"noise_multiplier": 1.0, "clip": 1.0, "sample_rate": rate, "steps": draws, "expected_batch": 1.0, "dim": 1}
    made, count = DpSession(g.permit(), **plan, reservation="r"), 0
    for _ in range(draws):
        count += len(made.draw()) // 4
        made.noise(np.zeros(1))
    bare = sum(len(Rng().poisson_rows(20_000, rate)) // 4 for _ in range(draws))
    sd = np.sqrt(20_000 * draws * rate * (1 - rate))
    for found in (count, bare):
        assert abs(found - 20_000 * draws * rate) < 5.5 * sd
    assert 5.5 * sd < 0.03 * 20_000 * draws * rate
