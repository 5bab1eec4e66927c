"""The client: `VaultClient`, and the bridge that runs a `NumPyClient` under Flower's Message-API strategies.

The import of Flower's `NumPyClient`, whose place in Flower is marked as legacy, is in this file alone.

In a deployment each message is a process of its own. torch and Opacus take seconds to import, and only the step that trains
needs them: the modules that know them are imported there.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp

from aegis_engine import Permit, Rng
from aegis_flower import datasets, gate, wire
from aegis_flower.config import Config, compose, overrides_from_run_config
from aegis_flower.errors import AegisError, AppError, BudgetExceeded
from aegis_flower.ledger import Mechanism, Reservation
from aegis_flower.mask import Masker
from aegis_flower.node import Node, open_node

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aegis_flower import train as training

    ModelFn = Callable[[], nn.Module]
    OptimizerFn = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

log = logging.getLogger("aegis")

NDArrays = list[npt.NDArray[Any]]


@dataclass(frozen=True)
class Trained:
    """One round's training: weights before and after, and what the gate must know."""

    before: NDArrays
    after: NDArrays
    permit: Permit
    result: training.TrainResult
    dp: str
    reservation: Reservation | None

    @property
    def update(self) -> npt.NDArray[np.float32]:
        """Flat float32 difference."""
        return np.concatenate(
            [np.asarray(a - b, dtype=np.float32).ravel() for a, b in zip(self.after, self.before, strict=True)]
        )


