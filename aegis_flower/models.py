"""The models of the experiments. Users bring their own by subclassing `VaultClient`."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from aegis_flower.configs import ModelConfig
from aegis_flower.data import Spec
from aegis_flower.errors import ConfigError
from aegis_flower.features import plan_of

SMALLEST_IMAGE = 28  # the kernels and pools below need as many pixels


def build(cfg: ModelConfig, spec: Spec, seed: int) -> nn.Module:
    """Builds the configured model with weights drawn from `seed` (public: the server sends them to everyone)."""
    if len(spec.columns) > 1 and spec.plan is not None:
        raise ConfigError(
            "model.kind",
            f"{cfg.kind} takes one input, the feature plan has {', '.join(spec.columns)}; bring a model of your own",
        )
    plan = plan_of(spec)
    if plan is not None and spec.dtypes and cfg.kind != "tokens":
        raise ConfigError(
            "model.kind",
            f"{cfg.kind} takes numbers, the feature plan gives ids; take tokens, or bring a model of your own",
        )
    if plan is not None and plan.label.task == "next-token" and cfg.kind != "tokens":
        raise ConfigError("model.kind", f"{cfg.kind} says one thing of a row, and next-token asks after each place")
    with seeded(seed):
        if cfg.kind == "logistic":
            layer = nn.Linear(spec.features, spec.classes)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
            return layer
        if cfg.kind == "mlp":
            sizes = [spec.features, *cfg.hidden]
            layers: list[nn.Module] = []
            for before, after in itertools.pairwise(sizes):
                layers += [nn.Linear(before, after), nn.Tanh()]
            return nn.Sequential(*layers, nn.Linear(sizes[-1], spec.classes))
        if cfg.kind == "tokens":
            return _tokens(cfg, spec)
        return _tanh_cnn(spec)


def _tanh_cnn(spec: Spec) -> nn.Module:
    """The CNN of Papernot et al. 2020 (arXiv 2007.14191, table 1): tanh bounds what one record can do to activations."""
    if spec.image is None or min(spec.image) < SMALLEST_IMAGE:
        raise ConfigError("model.kind", "cnn needs images of at least 28x28; take logistic or mlp")
    height, width = spec.image
    body = nn.Sequential(
        nn.Unflatten(1, (1, height, width)),
        nn.Conv2d(1, 16, 8, 2, padding=2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Conv2d(16, 32, 4, 2),
        nn.Tanh(),
        nn.MaxPool2d(2, 1),
        nn.Flatten(),
    )
    with torch.no_grad():
        flat = body(torch.zeros(1, spec.features)).shape[1]
    return nn.Sequential(*body, nn.Linear(flat, 32), nn.Tanh(), nn.Linear(32, spec.classes))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Whatever draws a start in this block draws it from `seed`: torch, numpy's legacy functions, Python's `random` (Keras)."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - what an app's model may draw from
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


class Tokens(nn.Module):
    """Ids by an embedding and a convolution over each id and those before it: at every place, or on average over a row.

    Args:
        ids: the least and the largest id.
        width: of the embedding and of what is between.
        outputs: of a place, or of a row.
        each: whether every place has outputs: shape (rows, outputs, places), each from ids up to that place alone.
    """

    SEEN = 8  # ids that an output is made of

    def __init__(self, ids: tuple[int, int], width: int, outputs: int, *, each: bool) -> None:
        super().__init__()
        self._low, self._count, self._each = ids[0], ids[1] - ids[0] + 1, each
        self.embedding = nn.Embedding(self._count, width)
        self.before = nn.Conv1d(width, width, self.SEEN)
        self.last = nn.Conv1d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (rows, places) of ids to (rows, outputs, places), or (rows, outputs)."""
        known = self.embedding((x - self._low).clamp(0, self._count - 1)).transpose(1, 2)
        found = torch.tanh(self.before(nn.functional.pad(known, (self.SEEN - 1, 0))))
        out: torch.Tensor = self.last(found)
        return out if self._each else out.mean(2)


def _tokens(cfg: ModelConfig, spec: Spec) -> nn.Module:
    plan = plan_of(spec)
    if plan is None or not spec.dtypes:
        raise ConfigError(
            "model.kind", "tokens takes ids, as a feature plan gives them: list or text as ids; take logistic or mlp"
        )
    ((low, high),) = plan.bounds.values()
    width = cfg.hidden[0] if cfg.hidden else 64
    return Tokens((int(low.min()), int(high.max())), width, spec.classes, each=len(plan.label.given) > 1)


def device(name: str) -> torch.device:
    """The device called `name`; ``auto`` takes CUDA, then MPS, then the CPU."""
    if name != "auto":
        try:
            return torch.device(name)
        except RuntimeError as error:
            raise ConfigError("model.device", f"{name!r} is no torch device") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
