"""The client: `VaultClient`, and the app that runs it, or a plain `NumPyClient`, under Flower's Message-API strategies."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flwr.app import Context
from flwr.clientapp import ClientApp

from aegis_flower.client import handlers
from aegis_flower.client.handlers import ClientFactory
from aegis_flower.client.vault_client import VaultClient
from aegis_flower.configs import CARRIED, EXPERIMENT, OVERRIDES, Config, from_run_config
from aegis_flower.door import DoorApp
from aegis_flower.errors import AppError
from aegis_flower.metrics import Metric
from aegis_flower.node.node import open_node

if TYPE_CHECKING:
    from aegis_flower import train as training
    from aegis_flower.client.recipe import ModelFn, OptimizerFn
    from aegis_flower.data import Spec

    Configured = Config | Callable[[Mapping[str, Any]], Config]

__all__ = ["aegis_client_app"]


def aegis_client_app(
    client: type[VaultClient] | ClientFactory = VaultClient,
    *,
    model: ModelFn | None = None,
    loss: training.Loss | None = None,
    optimizer: OptimizerFn | None = None,
    class_weights: Sequence[float] | None = None,
    metrics: Sequence[Metric] = (),
    spec: Spec | None = None,
    config: Configured | None = None,
) -> DoorApp:
    """Makes a Flower `ClientApp` that works under Message-API strategies.

    Whatever the app answers goes through its door (`aegis_flower.door`): a release, a message of the protocol, or a code.

    Args:
        client: a `VaultClient` subclass, or a function of Flower's `Context` that returns a `VaultClient`, another
            `NumPyClient` or a `Client` (the old ``client_fn``). Clients without a vault run under Flower's own
            strategies, not under `SecureAggregation`, and on nodes without a vault.
        model: builds the model, for `VaultClient`; takes nothing, or the `Spec` of the data.
        loss: mean-reduced loss of (outputs, labels), for `VaultClient`.
        optimizer: builds the optimiser from parameters (and, if it takes two arguments, the round's settings), for
            `VaultClient`.
        class_weights: public weights, one for each class: a record's loss counts by that of its class, for `VaultClient`.
        metrics: the app's own, beside those of the configuration, for `VaultClient`; the same that `aegis_server_app` gets.
        spec: what the vaults hold, where that is neither the configured data set nor told by a feature plan, for `VaultClient`.
        config: the experiment, or what makes it of a run config; None composes it from the run config's ``aegis-experiment`` and
            ``aegis-overrides``.

    Raises:
        AppError: `client` is something else, with what to pass instead.
    """
    app = DoorApp()
    make = _client_factory(client, model, loss, optimizer, spec, config, tuple(metrics))
    if class_weights is not None:
        make = _weighted(make, client, tuple(class_weights))
    app.make = make
    handlers.register(app, make)
    return app


def _weighted(make: ClientFactory, client: Any, weights: tuple[float, ...]) -> ClientFactory:
    """Clients whose loss, their own or the default, counts each record by its class."""
    if not (inspect.isclass(client) and issubclass(client, VaultClient)):
        raise AppError("class_weights goes with a VaultClient class; a client function builds its own loss")

    def made(context: Context) -> VaultClient:
        one: VaultClient = make(context)
        plain = one.loss

        def loss() -> training.Loss:
            from aegis_flower.train import class_weighted

            return class_weighted(weights, plain())

        one.loss = loss  # type: ignore[method-assign]
        return one

    return made


def _client_factory(
    client: Any,
    model: ModelFn | None,
    loss: training.Loss | None,
    optimizer: OptimizerFn | None,
    spec: Spec | None,
    config: Configured | None,
    metrics: tuple[Metric, ...] = (),
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
            cfg = config(context.run_config) if callable(config) else config or _composed(_freeze(context))
            made: VaultClient = client(open_node(context, cfg), cfg, context)
            made.model_fn, made.loss_fn, made.optimizer_fn = (
                model or made.model_fn,
                loss or made.loss_fn,
                optimizer or made.optimizer_fn,
            )
            made.spec = spec or made.spec
            made.own_metrics = metrics or made.own_metrics
            return made

        return make
    if not callable(client):
        raise AppError(
            f"aegis_client_app() needs a VaultClient subclass or a function of Context, not a {type(client).__name__}"
        )
    if model or loss or optimizer or spec or metrics:
        raise AppError(
            "model, loss, optimizer, spec and metrics go with a VaultClient class; a client function builds its own"
        )
    return client  # type: ignore[no-any-return]


def _freeze(context: Context) -> tuple[tuple[str, str], ...]:
    keys = (CARRIED, EXPERIMENT, OVERRIDES)
    return tuple((key, str(context.run_config.get(key, "") or "")) for key in keys)


@functools.lru_cache(maxsize=8)
def _composed(frozen: tuple[tuple[str, str], ...]) -> Config:
    return from_run_config(dict(frozen))[0]
