"""What a vault costs as it grows: `make bench-growth` (`--most 10000` for a look, `--most 1000000` for more).

Vaults of 10^2, 10^3, … small objects (`--bytes`), filled by `store_many` in commits of 1000. What the figures mean:
  many      one object stored with others in one commit, while the vault was filled
  store     one object stored by itself, at that size: the median of 200
  open      the vault opened; list: all objects listed; fsck: the folder checked. Medians of 3, each divided by the objects
  ratio     what an object costs in the largest vault, divided by what it costs in the one before: the goal is at most 1.5
            (a store: by itself, so that is its own ratio)
  copy      the same files copied and synced one by one with one thread, beside `store_files` of all of them in one commit; the
            goal is at least 0.5 of its speed. Interleaved pairs, the median of their ratios.
Files lie where TMPDIR says. Times are of the wall; other work on the machine disturbs them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from aegis import Vault

KEY = bytes(range(32))
BATCH = 1000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def median(work: Callable[[], object], times: int) -> float:
    return statistics.median(timed(work) for _ in range(times))


def sources(folder: Path, count: int, size: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{n}.bin" for n in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(size))
    return paths


def grow(folder: Path, files: list[Path], most: int) -> dict[int, dict[str, float]]:
    vault = Vault.create(folder, KEY)
    contents = [path.read_bytes() for path in files[:BATCH]]
    found: dict[int, dict[str, float]] = {}
    objects, size = 0, 100
    while size <= most:
        begun, before = time.perf_counter(), objects
        while objects < size:
            batch = [(f"{objects + n}.bin", data) for n, data in enumerate(contents[: size - objects])]
            vault.store_many(batch)
            objects += len(batch)
        many = (time.perf_counter() - begun) / (objects - before)
        stores = statistics.median(
            timed(lambda name=f"{size} single {n}": vault.store_bytes(b"x" * 100, name)) for n in range(200)
        )
        objects += 200
        found[size] = {
            "many": many,
            "store": stores,
            "open": median(lambda: Vault.open(folder, KEY), 3) / objects,
            "list": median(vault.list, 3) / objects,
            "fsck": median(lambda: Vault.fsck(folder, KEY), 3) / objects,
        }
        say(f"{size:>9}  " + "  ".join(f"{found[size][name] * 1e6:>10.1f}" for name in found[size]))
        size *= 10
    return found


def copies(folder: Path, files: list[Path], pairs: int) -> tuple[float, float, float]:
    """Files a second of a copy with fsync, of one commit, and the median of their ratios."""
    ours, theirs = [], []
    for pair in range(pairs):
        target = folder / f"copy {pair}"
        target.mkdir()

        def copy(target: Path = target) -> None:
            for path in files:
                with path.open("rb") as source, (target / path.name).open("xb") as out:
                    shutil.copyfileobj(source, out)
                    out.flush()
                    os.fsync(out.fileno())
            handle = os.open(target, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)

        vault = Vault.create(folder / f"vault {pair}", KEY)
        runs = [(theirs, copy), (ours, lambda vault=vault: vault.store_files(files))]
        for took, work in runs if pair % 2 else reversed(runs):
            took.append(timed(work))
    ratio = statistics.median(theirs[n] / ours[n] for n in range(pairs))
    return len(files) / statistics.median(theirs), len(files) / statistics.median(ours), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=100_000, help="objects of the largest vault")
    parser.add_argument("--bytes", type=int, default=4096, help="bytes of an object")
    parser.add_argument("--files", type=int, default=2000, help="files that are copied and stored together")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = sources(folder / "sources", max(args.files, BATCH), args.bytes)
        say(f"{args.bytes} bytes an object; microseconds an object")
        say("  objects  " + "  ".join(f"{name:>10}" for name in ("many", "store", "open", "list", "fsck")))
        found = grow(folder / "vault", files, args.most)
        last, before = max(found), sorted(found)[-2]
        ratios = {name: found[last][name] / found[before][name] for name in found[last]}
        say("    ratio  " + "  ".join(f"{value:>10.2f}" for value in ratios.values()))
        worst = max(ratios, key=lambda name: ratios[name])
        say(f"{last} beside {before} objects: at most {ratios[worst]:.2f} ({worst}); the goal is 1.5")
        theirs, ours, ratio = copies(folder, files[: args.files], args.pairs)
        say(
            f"{args.files} files together: copy and fsync {theirs:.0f}/s, one commit {ours:.0f}/s: {ratio:.2f}; the goal is 0.5"
        )


if __name__ == "__main__":
    main()
