"""Rows of a governed table under a feature plan: seconds from permit to first batch, and training beside the same rows in memory.

Run: python benches/tables/first_batch.py [--rows 1000000] [--steps 100] [--rounds 5]
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from importing import make
from torch import nn

from aegis_engine import ComplianceEngine, Request, Rng, Vault
from aegis_flower import features
from aegis_flower.importer import add, draft
from aegis_flower.inputs import Inputs, each
from aegis_flower.mechanism import RoundMechanism
from aegis_flower.stream import PermitDataset
from aegis_flower.terms import Terms
from aegis_flower.train import Learning, train

GOAL_FIRST, GOAL_RATIO = 1.0, 0.95  # seconds; seconds from memory / from the vault
BATCH = 256
PLAN = features.parse(
    "version: 1\ncolumns:\n  age: {kind: number, low: 0, high: 120, missing: 60}\n"
    + "".join(f"  x{i}: {{kind: number, low: -5, high: 5}}\n" for i in range(8))
    + "  ward: {kind: category, levels: [cardiology, oncology, surgery]}\n"
    + "label: {task: binary, column: ill, levels: ['false', 'true']}\n"
)


class InMemory(PermitDataset):
    """The same rows as tensors: what training costs without a vault."""

    def __init__(self, source: PermitDataset) -> None:
        self._all = source.__getitems__(np.arange(len(source)))
        self._spec, self.labelled = PLAN.spec, True

    def __len__(self) -> int:
        return len(self._all[1])

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> tuple[Inputs, torch.Tensor]:
        at = torch.from_numpy(np.asarray(indices, dtype=np.int64))
        x, y = self._all
        return each(lambda one: one[at], x), y[at]


@dataclass(frozen=True)
class Measured:
    """Seconds of each round: from the request for a permit to the first batch; the same steps from the vault and from memory.

    A busy machine makes the seconds longer; `first_cpu` are those that a processor worked.
    """

    first: list[float]
    first_cpu: list[float]
    vault: list[float]
    memory: list[float]

    @property
    def ratios(self) -> list[float]:
        """Memory beside vault, of each pair."""
        return [m / v for v, m in zip(self.vault, self.memory, strict=True)]


def stored(folder: Path, rows: int) -> tuple[Vault, str]:
    """A vault with that many rows of mixed kinds."""
    path = folder / "patients.parquet"
    make(path, rows)
    schema = draft(path, subject="patient_id", label="ill").schema
    vault = Vault.create(folder / "vault", bytes(32))
    vault.govern("core")
    done = add(vault, path, "patients", schema, Terms(purposes=["research"]), holdout=0, consent_given=True)
    path.unlink()
    return vault, done.datasets["train"]


def opened(vault: Vault, dataset: str) -> PermitDataset:
    """The rows under a fresh permit."""
    request = Request(action="train", purpose="research", columns=list(PLAN.reads))
    return PermitDataset(vault, ComplianceEngine(vault).authorize(dataset, request), PLAN.spec)


def first_batch(folder: Path, dataset: str) -> tuple[float, float]:
    """Seconds, and those of the processor, from the request to the first Poisson batch, which has rows of all blocks.

    The vault was opened before, anew: nothing of an earlier round is kept.
    """
    vault = Vault.open(folder / "vault", bytes(32))
    start, worked = time.perf_counter(), time.process_time()
    data = opened(vault, dataset)
    drawn = np.frombuffer(Rng().poisson_rows(len(data), BATCH / len(data)), dtype=np.uint32)
    data.__getitems__(drawn)
    return time.perf_counter() - start, time.process_time() - worked


def trained(data: PermitDataset, model: nn.Module, steps: int) -> float:
    """Seconds of some steps of DP-SGD."""
    mechanism = RoundMechanism(
        private=True, noise_multiplier=1.0, clip=1.0, sample_rate=BATCH / len(data), steps=steps, expected_batch=BATCH
    )
    own = copy.deepcopy(model)
    learning = Learning(nn.CrossEntropyLoss(), torch.optim.SGD(own.parameters(), lr=0.1), torch.device("cpu"))
    start = time.perf_counter()
    train(own, data, mechanism, Rng(), learning)
    return time.perf_counter() - start


def measured(rows: int, steps: int, rounds: int) -> Measured:
    """All of it, in one process, vault and memory in turn."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # not the disk is measured
    with tempfile.TemporaryDirectory(dir=base) as name:
        folder = Path(name)
        vault, dataset = stored(folder, rows)
        opened(vault, dataset)  # what is imported at first use is imported
        first = [first_batch(folder, dataset) for _ in range(rounds)]
        source = opened(vault, dataset)
        memory = InMemory(source)
        (width, _) = PLAN.shapes["x"]
        model = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 2))
        for data in (source, memory):
            trained(data, model, 5)
        pairs = []
        for at in range(rounds):  # each is first as often as the other
            order = (source, memory) if at % 2 == 0 else (memory, source)
            took = {id(data): trained(data, model, steps) for data in order}
            pairs.append((took[id(source)], took[id(memory)]))
        return Measured([w for w, _ in first], [c for _, c in first], [v for v, _ in pairs], [m for _, m in pairs])


def told(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Prints both figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch: more of them than idle processors wait for each other"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    found = measured(given.rows, given.steps, given.rounds)
    print(
        f"permit to first batch of {given.rows} rows: {told(found.first)} s, goal {GOAL_FIRST:g} s; "
        f"{told(found.first_cpu)} s of a processor"
    )
    print(
        f"{given.steps} steps of {BATCH} rows: from memory / from the vault {told(found.ratios)}, goal {GOAL_RATIO}; "
        f"{told(found.vault)} s from the vault, {torch.get_num_threads()} threads of torch"
    )


if __name__ == "__main__":
    main()
