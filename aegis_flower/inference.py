"""Inference: the model of a run on new rows, by the plan it was trained with. Nothing of a vault is opened here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aegis_flower import archive, features
from aegis_flower.configs import Config, from_dict
from aegis_flower.errors import DataError, ModelMismatch
from aegis_flower.features import Plan
from aegis_flower.report import RunReport, load_report
from aegis_flower.report.collect import FEATURES, MODEL

JSON = "report.json"


@dataclass(frozen=True)
class TrainedModel:
    """The model of a run, and what has to be known to use it.

    Attributes:
        weights: arrays by name, in the model's order.
        config: the run's.
        report: the run's.
        plan: how columns become inputs; None for a built-in data set.
    """

    weights: dict[str, npt.NDArray[Any]]
    config: Config
    report: RunReport
    plan: Plan | None

    @functools.cached_property
    def module(self) -> Any:
        """The configured torch model with the weights.

        Raises:
            ModelMismatch: the run trained a model of its app, which is not in the configuration.
        """
        import torch

        from aegis_flower import models

        spec = self.plan.spec if self.plan is not None else features.spec_of(self.config.data)
        model = models.build(self.config.model, spec, self.config.seed)
        own = {name: tuple(value.shape) for name, value in model.named_parameters()}
        mine = [tuple(value.shape) for value in self.weights.values()]
        if list(own.values()) != mine:
            raise ModelMismatch(
                f"the run's weights {mine} are not those of model.kind={self.config.model.kind} {list(own.values())}; an "
                "app builds a model of its own: load model.npz into that"
            )
        with torch.no_grad():
            for (_, parameter), value in zip(model.named_parameters(), self.weights.values(), strict=True):
                parameter.copy_(torch.from_numpy(value))
        return model.eval()

    def outputs(self, batch: Any) -> npt.NDArray[np.float32]:
        """What the model gives for rows, before a softmax: shape (rows, outputs).

        Args:
            batch: what `features.Plan.apply` takes.

        Raises:
            DataError: the run had no feature plan.
        """
        import torch

        if self.plan is None:
            raise DataError(
                f"the run trained on {self.config.data.name} without a feature plan, so nothing says what columns mean"
            )
        inputs = self.plan.apply(batch, label=False).inputs
        made = {name: torch.from_numpy(values) for name, values in inputs.items()}
        with torch.no_grad():
            out = self.module(next(iter(made.values())) if len(made) == 1 and not self.plan.inputs else made)
        return np.asarray(out.numpy(), dtype=np.float32)

    def predict(self, batch: Any) -> dict[str, npt.NDArray[Any]]:
        """Predictions in the words of the plan; see `features.Label.decode`."""
        outputs = self.outputs(batch)
        assert self.plan is not None
        return self.plan.label.decode(outputs)


def load(folder: str | Path) -> TrainedModel:
    """The model that a run left in its folder.

    Raises:
        DataError: there is none.
    """
    folder = Path(folder)
    if not (folder / MODEL).is_file():
        raise DataError(f"{folder}: there is no {MODEL}; give the folder of a run that ended with a model")
    try:
        weights = archive.read(folder / MODEL)
    except DataError as error:
        raise DataError(f"{folder / MODEL}: it is no file of arrays, as a run leaves it ({error})") from None
    report = load_report(folder / JSON)
    plan = features.load(str(folder / FEATURES)) if (folder / FEATURES).is_file() else None
    return TrainedModel(weights, from_dict(report.config.resolved), report, plan)
