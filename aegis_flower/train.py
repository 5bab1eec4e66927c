"""Train: DP-SGD with Opacus's per-sample gradients, our sampler and the engine's noise. The one file that knows Opacus."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from opacus.validators import ModuleValidator
from torch import nn

from aegis_engine import Rng
from aegis_flower.config import PrivacyConfig
from aegis_flower.errors import AppError
from aegis_flower.stream import PermitDataset, PoissonSampler

# Inputs need no gradients; torch remarks on that once for every hook that Opacus sets.
warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Optimizer = torch.optim.Optimizer


@dataclass(frozen=True)
class TrainResult:
    """What a client's training was.

    Attributes:
        steps: optimiser steps taken, empty batches among them.
        rows: rows the permit allowed, each of which could be sampled.
        empty_batches: batches without a row; noised and charged like any other.
    """

    steps: int
    rows: int
    empty_batches: int


class EngineNoiseOptimizer(DPOptimizer):  # type: ignore[misc]  # Opacus ships no types
    """Opacus's optimiser with the engine's noise in place of torch's generator.

    Guarantees:
        - Noise has standard deviation ``noise_multiplier * max_grad_norm`` in each coordinate of the summed gradient
          (Abadi et al. 2016, algorithm 1), from a CSPRNG keyed by the operating system.
        - The sum is divided by the *expected* batch size, never by the size that was drawn.
    """

    def __init__(self, *args: Any, rng: Rng, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rng = rng

    def clip_and_accumulate(self) -> None:
        """Clips as Opacus does; values that are not finite count as zero, so no record has more sway than the clip."""
        for p in self.params:
            for g in p.grad_sample if isinstance(p.grad_sample, list) else [p.grad_sample]:
                torch.nan_to_num_(g, nan=0.0, posinf=0.0, neginf=0.0)
        super().clip_and_accumulate()

    def add_noise(self) -> None:
        """Adds noise to the clipped sum, whole tensors at a time; the noised sum lies on the engine's grid."""
        sigma = self.noise_multiplier * self.max_grad_norm
        for p in self.params:
            noised = np.ascontiguousarray(p.summed_grad.detach().cpu().numpy().astype(np.float32).ravel())
            self._rng.add_gaussian(noised, sigma)
            p.grad = torch.from_numpy(noised).view_as(p).to(device=p.device, dtype=p.dtype)

    def step_empty(self) -> None:
        """One step on an empty batch: nothing but noise. Skipping it would break the accounting."""
        for p in self.params:
            p.summed_grad = torch.zeros_like(p)
        self.add_noise()
        for p in self.params:
            p.grad /= self.expected_batch_size
        self.original_optimizer.step()


def check_model(model: nn.Module) -> None:
    """Refuses layers that mix records, by name and with the remedy.

    Raises:
        AppError: a layer such as BatchNorm, whose output for one record depends on the others.
    """
    errors = ModuleValidator.validate(model, strict=False)
    if errors:
        raise AppError(
            f"the model cannot be trained with example-level DP: {'; '.join(str(e) for e in errors)}. "
            "opacus.validators.ModuleValidator.fix(model) replaces such layers"
        )


@contextmanager
def per_sample(model: nn.Module) -> Iterator[nn.Module]:
    """Wraps a model for per-sample gradients and leaves it as it was: no hooks, no ``_module.`` names."""
    wrapped = GradSampleModule(model, loss_reduction="mean")
    try:
        yield wrapped
    finally:
        wrapped._close()  # noqa: SLF001 - Opacus has no public way to take its hooks off
        for module in model.modules():  # after a failure Opacus leaves the batch there, in clear
            for name in ("activations", "max_batch_len"):
                if hasattr(module, name):
                    delattr(module, name)
        for p in model.parameters():
            for name in ("grad_sample", "summed_grad"):
                if hasattr(p, name):
                    delattr(p, name)
            p.grad = None


