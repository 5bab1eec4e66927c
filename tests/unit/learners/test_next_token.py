"""The loss of next tokens: the same in torch, in numpy and in JAX, of each record alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aegis_flower.learners import losses
from aegis_flower.per_record.losses import next_token

ROWS = np.random.default_rng(7)
OUTPUTS = ROWS.normal(size=(6, 5, 4)) * 3
LABELS = ROWS.integers(-1, 5, (6, 4))
LABELS[2] = -1


def test_it_is_the_mean_over_the_places_that_have_a_next_token() -> None:
    found = next_token(torch.from_numpy(OUTPUTS), torch.from_numpy(LABELS)).numpy()
    logs = OUTPUTS - np.log(np.exp(OUTPUTS).sum(axis=1, keepdims=True))
    for row, labels in enumerate(LABELS):
        each = [-logs[row, label, place] for place, label in enumerate(labels) if label >= 0]
        assert found[row] == pytest.approx(np.mean(each) if each else 0.0)
    assert losses.losses("next-token", OUTPUTS, LABELS) == pytest.approx(found)


def test_jax_has_the_same_loss_and_gradient() -> None:
    jax = pytest.importorskip("jax")
    from aegis_flower.learners import functions

    out, y = OUTPUTS.astype(np.float32), LABELS
    assert np.asarray(functions.next_token(out, y)) == pytest.approx(losses.losses("next-token", out, y), abs=1e-5)
    mine = torch.from_numpy(out).requires_grad_()
    next_token(mine, torch.from_numpy(y)).sum().backward()
    theirs = jax.grad(lambda o: functions.next_token(o, y).sum())(out)
    assert np.asarray(theirs) == pytest.approx(mine.grad.numpy(), abs=1e-5)
    assert np.isfinite(np.asarray(theirs)).all()
