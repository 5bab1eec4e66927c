"""How much an app can say by the time it takes: a jail, an app that sleeps for its symbol, and a server that reads a clock.

    python benches/covert.py [--tasks N] [DOCUMENT]

Each symbol is one of 16 lengths of sleep, a step apart. The server knows the step, takes the time of each task, and reads the
nearest symbol; the first 16 tasks tell it what a task takes besides. The table says how many symbols of the rest it read wrong,
and what a task says then: the bits of a symmetric channel of as many symbols as fit into a task's time limit, with that share of
errors. A document's table, between its markers, is written anew.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from aegis_flower.jail import Jail, Limits, Work

APP = """
import time
def say(model, rows, settings):
    time.sleep(settings["seconds"])
    return model
"""
SYMBOLS = 16
STEPS_MS = (1, 2, 5, 10, 20, 50)
LIMIT = 600.0  # seconds that a task may take by default
GRIDS = (0, 10, 60, 600)  # of `aegis-quantize-time`
MARKERS = ("<!-- made by `python benches/covert.py docs/NODE_THREATS.md` -->\n", "<!-- end -->\n")


def seconds(jail: Jail, wait: float) -> float:
    """Of one task, as whoever waits for its answer sees it."""
    start = time.perf_counter()
    jail.run(
        Work("covert:say", {"w": np.zeros(10, np.float32)}, {"x": np.zeros(1, np.float32)}, {"seconds": wait}),
        Limits(60.0),
    )
    return time.perf_counter() - start


def errors(jail: Jail, step: float, tasks: int) -> float:
    """Share of symbols that are read wrong."""
    chosen = [*range(SYMBOLS), *(random.randrange(SYMBOLS) for _ in range(tasks))]
    took = [seconds(jail, step * symbol) for symbol in chosen]
    base = float(np.median([t - step * s for t, s in zip(took[:SYMBOLS], chosen[:SYMBOLS], strict=True)]))
    read = [min(SYMBOLS - 1, max(0, round((t - base) / step))) for t in took[SYMBOLS:]]
    return sum(a != b for a, b in zip(read, chosen[SYMBOLS:], strict=True)) / tasks


def bits(symbols: float, error: float) -> float:
    """Of one use of a symmetric channel (Cover and Thomas, Elements of Information Theory, 7.2)."""
    if error <= 0:
        return math.log2(symbols)
    lost = -error * math.log2(error) - (1 - error) * math.log2(1 - error) if error < 1 else 0.0
    return max(0.0, math.log2(symbols) - lost - error * math.log2(symbols - 1))


def main() -> None:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200, help="symbols for each step")
    parser.add_argument("document", nargs="?", type=Path)
    given = parser.parse_args()
    lines = ["| step | read wrong | bits of a task of at most 600 s |", "|---|---|---|"]
    best = 0.0
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "covert.py").write_text(APP)
        with Jail(folder) as jail:
            seconds(jail, 0.0)
            for step in STEPS_MS:
                wrong = errors(jail, step / 1000, given.tasks)
                said = bits(LIMIT * 1000 / step, wrong)
                best = max(best, said)
                lines.append(f"| {step} ms | {100 * wrong:.1f} % | {said:.1f} |")
    lines += ["", "| `aegis-quantize-time` | bits of a task by its time, at most |", "|---|---|"]
    # A reply leaves at one of the grid's times within the limit, or at the one after it.
    lines += [f"| {grid} s | {best if not grid else math.log2(1 + math.ceil(LIMIT / grid)):.1f} |" for grid in GRIDS]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.document is not None:
        whole = given.document.read_text()
        before, _, rest = whole.partition(MARKERS[0])
        given.document.write_text(before + MARKERS[0] + "\n" + text + "\n" + MARKERS[1] + rest.partition(MARKERS[1])[2])


if __name__ == "__main__":
    main()
