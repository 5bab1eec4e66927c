"""One epoch of a small CNN on Fashion-MNIST: from a vault, beside the same from tensors in memory. ABAB, one run.

Both sides see the same images in the same order in the same batches, so the models must be equal at the end; the vault side
decrypts, shuffles and reads ahead through `vault.dataset`. Order and batches of the memory side are prepared before its
clock starts.
"""

from __future__ import annotations

import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from aegis_engine.data import Block, Fixed
from torch import nn

from aegis_engine import Vault

FASHION = Path("/usr/share/datasets/fashion-mnist")
PIXELS = 28 * 28
BATCH = 128


def load(folder: Path, limit: int) -> tuple[Any, Any, str]:
    """Images (n, 784) and labels (n,), uint8."""
    for suffix, opened in (("", open), (".gz", gzip.open)):
        images, labels = (folder / f"train-{name}{suffix}" for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if images.is_file():
            with opened(images, "rb") as a, opened(labels, "rb") as b:
                x = np.frombuffer(a.read(), np.uint8, offset=16).reshape(-1, PIXELS)
                y = np.frombuffer(b.read(), np.uint8, offset=8)
            return x[:limit], y[:limit], "Fashion-MNIST"
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.kron(digits.images, np.ones((3, 3)))
    x = np.pad(x * 15, ((0, 0), (2, 2), (2, 2))).astype(np.uint8).reshape(len(x), PIXELS)
    times = -(-limit // len(x))
    return (
        np.tile(x, (times, 1))[:limit],
        np.tile(digits.target.astype(np.uint8), times)[:limit],
        "sklearn digits, enlarged",
    )


def model() -> nn.Module:
    """The same start every time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 10),
    )  # fmt: skip


def epoch(batches: Any) -> tuple[float, list[torch.Tensor]]:
    """Seconds of one epoch and the parameters at its end."""
    net = model()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.05)
    start = time.perf_counter()
    for rows in batches:
        x = rows[:, :PIXELS].to(torch.float32).div_(255).reshape(-1, 1, 28, 28)
        loss = nn.functional.cross_entropy(net(x), rows[:, PIXELS].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return time.perf_counter() - start, [p.detach().clone() for p in net.parameters()]


def epoch_times(
    *, data: Path = FASHION, limit: int = 60_000, pairs: int = 3, progress: Callable[[str], object] = lambda _: None
) -> tuple[list[float], list[float], str]:
    """Seconds of each epoch from the vault and from memory, and what was trained on.

    Raises:
        RuntimeError: the two models differ, so the vault did not give the same batches.
    """
    x, y, name = load(data, limit)
    rows = np.concatenate([x, y[:, None]], axis=1)
    times: dict[str, list[float]] = {"memory": [], "vault": []}
    with tempfile.TemporaryDirectory() as folder:
        vault = Vault.create(Path(folder) / "v", bytes(32))
        stored = vault.store_bytes(rows, "train")
        dataset = vault.dataset(stored, Fixed(dtype="u1", shape=(PIXELS + 1,)), shuffle=Block(window=8, seed=1))
        order = torch.from_numpy(np.concatenate([batch.copy() for batch in dataset.batches(BATCH)]))
        epoch(order.split(BATCH))  # warms torch up
        for pair in range(pairs):
            dataset.set_epoch(0)
            sides: list[tuple[str, Any]] = [
                ("memory", order.split(BATCH)),
                ("vault", map(torch.from_numpy, dataset.batches(BATCH))),
            ]
            ends = {}
            for side, batches in sides if pair % 2 == 0 else reversed(sides):
                seconds, ends[side] = epoch(batches)
                times[side].append(seconds)
            if not all(torch.equal(a, b) for a, b in zip(ends["memory"], ends["vault"], strict=True)):
                raise RuntimeError("the two models differ: the vault did not give the same batches")
            progress(f"pair {pair + 1}: memory {times['memory'][-1]:.2f} s, vault {times['vault'][-1]:.2f} s")
    note = f"{name}, {len(rows)} images, CNN, {torch.get_num_threads()} torch threads; models equal"
    return times["vault"], times["memory"], note