class VaultClient(NumPyClient):
    """A Flower `NumPyClient` that trains on a vault's stream, under a permit, with differential privacy.

    Subclass it and override `model`, `loss` or `optimizer`, or hand them to `aegis_client_app`. Permit, budget, noise,
    gates and masks are not in its hands: the bridge and the installed engine do those.

    Args:
        node: the open node (vault, compliance engine).
        config: the experiment.
        context: Flower's context of this node and run.
    """

    model_fn: ModelFn | None = None
    loss_fn: training.Loss | None = None
    optimizer_fn: OptimizerFn | None = None

    def __init__(self, node: Node, config: Config, context: Context) -> None:
        self.node, self.config, self.context = node, config, context
        self.spec = datasets.spec(config.data.name)

    def model(self) -> nn.Module:
        """The model to train; by default the configured one."""
        if self.model_fn:
            return self.model_fn()
        from aegis_flower import models

        return models.build(self.config.model, self.spec, self.config.seed)

    def loss(self) -> training.Loss:
        """Mean-reduced loss of (outputs, labels); by default cross-entropy."""
        from torch.nn import functional

        return self.loss_fn or functional.cross_entropy

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The local optimiser; by default SGD with the configured learning rate and momentum."""
        if self.optimizer_fn:
            return self.optimizer_fn(parameters)
        import torch

        cfg = self.config.model
        return torch.optim.SGD(parameters, lr=cfg.learning_rate, momentum=cfg.momentum)

    def get_parameters(self, config: dict[str, Any]) -> NDArrays:
        """Initial weights, in the order of the model's parameters."""
        return weights(self.model())

    def fit(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[NDArrays, int, dict[str, Any]]:
        """Trains one round and gives the result in clear. Only data whose terms allow that may be used so."""
        trained = self.train_round(parameters, int(config["round"]), float(config["noise_multiplier"]))
        shapes = [(str(i), a.shape) for i, a in enumerate(parameters)]
        freed = self.release(trained, shapes, {}, secure_aggregation=False)
        update = np.frombuffer(freed.update(), dtype=np.float32)
        return apply_update(parameters, update), trained.result.rows, {}

    def evaluate(self, parameters: NDArrays, config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        """Evaluates on the holdout and gives the result in clear."""
        counts, _ = self.evaluate_counts(parameters, int(config["round"]))
        rows = max(1, counts["examples"])
        return counts["loss_milli"] / 1000 / rows, counts["examples"], {"accuracy": counts["correct"] / rows}

    def authorize(self, action: str, round_: int, *, holdout: bool = False) -> Permit:
        """Asks the compliance engine for a permit over the node's data set.

        Raises:
            PolicyDenied: purpose, columns or every row are refused; the refusal is on record.
        """
        policy = self.config.policy
        return self.node.engine.authorize(
            self.node.dataset(holdout),
            action=action,
            purpose=policy.purpose,
            columns=policy.columns,
            run=str(self.context.run_id),
            round=round_,
            node=self.node.config.name,
            minutes=policy.permit_minutes,
        )

    def train_round(self, parameters: NDArrays, round_: int, noise_multiplier: float) -> Trained:
        """Permit, then budget, then training: nothing is read before both are given.

        Raises:
            PolicyDenied: no permit.
            BudgetExceeded: the ledger refuses the round.
        """
        from aegis_flower import models
        from aegis_flower import train as training
        from aegis_flower.stream import PermitDataset

        cfg = self.config.privacy
        permit = self.authorize("train", round_)
        reservation = None
        private = cfg.mode == "example"
        if private:
            self._check_delta(permit)
            reservation = self.node.ledger.reserve(
                run=str(self.context.run_id),
                round_=round_,
                mechanism=Mechanism(noise_multiplier, cfg.sample_rate),
                steps=cfg.steps_per_round,
                delta=cfg.delta,
                budget=self.node.engine.budget_epsilon(permit.object),
            )
        data = PermitDataset(self.node.vault, permit, self.spec)
        if not data.labelled:
            raise AppError(
                f"policy.columns does not ask for the label column {self.spec.label!r}, so there is nothing to learn from"
            )
        rng = Rng.insecure_test(self.config.seed + round_) if cfg.noise == "insecure_test" else Rng()
        model = self.model()
        load(model, parameters)
        result = training.train(
            model,
            self.loss(),
            self.optimizer(model.parameters()),
            data,
            cfg,
            noise_multiplier,
            rng,
            models.device(self.config.model.device),
            self.config.strategy.proximal_mu if self.config.strategy.name == "fedprox" else 0.0,
        )
        dp = cfg.noise if private else "off"
        return Trained(parameters, weights(model), permit, result, dp, reservation)

    def _check_delta(self, permit: Permit) -> None:
        delta = self.config.privacy.delta
        if delta * permit.rows >= 1:
            raise BudgetExceeded(
                f"privacy.delta={delta:g} is not below 1/{permit.rows}, one over the rows: such a δ would allow "
                "publishing whole records; lower it",
                spent=0.0,
                after=0.0,
                budget=0.0,
            )

    def evaluate_counts(self, parameters: NDArrays, round_: int) -> tuple[dict[str, int], Permit | None]:
        """Counts over the holdout rows, by the names of `gate.METRICS`; and the permit used.

        A node without a holdout counts zero rows and needs no permit.
        """
        if not self.node.has_holdout:
            return dict.fromkeys(gate.METRICS, 0), None
        from aegis_flower import models
        from aegis_flower import train as training
        from aegis_flower.stream import PermitDataset

        permit = self.authorize("evaluate", round_, holdout=True)
        data = PermitDataset(self.node.vault, permit, self.spec)
        model = self.model()
        load(model, parameters)
        found = training.evaluate(model, self.loss(), data, models.device(self.config.model.device))
        counts = {
            "examples": len(found.right),
            "correct": int(found.right.sum()),
            "loss_milli": round(min(max(found.loss, 0.0), 1e6) * 1000),
            **gate.CONFIDENCE.count(found.confidence),
            **gate.CONFIDENT_AND_RIGHT.count(found.confidence[found.right]),
        }
        return counts, permit

    def release(
        self, trained: Trained, shapes: gate.Shapes, metrics: dict[str, int], *, secure_aggregation: bool
    ) -> Any:
        """Takes the update through the release gates and closes the ledger's entry.

        Raises:
            GateFailed, PolicyDenied: see `aegis_flower.gate.release`.
        """
        cfg = self.config
        weight = trained.permit.rows if cfg.secagg.weighting == "rows" else 1
        proposal = gate.Proposal(
            trained.update,
            shapes,
            metrics,
            trained.result.rows,
            trained.dp,
            trained.reservation.id if trained.reservation else None,
            trained.reservation.epsilon_total if trained.reservation else 0.0,
            weight,
        )
        limits = gate.Limits(shapes, cfg.strategy.max_norm, cfg.secagg.weight_max)
        freed = gate.release(self.node, trained.permit, proposal, limits, secure_aggregation=secure_aggregation)
        if trained.reservation is not None:
            self.node.ledger.commit(trained.reservation)
        return freed


def weights(model: nn.Module) -> NDArrays:
    """The model's parameters as float32 arrays, in order. Buffers stay at home: they are not noised."""
    return [p.detach().cpu().numpy().astype(np.float32, copy=True) for p in model.parameters()]


def load(model: nn.Module, parameters: NDArrays) -> None:
    """Writes weights into a model.

    Raises:
        AppError: number or shapes differ; both sides must build the same model.
    """
    import torch

    own = list(model.parameters())
    if [tuple(p.shape) for p in own] != [a.shape for a in parameters]:
        raise AppError(
            f"the server's model has shapes {[a.shape for a in parameters]}, this client's has "
            f"{[tuple(p.shape) for p in own]}; build the same model on both sides"
        )
    with torch.no_grad():
        for p, a in zip(own, parameters, strict=True):
            p.copy_(torch.from_numpy(np.ascontiguousarray(a)))


def apply_update(parameters: NDArrays, update: npt.NDArray[np.floating[Any]]) -> NDArrays:
    """Weights plus a flat update."""
    out, at = [], 0
    for a in parameters:
        out.append((a + update[at : at + a.size].reshape(a.shape)).astype(a.dtype))
        at += a.size
    return out


ClientFactory = Callable[[Context], Any]


def aegis_client_app(
    client: type[VaultClient] | ClientFactory = VaultClient,
    *,
    model: ModelFn | None = None,
    loss: training.Loss | None = None,
    optimizer: OptimizerFn | None = None,
    config: Config | None = None,
) -> ClientApp:
    """Makes a Flower `ClientApp` that works under Message-API strategies.

    Args:
        client: a `VaultClient` subclass, or a function of Flower's `Context` that returns a `VaultClient`, another
            `NumPyClient` or a `Client` (the old ``client_fn``). Clients without a vault run under Flower's own
            strategies, not under `SecureAggregation`.
        model: builds the model, for `VaultClient`.
        loss: mean-reduced loss of (outputs, labels), for `VaultClient`.
        optimizer: builds the optimiser from parameters, for `VaultClient`.
        config: the experiment; None composes it from the run config's ``aegis-experiment`` and ``aegis-overrides``.

    Raises:
        AppError: `client` is something else, with what to pass instead.
    """
    make = _client_factory(client, model, loss, optimizer, config)
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        with _discreet(message):
            return _plain_train(_numpy_client(make, message, context), message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        with _discreet(message):
            return _plain_evaluate(_numpy_client(make, message, context), message)

    @app.query("aegis_advertise")
    def advertise(message: Message, context: Context) -> Message:
        return _answer(make, message, context, lambda c, _: Masker(c.node, context).advertise())

    @app.query("aegis_share")
    def share(message: Message, context: Context) -> Message:
        return _answer(make, message, context, lambda c, r: Masker(c.node, context).share(r.payload))

    @app.train("aegis_masked")
    def masked(message: Message, context: Context) -> Message:
        return _answer(make, message, context, functools.partial(_masked_input, message))

    @app.query("aegis_commit")
    def commit(message: Message, context: Context) -> Message:
        return _answer(make, message, context, lambda c, r: Masker(c.node, context).commit(r.payload))

    @app.query("aegis_unmask")
    def unmask(message: Message, context: Context) -> Message:
        return _answer(make, message, context, lambda c, r: Masker(c.node, context).unmask(r.payload))

    return app


def _client_factory(
    client: Any, model: ModelFn | None, loss: training.Loss | None, optimizer: OptimizerFn | None, config: Config | None
) -> ClientFactory:
    if isinstance(client, ClientApp):
        raise AppError(
            "aegis_client_app() was given a ClientApp; pass the client_fn (or the VaultClient subclass) that app was made of"
        )
    if inspect.isclass(client):
        if not issubclass(client, VaultClient):
            raise AppError(
                f"{client.__name__} is no VaultClient; derive it from VaultClient, or pass a function of Context that "
                f"returns a {client.__name__}"
            )

        def make(context: Context) -> VaultClient:
            cfg = config or _composed(*_freeze(context))
            made: VaultClient = client(open_node(context, cfg), cfg, context)
            made.model_fn, made.loss_fn, made.optimizer_fn = (
                model or made.model_fn,
                loss or made.loss_fn,
                optimizer or made.optimizer_fn,
            )
            return made

        return make
    if not callable(client):
        raise AppError(
            f"aegis_client_app() needs a VaultClient subclass or a function of Context, not a {type(client).__name__}"
        )
    if model or loss or optimizer:
        raise AppError("model, loss and optimizer go with a VaultClient class; a client function builds its own")
    return client  # type: ignore[no-any-return]


def _freeze(context: Context) -> tuple[str | None, tuple[str, ...]]:
    name, overrides = overrides_from_run_config(context.run_config)
    return name, tuple(overrides)


@functools.lru_cache(maxsize=8)
def _composed(name: str | None, overrides: tuple[str, ...]) -> Config:
    return compose(name, overrides)


OLD_SERVER = (
    "the server runs a strategy of the old API (flwr.server.strategy), this app speaks the Message API: import the "
    "strategy from flwr.serverapp.strategy and call strategy.start(grid=...) in @app.main()"
)


def _numpy_client(make: ClientFactory, message: Message, context: Context) -> NumPyClient:
    records = message.content
    if any(key.startswith(("fitins", "evaluateins")) for key in records):
        raise AppError(OLD_SERVER)
    client = make(context)
    if isinstance(client, NumPyClient):
        return client
    inner = getattr(client, "numpy_client", None)  # NumPyClient.to_client() keeps the original there
    if isinstance(client, Client) and isinstance(inner, NumPyClient):
        return inner
    raise AppError(
        f"the client function returned a {type(client).__name__}; return a NumPyClient (or its .to_client())"
    )


@contextmanager
def _discreet(message: Message) -> Iterator[None]:
    """Flower sends an exception's text to the server; text of foreign errors may hold data and stays here."""
    try:
        yield
    except AegisError:
        raise
    except Exception as error:
        log.exception("aegis: %s failed", message.metadata.message_type)
        raise AegisError(f"{type(error).__name__} in the client app; the node's log has the details") from None


def _plain_config(message: Message) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for record in message.content.config_records.values():
        config.update(record)
    config["round"] = int(config.get("server-round", config.get("round", 0)))
    config["noise_multiplier"] = float(config.get("noise-multiplier", 0.0))
    return config


def _plain_train(client: NumPyClient, message: Message) -> Message:
    (key, arrays), *_ = message.content.array_records.items()
    params, count, metrics = client.fit(wire.ndarrays(arrays), _plain_config(message))
    record = ArrayRecord({name: Array(np.asarray(a)) for name, a in zip(arrays, params, strict=True)})
    content = RecordDict({key: record, "metrics": MetricRecord({"num-examples": count, **_numbers(metrics)})})
    return Message(content, reply_to=message)


def _plain_evaluate(client: NumPyClient, message: Message) -> Message:
    (_, arrays), *_ = message.content.array_records.items()
    loss, count, metrics = client.evaluate(wire.ndarrays(arrays), _plain_config(message))
    record = MetricRecord({"num-examples": count, "loss": float(loss), **_numbers(metrics)})
    return Message(RecordDict({"metrics": record}), reply_to=message)


def _numbers(metrics: dict[str, Any]) -> dict[str, int | float]:
    return {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _answer(
    make: ClientFactory,
    message: Message,
    context: Context,
    step: Callable[[VaultClient, wire.Request], bytes],
) -> Message:
    """Runs a protocol step; any failure becomes a code and a reason, never data and never weights."""
    node: Node | None = None
    try:
        client = make(context)
        if not isinstance(client, VaultClient):
            raise AppError(
                f"secure aggregation needs a VaultClient on every node (its vault seals the round's secrets), this app "
                f"has a {type(client).__name__}: derive the client from VaultClient, or use the strategy without "
                "SecureAggregation"
            )
        node = client.node
        reply = wire.Reply(step(client, wire.Request.from_content(message.content)))
    except AegisError as error:
        log.warning("aegis: refused %s: [%s] %s", message.metadata.message_type, error.code, error)
        reply = wire.Reply(code=error.code, reason=str(error))
    except Exception as error:  # text of foreign errors may hold data: it stays in the node's own log
        log.exception("aegis: %s failed", message.metadata.message_type)
        reply = wire.Reply(code="AEG-X000", reason=f"{type(error).__name__}; the node's log has the details")
    if node is not None:
        try:
            records, head = node.vault.audit_head()
            reply = wire.Reply(reply.payload, reply.code, reply.reason, records, head)
        except AegisError as error:  # nothing leaves a node whose log is not whole
            reply = wire.Reply(code=error.code, reason=str(error))
    return Message(reply.to_content(), reply_to=message)


def _masked_input(message: Message, client: VaultClient, request: wire.Request) -> bytes:
    arrays = message.content.array_records[wire.ARRAYS]
    parameters = wire.ndarrays(arrays)
    shapes = [(name, tuple(a.shape)) for name, a in zip(arrays, parameters, strict=True)]
    masker = Masker(client.node, client.context)
    if request.task == "evaluate":
        counts, permit = client.evaluate_counts(parameters, request.round)
        if permit is None:
            raise AppError(f"{client.node.config.name} has no holdout rows to evaluate on")
        empty = gate.Proposal(np.empty(0, np.float32), [], counts, counts["examples"])
        limits = gate.Limits([], client.config.strategy.max_norm, client.config.secagg.weight_max)
        freed = gate.release(client.node, permit, empty, limits, secure_aggregation=True)
    else:
        trained = client.train_round(parameters, request.round, request.noise_multiplier)
        # After training, so that a refused budget reads nothing; it is the received model that is evaluated.
        counts, _ = client.evaluate_counts(parameters, request.round)
        freed = client.release(trained, shapes, counts, secure_aggregation=True)
    return masker.masked_input(request.payload, freed, sum(a.size for a in parameters))
