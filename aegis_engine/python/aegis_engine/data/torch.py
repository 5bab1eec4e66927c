"""Datasets of a vault for PyTorch's `DataLoader`.

    dataset = vault.dataset(ids, NpyRows(), shuffle=Block(window=8, seed=1))
    loader = DataLoader(VaultIterable(dataset, batch_size=256), batch_size=None)

Batches are made by the engine, so the loader gets ``batch_size=None``. The engine decrypts ahead on threads of its own:
``num_workers=0`` is the fast way. With workers, give ``multiprocessing_context="spawn"``; each reads its shard of blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from aegis_engine.data.dataset import VaultDataset
from aegis_engine.data.layouts import DatasetError

Transform = Callable[[Any], Any]


def _tensor(batch: Any) -> Any:
    """Tensors over the same memory: of an array, or of each field of a structured one, or of each column of a table."""
    if isinstance(batch, dict):
        return {name: _tensor(column) for name, column in batch.items()}
    if not getattr(batch, "shape", ()):  # one value
        return torch.as_tensor(batch)
    if isinstance(batch, memoryview):
        return torch.frombuffer(batch, dtype=torch.uint8).reshape(batch.shape)
    if batch.dtype.names:
        return {name: _tensor(batch[name]) for name in batch.dtype.names}
    if not batch.dtype.isnative:  # IDX is big-endian; torch knows native order only
        batch = batch.astype(batch.dtype.newbyteorder("="))
    return torch.from_numpy(batch)


class VaultIterable(IterableDataset[Any]):
    """Batches (or single records) of a `VaultDataset` as tensors.

    Shards itself over the loader's workers and, with `ranks`, over the processes of a distributed run. Each pass of a loader
    is an epoch from its start, and the next pass the next epoch, in all of its workers, kept or started anew; `set_epoch`
    holds in all of them. Batches that a worker had ready when a pass was given up are never counted.

    A state taken in the loader's process resumes exactly with ``num_workers=0``; torchdata's StatefulDataLoader takes it in
    each worker. With workers, each ends with a batch of its own: `len` counts as if there were one.

    Args:
        dataset: what to read.
        batch_size: records of a batch; None = single records.
        drop_last: leave out a last batch that is smaller.
        transform: applied to each batch of tensors.
        ranks: (rank, world size); "env" takes RANK and WORLD_SIZE.
    """

    def __init__(
        self,
        dataset: VaultDataset,
        batch_size: int | None = None,
        *,
        drop_last: bool = False,
        transform: Transform | None = None,
        ranks: tuple[int, int] | str | None = None,
    ) -> None:
        super().__init__()
        if ranks == "env":
            ranks = (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        if isinstance(ranks, str):
            raise TypeError('ranks is (rank, world size) or "env"')
        self.dataset, self.batch_size, self.drop_last = dataset, batch_size, drop_last
        self.transform, self.ranks = transform, ranks or (0, 1)
        self._mine: VaultDataset | None = None

    def _shard(self) -> VaultDataset:
        """The part of this worker of this rank; kept, so that epochs and states go on."""
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        rank, world = self.ranks
        shard = (rank * workers + number, world * workers)
        if shard == self.dataset.shard:
            self._mine = self.dataset
        elif self._mine is None or self._mine.shard != shard:
            self._mine = self.dataset.of_shard(shard)
            # One counter for all of them.
            self._mine.epochs = self.dataset.epochs
        return self._mine

    def __iter__(self) -> Iterator[Any]:
        mine = self._shard()
        if self.batch_size is None:
            source: Iterator[Any] = iter(mine)
        else:
            source = mine.batches(self.batch_size, drop_last=self.drop_last)
        for item in source:
            tensors = _tensor(item)
            yield self.transform(tensors) if self.transform else tensors

    def __len__(self) -> int:
        """Batches (or records) of this rank."""
        count = len(self._shard() if get_worker_info() is None else self.dataset.of_shard(self.ranks))
        if self.batch_size is None:
            return count
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is that epoch, in every worker; call it before each one in a distributed run."""
        if self._mine is not None and self._mine is not self.dataset:
            self._mine.set_epoch(epoch)
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where iteration stands.

        Raises:
            DatasetError: workers read, and this is not one of them.
        """
        if get_worker_info() is None and self.dataset.epochs.elsewhere:
            raise DatasetError(
                "the workers of the loader know where they stand, this process does not: take states with num_workers=0 or "
                "torchdata's StatefulDataLoader; at the end of an epoch, note its number and call set_epoch"
            )
        return self._shard().state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on there."""
        self._shard().resume(state)


class VaultMap(Dataset[Any]):
    """Records by number, for samplers of one's own; a batch of numbers is read by one call.

    Reading at random decrypts a chunk a record: a `VaultIterable` with a block shuffle is much faster.
    """

    def __init__(self, dataset: VaultDataset, transform: Transform | None = None) -> None:
        self.dataset, self.transform = dataset, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Tensors of these records; `DataLoader` calls it with a whole batch of numbers."""
        tensors = _tensor(self.dataset.take(indices))
        if isinstance(tensors, dict):
            records: list[Any] = [{name: t[i] for name, t in tensors.items()} for i in range(len(indices))]
        else:
            records = list(tensors)
        return [self.transform(record) for record in records] if self.transform else records


__all__ = ["VaultIterable", "VaultMap"]
