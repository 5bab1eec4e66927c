"""Train: DP-SGD with per-sample gradients, the engine's sampler and the engine's noise."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from aegis_engine import DpSession, Permit, Rng
from aegis_flower.errors import AppError
from aegis_flower.inputs import Inputs, clear, moved
from aegis_flower.ledger import RoundReservation
from aegis_flower.mechanism import RoundMechanism, noised_sum
from aegis_flower.per_record.checks import Probed
from aegis_flower.per_record.evaluation import Evaluated, by_record, class_weighted, evaluate, judged
from aegis_flower.per_record.losses import (
    Loss,
    check_model,
    clipped_sum,
    gradients,
    mean_loss,
    per_sample,
)
from aegis_flower.per_record.probe import examined, probe
from aegis_flower.stream import PermitDataset, PoissonSampler, Rows, fitting

__all__ = [
    "Evaluated",
    "Learning",
    "Loss",
    "Probed",
    "TrainResult",
    "check_model",
    "class_weighted",
    "evaluate",
    "judged",
    "per_sample",
    "probe",
    "session",
    "train",
]

Optimizer = torch.optim.Optimizer
PHYSICAL_BATCH = 256


def _keep_memory() -> bool:
    """Has glibc keep large blocks instead of giving each back to the kernel and asking again; whether it did.

    A step of an MLP takes a third of the time. Nothing but speed depends on it.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    return all(mallopt(option, 1 << 30) == 1 for option in (mmap_threshold, trim_threshold))


MALLOC_KEPT = _keep_memory()


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


@dataclass(frozen=True)
class Learning:
    """How a node learns from what its mechanism draws; none of it changes the guarantee.

    Attributes:
        loss: mean-reduced or per-record loss of (outputs, labels).
        optimizer: optimiser over the model's parameters.
        device: where to compute.
        proximal_mu: FedProx's μ (Li et al. 2020); it pulls by the public start weights, so it costs no privacy.
        physical_batch: records whose gradients are taken together; at least 1.
    """

    loss: Loss
    optimizer: Optimizer
    device: torch.device
    proximal_mu: float = 0.0
    physical_batch: int = PHYSICAL_BATCH


def session(
    model: nn.Module, permit: Permit, reservation: RoundReservation, insecure_seed: int | None = None
) -> DpSession:
    """The engine's session for one round: what it draws and noises is what a release says was spent.

    Args:
        model: whose trained parameters give the dimension.
        permit: the permit to train.
        reservation: what was charged.
        insecure_seed: noise anybody can repeat, for ``privacy.noise=insecure_test``. It has the node's number in it, since
            noise that all nodes share does not average out.
    """
    charged = reservation.mechanism
    return DpSession(
        permit,
        noise_multiplier=charged.noise_multiplier,
        clip=charged.clip,
        sample_rate=charged.sample_rate,
        steps=charged.steps,
        expected_batch=charged.expected_batch,
        dim=sum(p.numel() for p in model.parameters() if p.requires_grad),
        reservation=reservation.id,
        insecure_seed=insecure_seed,
    )


def train(
    model: nn.Module,
    data: PermitDataset,
    mechanism: RoundMechanism,
    rng: Rng | DpSession,
    learning: Learning,
    *,
    probed: Probed | None = None,
) -> TrainResult:
    """Trains `model` in place for ``mechanism.steps`` steps on Poisson batches.

    With ``mechanism.private`` each record's gradient is clipped to L2 norm ``mechanism.clip``, the sum is noised and divided by
    ``mechanism.expected_batch``, a public number: the update says nothing of how many rows there are. Without, the same batches
    are used as they are, divided by the expected size over the rows there are.

    Guarantees:
        - Noise has standard deviation ``mechanism.noise_multiplier * mechanism.clip`` in each coordinate of the summed gradient
          (Abadi et al. 2016, algorithm 1), from a CSPRNG keyed by the operating system, on every step, empty batches included.
        - One record moves the sum by at most the clip: sums are float64, and models and losses that mix records are refused.
        - Gradients of at most ``learning.physical_batch`` records are in memory at once; that changes no result.

    Args:
        model: any model Opacus takes per-sample gradients of.
        data: the permit's rows.
        mechanism: what is drawn, clipped and noised; of a session, the one that was charged.
        rng: the engine's session. A bare generator trains as well, but what it trained leaves only where no privacy is asked for.
        learning: loss, optimiser and where to compute.
        probed: what `probe` found, where it ran before; None tries the model and the loss on made-up rows here.

    Raises:
        AppError: the model or the loss mixes records, or cannot be trained on these rows.
    """
    device, optimizer, mu = learning.device, learning.optimizer, learning.proximal_mu
    private = mechanism.private
    model.to(device)
    if probed is None:
        probed = examined(model, learning.loss, *data.__getitems__([]), device, private=private)
    model.train()
    start = [p.detach().clone() for p in model.parameters()] if mu else []
    empty = 0
    with per_sample(model, functorch=probed.functorch) if private else nullcontext(model) as net:
        step = _Step(model, net, data, mechanism, rng, learning)
        for batch in _batches(data, mechanism, rng):
            empty += len(batch) == 0
            optimizer.zero_grad(set_to_none=True)
            step.private(batch) if private else step.plain(batch)
            optimizer.step()
            if mu:
                _pull(model, start, optimizer, mu)
        optimizer.zero_grad(set_to_none=True)
    return TrainResult(mechanism.steps, len(data), empty)


