"""Models on what a feature plan makes: tasks and losses that fit, shapes that do not, models that mix records."""

from __future__ import annotations

import pytest
import torch
from plan_examples import AGE, LABEL
from torch import nn

from aegis_flower import features, models
from aegis_flower.configs import ModelConfig
from aegis_flower.errors import AppError, ConfigError
from aegis_flower.per_record.evaluation import by_record
from aegis_flower.per_record.losses import loss_of, squared
from aegis_flower.per_record.probe import probe


@pytest.mark.parametrize("task", features.TASKS)
def test_the_built_in_models_fit_every_task_with_its_loss(task: str) -> None:
    label = {
        "binary": "column: y, levels: [a, b]",
        "multiclass": "column: y, levels: [a, b, c]",
        "ordinal": "column: y, levels: [a, b, c]",
        "multilabel": "columns: [y, z]",
        "regression": "column: y, low: 0, high: 1",
        "time-to-event": "column: t, event: y, edges: [1, 2, 4]",
    }[task]
    spec = features.parse(AGE + f"label: {{task: {task}, {label}}}\n").spec
    for cfg in (ModelConfig(), ModelConfig("mlp", [4])):
        assert (
            probe(lambda cfg=cfg: models.build(cfg, spec, 1), loss_of(task), spec, torch.device("cpu")).functorch
            is False
        )


def test_the_built_in_models_refuse_inputs_that_they_cannot_take() -> None:
    ids = features.parse("version: 1\ncolumns: {w: {kind: category, as: index, levels: [a, b]}}\n" + LABEL)
    with pytest.raises(ConfigError, match="gives ids"):
        models.build(ModelConfig(), ids.spec, 1)
    two = features.parse(
        "version: 1\ncolumns: {w: {kind: category, levels: [a, b]}, n: {kind: boolean}}\ninputs: {a: [w], b: [n]}\n"
        + LABEL
    )
    with pytest.raises(ConfigError, match="takes one input, the feature plan has a, b"):
        models.build(ModelConfig(), two.spec, 1)


def test_a_picture_alone_is_an_image_to_a_model() -> None:
    plan = features.parse("version: 1\ncolumns: {scan: {kind: tensor, shape: [28, 28], low: 0, high: 255}}\n" + LABEL)
    assert plan.spec.image == (28, 28)
    models.build(ModelConfig("cnn"), plan.spec, 1)


class Mixing(nn.Module):
    """Takes two inputs, and centres one over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.of_all = nn.Linear(3, 2)

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.of_all(torch.cat([x["numbers"] - x["numbers"].mean(0), x["ids"].float()], 1))


def test_a_model_of_several_inputs_that_mixes_records_is_found_on_made_up_rows() -> None:
    spec = features.parse(
        "version: 1\ncolumns: {n: {kind: boolean}, a: {kind: integer, as: ids, low: 0, high: 4}, "
        "b: {kind: integer, as: ids, low: 0, high: 1}}\ninputs: {numbers: [n], ids: [a, b]}\n" + LABEL
    ).spec
    with pytest.raises(AppError, match="moves when other records change"):
        probe(Mixing, loss_of("binary"), spec, torch.device("cpu"))


class Bare(nn.Module):
    """Has parameters of its own, and takes the dict."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 2))

    def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
        return x["numbers"] @ self.weight


def test_a_module_with_parameters_takes_tensors_and_the_refusal_says_so() -> None:
    spec = features.parse(
        "version: 1\ncolumns: {n: {kind: boolean}, a: {kind: integer, as: ids, low: 0, high: 4}}\n"
        "inputs: {numbers: [n], ids: [a]}\n" + LABEL
    ).spec
    with pytest.raises(AppError, match="the dict only to modules that hold others"):
        probe(Bare, loss_of("binary"), spec, torch.device("cpu"))

    class Holds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(1, 2)

        def forward(self, x: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.inner(x["numbers"])

    probe(Holds, loss_of("binary"), spec, torch.device("cpu"))


def test_the_squared_error_is_each_records_own() -> None:
    out, y = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert squared(out, y).tolist() == [1, 4]
    assert by_record(squared)(out, y).tolist() == [1, 4]
