"""Planned: rows of a governed table as a feature plan makes them, block by block, under a permit."""

from __future__ import annotations

from collections import OrderedDict

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
        self.labelled = all(name in permitted for name in plan.reads if name not in plan.columns)
        self.weighted = self.labelled and plan.weight is not None
        wanted = plan.reads if self.labelled else tuple(plan.columns)
        self._vault, self._permit, self._plan = vault, permit, plan
        self._reader = vault.table(permit.object, permit=permit, columns=list(wanted))
        self._starts = np.concatenate([[0], np.cumsum(self._reader.blocks(), dtype=np.int64)])
        self._kept: OrderedDict[int, Applied] = OrderedDict()
        # Where all blocks have room, they lie in one piece, and a batch is taken from it at once.
        room = self._room(len(self))
        self._whole = room if _bytes(room) <= _CACHED else None

    def _room(self, rows: int) -> Applied:
        """Memory for the numbers of some rows; the system gives it when it is written."""
        empty = self._plan.empty()
        inputs = {name: np.empty((rows, *a.shape[1:]), a.dtype) for name, a in empty.inputs.items()}
        label = np.empty((rows, *empty.label.shape[1:]), empty.label.dtype) if empty.label is not None else None
        weight = np.empty(rows, empty.weight.dtype) if empty.weight is not None else None
        return Applied(inputs, label, weight) if self.labelled else Applied(inputs)

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
        blocks = np.searchsorted(self._starts, places, side="right") - 1
        if (whole := self._whole) is not None:
            for block in np.unique(blocks) if len(self._kept) < len(self._starts) - 1 else ():
                self._block(int(block))
            taken = {name: values[places] for name, values in whole.inputs.items()}
            return Applied(taken, *(None if one is None else one[places] for one in (whole.label, whole.weight)))
        found = self._room(len(places))
        inputs, label = found.inputs, found.label
        for block in np.unique(blocks):
            at = np.flatnonzero(blocks == block)
            rows = places[at] - self._starts[block]
            made = self._block(int(block))
            for name, values in made.inputs.items():
                inputs[name][at] = values[rows]
            if label is not None and made.label is not None:
                label[at] = made.label[rows]
            if found.weight is not None and made.weight is not None:
                found.weight[at] = made.weight[rows]
        return found

    def _block(self, at: int) -> Applied:
        if at in self._kept:
            self._kept.move_to_end(at)
            return self._kept[at]
        rows = int(self._starts[at + 1] - self._starts[at])
        made = self._made(at, rows)
        self._kept[at] = made
        while self._whole is None and len(self._kept) > 1 and sum(_bytes(one) for one in self._kept.values()) > _CACHED:
            _clear(self._kept.popitem(last=False)[1])
        return made

    def _made(self, at: int, rows: int) -> Applied:
        """A block, batch by batch into one array of each input."""
        block = self._room(rows) if self._whole is None else _part(self._whole, int(self._starts[at]), rows)
        done = 0
        try:
            for batch in self._reader.block(at):
                part = self._plan.apply(batch, label=self.labelled)
                into = _part(block, done, len(part))
                for name, values in part.inputs.items():
                    into.inputs[name][...] = values
                if into.label is not None and part.label is not None:
                    into.label[...] = part.label
                if into.weight is not None and part.weight is not None:
                    into.weight[...] = part.weight
                _clear(part)
                done += len(part)
        except BaseException:
            _clear(block)  # it is not among those that are kept
            raise
        return block


def _part(made: Applied, first: int, rows: int) -> Applied:
    """Some of the rows, in the same memory."""
    here = slice(first, first + rows)
    inputs = {name: values[here] for name, values in made.inputs.items()}
    return Applied(inputs, *(None if one is None else one[here] for one in (made.label, made.weight)))


def _bytes(made: Applied) -> int:
    return sum(a.nbytes for a in made.inputs.values())


def _clear(made: Applied) -> None:
    for values in made.inputs.values():
        values.view(np.uint8)[...] = 0
    for one in (made.label, made.weight):
        if one is not None:
            one.view(np.uint8)[...] = 0
