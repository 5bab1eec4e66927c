"""Sweeps end well under every launcher and sweeper: real processes, a few tiny trials each."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

TINY = [
    "experiment=quickstart", "data.clients=3", "strategy.rounds=1", "privacy.noise_multiplier=20", "evaluation.epsilon=1",
    "policy.min_rows=10", "hydra.sweep.dir=sweep",
]  # fmt: skip

pytestmark = pytest.mark.timeout(900)  # several runs, each of which loads torch


def told(folder: Path) -> Any:
    return json.loads((folder / "sweep" / "sweep.json").read_text())


def runs(folder: Path) -> list[str]:
    """The runs that there were, by the ids of their reports."""
    return sorted(json.loads(p.read_text())["run"]["id"] for p in (folder / "sweep").glob("*/report.json"))


def test_trials_side_by_side_end_in_one_table_with_a_best_one_and_what_they_cost(aegis: Any, tmp_path: Path) -> None:
    done = aegis("run", "-m", "hydra/launcher=joblib", *TINY, "model.learning_rate=0.1,1", timeout=600)
    assert done.returncode == 0, done.stderr
    sweep = told(tmp_path)
    assert [t["overrides"] for t in sweep["trials"]] == [{"model.learning_rate": "0.1"}, {"model.learning_rate": "1"}]
    assert [t["status"] for t in sweep["trials"]] == ["finished", "finished"]
    best = max(sweep["trials"], key=lambda t: t["accuracy"])
    assert sweep["best"]["trial"] == 1 + sweep["trials"].index(best)
    assert sweep["best"]["value"] == best["accuracy"]
    each = [t["epsilon_max"] for t in sweep["trials"]]
    assert sweep["charged"]["epsilon"] > max(each) * 1.2, "one set of vaults, charged by both processes"
    assert sweep["command"].startswith("aegis run -m hydra/launcher=joblib experiment=quickstart")
    page = (tmp_path / "sweep" / "sweep.html").read_text()
    assert "<title>quickstart: AEGIS sweep report" in page
    assert sweep["started"].replace("T", " ") in page
    assert 'href="0/report.html"' in page
    assert page.count('class="good">best') == 1
    assert "together at most ε" in done.stdout
    assert done.stdout.index("together at most ε") < done.stdout.index("best: trial")
    assert "of the budget of 10 at each node" in done.stdout


def test_optuna_gets_the_objective_in_its_direction_and_a_resumed_sweep_asks_for_nothing_twice(
    aegis: Any, tmp_path: Path
) -> None:
    search = ["model.learning_rate=interval(0.05,2)", "sweep.objective=loss", "sweep.direction=minimize"]
    words = ["run", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", *TINY, *search]
    done = aegis(*words, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "2 trials on the same people" in done.stdout, "its cost is known beforehand"
    sweep, before = told(tmp_path), runs(tmp_path)
    assert len(before) == 2
    losses = {
        number: json.loads((tmp_path / "sweep" / str(number) / "report.json").read_text())["results"]["loss"]
        for number in range(2)
    }
    least = min(losses, key=lambda n: losses[n])
    assert sweep["best"] == {
        "trial": least + 1, "objective": "loss", "direction": "minimize", "value": losses[least]
    }  # fmt: skip
    found = (tmp_path / "sweep" / "optimization_results.yaml").read_text()
    assert f"{losses[least]}" in found, "Optuna's best is the same"
    # One trial is lost, as if the sweep had been stopped before it: it alone is run.
    for path in (tmp_path / "sweep" / "1").iterdir():
        if path.is_file():
            path.unlink()
    again = aegis("run", "--resume", "sweep", timeout=600)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("finished before; it is not run again") == 1
    after = runs(tmp_path)
    assert len(after) == 2
    assert len(set(after) & set(before)) == 1
    assert [t["status"] for t in told(tmp_path)["trials"]] == ["finished"] * 2
    assert [t["overrides"] for t in told(tmp_path)["trials"]] == [t["overrides"] for t in sweep["trials"]]


def test_a_direction_that_contradicts_the_objective_is_refused_before_a_trial(aegis: Any, tmp_path: Path) -> None:
    done = aegis("run", "-m", "hydra/sweeper=optuna", *TINY, "hydra.sweeper.direction=minimize", "seed=1,2")
    assert done.returncode == 2
    assert "hydra.sweeper.direction" in done.stderr
    assert not (tmp_path / "sweep").exists()


def test_a_sweep_that_was_killed_goes_on_in_the_middle_of_its_trial(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "aegis", "run"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    tiny = [each for each in TINY if not each.startswith("strategy.rounds")]
    running = subprocess.Popen(
        [*words, "-m", *tiny, "strategy.rounds=12", "model.learning_rate=0.1,1", "policy.budget_epsilon=20"],
        cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 200
    while not (tmp_path / "sweep" / "1" / "checkpoint.npz").is_file():
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (tmp_path / "sweep" / "sweep.json").exists()
    done = subprocess.run(
        [*words, "--resume", "sweep"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trial 0 finished before" in done.stdout
    sweep = told(tmp_path)
    assert [t["status"] for t in sweep["trials"]] == ["finished", "finished"], "each trial once"
    assert sweep["trials"][1]["folder"] == "1-2"
    rest = json.loads((tmp_path / "sweep" / "1-2" / "report.json").read_text())
    assert 1 <= len(rest["rounds"]) < 12
    most = max(client["epsilon_total"] for client in rest["clients"])
    assert most < sweep["charged"]["epsilon"] * 1.1


def test_a_trial_that_the_budget_does_not_cover_is_refused_whole_before_its_first_round(
    aegis: Any, tmp_path: Path
) -> None:
    tiny = [each for each in TINY if "noise_multiplier" not in each and "rounds" not in each]
    done = aegis(
        "run", "-m", *tiny, "strategy.rounds=2", "privacy.epsilon=2", "policy.budget_epsilon=2.5",
        "model.learning_rate=0.1,0.2,0.3", timeout=600,
    )  # fmt: skip
    assert done.returncode == 3
    assert "that is more than the budget 2.5" in done.stdout
    assert [t["status"] for t in told(tmp_path)["trials"]] == ["finished", "refused", "refused"]
    assert done.stderr.count("the whole trial would bring ε of") == 2
    spent = told(tmp_path)["charged"]["epsilon"]
    assert spent == pytest.approx(told(tmp_path)["trials"][0]["epsilon_max"], rel=0.01), "no round of a refused trial"


def test_a_budget_that_lasts_is_spent_on_a_word_only(aegis: Any, tmp_path: Path) -> None:
    words = ["run", "-m", *TINY, "seed=1", "vault.root=kept", "model.learning_rate=0.1"]
    done = aegis(*words)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not (tmp_path / "kept").exists()
    done = aegis(*words, "--yes", timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "kept").exists()


def test_on_a_terminal_a_sweep_asks_and_no_means_no(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "aegis", "run", "-m", *TINY, "model.learning_rate=0.1,1"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while b"go on?" not in shown:
        shown += os.read(ours, 4096)
    assert "together at most ε".encode() in shown
    os.write(ours, b"n\n")
    assert running.wait(timeout=60) == 1
    os.close(ours)
    assert not (tmp_path / "sweep").exists()
