"""The oldest Flower that pyproject.toml allows: the plugin works with it too. `make test-matrix` runs everything with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLDEST = ROOT / ".cache" / "oldest"


def oldest_allowed() -> str:
    depends = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (flower,) = (d for d in depends if d.startswith("flwr>"))
    return str(re.search(r">=([\d.]+)", flower)[1])  # type: ignore[index]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(OLDEST), os.environ.get("PYTHONPATH")]))}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False
    )


def test_the_oldest_flower_that_is_locked_is_the_one_that_is_allowed() -> None:
    locked = (ROOT / "requirements-oldest.lock").read_text()
    assert re.match(rf"flwr=={re.escape(oldest_allowed())}\.\d+ ", locked)


@pytest.mark.skipif(not OLDEST.is_dir(), reason="`make setup` installs the oldest Flower into .cache/oldest")
def test_clients_and_strategies_work_with_the_oldest_flower() -> None:
    found = run("-c", "import importlib.metadata, flwr; print(importlib.metadata.version('flwr'), flwr.__file__)")
    assert found.stdout.startswith(f"{oldest_allowed()}."), found
    assert str(OLDEST) in found.stdout
    tests = ["tests/unit/client/test_client_app.py", "tests/unit/strategies/test_hostile_replies.py"]
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.skipif(not OLDEST.is_dir(), reason="`make setup` installs the oldest Flower into .cache/oldest")
def test_an_apps_folder_has_one_hash_with_the_oldest_and_the_newest_flower() -> None:
    command = ("-m", "aegis", "app", "inspect", "simulations/quickstart", "--json")
    newest = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    oldest = run(*command)
    assert oldest.returncode == newest.returncode == 0, oldest.stderr + newest.stderr
    assert oldest.stdout == newest.stdout
