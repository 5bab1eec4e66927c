"""`ClearAggregation`: the same bookkeeping as `SecureAggregation`, without masks.

For data whose terms allow updates to travel in clear, and for comparisons. The server sees every update.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from aegis_flower.errors import ConfigError
from aegis_flower.metrics import DEFAULT, Metrics
from aegis_flower.strategies.clear_reply import Bad, Read, alike, mean_of, read
from aegis_flower.strategies.masked.exchange import explain_error
from aegis_flower.strategies.rounds import Ending, Lost, OnRound, RoundRecord, Stopped
from aegis_flower.strategies.schedule import Schedule


class ClearAggregation(Ending, Strategy):
    """Wraps a Flower strategy and records who took part; aggregation is the inner strategy's own.

    Args:
        inner: any Message-API strategy.
        noise_multiplier: σ of the clients' DP-SGD, told to them; 0 without DP.
        weighting: ``rows`` weights a client by the number of examples that it gives, ``uniform`` gives each one vote.
        evaluate: which models the clients evaluate: those of ``every`` round, the ``last``, ``never``; ``auto`` is ``every``
            where `noise_multiplier` is 0, and ``last`` elsewhere.
        evaluate_rounds: rounds after which the clients evaluate the new model, besides.
        on_round: called with each finished `RoundRecord`; where it returns `STOP`, the run ends with that round's model.
        metrics: what the clients count, by their own configuration.

    Guarantees:
        - A reply that is none to what was asked, or holds an update that is not finite, loses its sender and nobody else.
    """

    def __init__(
        self,
        inner: Strategy,
        *,
        noise_multiplier: float = 0.0,
        weighting: str = "rows",
        evaluate: str = "auto",
        evaluate_rounds: Collection[int] = (),
        on_round: OnRound | None = None,
        metrics: Metrics = DEFAULT,
    ) -> None:
        if weighting not in ("rows", "uniform"):
            raise ConfigError("secagg.weighting", f"must be rows or uniform, not {weighting!r}")
        self.inner, self.noise_multiplier, self.on_round = inner, noise_multiplier, on_round
        self.weighting, self.metrics = weighting, metrics
        fraction = 1.0 if getattr(inner, "fraction_evaluate", 1.0) else 0.0  # any other is Flower's own to keep to
        self._schedule = Schedule(evaluate, evaluate_rounds, noise_multiplier, fraction)
        self.rounds: list[RoundRecord] = []
        self._last = 0
        self._since, self._running, self._result = 0.0, False, Result()
        self._asked: set[int] = set()
        self._sent = ArrayRecord()
        self._key: str = getattr(inner, "weighted_by_key", "num-examples")

    def summary(self) -> None:
        """Logs the inner strategy's settings."""
        self.inner.summary()

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Runs the rounds as Flower's strategies do."""
        self._last, self.ended, self._result, self._running = num_rounds, "", Result(), True
        noted = evaluate_fn and functools.partial(self._note, evaluate_fn)
        try:
            return super().start(grid, initial_arrays, num_rounds, timeout, train_config, evaluate_config, noted)
        except Stopped:
            self._measure_last(grid, timeout, evaluate_config or ConfigRecord())
            return self._result
        finally:
            self._running = False

    def _note(
        self, evaluate: Callable[[int, ArrayRecord], MetricRecord | None], server_round: int, arrays: ArrayRecord
    ) -> MetricRecord | None:
        """Flower's own evaluation at the server, kept for a run that stops."""
        found = evaluate(server_round, arrays)
        if found is not None:
            self._result.evaluate_metrics_serverapp[server_round] = found
        return found

    def _measure_last(self, grid: Grid, timeout: float, config: ConfigRecord) -> None:
        """A run that ends early ends measured where the schedule measures the last model, and not twice."""
        done = self.rounds[-1].round if self.rounds else 0
        if not done or any(r.task == "evaluate" and r.round == done for r in self.rounds):
            return
        self._last = done
        messages = self.configure_evaluate(done, self._result.arrays, config, grid)
        self.aggregate_evaluate(done, list(grid.send_and_receive(messages, timeout=timeout)))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, with the noise multiplier."""
        self.check_end(running=self._running)
        mine = ConfigRecord({**config, "noise-multiplier": self.noise_multiplier})
        messages = list(self.inner.configure_train(server_round, arrays, mine, grid))
        self._since, self._sent = time.monotonic(), arrays
        self._asked = {m.metadata.dst_node_id for m in messages}
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The inner strategy's aggregate of the replies that are good; participants and losses are noted."""
        record = RoundRecord(server_round)
        good = self._read(record, "train", replies, self._sent)
        uniform = self.weighting == "uniform"
        record.weight = len(good) if uniform else sum(one.examples for one in good)
        seconds = time.monotonic() - self._since
        record.seconds = {"train": seconds, "total": seconds}
        self._finish(record)
        if not record.weight:
            return None, None
        arrays, metrics = self.inner.aggregate_train(server_round, alike(good, self._key, uniform=uniform))
        if arrays is not None:
            self._result.arrays = arrays
        if metrics is not None:
            self._result.train_metrics_clientapp[server_round] = metrics
        return arrays, metrics

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The inner strategy's messages, where the schedule says so."""
        asked = self._schedule.rides() or self._schedule.after(server_round, self._last)
        self._asked = set()
        if not asked or not any(r.participants for r in self.rounds):
            return []
        messages = list(self.inner.configure_evaluate(server_round, arrays, ConfigRecord(dict(config)), grid))
        self._since = time.monotonic()
        self._asked = {m.metadata.dst_node_id for m in messages}
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Means over the examples of those who gave a finite number."""
        if not self._asked:
            return None
        record = RoundRecord(server_round, "evaluate")
        good = self._read(record, "evaluate", replies, None)
        rows = sum(one.examples for one in good)
        found = (
            dict(self.inner.aggregate_evaluate(server_round, alike(good, self._key, uniform=False)) or {})
            if rows
            else {}
        )
        for name in sorted({name for one in good for name in one.metrics} - found.keys()):
            if (mean := mean_of(good, name)) is not None:  # not all have it
                found[name] = mean
        record.metrics = {"examples": rows}
        if good and all(one.sums is not None for one in good):
            record.metrics = {n: sum(one.sums[n] for one in good if one.sums) for n in self.metrics.names}
            found.update(self.metrics.read(record.metrics))
            return self._told(record, found)
        for count, name, scale in (("correct", "accuracy", 1), ("loss_milli", "loss", 1000)):
            value = found.get(name)
            if isinstance(value, float):
                record.metrics[count] = round(value * rows * scale)
        if "loss_milli" not in record.metrics:
            record.metrics = {}  # a model that predicts numbers has no accuracy; nothing has no loss
        return self._told(record, found)

    def _told(self, record: RoundRecord, found: dict[str, Any]) -> MetricRecord | None:
        seconds = time.monotonic() - self._since
        record.seconds = {"total": seconds}
        self._finish(record)
        if not found:
            return None
        self._result.evaluate_metrics_clientapp[record.round] = MetricRecord(found)
        return MetricRecord(found)

    def _read(self, record: RoundRecord, step: str, replies: Iterable[Message], like: ArrayRecord | None) -> list[Read]:
        """The good replies of those who were asked, each once; everybody else is noted as lost."""
        good: dict[int, Read] = {}
        lost: dict[int, Lost] = {}
        for message in replies:
            node = message.metadata.src_node_id
            if node not in self._asked or node in good:
                continue
            if message.has_error():
                lost[node] = _lost(message, step)
                continue
            try:
                good[node] = read(message, self._key, like, () if like is not None else self.metrics.names)
            except Bad as error:
                lost[node] = Lost(node, step, f"the reply is none to what was asked: {error}", "AEG-F001")
        for node in sorted(self._asked - good.keys()):
            record.lose(lost.get(node) or Lost(node, step, "no reply in time"))
        record.participants = sorted(good)
        return [good[node] for node in record.participants]

    def _finish(self, record: RoundRecord) -> None:
        self.rounds.append(record)
        if self.on_round is not None:
            self.heard(self.on_round(record))


def _lost(message: Message, step: str) -> Lost:
    """The code is the text's prefix, as `AegisError`s cross Flower: ``[AEG-P001] denied by ...``."""
    reason = explain_error(message.error.reason or "")
    coded = re.search(r"\[(AEG-[A-Z]\d{3})\](?: (.*))?", reason)
    code, text = (coded[1], coded[2] or "") if coded else ("", reason)
    return Lost(message.metadata.src_node_id, step, text, code)
