"""Handlers: what an app answers to each of the server's messages. Everything they return is an `Outgoing` of the door.

The order of a step that reads rows is fixed here: the message is parsed, the protocol says whether it would take the answer,
node and data say whether it may be asked for, the app is tried on zeros; only then come permit, budget and rows. A failure
before the budget charges nothing, one before the permit leaves no record of a permission.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from aegis_flower import wire
from aegis_flower.client.round_config import RoundConfig
from aegis_flower.client.vault_client import VaultClient, numpy_client
from aegis_flower.door import DoorApp, Outgoing
from aegis_flower.errors import AppError, RequestInvalid
from aegis_flower.mask import Masker
from aegis_flower.steps import Step

ClientFactory = Callable[[Context], Any]

OLD_SERVER = (
    "the server runs a strategy of the old API (flwr.server.strategy), this app speaks the Message API: import the "
    "strategy from flwr.serverapp.strategy and call strategy.start(grid=...) in @app.main()"
)
NO_VAULT = (
    "secure aggregation needs a VaultClient on every node (its vault seals the round's secrets), this app has a {}: derive "
    "the client from VaultClient, or use the strategy without SecureAggregation"
)
_SEALED = ("fit", "evaluate", "respond", "release", "release_evaluation")
EXAMPLES = "num-examples"


def register(app: DoorApp, make: ClientFactory) -> None:
    """Registers every message type of AEGIS. The door is `DoorApp`'s own: it registers nothing past it."""

    @app.train()
    def train(message: Message, context: Context) -> Outgoing:
        return _plain(make, message, context, "train")

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Outgoing:
        return _plain(make, message, context, "evaluate")

    @app.query(_action(Step.ADVERTISE))
    def advertise(message: Message, context: Context) -> Outgoing:
        return _asked(make, message, context)[0].advertise()

    @app.query(_action(Step.SHARE))
    def share(message: Message, context: Context) -> Outgoing:
        return _answered(Masker.share, make, message, context)

    @app.train(_action(Step.MASKED))
    def masked(message: Message, context: Context) -> Outgoing:
        return _masked(make, message, context)

    @app.query(_action(Step.COMMIT))
    def commit(message: Message, context: Context) -> Outgoing:
        return _answered(Masker.commit, make, message, context)

    @app.query(_action(Step.UNMASK))
    def unmask(message: Message, context: Context) -> Outgoing:
        return _answered(Masker.unmask, make, message, context)


def _action(step: Step) -> str:
    """What Flower's decorators take: the message type without its kind."""
    return step.message_type.partition(".")[2]


# -- steps of the protocol ----------------------------------------------------------------------------------------------------


def _asked(make: ClientFactory, message: Message, context: Context) -> tuple[Masker, wire.Request]:
    request = wire.Request.from_content(message.content)
    return _masker(_vault_client(make(context))), request


def _answered(
    answer: Callable[[Masker, bytes], Outgoing], make: ClientFactory, message: Message, context: Context
) -> Outgoing:
    """A step whose payload alone is answered."""
    masker, request = _asked(make, message, context)
    return answer(masker, request.payload)


def _masker(client: VaultClient) -> Masker:
    return Masker(client.node, client.context, client.config.secagg.weight_max, client.metrics.names)


def _vault_client(client: Any) -> VaultClient:
    if not isinstance(client, VaultClient):
        raise AppError(NO_VAULT.format(type(client).__name__))
    for name in _SEALED:
        if getattr(type(client), name) is not getattr(VaultClient, name) or name in vars(client):
            raise AppError(
                f"{type(client).__name__} overrides {name}(), by which releases are made; override model, loss, optimizer, "
                "train_round or evaluate_counts"
            )
    return client


