"""From two wheels and a CSV file to a private model of one's own: every command as a user types it, with its seconds.

The place is as bare as one process tree can be made: an empty home, a new virtual environment, none of this checkout's
variables, a folder that holds nothing but the file. pip fetches the third-party packages, as it would for a user. The file
is scikit-learn's breast_cancer (CC BY 4.0), with a made-up identifier per row.

Run: python benches/tables/from_two_wheels.py DIST      (`make bench-first-model` builds the wheels before)
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL_COMMANDS, GOAL_MINUTES = 5, 10
COMMANDS = (
    "pip install {wheels}",
    "aegis data schema patients.csv --label diagnosis --show-ranges > schema.toml",
    "aegis data features schema.toml > plan.yaml",
    "aegis run data=table data.path=patients.csv data.schema=schema.toml data.features=plan.yaml name=clinics",
    "aegis model show outputs/clinics/*",
)


def patients(path: Path) -> int:
    """Writes the file and says how many rows it has."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["patient_id", *(str(name).replace(" ", "_") for name in bunch.feature_names), "diagnosis"])
        for at, (row, label) in enumerate(zip(bunch.data, bunch.target, strict=True)):
            out.writerow([f"p{at:04d}", *row, bunch.target_names[label]])
    return len(bunch.data)


def main() -> int:
    """Prints a line per command, what the last ones said, and the total beside the goal."""
    wheels = sorted(Path(sys.argv[1]).resolve().glob("*.whl"))
    if len(wheels) != 2:
        sys.exit(f"{sys.argv[1]} holds {len(wheels)} wheels, not two; run `make wheels`")
    with tempfile.TemporaryDirectory(prefix="aegis-first-model-") as name:
        home = Path(name)
        rows = patients(home / "patients.csv")
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        # What reaches the registry (a proxy, its certificate) is the machine's, all else is made anew.
        kept = {
            k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "REQUESTS_")) or "proxy" in k.lower()
        }
        path = f"{home / 'venv' / 'bin'}:/usr/bin:/bin"
        environment = {**kept, "HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "COLUMNS": "120"}
        total = 0.0
        for command in COMMANDS:
            shown, typed = command.format(wheels="dist/*.whl"), command.format(wheels=" ".join(map(str, wheels)))
            begun = time.perf_counter()
            done = subprocess.run(
                ["/bin/sh", "-c", typed], cwd=home, env=environment, text=True, check=False, capture_output=True
            )
            took = time.perf_counter() - begun
            total += took
            print(f"{took:7.1f} s  {shown}", flush=True)
            if done.returncode:
                print(done.stdout[-2000:], done.stderr[-3000:])
                return 1
            if command.startswith(("aegis run", "aegis model")):
                print("".join(f"           | {line}\n" for line in done.stdout.strip().splitlines()[-6:]), end="")
        report = next(home.glob("outputs/clinics/*/report.html"), None)
        met = len(COMMANDS) <= GOAL_COMMANDS and total <= 60 * GOAL_MINUTES and report is not None
        print(
            f"{len(COMMANDS)} commands (goal {GOAL_COMMANDS}), {total / 60:.1f} minutes (goal {GOAL_MINUTES}), {rows} rows, "
            f"0 lines of Python, report.html {'there' if report else 'MISSING'}: {'met' if met else 'missed'}"
        )
        return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
