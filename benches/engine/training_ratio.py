"""One epoch of a small CNN on Fashion-MNIST from a vault, beside the same from tensors in memory: prints the ratio.

python benches/engine/training_ratio.py [--data DIR] [--limit 60000] [--pairs 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from training import FASHION, epoch_times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=FASHION, help="folder of the IDX files (Debian: dataset-fashion-mnist)"
    )
    parser.add_argument("--limit", type=int, default=60_000, help="images")
    parser.add_argument("--pairs", type=int, default=3, help="alternating pairs of epochs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    vault, memory, note = epoch_times(
        data=options.data, limit=options.limit, pairs=options.pairs, progress=lambda line: print(line, flush=True)
    )
    ratios = sorted(v / m for v, m in zip(vault, memory, strict=True))
    ratio = statistics.median(vault) / statistics.median(memory)
    print(note)
    met = "met" if ratio <= 1.02 else "missed"
    print(f"vault / memory: {ratio:.3f} (pairs {ratios[0]:.3f} to {ratios[-1]:.3f}); goal 1.02: {met}")


if __name__ == "__main__":
    main()