def _masked(make: ClientFactory, message: Message, context: Context) -> Outgoing:
    content = message.content
    request, parameters = wire.Request.from_content(content), wire.model(content)
    settings = wire.settings(content)
    round_config = RoundConfig(settings)
    dim = sum(a.size for a in parameters)
    client = _vault_client(make(context))
    client.round_config = round_config
    masker = _masker(client)
    masker.check_masked(request.payload, dim)
    arrays = content.array_records[wire.ARRAYS]
    freed = client.respond(request, parameters, list(arrays), masked=True)
    return masker.masked_input(request.payload, freed, dim, wire.binding(arrays, request, settings))


# -- messages of Flower's own strategies ---------------------------------------------------------------------------------------


def _plain(make: ClientFactory, message: Message, context: Context, task: str) -> Outgoing:
    content = message.content
    if any(key.startswith(("fitins", "evaluateins")) for key in content):
        raise AppError(OLD_SERVER)
    made = make(context)
    if isinstance(made, VaultClient):
        return _plain_vault(_vault_client(made), message, task)
    client = numpy_client(made)
    if isinstance(client, VaultClient):
        return _plain_vault(_vault_client(client), message, task)
    if not content.array_records:
        raise RequestInvalid("the message carries no model")
    (key, arrays), *_ = content.array_records.items()
    config = _plain_config(wire.settings(content))
    if task == "train":
        params, count, metrics = client.fit(wire.ndarrays(arrays), config)
        record = ArrayRecord({name: Array(np.asarray(a)) for name, a in zip(arrays, params, strict=True)})
        reply = RecordDict({key: record, **_metrics(count, metrics, {})})
    else:
        loss, count, metrics = client.evaluate(wire.ndarrays(arrays), config)
        reply = RecordDict(_metrics(count, metrics, {"loss": loss}))
    return Outgoing.without_vault(context, reply)


def _plain_vault(client: VaultClient, message: Message, task: str) -> Outgoing:
    content = message.content
    settings = wire.settings(content)
    parameters = wire.model(content)
    client.round_config = RoundConfig(settings)
    # what Flower's strategies say in their own words
    round_ = settings.get("server-round", settings.get("round", 1))
    request = wire.Request.plain(
        task, round_, settings.get("noise-multiplier", client.default_sigma) if task == "train" else 0.0
    )
    arrays = content.array_records[wire.ARRAYS]
    freed = client.respond(request, parameters, list(arrays), masked=False)
    if task == "train":
        return Outgoing.update(freed, parameters, arrays)
    return Outgoing.counts(freed, client.metrics, classes=client.predicts_classes)


def _plain_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    config = dict(settings)
    config["round"] = int(config.get("server-round", config.get("round", 0)))
    config["noise_multiplier"] = float(config.get("noise-multiplier", 0.0))
    return config


def _metrics(count: Any, metrics: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A plain client's numbers as Flower's record takes them; its texts in a record of their own. Nothing is dropped.

    Raises:
        AppError: a metric is neither, or has a name that the reply uses itself.
    """
    numbers: dict[str, Any] = {EXAMPLES: _plain_number(count), **{k: _plain_number(v) for k, v in own.items()}}
    if type(numbers[EXAMPLES]) is not int or numbers[EXAMPLES] < 0:
        raise AppError(f"the client gave {count!r} as its number of examples; it must be a whole number, 0 or more")
    texts: dict[str, Any] = {}
    for name, value in metrics.items():
        if name in numbers:
            raise AppError(f"the client calls a metric {name!r}, which the reply uses itself; take another name")
        plain = _plain_number(value)
        if isinstance(plain, str | bytes | bool):
            texts[name] = plain
        elif isinstance(plain, int | float) or _is_list(plain):
            numbers[name] = plain
        else:
            raise AppError(
                f"the metric {name!r} is a {type(value).__name__}; Flower carries whole numbers, floats, lists of either, text "
                "and truth values"
            )
    return {"metrics": MetricRecord(numbers), **({"texts": ConfigRecord(texts)} if texts else {})}


def _plain_number(value: Any) -> Any:
    """Numbers and arrays of numpy and torch as Python's own."""
    if isinstance(value, list | tuple):
        return [_plain_number(v) for v in value]
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return value


def _is_list(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(type(v) is int for v in value) or all(type(v) is float for v in value)
