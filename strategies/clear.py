"""`ClearAggregation`: the same bookkeeping as `SecureAggregation`, without masks.

For data whose terms allow updates to travel in clear, and for comparisons. The server sees every update.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from aegis_flower.strategies.exchange import explain_error
from aegis_flower.strategies.rounds import Lost, RoundRecord


class ClearAggregation(Strategy):
    """Wraps a Flower strategy and records who took part; aggregation is the inner strategy's own.

    Args:
        inner: any Message-API strategy.
        noise_multiplier: σ of the clients' DP-SGD, told to them; 0 without DP.
        evaluate_rounds: rounds after which the clients evaluate the new model.
        on_round: called with each finished `RoundRecord`.
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        noise_multiplier: float = 0.0,
        evaluate_rounds: Collection[int] = (),
        on_round: Callable[[RoundRecord], None] | None = None,
    ) -> None:
        self.inner, self.noise_multiplier, self.on_round = inner, noise_multiplier, on_round
        self.evaluate_rounds = frozenset(evaluate_rounds)
        self.rounds: list[RoundRecord] = []
        self._since = 0.0
        self._asked: set[int] = set()

    def summary(self) -> None:
        """Logs the inner strategy's settings."""
        self.inner.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, with the noise multiplier."""
        mine = ConfigRecord({**config, "noise-multiplier": self.noise_multiplier})
        messages = list(self.inner.configure_train(server_round, arrays, mine, grid))
        self._since = time.monotonic()
        self._asked = {m.metadata.dst_node_id for m in messages}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate; participants and losses are noted."""
        replies = list(replies)
        record = RoundRecord(server_round)
        for m in replies:
            if m.has_error():
                record.lost.append(_lost(m))
            else:
                record.participants.append(m.metadata.src_node_id)
                record.weight += _examples(m)
        silent = self._asked - {m.metadata.src_node_id for m in replies}
        record.lost += [Lost(n, "train", "no reply in time") for n in sorted(silent)]
        record.participants.sort()
        seconds = time.monotonic() - self._since
        record.seconds = {"train": seconds, "total": seconds}
        self._finish(record)
        return self.inner.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, in `evaluate_rounds`."""
        if server_round not in self.evaluate_rounds or not any(r.participants for r in self.rounds):
            return []
        return self.inner.configure_evaluate(server_round, arrays, ConfigRecord(dict(config)), grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The inner strategy's means."""
        replies = list(replies)
        metrics = self.inner.aggregate_evaluate(server_round, replies) if replies else None
        if metrics is not None:
            good = [m for m in replies if not m.has_error()]
            rows = sum(_examples(m) for m in good)
            record = RoundRecord(server_round, "evaluate", sorted(m.metadata.src_node_id for m in good))
            record.metrics = {
                "examples": rows,
                "correct": round(_number(metrics["accuracy"]) * rows),
                "loss_milli": round(_number(metrics["loss"]) * rows * 1000),
            }
            self._finish(record)
        return metrics

    def _finish(self, record: RoundRecord) -> None:
        self.rounds.append(record)
        if self.on_round is not None:
            self.on_round(record)


def _examples(reply: Message) -> int:
    return int(_number(next(iter(reply.content.metric_records.values()))["num-examples"]))


def _lost(message: Message) -> Lost:
    """The code is the text's prefix, as `AegisError`s cross Flower: ``[AEG-P001] denied by ...``."""
    reason = explain_error(message.error.reason or "")
    coded = re.search(r"\[(AEG-[A-Z]\d{3})\] (.*)", reason)
    code, text = coded.groups() if coded else ("", reason)
    return Lost(message.metadata.src_node_id, "train", text, code)


def _number(value: Any) -> float:
    return float(value)
