"""Evaluation: each row is right or wrong by itself, and none stops the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from aegis_flower.per_record.evaluation import evaluate


class Rows:
    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = torch.as_tensor(x), torch.as_tensor(y)

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
        i = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return self.x[i].clone(), self.y[i].clone()


CPU = torch.device("cpu")
F = torch.nn.functional
XS = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
SIDE = (XS.sum(1) > 0).astype(np.int64)


def knows(outputs: int) -> torch.nn.Linear:
    layer = torch.nn.Linear(4, outputs)
    with torch.no_grad():
        layer.weight.zero_()[-1] += 1
        layer.bias.zero_()
    return layer


def test_one_logit_names_class_1_above_zero() -> None:
    bce = F.binary_cross_entropy_with_logits
    shapes = [
        (knows(1), lambda o, y: bce(o, y.float()[:, None])),
        (torch.nn.Sequential(knows(1), torch.nn.Flatten(0)), lambda o, y: bce(o, y.float())),
    ]
    for model, loss in shapes:
        for labels in (SIDE, SIDE.astype(np.float32)):
            found = evaluate(model, loss, Rows(XS, labels), CPU)
            assert found.right.all()
            chance = 1 / (1 + np.exp(-np.abs(XS.sum(1))))
            np.testing.assert_allclose(found.confidence, chance, rtol=1e-5)


def test_a_row_with_several_labels_is_right_when_all_are() -> None:
    model = torch.nn.Sequential(knows(2), torch.nn.Unflatten(1, (2, 1)))
    model = torch.nn.Sequential(model, torch.nn.Upsample(scale_factor=3))  # (B, 2, 3)
    labels = np.stack([SIDE, SIDE, np.arange(90) % 2], axis=1)
    found = evaluate(model, F.cross_entropy, Rows(XS, labels), CPU)
    np.testing.assert_array_equal(found.right, labels[:, 2] == SIDE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_row_that_cannot_be_judged_is_wrong_at_the_largest_loss_and_harms_no_other(value: float) -> None:
    x = XS.copy()
    x[3, 1] = value
    whole, without = (
        evaluate(knows(2), F.cross_entropy, Rows(*rows), CPU, loss_max=4.0)
        for rows in ((x, SIDE), (np.delete(XS, 3, 0), np.delete(SIDE, 3)))
    )
    if not np.isfinite(value) or not whole.right[3]:
        assert not whole.right[3]
        assert whole.loss == pytest.approx(without.loss + 4.0, rel=1e-5)
    np.testing.assert_array_equal(np.delete(whole.right, 3), without.right)


def test_labels_no_class_has_and_losses_without_bounds_never_stop_an_evaluation() -> None:
    labels = SIDE.copy()
    labels[[0, 40]] = [7, -5]
    found = evaluate(knows(2), F.cross_entropy, Rows(XS, labels), CPU, batch=16, loss_max=4.0)
    assert not found.right[[0, 40]].any()
    assert found.right.sum() == 88
    negative = evaluate(knows(2), lambda o, y: F.cross_entropy(o, y) - 1e9, Rows(XS, SIDE), CPU)
    assert negative.loss == 0.0
    assert (
        evaluate(knows(2), lambda o, y: F.cross_entropy(o, y) * 1e9 + 1, Rows(XS, SIDE), CPU, loss_max=2.0).loss
        == 180.0
    )


def test_every_form_of_a_loss_gives_the_loss_of_each_record() -> None:
    wanted = evaluate(knows(2), F.cross_entropy, Rows(XS, SIDE), CPU).loss
    forms = [
        torch.nn.CrossEntropyLoss(),
        lambda o, y: F.cross_entropy(o, y) + 0,
        lambda o, y: F.cross_entropy(o, y, reduction="none"),
    ]
    for loss in forms:
        assert evaluate(knows(2), loss, Rows(XS, SIDE), CPU).loss == pytest.approx(wanted, rel=1e-5)
