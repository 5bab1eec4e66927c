"""Accountant: what a composition of mechanisms comes to. The one file that knows dp-accounting.

Two bounds, both for add-or-remove-one neighbours. To them an update of a node, noised for whatever its data are, is a step of
rate 1, and so is the sum over blocks of people. RDP composes for mechanisms chosen adaptively (Feldman & Zrnic 2021) and is
computed here with numpy alone, a vector for each (σ, rate), so that a thousand different mechanisms cost as many additions. PLD,
by Google's dp-accounting, is tighter, and proved for a mechanism that was chosen in advance.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import AccountantError, ConfigError
from aegis_flower.mechanism import DELTA, SIGMA, WHOLE, Mechanism, within

__all__ = [
    "NEIGHBOURING",
    "Mechanism",
    "Steps",
    "calibrate",
    "convert",
    "counts_mechanism",
    "epsilon",
    "gate_epsilon",
    "lower_bound",
    "person_epsilon",
    "rdp",
]

NEIGHBOURING = "add_remove"
_WHOLE = (*range(2, 65), 80, 96, 128, 192, 256, 384, 512)
# Orders near 1 decide where ε is large. They have no finite sum, so they are integrated.
_FRACTIONS = (1.1, 1.25, 1.5, 1.75, 2.5, 3.5, 4.5)
_ORDERS = np.array(sorted((*_FRACTIONS, *_WHOLE)), dtype=np.float64)
_IS_WHOLE = np.isin(_ORDERS, _WHOLE)
_LEAST = 1e-6  # ε of anything that is on: one unit of the engine's budget
_PLD_MOST = 100.0  # beyond this ε the tight accountant takes for ever, and no budget reaches there
_PLD_MECHANISMS = 16
_PLD_POINTS = 3e6
_PLD_LEAST_RATE = 1e-4
_HOPELESS = 1000  # an ε, or rows of one person, at which nothing is protected and an exact number takes minutes
_ERFC_MOST = 30.0  # beyond, erfc is the smallest float
_SIGMA_TOLERANCE = 5e-4

Floats = npt.NDArray[np.float64]
Steps = Mapping[Mechanism, int]


def epsilon(steps: Steps, delta: float, accountant: str = "pld") -> float:
    """ε at `delta` of the composed steps, never below the truth.

    ``rdp`` is the bound that composes adaptively. ``pld`` is the tight one; where it is not proved (counts have discrete noise),
    would take long (many mechanisms, tiny rates) or could not matter (ε beyond 100), it is RDP's.

    Raises:
        ConfigError: `delta` outside [1e-12, 1e-2].
        AccountantError: the accountant's answer is no number, or below what any accountant must say.
    """
    within("privacy.delta", delta, DELTA)
    parts: Counter[tuple[float, float, bool]] = Counter()
    for m, n in steps.items():
        if n:
            parts[m.noise_multiplier, m.sample_rate, m.kind == "counts"] += n
    if not parts:
        return 0.0
    return _epsilon(tuple(sorted((*key, n) for key, n in parts.items())), delta, accountant)


@functools.lru_cache(maxsize=4096)
def _epsilon(key: tuple[tuple[float, float, bool, int], ...], delta: float, accountant: str) -> float:
    total = np.sum([n * rdp(sigma, rate) for sigma, rate, _, n in key], axis=0)
    value = convert(total, delta)
    tight = accountant == "pld" and len(key) <= _PLD_MECHANISMS and not any(counts for *_, counts, _ in key)
    if tight and value <= _PLD_MOST and _is_quick(key):
        value = min(value, _pld(tuple((sigma, rate, n) for sigma, rate, _, n in key), delta))
    least = max(lower_bound(sigma, rate, n, delta) for sigma, rate, _, n in key)
    if not (math.isfinite(value) and value >= least - 1e-6):
        raise AccountantError(
            f"the accountant says ε={value} at δ={delta:g} where {least:.3f} is the least there can be: nothing was read. "
            "Report this with the ledger's entries; take a noise multiplier between 0.3 and 100 meanwhile"
        )
    return max(value, _LEAST)


@functools.lru_cache(maxsize=65536)
def rdp(sigma: float, rate: float) -> Floats:
    """Rényi divergences of one Poisson-subsampled Gaussian step, by order (Mironov, Talwar, Zhang 2019, section 3.3)."""
    if rate == 1:
        return _ORDERS / (2 * sigma**2)
    orders, k, binomials = _grid()
    terms = binomials + k * math.log(rate) + (orders - k) * math.log1p(-rate) + (k * k - k) / (2 * sigma**2)
    top = terms.max(axis=1, keepdims=True)
    whole = top[:, 0] + np.log(np.exp(terms - top).sum(axis=1))
    out = np.empty(len(_ORDERS))
    out[_IS_WHOLE] = whole
    out[~_IS_WHOLE] = [_fraction(order, sigma, rate) for order in _FRACTIONS]
    # One part in 10^9 for the rounding of the sums.
    return np.maximum(out / (_ORDERS - 1) * (1 + 1e-9), 0.0)


@functools.lru_cache(maxsize=1)
def _grid() -> tuple[Floats, Floats, Floats]:
    """Whole orders, exponents, and log binomials with nothing beyond the order."""
    log = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, max(_WHOLE) + 1)))])
    orders, k = np.array(_WHOLE)[:, None], np.arange(max(_WHOLE) + 1)[None, :]
    inside = k <= orders
    binomials = np.where(inside, log[orders] - log[k] - log[np.where(inside, orders - k, 0)], -np.inf)
    return orders.astype(np.float64), k.astype(np.float64), binomials


def _fraction(order: float, sigma: float, rate: float) -> float:
    """Log E[((1-q) + q e^((2z-1)/2σ²))^α], z ~ N(0, σ²), by the trapezoidal rule.

    The integrand is analytic in a strip of half-width πσ² and decays like a Gaussian, so the rule errs by e^(-2π·πσ²/h)
    (Trefethen and Weideman 2014, theorem 5.1): nothing beside the rounding at this step.
    """
    step = min(sigma, sigma**2) / 20
    z = np.arange(-14 * sigma, order + 14 * sigma, step)
    mixed = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * sigma**2))
    density = -(z**2) / (2 * sigma**2) - math.log(sigma) - math.log(2 * math.pi) / 2
    return _log_sum(order * mixed + density) + math.log(step)


def _log_sum(terms: Floats) -> float:
    top = float(terms.max())
    return top + math.log(float(np.exp(terms - top).sum()))


def convert(total: Floats, delta: float) -> float:
    """RDP to ε (Canonne, Kamath, Steinke 2020, proposition 12)."""
    values = total + np.log1p(-1 / _ORDERS) - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1)
    return max(0.0, float(values.min()))


def _interval(sigma: float, rate: float) -> float:
    """How finely privacy loss is cut: a twentieth of the loss of a step, so that long runs of small steps are not rounded up."""
    return min(1e-3, max(_spread(sigma, rate) / 20, _largest(sigma, rate) / 1e5))


def _spread(sigma: float, rate: float) -> float:
    """Standard deviation of a step's loss, about."""
    return rate * math.sqrt(math.expm1(min(1 / sigma**2, 50.0)))


