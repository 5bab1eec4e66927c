"""The recipe: what an app says of its training. `VaultClient` adds what is done with it; admission and preflight read no more."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flwr.app import Context

from aegis_flower import features, gate
from aegis_flower.client.round_config import RoundConfig
from aegis_flower.configs import Config
from aegis_flower.configs.schedules import client_rate
from aegis_flower.data.spec import built
from aegis_flower.metrics import Metric, Metrics
from aegis_flower.node.node import Node

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aegis_flower import train as training

    ModelFn = Callable[..., Any]  # takes nothing, or the `Spec` of the data
    OptimizerFn = Callable[..., torch.optim.Optimizer]


class Recipe:
    """Model, loss, optimiser and the settings they are made for, of one node and one message.

    Attributes:
        round_config: settings of the server's message, such as Flower's ``train_config``; read-only.
        round: number of the round, from 1, as the server says it.
        torch_model: whether `model`, `loss` and `optimizer` are used.
        probed: what the preflight found of the model; None before.
    """

    torch_model = True
    model_fn: ModelFn | None = None
    loss_fn: training.Loss | None = None
    optimizer_fn: OptimizerFn | None = None
    own_metrics: tuple[Metric, ...] = ()

    def __init__(self, node: Node, config: Config, context: Context) -> None:
        self.node, self.config, self.context = node, config, context
        self.spec = features.spec_of(config.data)
        self.round_config = RoundConfig()
        self.round = 1
        self.probed: training.Probed | None = None

    def model(self) -> Any:
        """The model to train; by default the configured one. Of torch, of scikit-learn, or a `aegis_flower.learners.Learner`."""
        if self.model_fn:
            return built(self.model_fn, lambda: self.spec)
        from aegis_flower import models

        return models.build(self.config.model, self.spec, self.config.seed)

    def own_model(self) -> Callable[[], Any] | None:
        """What builds the app's own model; None where it is the configured one, or none of torch."""
        if not self.torch_model or (self.model_fn is None and type(self).model is Recipe.model):
            return None
        return self.model

    def loss(self) -> training.Loss:
        """Mean-reduced loss of (outputs, labels); by default that of the feature plan's task, cross-entropy without a plan."""
        from aegis_flower.per_record.losses import loss_of

        plan = features.plan_of(self.spec)
        return self.loss_fn or loss_of(plan.label.task if plan else None)

    @property
    def learning_rate(self) -> float:
        """That of this round: the server's ``train_config["lr"]``, or else the configured one on its ``model.schedule``."""
        sent = self.round_config.learning_rate
        return client_rate(self.config, self.round) if sent is None else sent

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The local optimiser; by default SGD with `learning_rate`.

        It is made anew in every round: momentum and moments do not last beyond one.
        """
        if self.optimizer_fn:
            if _takes_config(self.optimizer_fn):
                return self.optimizer_fn(parameters, self.round_config)
            return self.optimizer_fn(parameters)
        import torch

        return torch.optim.SGD(parameters, lr=self.learning_rate, momentum=self.config.model.momentum)

    @cached_property
    def metrics(self) -> Metrics:
        """What an evaluation tells: what the configuration names, and the app's own. Fixed before a message is read."""
        return gate.declared(self.config, tuple(self.own_metrics))

    @property
    def predicts_classes(self) -> bool:
        """Whether the model names classes. One that predicts a number has a loss over held-out rows and no accuracy."""
        return self.spec.classes > 1

    @property
    def proximal_mu(self) -> float:
        """FedProx's μ: the message's, else the configured one."""
        sent = self.round_config.proximal_mu
        if sent is not None:
            return sent
        return self.config.strategy.proximal_mu if self.config.strategy.name == "fedprox" else 0.0


def _takes_config(function: Callable[..., Any]) -> bool:
    """Whether an optimiser function of the app wants the round's settings beside the parameters."""
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError):
        return False
    return not inspect.isclass(function)  # torch's own optimisers take a second argument of their own
