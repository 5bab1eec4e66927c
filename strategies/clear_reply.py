"""Replies in clear, as hostile clients may send them: checked against what was asked, and made alike for Flower's strategies.

Flower's own aggregation takes all replies or none: one with another shape, or a metric too many, ends the run of all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from aegis_flower import wire

Number = int | float | list[int] | list[float]
MOST = 2**53  # beyond it a float does not hold every whole number


class Bad(Exception):
    """A reply that cannot be used; the text says why."""


@dataclass(frozen=True)
class Read:
    """One good reply: its sender, its number of examples, its finite metrics, its sums, and its arrays where it trained."""

    message: Message
    examples: int
    metrics: dict[str, Number]
    arrays: ArrayRecord | None
    sums: dict[str, int] | None = None

    @property
    def node(self) -> int:
        """Who sent it."""
        return self.message.metadata.src_node_id


def read(message: Message, key: str, like: ArrayRecord | None, names: Collection[str] = ()) -> Read:
    """Reads a reply, its number of examples under `key`; with `like`, one that has an update of that model; its sums by `names`.

    Raises:
        Bad: it is none.
    """
    try:
        content = message.content
        records = list(content.metric_records.values())
        if len(records) != 1:
            raise Bad(f"it has {len(records)} records of metrics, not one")
        metrics: dict[str, Number] = {name: value for name, value in records[0].items() if _is_number(value)}
        examples = metrics.pop(key, None)
        if not isinstance(examples, int | float) or not 0 <= examples <= MOST or examples != int(examples):
            raise Bad(f"{key} must be a whole number, 0 or more")
        update = None if like is None else _update(content, like)
        return Read(message, int(examples), metrics, update, _sums(content, names))
    except Bad:
        raise
    except Exception as error:  # noqa: BLE001 - of whatever Flower and numpy make of a stranger's bytes
        raise Bad(f"it cannot be read ({type(error).__name__})") from None


def _sums(content: RecordDict, names: Collection[str]) -> dict[str, int] | None:
    """Sums over held-out rows, as a client with a vault sends them beside what they say; None of one without."""
    record = content.config_records.get(wire.SUMS)
    if record is None:
        return None
    if set(record) != set(names):
        raise Bad("its sums are of other metrics than the server's; name the same evaluation.metrics on both sides")
    sums = {name: value for name, value in record.items() if type(value) is int and abs(value) <= MOST}
    if len(sums) != len(names):
        raise Bad("a sum is no whole number")
    return sums


def _update(content: RecordDict, like: ArrayRecord) -> ArrayRecord:
    records = list(content.array_records.values())
    if len(records) != 1 or list(records[0]) != list(like):
        raise Bad("its arrays are not those of the model that was sent")
    for name, sent in like.items():
        array = records[0][name]
        if tuple(array.shape) != tuple(sent.shape) or not _is_float(array):
            raise Bad("an array is not of the shape that was sent, or holds no floating-point numbers")
    found = wire.ndarrays(records[0])
    for values, sent in zip(found, like.values(), strict=True):
        if values.shape != tuple(sent.shape) or not np.isfinite(values).all():
            raise Bad("an array holds values that are not finite, or fewer than it says")
    return ArrayRecord({name: Array(values) for name, values in zip(like, found, strict=True)})


def _is_float(array: Array) -> bool:
    dtype = np.dtype(array.dtype)
    return dtype.kind == "f" and math.prod(array.shape) * dtype.itemsize <= len(array.data)


def _is_number(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(_is_number(one) for one in value)
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _form(value: Number) -> int:
    return len(value) if isinstance(value, list) else 0


def alike(replies: Iterable[Read], key: str, *, uniform: bool) -> list[Message]:
    """The replies as Flower's strategies want them: the metrics that all have, and each client's weight under `key`."""
    replies = list(replies)
    forms = [{(name, _form(value)) for name, value in one.metrics.items()} for one in replies]
    common = sorted(name for name, _ in set.intersection(*forms)) if forms else []
    for one in replies:
        weight = 1.0 if uniform else float(one.examples)
        content = RecordDict({"metrics": MetricRecord({key: weight, **{name: one.metrics[name] for name in common}})})
        if one.arrays is not None:
            content[wire.ARRAYS] = one.arrays
        one.message.content = content
    return [one.message for one in replies]


def mean_of(replies: Iterable[Read], name: str) -> float | None:
    """The mean of a metric over the examples of those who gave it; None where nobody did."""
    having = [(r.metrics.get(name), r.examples) for r in replies]
    numbers = [(value, n) for value, n in having if isinstance(value, int | float)]
    weight = sum(n for _, n in numbers)
    return sum(value * n for value, n in numbers) / weight if weight else None