def _largest(sigma: float, rate: float) -> float:
    """The largest loss of a step that matters."""
    return math.log1p(rate * math.expm1(min((20 * sigma + 1) / (2 * sigma**2), 700.0)))


def _is_quick(key: tuple[tuple[float, float, bool, int], ...]) -> bool:
    """Whether the tight accountant answers within seconds: by the points of the composed distribution."""
    if min(rate for _, rate, *_ in key) < _PLD_LEAST_RATE:
        return False
    interval = min(_interval(sigma, rate) for sigma, rate, *_ in key)
    points = 0.0
    for sigma, rate, _, n in key:
        spread = min(_spread(sigma, rate), _largest(sigma, rate))
        points += (_largest(sigma, rate) + 20 * spread * math.sqrt(n) + spread**2 * n) / interval
    return points < _PLD_POINTS


def _pld(key: tuple[tuple[float, float, int], ...], delta: float) -> float:
    # imported here: it takes seconds, and most steps of a round spend nothing
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    tool = PLDAccountant(value_discretization_interval=min(_interval(sigma, rate) for sigma, rate, _ in key))
    for sigma, rate, count in key:
        tool.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(sigma)), count)
    return float(tool.get_epsilon(delta))


def lower_bound(sigma: float, rate: float, steps: int, delta: float) -> float:
    """An ε that no accountant may go below: what two tests that an attacker could make tell about one record.

    One sums all outputs and asks whether the sum passes a threshold; the other asks whether any output does. For any event E,
    ε ≥ log((P(E) - δ) / Q(E)) by the definition of (ε, δ).
    """
    best = 0.0
    mean, spread = rate * steps, sigma * math.sqrt(steps)
    # The number of steps with the record is Binomial: at least its mean, rounded down, half the time.
    low, half = math.floor(mean), 0.5
    if rate == 1:
        low, half = steps, 1.0
    for z in (-3.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 6.0):
        best = max(best, _log_ratio(half * _above(z), delta, _log_above(z + low / spread)))
        any_in = -math.expm1(steps * math.log1p(-rate * _above(z))) if rate * _above(z) < 1 else 1.0
        best = max(best, _log_ratio(any_in, delta, math.log(steps) + _log_above(z + 1 / sigma)))
    return best


def _log_ratio(power: float, delta: float, log_false: float) -> float:
    return math.log(power - delta) - log_false if power > delta else 0.0


