"""Applies mutants in a copy and shows that each turns its test red. `make test-mutants` runs all; names pick some.

python tests/mutants/run.py [--python | --rust] [NAME ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from mutants import ALL, PYTHON, RUST, Mutant  # noqa: E402 - beside this file

IGNORED = shutil.ignore_patterns(
    ".git", ".venv", "target", "__pycache__", ".mypy_cache", ".ruff_cache", "outputs", "multirun"
)


def copied(folder: Path) -> Path:
    """A copy of the checkout."""
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=IGNORED, symlinks=True)
    return copy


def is_red(mutant: Mutant, copy: Path) -> bool:
    """Whether the mutant's test fails with it, in the copy, which is put right again.

    Raises:
        ValueError: the text to change is not there once.
    """
    file = copy / mutant.file
    whole = file.read_text()
    if whole.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {mutant.old!r} stands {whole.count(mutant.old)} times in {mutant.file}")
    file.write_text(whole.replace(mutant.old, mutant.new))
    try:
        return run(mutant, copy) != 0
    finally:
        file.write_text(whole)


def run(mutant: Mutant, copy: Path) -> int:
    """Exit status of the mutant's test in the copy; 0 is green."""
    if mutant.crate:
        target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "aegis_engine" / "target"))
        command = ["cargo", "test", "--release", "--quiet", "-p", mutant.crate, mutant.test]
        env, where = {**os.environ, "CARGO_TARGET_DIR": f"{target}-mutants"}, copy / "aegis_engine"
    else:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.test]
        env, where = {**os.environ, "PYTHONPATH": f"{copy / 'aegis_engine' / 'python'}:{copy}"}, copy
    return subprocess.run(command, cwd=where, env=env, capture_output=True, check=False).returncode


def main(arguments: list[str]) -> int:
    """How many mutants survived."""
    chosen = {"--python": PYTHON, "--rust": RUST}.get(arguments[0] if arguments else "", ALL)
    names = [a for a in arguments if not a.startswith("--")]
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        for mutant in chosen:
            if names and not any(mutant.name.startswith(name) for name in names):
                continue
            red = is_red(mutant, copy)
            survived += not red
            sys.stdout.write(f"{'red  ' if red else 'ALIVE'} {mutant.name}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{survived} survived\n")
    return min(survived, 99)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
