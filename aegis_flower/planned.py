"""Planned: rows of a governed table as a feature plan makes them, block by block, under a permit."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from aegis_engine import Permit, Vault
from aegis_flower.errors import AegisError
from aegis_flower.features import Applied, Plan

_CACHED = 256 << 20  # bytes of blocks that are kept between batches


class Planned:
    """Rows of a table as inputs and labels of a plan. Of a block (a row group, a run of lines) only the numbers are kept, while
    there is room: a step of Poisson sampling touches all blocks.

    Guarantees:
        - Every read redeems the permit; when it has ended, what is kept is cleared.
        - Texts and other columns of a batch of Arrow are let go before the next one is read.
    """

    def __init__(self, vault: Vault, permit: Permit, plan: Plan) -> None:
        permitted = vault.table(permit.object, permit=permit).columns
        self.labelled = all(name in permitted for name in plan.label.reads)
        wanted = plan.reads if self.labelled else tuple(plan.columns)
        self._vault, self._permit, self._plan = vault, permit, plan
        self._reader = vault.table(permit.object, permit=permit, columns=list(wanted))
        self._starts = np.concatenate([[0], np.cumsum(self._reader.blocks(), dtype=np.int64)])
        self._kept: OrderedDict[int, Applied] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, places: npt.NDArray[np.int64]) -> Applied:
        """Inputs and labels of rows, by their places among the permitted ones.

        Raises:
            PermitError: the permit has ended.
            IndexError: a place past the last row.
        """
        if len(places) and not (places.min() >= 0 and places.max() < len(self)):
            raise IndexError(f"a row number outside 0 to {len(self) - 1}")
        try:
            self._vault.admit(self._permit)  # for the blocks that are kept; reading another one asks by itself
            return self._gathered(places)
        except AegisError:
            while self._kept:
                _clear(self._kept.popitem()[1])
            raise

    def _gathered(self, places: npt.NDArray[np.int64]) -> Applied:
        empty = self._plan.empty()
        inputs = {at: np.zeros((len(places), *a.shape[1:]), a.dtype) for at, a in empty.inputs.items()}
        label: npt.NDArray[Any] | None = None
        if self.labelled and empty.label is not None:
            label = np.zeros((len(places), *empty.label.shape[1:]), empty.label.dtype)
        blocks = np.searchsorted(self._starts, places, side="right") - 1
        for block in np.unique(blocks):
            at = np.flatnonzero(blocks == block)
            rows = places[at] - self._starts[block]
            made = self._block(int(block))
            for name, values in made.inputs.items():
                inputs[name][at] = values[rows]
            if label is not None and made.label is not None:
                label[at] = made.label[rows]
        return Applied(inputs, label)

    def _block(self, at: int) -> Applied:
        if at in self._kept:
            self._kept.move_to_end(at)
            return self._kept[at]
        rows = int(self._starts[at + 1] - self._starts[at])
        made = self._made(at, rows)
        self._kept[at] = made
        while len(self._kept) > 1 and sum(_bytes(one) for one in self._kept.values()) > _CACHED:
            _clear(self._kept.popitem(last=False)[1])
        return made

    def _made(self, at: int, rows: int) -> Applied:
        """A block, batch by batch into one array of each input."""
        empty = self._plan.empty()
        inputs = {name: np.empty((rows, *a.shape[1:]), a.dtype) for name, a in empty.inputs.items()}
        label = np.empty((rows, *empty.label.shape[1:]), empty.label.dtype) if empty.label is not None else None
        done = 0
        for batch in self._reader.block(at):
            part = self._plan.apply(batch, label=self.labelled)
            here = slice(done, done + len(part))
            for name, values in part.inputs.items():
                inputs[name][here] = values
            if label is not None and part.label is not None:
                label[here] = part.label
            _clear(part)
            done += len(part)
        return Applied(inputs, label if self.labelled else None)


def _bytes(made: Applied) -> int:
    return sum(a.nbytes for a in made.inputs.values())


def _clear(made: Applied) -> None:
    for values in made.inputs.values():
        values.view(np.uint8)[...] = 0
    if made.label is not None:
        made.label.view(np.uint8)[...] = 0
