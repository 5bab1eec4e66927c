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

TOKENS = "version: 1\ncolumns: {t: {kind: list, as: ids, length: 5, low: 3, high: 9, pad: 2, unknown: 2}}\n"


@pytest.mark.parametrize("task", features.TASKS)
def test_the_built_in_models_fit_every_task_with_its_loss(task: str) -> None:
    label = {
        "binary": "column: y, levels: [a, b]",
        "multiclass": "column: y, levels: [a, b, c]",
        "ordinal": "column: y, levels: [a, b, c]",
        "multilabel": "columns: [y, z]",
        "regression": "column: y, low: 0, high: 1",
        "time-to-event": "column: t, event: y, edges: [1, 2, 4]",
        "next-token": "column: t, length: 5, low: 3, high: 9",
    }[task]
    given, kinds = AGE, [ModelConfig(), ModelConfig("mlp", [4])]
    if task == "next-token":
        given, kinds = TOKENS, [ModelConfig("tokens", [4])]
    spec = features.parse(given + f"label: {{task: {task}, {label}}}\n").spec
    for cfg in kinds:
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


def test_ids_of_a_row_have_one_label_or_one_after_each_of_them() -> None:
    binary, following = (
        features.parse(TOKENS + label).spec
        for label in (LABEL, "label: {task: next-token, column: t, length: 5, low: 3, high: 9}\n")
    )
    assert models.build(ModelConfig("tokens"), binary, 1)(torch.tensor([[3, 9, 2, 2, 2]])).shape == (1, 2)
    model = models.build(ModelConfig("tokens"), following, 1)
    a, b = model(torch.tensor([[3, 4, 5, 6, 7], [3, 4, 5, 9, 9]]))
    assert a.shape == (7, 5)
    assert torch.allclose(a[:, :3], b[:, :3]), "what comes later tells nothing of a place"
    assert not torch.allclose(a[:, 3], b[:, 3])
    for kind, spec, words in (
        ("logistic", following, "gives ids"),
        ("tokens", features.parse(AGE + LABEL).spec, "tokens takes ids"),
    ):
        with pytest.raises(ConfigError, match=words):
            models.build(ModelConfig(kind), spec, 1)


def test_a_model_with_its_places_in_the_middle_is_told_to_turn_them() -> None:
    spec = features.parse(TOKENS + "label: {task: next-token, column: t, length: 5, low: 3, high: 9}\n").spec

    class Turned(models.Tokens):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).transpose(1, 2)

    with pytest.raises(AppError, match=r"places last: logits.transpose\(1, 2\)"):
        probe(lambda: Turned((3, 9), 4, 7, each=True), loss_of("next-token"), spec, torch.device("cpu"))


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
