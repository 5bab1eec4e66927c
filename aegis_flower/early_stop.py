"""Early stopping: when a metric of the models no longer gets better. It looks at what the server sees anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aegis_flower import gate
from aegis_flower.configs import Config, EarlyStopConfig
from aegis_flower.configs.training import PUBLIC, falls
from aegis_flower.metrics import DEFAULT, Metrics, spread
from aegis_flower.strategies import RoundRecord


@dataclass
class EarlyStop:
    """Counts measured models without a gain.

    Under DP the numbers are noised, and so is the decision. It costs no ε beyond that of the numbers (post-processing, Dwork and
    Roth 2014, prop. 2.1).

    Args:
        rule: the configured one.
        metric: its metric.
        noise: noise multiplier of the counts behind it; 0 where they are exact.
        metrics: what an evaluation tells.
    """

    rule: EarlyStopConfig
    metric: str
    noise: float = 0.0
    metrics: Metrics = DEFAULT
    sd: float = 0.0
    best: float | None = None
    best_round: int = 0
    waited: int = 0

    @classmethod
    def of(cls, cfg: Config, metrics: Metrics = DEFAULT) -> EarlyStop | None:
        """The configured one; None where there is none."""
        rule, noise = cfg.strategy.early_stop, 0.0
        if rule.metric is None:
            return None
        if cfg.privacy.on and not rule.metric.startswith(PUBLIC):
            noise = gate.counts_mechanism(cfg, cfg.privacy.delta).noise_multiplier
        return cls(rule, rule.metric, noise, metrics)

    @property
    def falling(self) -> bool:
        """Whether less is better."""
        direction = self.rule.direction
        return falls(self.metric) if direction == "auto" else direction == "minimize"

    def record(self, record: RoundRecord) -> str:
        """Looks at the means over held-out rows of a round; gives why the run should end, or nothing."""
        if self.metric.startswith(PUBLIC):
            return ""
        if self.noise:
            deviations = spread(self.metrics, record.metrics, self.noise, len(record.participants))
            self.sd = max(self.sd, deviations.get(self.metric, 0.0))
        round_ = record.round - 1 if record.task == "train" else record.round  # the model that was sent
        return self._seen(round_, self.metrics.read(record.metrics).get(self.metric))

    @property
    def doubt(self) -> str:
        """What a reader must know of a decision by noised numbers; empty where there is nothing."""
        if self.sd <= self.rule.min_delta:
            return ""
        return (
            f"strategy.early_stop looks at {self.metric}, whose noise has a standard deviation of up to {self.sd:.3f}, above "
            f"min_delta={self.rule.min_delta:g}: when the run stops is partly chance"
        )

    def public(self, round_: int, found: Mapping[str, float]) -> str:
        """The same of the numbers of a public test set."""
        if not self.metric.startswith(PUBLIC):
            return ""
        return self._seen(round_, found.get(self.metric.removeprefix(PUBLIC)))

    def _seen(self, round_: int, value: float | None) -> str:
        if value is None:
            return ""
        sign = -1 if self.falling else 1
        if self.best is None or sign * (value - self.best) > self.rule.min_delta:
            self.best, self.best_round, self.waited = value, round_, 0
            return ""
        self.waited += 1
        if self.waited < self.rule.patience:
            return ""
        return (
            f"{self.metric} was {value:.4g} after round {round_}, no gain of more than {self.rule.min_delta:g} over the "
            f"{self.best:.4g} of round {self.best_round} in {self.waited} measurements (strategy.early_stop)"
        )
