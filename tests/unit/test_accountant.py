"""The accountant: what a mechanism costs, and what is no mechanism."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dp_accounting
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from ledgers import DELTA, MECHANISM, Book

from aegis_flower import accountant
from aegis_flower.accountant import lower_bound
from aegis_flower.errors import AccountantError, ConfigError
from aegis_flower.ledger import (
    Ledger,
    Mechanism,
    calibrate,
    counts_mechanism,
    epsilon,
    gate_epsilon,
    person_epsilon,
)


def by_hand(parts: dict[Mechanism, int], delta: float, tool: Any) -> float:
    """ε by dp-accounting, with nothing of ours in between."""
    for m, steps in parts.items():
        gaussian = dp_accounting.GaussianDpEvent(m.noise_multiplier)
        tool.compose(dp_accounting.PoissonSampledDpEvent(m.sample_rate, gaussian), steps)
    return float(tool.get_epsilon(delta))


@pytest.mark.parametrize(
    ("sigma", "rate", "steps", "delta"),
    [(1.0, 0.25, 48, 1e-5), (0.8, 0.01, 500, 1e-3), (4.0, 0.04, 180, 1e-5), (1.2, 1.0, 4, 1e-6)],
)
def test_epsilon_is_that_of_dp_accounting(sigma: float, rate: float, steps: int, delta: float) -> None:
    parts = {Mechanism(sigma, rate): steps}
    exact = by_hand(parts, delta, PLDAccountant(value_discretization_interval=1e-4))
    assert exact - 1e-6 <= epsilon(parts, delta) <= exact + 1e-3


def test_the_live_bound_is_dp_accountings_rdp_on_fewer_orders() -> None:
    parts = {Mechanism(4.0, 0.04): 180}
    best = by_hand(parts, DELTA, RdpAccountant())
    assert best <= epsilon(parts, DELTA, "rdp") <= best * 1.01


def test_different_mechanisms_compose() -> None:
    parts = {Mechanism(1.0, 0.1): 10, Mechanism(2.0, 0.3): 20}
    exact = by_hand(parts, DELTA, PLDAccountant(value_discretization_interval=1e-4))
    assert epsilon(parts, DELTA) == pytest.approx(exact, abs=1e-3)
    assert epsilon(parts, DELTA) > max(epsilon({m: n}, DELTA) for m, n in parts.items())


def test_nothing_spent_is_zero() -> None:
    assert epsilon({}, DELTA) == 0.0
    assert epsilon({MECHANISM: 0}, DELTA) == 0.0


@pytest.mark.parametrize(("target", "rate", "steps"), [(3.0, 0.3, 48), (1.0, 0.04, 180), (8.0, 0.25, 4)])
def test_calibrate_gives_the_smallest_noise_that_keeps_the_target(target: float, rate: float, steps: int) -> None:
    sigma = calibrate(target, DELTA, rate, steps)
    assert gate_epsilon({Mechanism(sigma, rate): steps}, DELTA, tight=True) <= target
    assert gate_epsilon({Mechanism(sigma * 0.999, rate): steps}, DELTA, tight=True) > target
    assert target * 0.93 < epsilon({Mechanism(sigma, rate): steps}, DELTA) < target  # at δ itself it is a little less


def test_a_target_no_noise_reaches_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        calibrate(1e-9, 1e-9, 1.0, 1)
    assert error.value.path == "privacy.epsilon"


NO_NUMBERS = [0.0, -1.0, 1e-155, 1e300, -1e300, float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("sigma", [*NO_NUMBERS, 0.0499, 10_001.0])
def test_a_noise_multiplier_outside_the_bounds_is_refused_before_anything_is_written(book: Book, sigma: float) -> None:
    """The server names σ. Where an accountant overflows it says 0, and in the ledger that would free all that follows."""
    for kind in ("dpsgd", "counts"):
        with pytest.raises(ConfigError) as error:
            book.reserve(mechanism=Mechanism(sigma, 0.25, kind=kind))
        assert error.value.path == "privacy.noise_multiplier"
    assert not book.file.exists()


@pytest.mark.parametrize("rate", [*(r for r in NO_NUMBERS if r != 1e-155), 1.5])
def test_a_sample_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError):
        Mechanism(1.0, rate)


@pytest.mark.parametrize("clip", [*NO_NUMBERS, 1e-7, 1.1e6])
def test_a_clip_outside_the_bounds_is_refused(clip: float) -> None:
    with pytest.raises(ConfigError, match=r"privacy\.clip"):
        Mechanism(1.0, 0.25, clip)


@pytest.mark.parametrize("steps", [0, -5, 1_000_001, 2.0, float("nan"), True, None, "4"])
def test_a_number_of_steps_outside_the_bounds_is_refused_and_nothing_written(book: Book, steps: Any) -> None:
    with pytest.raises(ConfigError, match="steps_per_round"):
        book.reserve(steps=steps)
    assert not book.file.exists()


@pytest.mark.parametrize("delta", [*NO_NUMBERS, 1e-13, 0.011, 0.999, 2.0])
def test_a_delta_that_is_none_is_refused_by_every_way_in(book: Book, delta: float) -> None:
    ways: list[Callable[[], Any]] = [
        lambda: book.reserve(delta=delta),
        lambda: book.ledger.spent(delta),
        lambda: book.ledger.spent_by_person(delta, 2),
        lambda: epsilon({MECHANISM: 1}, delta),
        lambda: Ledger(book.vault, "d", delta=delta),
    ]
    for way in ways:
        with pytest.raises(ConfigError):
            way()
    assert not book.file.exists()


def test_anything_that_is_on_has_an_epsilon_above_zero() -> None:
    """The engine refuses a release at ε 0; a mechanism so weak that the bound is 0 is charged one unit."""
    assert epsilon({Mechanism(1e4, 1e-4): 1}, 1e-2, "rdp") == 1e-6
    for which in ("rdp", "pld"):
        for sigma in (0.05, 0.5, 5.0, 1e4):
            for rate in (1e-9, 0.5, 1 - 1e-12, 1.0):
                assert 0 < epsilon({Mechanism(sigma, rate): 3}, DELTA, which) < 1e7


def test_no_accountant_says_less_than_two_tests_an_attacker_can_make() -> None:
    for sigma, rate, steps, least in [
        (1.0, 1.0, 1, 3.0),
        (0.5, 0.25, 16, 8.0),
        (3.111, 0.3, 48, 1.5),
        (0.05, 0.01, 1, 100.0),
    ]:
        assert least < lower_bound(sigma, rate, steps, DELTA) <= epsilon({Mechanism(sigma, rate): steps}, DELTA)


def test_an_accountant_that_overflows_is_not_believed(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (0.0, float("nan"), float("-inf"), 0.5):
        monkeypatch.setattr(accountant, "convert", lambda *_, wrong=wrong: wrong)
        accountant._epsilon.cache_clear()
        with pytest.raises(AccountantError) as error:
            book.reserve(mechanism=Mechanism(0.5, 0.25))
        assert error.value.code == "AEG-B003"
        assert not book.file.exists()
    accountant._epsilon.cache_clear()


def test_rdp_is_never_below_the_tight_accountant_and_near_dp_accountings_own() -> None:
    for sigma, rate, steps in [(0.5, 0.3, 20), (1.0, 0.25, 100), (3.0, 0.9, 50), (0.7, 0.01, 500), (2.0, 1.0, 10)]:
        parts = {Mechanism(sigma, rate): steps}
        ours = epsilon(parts, DELTA, "rdp")
        exact = by_hand(parts, DELTA, PLDAccountant(value_discretization_interval=1e-4))
        assert exact <= ours <= by_hand(parts, DELTA, RdpAccountant()) * 1.02


def test_long_runs_of_small_steps_are_not_rounded_up() -> None:
    """0.3735 by an FFT without a library (findings/privacy/truth.py); at a fixed interval of 1e-3 it was 0.4425."""
    assert 0.3735 - 1e-4 <= epsilon({Mechanism(15.0, 0.01): 20_000}, 1e-6) <= 0.3735 * 1.01


def test_a_thousand_mechanisms_are_composed_by_adding(book: Book) -> None:
    """The same number as dp-accounting's on the same orders, and each vector is made once."""
    parts = {Mechanism(8 + 1e-3 * i, 0.04): 4 for i in range(1000)}
    accountant.rdp.cache_clear()
    first = epsilon(parts, DELTA, "rdp")
    assert accountant.rdp.cache_info().misses == 1000
    epsilon({**parts, Mechanism(9.5, 0.04): 1}, DELTA, "rdp")
    assert accountant.rdp.cache_info().misses == 1001
    tool = RdpAccountant(list(accountant._WHOLE))
    few = dict(list(parts.items())[:10])
    assert epsilon(few, DELTA, "rdp") == pytest.approx(by_hand(few, DELTA, tool), rel=1e-6)
    assert epsilon(parts, DELTA) == first  # the tight accountant would take minutes, so it is not asked


