"""Mechanism: what noise a row meets, in one step and in one round, and the bounds within which it means anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aegis_flower.errors import ConfigError

if TYPE_CHECKING:
    from aegis_flower.configs import PrivacyConfig

KINDS = ("dpsgd", "counts")
# Outside these no accountant is trusted; the engine has the same bounds (crates/noise/src/session.rs).
SIGMA = (0.05, 1e4)
CLIP = (1e-6, 1e6)
STEPS = (1, 1_000_000)
DELTA = (1e-12, 1e-2)


def within(path: str, value: float, bounds: tuple[float, float]) -> None:
    """Refuses a value outside its bounds. NaN lies in no range."""
    low, high = bounds
    if not low <= value <= high:
        raise ConfigError(path, f"must lie between {low:g} and {high:g} (got {value!r})")


@dataclass(frozen=True)
class Mechanism:
    """One use of noise.

    Attributes:
        noise_multiplier: standard deviation in units of what one record can add.
        sample_rate: Poisson rate of a step; 1 for counts.
        clip: L2 bound of one record's gradient; of counts, the cap of one record's loss.
        kind: ``dpsgd``, or ``counts`` of an evaluation.

    Raises:
        ConfigError: a value is outside the bounds that the accountant is trusted for.
    """

    noise_multiplier: float
    sample_rate: float
    clip: float = 1.0
    kind: str = "dpsgd"

    def __post_init__(self) -> None:
        # The server names σ: what is no such number would pass as ε = 0, or spoil the ledger for good.
        within("privacy.noise_multiplier", self.noise_multiplier, SIGMA)
        within("privacy.clip", self.clip, CLIP)
        if not 0 < self.sample_rate <= 1:
            raise ConfigError("privacy.sample_rate", f"must be above 0 and at most 1 (got {self.sample_rate!r})")
        if self.kind not in KINDS:
            raise ConfigError("privacy.mode", f"{self.kind!r} is no mechanism; there are {', '.join(KINDS)}")


@dataclass(frozen=True, kw_only=True)
class RoundMechanism:
    """What a node does to its rows in one round. It is built once; the ledger, the engine's session and the training take it
    whole, so that what is charged is what is drawn, clipped and noised.

    Attributes:
        private: whether gradients are clipped and sums noised (``privacy.mode=example``).
        noise_multiplier: σ of each step, in units of the clip; 0 without DP.
        clip: L2 bound of one record's gradient.
        sample_rate: Poisson rate of each step.
        steps: steps of the round, empty batches among them.
        expected_batch: public divisor of each step's noised sum; never taken from the rows there are.
    """

    private: bool
    noise_multiplier: float
    clip: float
    sample_rate: float
    steps: int
    expected_batch: float

    @classmethod
    def of(cls, cfg: PrivacyConfig, noise_multiplier: float) -> RoundMechanism:
        """The configured one, with the σ that the server names or a run has."""
        return cls(
            private=cfg.mode == "example",
            noise_multiplier=noise_multiplier,
            clip=cfg.clip,
            sample_rate=cfg.sample_rate,
            steps=cfg.steps_per_round,
            expected_batch=cfg.expected_batch,
        )

    @property
    def step(self) -> Mechanism:
        """One step, as the accountant counts it.

        Raises:
            ConfigError: no accountant is trusted for it, such as for σ = 0.
        """
        return Mechanism(self.noise_multiplier, self.sample_rate, self.clip)
