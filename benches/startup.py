"""What a message of a deployment costs before it does anything: CPU seconds and memory of importing the client app.

python benches/startup.py          each import in fresh processes, the median of three
"""

from __future__ import annotations

import statistics
import subprocess
import sys

# Every step imports the app; the masked step, which trains, the rest too.
ROWS = {
    "Flower's own client app": "flwr.clientapp",
    "a step that does not train": "aegis_flower.client.app",
    "the masked step": "aegis_flower.client.app, aegis_flower.train, aegis_flower.models, dp_accounting.pld",
}
CODE = """
import {modules}
import resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def measured(modules: str) -> tuple[float, float]:
    """CPU seconds and peak MiB of one process."""
    code = CODE.format(modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, mib = done.stdout.split()
    return float(seconds), float(mib)


def main() -> None:
    print(f"{'imports of':30} {'CPU':>8} {'memory':>10}")
    for name, modules in ROWS.items():
        runs = [measured(modules) for _ in range(3)]
        seconds, mib = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{name:30} {seconds:6.2f} s {mib:6.0f} MiB")


if __name__ == "__main__":
    main()
