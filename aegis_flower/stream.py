"""Stream: the rows a permit opens, decrypted in memory, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from aegis_engine import Permit, Rng, Vault
from aegis_flower.datasets import Spec

Rows = npt.NDArray[np.uint32]
_NUMPY = {"f32": "<f4", "f64": "<f8", "i64": "<i8", "i32": "<i4", "u8": "|u1"}


class PermitDataset(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """A map-style torch data set over exactly the rows a permit allows.

    Items are ``(features, label)``: float32 of shape (spec.features,), int64 scalar; `__getitems__` gives a whole batch
    as ``(B, features)`` and ``(B,)``. Nothing decrypted is kept between calls on the Python side.

    Guarantees:
        - Made only from a permit; every batch checks it again, so a withdrawn consent ends the stream at the next batch.
        - A row outside the permit, or a column outside it, is never copied out of the engine.
    """

    def __init__(self, vault: Vault, permit: Permit, spec: Spec) -> None:
        self._reader = vault.records(permit)
        self._rows = np.frombuffer(self._reader.rows(), dtype=np.uint32)
        self._spec = spec
        self._layout = np.dtype([(name, _NUMPY[code], (count,)) for name, code, count in self._reader.columns()])
        names = self._layout.names or ()
        self._features = [c for c in spec.columns if c in names]
        self.labelled = spec.label in names

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def features(self) -> int:
        """Values of one record that the permit opens."""
        return sum(self._spec.columns[c] for c in self._features)

    def __getitems__(self, indices: Sequence[int] | Rows) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = self._rows[np.asarray(indices, dtype=np.int64)]
        records = np.zeros(len(chosen), dtype=self._layout)
        if len(chosen):
            self._reader.read_rows(np.ascontiguousarray(chosen), records)
        width = self.features
        x = np.empty((len(chosen), width), dtype=np.float32)
        at = 0
        for name in self._features:
            count = self._spec.columns[name]
            x[:, at : at + count] = records[name]
            at += count
        label = records[self._spec.label][:, 0] if self.labelled else np.zeros(len(chosen))
        y = label.astype(np.int64)
        records.view(np.uint8)[:] = 0
        return torch.from_numpy(x), torch.from_numpy(y)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.__getitems__([index])
        return x[0], y[0]


class PoissonSampler:
    """True Poisson sampling: each row joins each batch independently with probability `rate`.

    Drawn by the engine's CSPRNG; a seed of the config never reaches it. Batches may be empty, and are yielded.
    """

    def __init__(self, rows: int, rate: float, steps: int, rng: Rng) -> None:
        self._rows, self._rate, self._steps, self._rng = rows, rate, steps, rng

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[Rows]:
        for _ in range(self._steps):
            yield np.frombuffer(self._rng.poisson_rows(self._rows, self._rate), dtype=np.uint32)