def _batches(data: PermitDataset, mechanism: RoundMechanism, rng: Rng | DpSession) -> Iterator[Rows]:
    if isinstance(rng, Rng):
        yield from PoissonSampler(len(data), mechanism.sample_rate, mechanism.steps, rng)
        return
    for _ in range(mechanism.steps):
        yield np.frombuffer(rng.draw(), dtype=np.uint32)


@dataclass(frozen=True)
class _Step:
    """Leaves in the parameters the gradient of a batch."""

    model: nn.Module
    net: nn.Module
    data: PermitDataset
    mechanism: RoundMechanism
    rng: Rng | DpSession
    learning: Learning

    def private(self, batch: Rows) -> None:
        """The noised sum of clipped gradients over the public divisor.

        An empty batch is noise alone; to skip it would break the accounting.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        sums = [torch.zeros(p.numel(), dtype=torch.float64, device=p.device) for p in trained]
        for x, y, weight in self._parts(batch):
            self._mean(x, y, weight).backward()  # type: ignore[no-untyped-call]
            for total, part in zip(sums, clipped_sum(gradients(self.model, len(y)), self.mechanism.clip), strict=True):
                total.add_(part)
        noised = torch.from_numpy(self._noised(torch.cat(sums).cpu().numpy())) / self.mechanism.expected_batch
        for p, own in zip(trained, torch.split(noised, [p.numel() for p in trained]), strict=True):
            p.grad = own.view_as(p).to(device=p.device, dtype=p.dtype)

    def plain(self, batch: Rows) -> None:
        """The gradient over the expected size of a batch."""
        expected = max(1.0, self.mechanism.sample_rate * len(self.data))
        for x, y, weight in self._parts(batch):
            (self._mean(x, y, weight) * (len(y) / expected)).backward()  # type: ignore[no-untyped-call]

    def _noised(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """The sum with noise, on the engine's grid."""
        if not isinstance(self.rng, Rng):
            return noised_sum(self.rng, sums)
        noised = sums.astype(np.float32)
        self.rng.add_gaussian(noised, self.mechanism.noise_multiplier * self.mechanism.clip)
        return noised

    def _parts(self, batch: Rows) -> Iterator[tuple[Inputs, torch.Tensor, torch.Tensor | None]]:
        """The batch, so many records at a time, each part cleared when it was used."""
        most = max(1, self.learning.physical_batch)
        for at in range(0, len(batch), most):
            x, y, weight = self.data.weighed(batch[at : at + most])
            try:
                inputs, labels = fitting(self.model, x, y)
                weight = None if weight is None else weight.to(self.learning.device)
                yield moved(inputs, self.learning.device), labels.to(self.learning.device), weight
                clear(inputs)
            finally:
                clear(x)

    def _mean(self, x: Inputs, y: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        """The mean over the records of their losses, each times its weight: the divisor is how many they are, never the weights'
        sum, which would mix them.
        """
        out = self.net(x)
        try:
            if weight is not None:
                return (by_record(self.learning.loss)(out, y) * weight.to(out.dtype)).mean()
            return mean_loss(self.learning.loss, out, y)
        except IndexError as error:
            if y.is_floating_point() or out.ndim == 1:
                raise
            raise AppError(
                f"a label is outside 0 to {out.shape[1] - 1}, the {out.shape[1]} classes of the model's outputs; store labels as "
                "whole numbers from 0 (labels 1..k: take one away), or give the model an output for each"
            ) from error


def _pull(model: nn.Module, start: list[torch.Tensor], optimizer: Optimizer, mu: float) -> None:
    rate = cast("float", optimizer.param_groups[0]["lr"])
    with torch.no_grad():
        for p, p0 in zip(model.parameters(), start, strict=True):
            p.sub_(p - p0, alpha=rate * mu)
