"""Local: one model at a node, of torch or a learner, as `VaultClient` uses it: load, session, train, judge."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from aegis_engine import DpSession, Permit, Rng
from aegis_flower import whole_update
from aegis_flower.errors import ModelMismatch
from aegis_flower.features import plan_of
from aegis_flower.learners import Learner, PerRecord, Settings, is_torch, learner_of
from aegis_flower.learners.losses import CLASSES, task_of
from aegis_flower.ledger import RoundMechanism, RoundReservation
from aegis_flower.metrics import Judged
from aegis_flower.weights import NDArrays, load, travelling, weights

if TYPE_CHECKING:
    from torch import nn

    from aegis_flower.client.recipe import Recipe
    from aegis_flower.stream import PermitDataset


_JUDGED: Final = 1 << 22  # outputs that an evaluation holds at once; a row of tokens has very many


def _at_once(client: Recipe) -> int:
    """Rows of an evaluation at once; changes no result."""
    plan = plan_of(client.spec)
    given = math.prod(plan.label.given) if plan else client.spec.classes
    return max(1, min(512, _JUDGED // given))


class Local(Protocol):
    """A model that was built for one message."""

    @property
    def trained(self) -> list[bool]:
        """Which arrays the training may change."""

    def arrays(self) -> NDArrays:
        """What travels, in order."""

    def load(self, parameters: NDArrays) -> None:
        """Takes the server's arrays.

        Raises:
            ModelMismatch: their number or shapes differ.
        """

    def session(self, permit: Permit, reservation: RoundReservation, seed: int | None) -> DpSession:
        """The engine's session of the round that was charged."""

    def train(self, data: PermitDataset, mechanism: RoundMechanism, rng: Rng | DpSession) -> Any:
        """One round; gives its steps, rows and empty batches."""

    def judged(self, data: PermitDataset) -> Iterator[Judged]:
        """What the model says of each row."""


def local_of(client: Recipe) -> Local:
    """The client's model, as it is built."""
    made: Any = client.model()
    return TorchModel(client, made) if is_torch(made) else LearnerModel(client, learner_of(made, client.spec))


class TorchModel:
    """A module of torch: the parameters that are trained get gradients of single records by Opacus."""

    def __init__(self, client: Recipe, model: nn.Module) -> None:
        self._client, self._model = client, model

    @property
    def trained(self) -> list[bool]:
        """Those that require gradients."""
        return [p.requires_grad for p in travelling(self._model).values()]

    def arrays(self) -> NDArrays:
        """See `aegis_flower.weights.travelling`."""
        return weights(self._model)

    def load(self, parameters: NDArrays) -> None:
        """See `aegis_flower.weights.load`."""
        load(self._model, parameters)

    def session(self, permit: Permit, reservation: RoundReservation, seed: int | None) -> DpSession:
        """For DP-SGD, or for the whole update."""
        from aegis_flower import train as training

        if reservation.mechanism.kind != "update":
            return training.session(self._model, permit, reservation, seed)
        dim = sum(p.numel() for p in self._model.parameters() if p.requires_grad)
        return whole_update.session(permit, reservation, dim, seed)

    def train(self, data: PermitDataset, mechanism: RoundMechanism, rng: Rng | DpSession) -> Any:
        """See `aegis_flower.train.train`."""
        from aegis_flower import models
        from aegis_flower import train as training

        client = self._client
        learning = training.Learning(
            client.loss(),
            client.optimizer(self._model.parameters()),
            models.device(client.config.model.device),
            client.proximal_mu,
            client.config.model.physical_batch,
        )
        return training.train(self._model, data, mechanism, rng, learning, probed=client.probed)

    def judged(self, data: PermitDataset) -> Iterator[Judged]:
        """See `aegis_flower.per_record.evaluation.judged`."""
        from aegis_flower import models
        from aegis_flower import train as training

        client = self._client
        device = models.device(client.config.model.device)
        return training.judged(
            self._model, client.loss(), data, device, _at_once(client), classes=client.predicts_classes
        )


class LearnerModel:
    """A learner of another framework."""

    def __init__(self, client: Recipe, learner: Learner) -> None:
        self._client, self.learner = client, learner

    @property
    def trained(self) -> list[bool]:
        """All: a learner names only what it trains."""
        return [True] * len(self.learner.arrays())

    def arrays(self) -> NDArrays:
        """See `Learner.arrays`."""
        return list(self.learner.arrays().values())

    def load(self, parameters: NDArrays) -> None:
        """Takes the server's arrays, after a look at their shapes."""
        own = [a.shape for a in self.learner.arrays().values()]
        if own != [a.shape for a in parameters]:
            raise ModelMismatch(
                f"the server's model has shapes {[a.shape for a in parameters]}, this client's has {own}; build the same model "
                "on both sides"
            )
        self.learner.load(parameters)

    def session(self, permit: Permit, reservation: RoundReservation, seed: int | None) -> DpSession:
        """Over all arrays."""
        return whole_update.session(permit, reservation, sum(a.size for a in self.learner.arrays().values()), seed)

    def train(self, data: PermitDataset, mechanism: RoundMechanism, rng: Rng | DpSession) -> Any:
        """See `aegis_flower.learners.rounds.learn`."""
        from aegis_flower.learners import rounds

        assert not mechanism.private or isinstance(self.learner, PerRecord)
        client = self._client
        settings = Settings(
            learning_rate=client.learning_rate if "learning_rate" in self.learner.reads else Settings.learning_rate,
            momentum=client.config.model.momentum,
            proximal_mu=client.proximal_mu,
            expected_batch=max(1.0, mechanism.sample_rate * len(data)),
        )
        most = client.config.model.physical_batch
        classes = client.spec.classes if task_of(client.spec) == CLASSES else None
        return rounds.learn(self.learner, data, mechanism, rng, settings, physical_batch=most, classes=classes)

    def judged(self, data: PermitDataset) -> Iterator[Judged]:
        """See `aegis_flower.learners.rounds.judged`."""
        from aegis_flower.learners import rounds

        return rounds.judged(self.learner, data, classes=self._client.predicts_classes, batch=_at_once(self._client))
