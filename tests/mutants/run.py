"""Applies mutants in a copy and shows that each turns its test red. `make test-mutants` runs all; names pick some.

python tests/mutants/run.py [--python | --rust] [NAME ...]

First each test runs without any mutant and must be green. Red is a test that fails: not one that is missing, nor a file that
cannot be imported or compiled.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from mutant import Mutant  # noqa: E402 - beside this file
from mutants import ALL, EQUIVALENT, PYTHON, RUST  # noqa: E402 - beside this file

IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "target", "__pycache__", ".mypy_cache", ".ruff_cache", "outputs", "multirun"
)
GREEN, RED, BROKEN = "green", "red", "BROKEN"


def copied(folder: Path) -> Path:
    """A copy of the checkout."""
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=IGNORED, symlinks=True)
    return copy


def mutated(mutant: Mutant, copy: Path) -> str:
    """How the mutant's test ends with it, in the copy, which is put right again.

    Raises:
        ValueError: the text to change is not there once.
    """
    file = copy / mutant.file
    whole = file.read_text()
    if whole.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} stands {whole.count(mutant.old)} times in {mutant.file}")
    file.write_text(whole.replace(mutant.old, mutant.new))
    try:
        return run(mutant, copy)
    finally:
        file.write_text(whole)


def run(mutant: Mutant, copy: Path) -> str:
    """How the mutant's test ends in the copy."""
    if mutant.crate:
        target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "aegis_engine" / "target"))
        command = ["cargo", "test", "--release", "--quiet", "-p", mutant.crate, "--lib", "--tests", mutant.test]
        env, where = {**os.environ, "CARGO_TARGET_DIR": f"{target}-mutants"}, copy / "aegis_engine"
    else:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
        env, where = {**os.environ, "PYTHONPATH": f"{copy / 'aegis_engine' / 'python'}:{copy}"}, copy
        env["PYTHONDONTWRITEBYTECODE"] = (
            "1"  # a file changed twice in a second would meet the bytecode of the first time
        )
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, check=False)
    if mutant.crate:
        ran = re.search(r"test result: ok\. [1-9]", done.stdout) is not None
        failed = "test result: FAILED" in done.stdout or bool(mutant.refused and mutant.refused in done.stderr)
    else:
        ran, failed = done.returncode == 0, done.returncode == 1
    if not (ran or failed):
        sys.stderr.write((done.stdout + done.stderr)[-2000:])
    return RED if failed else GREEN if ran else BROKEN


def main(arguments: list[str]) -> int:
    """How many mutants did not turn their test red."""
    chosen = {"--python": PYTHON, "--rust": RUST}.get(arguments[0] if arguments else "", ALL)
    names = [a for a in arguments if not a.startswith("--")]
    wanted = [m for m in chosen if not names or any(m.name.startswith(name) for name in names)]
    bad = 0

    def said(what: str, name: str) -> None:
        sys.stdout.write(f"{what:<7}{name}\n")
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for mutant in {(m.crate, m.test): m for m in wanted}.values():
            before = run(mutant, copy)
            if before != GREEN:
                bad += 1
                said(before, f"without any mutant: {mutant.test}")
        for mutant in wanted:
            after = mutated(mutant, copy)
            bad += after != RED
            said("ALIVE" if after == GREEN else after, mutant.name)
    for number, why in EQUIVALENT.items():
        said("same", f"{number} {why}")
    sys.stdout.write(f"{len(wanted)} mutants, {bad} not red\n")
    return min(bad, 99)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
