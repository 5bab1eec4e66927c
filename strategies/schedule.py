"""Schedule: when clients count over their held-out rows."""

from __future__ import annotations

from collections.abc import Collection

from aegis_flower.errors import ConfigError

CHOICES = ("auto", "last", "every", "never")


class Schedule:
    """Which models are measured.

    Args:
        evaluate: ``every`` model that a training round sends, by counts that ride in its masked inputs; the ``last`` model
            alone, in a round of counts after the last one; ``never``; ``auto`` is ``every`` without DP and ``last`` with it.
        rounds: rounds after which the new model is measured in a round of counts, besides.
        noise_multiplier: σ of the run; 0 without DP.
        fraction: the inner strategy's ``fraction_evaluate``.

    Raises:
        ConfigError: an unknown word, or one that contradicts the fraction.
    """

    def __init__(self, evaluate: str, rounds: Collection[int], noise_multiplier: float, fraction: float = 1.0) -> None:
        if evaluate not in CHOICES:
            raise ConfigError("evaluate", f"must be one of {', '.join(CHOICES)}, not {evaluate!r}")
        if evaluate == "never" and rounds:
            raise ConfigError("evaluate", "'never' and evaluate_rounds contradict each other; leave one of them out")
        if not fraction and (rounds or evaluate in ("last", "every")):
            raise ConfigError(
                "strategy", "fraction_evaluate=0 and evaluate contradict each other; leave one of them out"
            )
        if evaluate == "auto":
            evaluate = "never" if not fraction else "last" if noise_multiplier else "every"
        if evaluate == "every" and 0 < fraction < 1:
            raise ConfigError(
                "strategy",
                f"fraction_evaluate={fraction:g}: every client that trains also counts, in the same masked input; set "
                'evaluate="last" or evaluate_rounds, whose rounds keep to the fraction, or fraction_train',
            )
        self.evaluate, self.rounds = evaluate, frozenset(rounds)

    def rides(self) -> bool:
        """Whether the counts of the model that is sent ride in a training round's masked inputs."""
        return self.evaluate == "every"

    def after(self, server_round: int, last: int) -> bool:
        """Whether a round of counts follows a training round."""
        return server_round in self.rounds or (self.evaluate == "last" and server_round == last)

    def last_is(self, server_round: int, planned: int) -> None:
        """A run ends after this round in place of the planned one, and is measured after it as it would have been then."""
        if planned in self.rounds:
            self.rounds |= {server_round}

    def stop(self) -> None:
        """No round of counts any more."""
        self.evaluate, self.rounds = "never", frozenset()
