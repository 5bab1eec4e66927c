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

KINDS = ("dpsgd", "counts", "update", "blocks")
WHOLE = ("update", "blocks")  # those that clip vectors of whole trainings; one step a round, without sampling
RECORD, NODE, PERSON = "record", "node", "person"  # units: what one step can be told from without
ADD_REMOVE, REPLACE_ONE = "add_remove", "replace_one"
# Outside these no accountant is trusted; the engine has the same bounds (crates/noise/src/session.rs).
SIGMA = (0.05, 1e4)
CLIP = (1e-6, 1e6)
BLOCKS = (1, 1 << 16)
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
        noise_multiplier: standard deviation in units of what one record can add; of an update, of what the node's data
            can move; of blocks, of what one person's data can.
        sample_rate: Poisson rate of a step; 1 for counts, for an update and for blocks.
        clip: L2 bound of one record's gradient; of counts, the cap of one record's loss; of an update or a block's update, its
            own L2 bound.
        kind: ``dpsgd``, ``counts`` of an evaluation, ``update`` of a node, taken whole, or ``blocks`` of people.
        blocks: how many there are of these, a public number; 0 for the other kinds.

    Raises:
        ConfigError: a value is outside the bounds that the accountant is trusted for.
    """

    noise_multiplier: float
    sample_rate: float
    clip: float = 1.0
    kind: str = "dpsgd"
    blocks: int = 0

    def __post_init__(self) -> None:
        # The server names σ: what is no such number would pass as ε = 0, or spoil the ledger for good.
        within("privacy.noise_multiplier", self.noise_multiplier, SIGMA)
        within("privacy.clip", self.clip, CLIP)
        if not 0 < self.sample_rate <= 1:
            raise ConfigError("privacy.sample_rate", f"must be above 0 and at most 1 (got {self.sample_rate!r})")
        if self.kind not in KINDS:
            raise ConfigError("privacy.mode", f"{self.kind!r} is no mechanism; there are {', '.join(KINDS)}")
        if self.kind in WHOLE:
            within(
                "privacy.clip", self.clip, (CLIP[0], CLIP[1] / 2)
            )  # the engine's bounds are those of the sensitivity
            if self.sample_rate != 1:
                raise ConfigError("privacy.sample_rate", f"is 1 for a whole update (got {self.sample_rate!r})")
        if type(self.blocks) is not int:
            raise ConfigError("privacy.blocks", f"must be a whole number (got {self.blocks!r})")
        if self.kind == "blocks":
            within("privacy.blocks", self.blocks, BLOCKS)
        elif self.blocks:
            raise ConfigError("privacy.blocks", f"{self.kind} has none (got {self.blocks!r})")

    @property
    def unit(self) -> str:
        """What the noise hides: a record, all data of a person, or all data of a node."""
        return {"update": NODE, "blocks": PERSON}.get(self.kind, RECORD)

    @property
    def relation(self) -> str:
        """How neighbouring data differ: a record more or less; or a node's or a person's data against any others, none among
        them.
        """
        return REPLACE_ONE if self.kind in WHOLE else ADD_REMOVE


@dataclass(frozen=True, kw_only=True)
class RoundMechanism:
    """What a node does to its rows in one round. It is built once; the ledger, the engine's session and the training take it
    whole, so that what is charged is what is drawn, clipped and noised.

    Attributes:
        private: whether there is noise (``privacy.mode`` is not ``off``).
        noise_multiplier: σ of each step, in units of the sensitivity; 0 without DP.
        clip: L2 bound of one record's gradient; with ``privacy.mode=update``, of the node's update; with
            ``blocks``, of each block's.
        sample_rate: Poisson rate of each step; 1 for an update and for blocks.
        steps: steps of the round, empty batches among them; 1 for an update and for blocks, however many the training takes.
        expected_batch: public divisor of each step's noised sum; never taken from the rows there are. 1 for an update and for
            blocks.
        kind: ``dpsgd``, ``update`` or ``blocks``.
        blocks: how many blocks of people there are; 0 for the other kinds.
    """

    private: bool
    noise_multiplier: float
    clip: float
    sample_rate: float
    steps: int
    expected_batch: float
    kind: str = "dpsgd"
    blocks: int = 0

    @classmethod
    def of(cls, cfg: PrivacyConfig, noise_multiplier: float) -> RoundMechanism:
        """The configured one, with the σ that the server names or a run has."""
        if cfg.mode in WHOLE:
            return cls(
                private=True,
                noise_multiplier=noise_multiplier,
                clip=cfg.clip,
                sample_rate=1.0,
                steps=1,
                expected_batch=1.0,
                kind=cfg.mode,
                blocks=cfg.blocks if cfg.mode == "blocks" else 0,
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
        return Mechanism(self.noise_multiplier, self.sample_rate, self.clip, self.kind, self.blocks)

    @property
    def sensitivity(self) -> float:
        """How far neighbouring data can move what is noised, in L2: the clip of one record's gradient. An update of a node with
        other data, or of a block in which one person has, is another vector within the clip: that is twice the clip away at most.
        """
        return 2 * self.clip if self.kind in WHOLE else self.clip


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


def noised_blocks(session: DpSession) -> npt.NDArray[np.float32]:
    """The sum of the updates that `DpSession.add_block` was given, with the engine's noise: shape (values,)."""
    return np.frombuffer(bytearray(session.noise_blocks()), dtype=np.float32)
