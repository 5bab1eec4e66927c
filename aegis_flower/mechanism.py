"""Mechanism: what noise a row meets, in one step and in one round, and the bounds within which it means anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from aegis_flower.errors import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt

    from aegis_engine import DpSession
    from aegis_flower.configs import PrivacyConfig

KINDS = ("dpsgd", "counts", "update")
RECORD, NODE = "record", "node"  # units: what one step can be told from without
ADD_REMOVE, REPLACE_ONE = "add_remove", "replace_one"
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
        noise_multiplier: standard deviation in units of what one record can add; of an update, of what the node's data can move.
        sample_rate: Poisson rate of a step; 1 for counts and for an update.
        clip: L2 bound of one record's gradient; of counts, the cap of one record's loss; of an update, its own L2 bound.
        kind: ``dpsgd``, ``counts`` of an evaluation, or ``update`` of a node, taken whole.

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
        if self.kind == "update":
            within(
                "privacy.clip", self.clip, (CLIP[0], CLIP[1] / 2)
            )  # the engine's bounds are those of the sensitivity
            if self.sample_rate != 1:
                raise ConfigError("privacy.sample_rate", f"is 1 for a whole update (got {self.sample_rate!r})")

    @property
    def unit(self) -> str:
        """What the noise hides: a record, or all data of a node."""
        return NODE if self.kind == "update" else RECORD

    @property
    def relation(self) -> str:
        """How neighbouring data differ: a record more or less, or a node's data against any others, none among them."""
        return REPLACE_ONE if self.kind == "update" else ADD_REMOVE


@dataclass(frozen=True, kw_only=True)
class RoundMechanism:
    """What a node does to its rows in one round. It is built once; the ledger, the engine's session and the training take it
    whole, so that what is charged is what is drawn, clipped and noised.

    Attributes:
        private: whether there is noise (``privacy.mode`` is not ``off``).
        noise_multiplier: σ of each step, in units of the sensitivity; 0 without DP.
        clip: L2 bound of one record's gradient; with ``privacy.mode=update``, of the node's update.
        sample_rate: Poisson rate of each step; 1 for an update.
        steps: steps of the round, empty batches among them; 1 for an update, however many the training takes.
        expected_batch: public divisor of each step's noised sum; never taken from the rows there are. 1 for an update.
        kind: ``dpsgd``, or ``update``.
    """

    private: bool
    noise_multiplier: float
    clip: float
    sample_rate: float
    steps: int
    expected_batch: float
    kind: str = "dpsgd"

    @classmethod
    def of(cls, cfg: PrivacyConfig, noise_multiplier: float) -> RoundMechanism:
        """The configured one, with the σ that the server names or a run has."""
        if cfg.mode == "update":
            return cls(
                private=True,
                noise_multiplier=noise_multiplier,
                clip=cfg.clip,
                sample_rate=1.0,
                steps=1,
                expected_batch=1.0,
                kind="update",
            )
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
        return Mechanism(self.noise_multiplier, self.sample_rate, self.clip, self.kind)

    @property
    def sensitivity(self) -> float:
        """How far neighbouring data can move what is noised, in L2: the clip of one record's gradient. An update of a node with
        other data is another vector within the clip, so it is twice that.
        """
        return 2 * self.clip if self.kind == "update" else self.clip


def without_noise(cfg: PrivacyConfig) -> RoundMechanism:
    """How a node draws its batches where no gradient is clipped: without DP, and before a whole update is."""
    return RoundMechanism(
        private=False,
        noise_multiplier=0.0,
        clip=cfg.clip,
        sample_rate=cfg.sample_rate,
        steps=cfg.steps_per_round,
        expected_batch=cfg.expected_batch,
    )


def noised_sum(session: DpSession, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """A step's sum with the engine's noise: whatever is trained, and by which framework, it has its noise from here.

    Args:
        session: has drawn the step's batch.
        sums: shape (values,), of clipped parts.

    Returns:
        Shape (values,), on the engine's grid.
    """
    return np.frombuffer(bytearray(session.noise(sums)), dtype=np.float32)