def train(
    model: nn.Module,
    loss: Loss,
    optimizer: Optimizer,
    data: PermitDataset,
    cfg: PrivacyConfig,
    noise_multiplier: float,
    rng: Rng,
    device: torch.device,
    proximal_mu: float = 0.0,
) -> TrainResult:
    """Trains `model` in place for ``cfg.steps_per_round`` steps on Poisson batches.

    With ``cfg.mode == "example"`` each record's gradient is clipped to L2 norm ``cfg.clip`` and the sum is noised; with
    ``"off"`` the same batches are used as they are, divided by the expected batch size.

    Args:
        model: any model Opacus takes per-sample gradients of.
        loss: mean-reduced loss of (outputs, labels).
        optimizer: optimiser over the model's parameters.
        data: the permit's rows.
        cfg: mode, clip, sample rate, steps.
        noise_multiplier: σ, in units of the clip.
        rng: the engine's generator for batches and noise.
        device: where to compute.
        proximal_mu: FedProx's μ (Li et al. 2020); it pulls by the public start weights, so it costs no privacy.
    """
    expected = max(1.0, cfg.sample_rate * len(data))
    sampler = PoissonSampler(len(data), cfg.sample_rate, cfg.steps_per_round, rng)
    model.to(device).train()
    start = [p.detach().clone() for p in model.parameters()] if proximal_mu else []
    empty = 0
    private = cfg.mode == "example"
    if private:
        check_model(model)
    with per_sample(model) if private else _as_it_is(model) as net:
        stepper: Any = optimizer
        if private:
            stepper = EngineNoiseOptimizer(
                optimizer,
                noise_multiplier=noise_multiplier,
                max_grad_norm=cfg.clip,
                expected_batch_size=expected,
                rng=rng,
            )
        for batch in sampler:
            stepper.zero_grad(set_to_none=True)
            x, y = data.__getitems__(batch)
            if len(batch) == 0:
                empty += 1
                if private:
                    stepper.step_empty()
            else:
                value = loss(net(x.to(device)), y.to(device))
                if private:
                    value.backward()  # type: ignore[no-untyped-call]
                else:
                    (value * (len(batch) / expected)).backward()  # type: ignore[no-untyped-call]
                stepper.step()
            x.zero_()
            if proximal_mu:
                _pull(model, start, optimizer, proximal_mu)
        stepper.zero_grad(set_to_none=True)
    return TrainResult(cfg.steps_per_round, len(data), empty)


@contextmanager
def _as_it_is(model: nn.Module) -> Iterator[nn.Module]:
    yield model
    for p in model.parameters():
        p.grad = None


def _pull(model: nn.Module, start: list[torch.Tensor], optimizer: Optimizer, mu: float) -> None:
    rate = optimizer.param_groups[0]["lr"]
    with torch.no_grad():
        for p, p0 in zip(model.parameters(), start, strict=True):
            p.sub_(p - p0, alpha=rate * mu)


@dataclass(frozen=True)
class Evaluated:
    """A model on the rows of a permit.

    Attributes:
        loss: summed over the rows.
        confidence: probability of the class it named, by row, in no order that a caller may rely on.
        right: whether that was the label, by row.
    """

    loss: float
    confidence: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]


@torch.no_grad()
def evaluate(model: nn.Module, loss: Loss, data: PermitDataset, device: torch.device, batch: int = 512) -> Evaluated:
    """Evaluates a model on every row of the permit."""
    model.to(device).eval()
    total = 0.0
    confidence, right = np.empty(len(data), np.float32), np.empty(len(data), np.bool_)
    for at in range(0, len(data), batch):
        x, y = data.__getitems__(np.arange(at, min(at + batch, len(data)), dtype=np.uint32))
        out = model(x.to(device))
        total += float(loss(out, y.to(device))) * len(y)
        best = out.float().softmax(1).max(1)
        confidence[at : at + len(y)] = best.values.cpu().numpy()
        right[at : at + len(y)] = (best.indices.cpu() == y).numpy()
        x.zero_()
    return Evaluated(total, confidence, right)