@pytest.mark.parametrize(("rows", "expected"), [(1, 3.0), (2, 6.7), (5, 21.2), (10, 55.8)])
def test_a_person_with_more_rows_has_a_larger_epsilon(rows: int, expected: float) -> None:
    """The quickstart's ε of 3 for a record, by dp-accounting's mixture of Gaussians (findings/privacy/rel.py)."""
    assert person_epsilon({Mechanism(3.111, 0.3): 48}, DELTA, rows) == pytest.approx(expected, rel=0.01)


def test_counts_of_a_person_move_by_each_of_her_rows() -> None:
    one = Mechanism(8.0, 1.0, kind="counts")
    four = epsilon({Mechanism(2.0, 1.0): 1}, DELTA)
    assert person_epsilon({one: 1}, DELTA, 4) == pytest.approx(four, rel=1e-2)
    assert person_epsilon({one: 1}, DELTA, 0) == 0.0
    assert person_epsilon({one: 1}, DELTA, 10**6) == float("inf")


def test_counts_are_held_to_the_accountant_that_is_proved_for_them() -> None:
    """Their noise is discrete: the tight accountant of the continuous Gaussian says less than is proved for it."""
    one = {Mechanism(3.0, 1.0, kind="counts"): 1}
    assert epsilon(one, DELTA) == epsilon(one, DELTA, "rdp") > epsilon({Mechanism(3.0, 1.0): 1}, DELTA)
    assert gate_epsilon(one, DELTA, tight=True) == gate_epsilon(one, DELTA, tight=False)


def test_the_noise_of_counts_is_the_least_for_its_epsilon() -> None:
    made = counts_mechanism(1.0, DELTA, loss_max=5.0)
    assert (made.kind, made.sample_rate, made.clip) == ("counts", 1.0, 5.0)
    assert gate_epsilon({made: 1}, DELTA, tight=False) <= 1.0
    assert gate_epsilon({Mechanism(made.noise_multiplier * 0.999, 1.0, kind="counts"): 1}, DELTA, tight=False) > 1.0
    with pytest.raises(ConfigError, match=r"evaluation\.epsilon"):
        counts_mechanism(1e-9, DELTA)


def test_a_round_that_the_quick_bound_grants_loads_no_tight_accountant(tmp_path: Path) -> None:
    """In a deployment each message is a process of its own, and the import alone takes half a second."""
    code = f"""
import sys
from aegis_engine import Vault
from aegis_flower.ledger import Ledger, Mechanism
ledger = Ledger(Vault.create({str(tmp_path / "v")!r}, bytes(32)), "d")
ledger.reserve(run="1", round_=1, mechanism=Mechanism(2.0, 0.25), steps=4, delta=1e-5, budget=10.0)
print(sorted({{"dp_accounting", "scipy", "torch"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