def _above(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def _log_above(z: float) -> float:
    """Log P(N(0,1) > z), or above it where it is below the smallest float."""
    if z < _ERFC_MOST:
        return math.log(_above(z))
    return -z * z / 2 - math.log(z) - math.log(2 * math.pi) / 2


@functools.lru_cache(maxsize=256)
def calibrate(target_epsilon: float, delta: float, sample_rate: float, steps: int) -> float:
    """The smallest noise multiplier, to 3 digits, with which `steps` Poisson steps fit a ledger's gate at the target.

    The gate holds its tight accountant at δ/2 (see `gate_epsilon`), so at δ itself a run comes to a little less.

    Raises:
        ConfigError: no noise multiplier up to 10 000 reaches the target.
    """

    def spent(sigma: float) -> float:
        return gate_epsilon({Mechanism(sigma, sample_rate): steps}, delta, tight=True)

    low, high = 0.2, 0.4
    while spent(high) > target_epsilon:
        low, high = high, high * 2
        if high > SIGMA[1]:
            raise ConfigError("privacy.epsilon", f"{target_epsilon} cannot be reached with {steps} steps")
    while (high - low) / high > _SIGMA_TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > target_epsilon else (low, middle)
    return math.ceil(high * 1e4) / 1e4


def gate_epsilon(steps: Steps, delta: float, *, tight: bool) -> float:
    """What a ledger's gate holds against a budget at `delta`.

    An adversary who sees outputs may choose whether the steps stay of one mechanism, where PLD decides, or become mixed, where
    RDP does. The two ways to fail are disjoint, so each accountant gets δ/2, and the whole is (ε, δ).

    Args:
        steps: the composition.
        delta: δ of the terms.
        tight: whether PLD may decide; it does only where all steps are of one mechanism.
    """
    half = max(delta / 2, DELTA[0])
    one = len({(m.noise_multiplier, m.sample_rate, m.kind) for m, n in steps.items() if n}) == 1
    return epsilon(steps, half, "pld" if tight and one else "rdp")


def person_epsilon(steps: Steps, delta: float, rows: int) -> float:
    """ε at `delta` for a person of whom the data set has `rows` rows, each sampled by itself.

    An update of a node costs a person what it costs the node, whatever number of its rows are the person's; blocks cost a person
    what their unit, a person, costs.

    With k rows, a step's sum moves by one of 0..k clips, Binomial(k, rate) of them: dp-accounting's mixture of Gaussians, tight
    and below what group privacy would say. Counts move by up to k times what one record adds.
    """
    within("privacy.delta", delta, DELTA)
    if rows < 1 or not any(steps.values()):
        return 0.0
    key = tuple(sorted((m.noise_multiplier, m.sample_rate, m.kind, n) for m, n in steps.items() if n))
    return _person_epsilon(key, delta, rows)


@functools.lru_cache(maxsize=256)
def _person_epsilon(key: tuple[tuple[float, float, str, int], ...], delta: float, rows: int) -> float:
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant

    if max(_fold(kind, rows) for *_, kind, _ in key) > _HOPELESS or len(key) > _PLD_MECHANISMS:
        return math.inf
    if (
        max(
            lower_bound(sigma / _fold(kind, rows), rate**rows if rate < 1 else 1.0, n, delta)
            for sigma, rate, kind, n in key
        )
        > _HOPELESS
    ):
        return math.inf
    # The loss of k rows is about k times as large, so it may be cut k times as coarsely.
    interval = min(_fold(kind, rows) * _interval(sigma, rate) for sigma, rate, kind, _ in key)
    tool = PLDAccountant(value_discretization_interval=interval)
    for sigma, rate, kind, count in key:
        if rate == 1:
            event: dp_event.DpEvent = dp_event.GaussianDpEvent(sigma / _fold(kind, rows))
        else:
            event = dp_event.MixtureOfGaussiansDpEvent(sigma, list(range(rows + 1)), _binomial(rows, rate))
        tool.compose(event, count)
    return max(float(tool.get_epsilon(delta)), _LEAST)


def _fold(kind: str, rows: int) -> int:
    """How many times what one record moves the rows of a person move, at most."""
    return 1 if kind in WHOLE else rows


def _binomial(trials: int, rate: float) -> list[float]:
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(i + 1)
        - math.lgamma(trials - i + 1)
        + i * math.log(rate)
        + (trials - i) * math.log1p(-rate)
        for i in range(trials + 1)
    ]
    parts = [math.exp(x) for x in logs]
    return [p / math.fsum(parts) for p in parts]


def counts_mechanism(epsilon_each: float, delta: float, *, loss_max: float = 10.0) -> Mechanism:
    """The least noise with which one evaluation costs at most `epsilon_each` at `delta`, as the ledger's gate counts it.

    The multiplier is in units of the joint sensitivity (√3, or √5 with histograms), which the engine puts on each count.

    Raises:
        ConfigError: no noise reaches it.
    """
    return Mechanism(_counts_noise(epsilon_each, delta), 1.0, loss_max, "counts")


@functools.lru_cache(maxsize=256)
def _counts_noise(epsilon_each: float, delta: float) -> float:
    def spent(z: float) -> float:
        return gate_epsilon({Mechanism(z, 1.0, kind="counts"): 1}, delta, tight=False)

    low, high = SIGMA
    if spent(high) > epsilon_each:
        raise ConfigError("evaluation.epsilon", f"{epsilon_each} cannot be reached by any noise")
    while (high - low) / high > _SIGMA_TOLERANCE:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if spent(middle) > epsilon_each else (low, middle)
    return math.ceil(high * 1e4) / 1e4
