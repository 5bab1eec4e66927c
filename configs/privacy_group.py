"""The group ``privacy``: what is noised, how much, and for which unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from aegis_flower.configs.keys import DP, OneOf, Within, key

STEPS_MAX: Final = 10**6  # that a ledger takes


@dataclass(frozen=True)
class PrivacyConfig:
    """Differential privacy: of single records (DP-SGD), of whole updates, or of people. Every field changes the guarantee.

    The bounds are the engine's and the ledger's own.
    """

    mode: Annotated[str, OneOf(("example", "update", "blocks", "off"))] = key(
        "example",
        "`example`: DP-SGD at the client, unit: one record. `update`: the update of a node is clipped and noised whole, unit: "
        "all data of a node; for models without gradients per record. `blocks`: people are assigned to blocks, each trains in a "
        "jail of its own, unit: one person; needs a node that jails its app. `off` needs `policy.require_dp=false`",
        DP,
    )
    epsilon: Annotated[float, Within(0.0, 1e3, True, True)] = key(
        3.0, "target of the whole run, for a client that takes part in every round", DP
    )
    delta: Annotated[float, Within(1e-12, 0.01, open_high=True)] = key(
        1e-5, "δ; must also be below 1/rows at each node", DP
    )
    clip: Annotated[float, Within(1e-6, 1e6)] = key(
        1.0,
        "L2 bound of one record's gradient; with `update`, of the node's update, with `blocks`, of each block's: there the "
        "sensitivity is twice that. It scales "
        "noise and signal alike; ε does not depend on it",
        DP,
    )
    sample_rate: Annotated[float, Within(0.0, 1.0, True)] = key(
        0.25,
        "Poisson: each record joins a step with this probability. Only with `example` does it make ε smaller",
        DP,
    )
    steps_per_round: Annotated[int, Within(1, STEPS_MAX)] = key(
        4, "local steps of a round; with `example` each is charged, with `update` and `blocks` the round is, once", DP
    )
    blocks: Annotated[int, Within(1, 1 << 16)] = key(
        50,
        "blocks of people at each node (`blocks`), a public number: about one for 20 people. More blocks need less noise for "
        "their mean, fewer train better",
        DP,
    )
    expected_batch: Annotated[float, Within(1.0, 1e9)] = key(
        32.0, "public divisor of each step's noised sum; never taken from the rows there are (`example`)", DP
    )
    noise_multiplier: Annotated[float, Within(0.05, 1e4)] | None = key(
        None,
        "σ in units of the clip (`update`, `blocks`: of twice the clip); null calibrates it from ε, δ, rate and steps. When set, "
        "`epsilon` is not used",
        DP,
    )
    noise: Annotated[str, OneOf(("secure", "insecure_test"))] = key(
        "secure", "`insecure_test` is repeatable, stamped NOT PRIVATE and needs `policy.require_dp=false`", DP
    )

    @property
    def on(self) -> bool:
        """Whether the run asks for noise."""
        return self.mode != "off"

    @property
    def whole(self) -> bool:
        """Whether updates of whole trainings are clipped: once a round, without sampling."""
        return self.mode in ("update", "blocks")

    @property
    def by_record(self) -> bool:
        """Whether the gradient of each record is clipped."""
        return self.mode == "example"
