"""The models of the experiments. Users bring their own by subclassing `VaultClient`."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from aegis_flower.configs import ModelConfig
from aegis_flower.data import Spec
from aegis_flower.errors import ConfigError

SMALLEST_IMAGE = 28  # the kernels and pools below need as many pixels


def build(cfg: ModelConfig, spec: Spec, seed: int) -> nn.Module:
    """Builds the configured model with weights drawn from `seed` (public: the server sends them to everyone)."""
    if len(spec.columns) > 1 and spec.plan is not None:
        raise ConfigError(
            "model.kind",
            f"{cfg.kind} takes one input, the feature plan has {', '.join(spec.columns)}; bring a model of your own",
        )
    if spec.plan is not None and spec.dtypes:
        raise ConfigError(
            "model.kind", f"{cfg.kind} takes numbers, the feature plan gives ids; bring a model with an embedding"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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
