"""A run that was killed goes on from its last round: the same noise, the same vaults, one budget."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from aegis_flower import checkpoint, compose, run_experiment
from aegis_flower.errors import ConfigError, DataError
from aegis_flower.report import load_report

AEGIS = [sys.executable, "-m", "aegis", "run"]
# Every record in every step and no noise: what a run comes to does not depend on a draw.
PLAIN = ["privacy.mode=off", "policy.require_dp=false", "privacy.sample_rate=1.0", "evaluation.rounds=never"]


class Stop(Exception):
    pass


def stopped(cfg, folder, after, **options):
    def stop(record):
        if record.round == after:
            raise Stop

    with pytest.raises(Stop):
        run_experiment(cfg, folder, on_round=stop, **options)


def weights(folder):
    with np.load(folder / "model.npz") as stored:
        return {name: stored[name] for name in stored.files}


def test_two_parts_come_to_what_one_piece_does(tmp_path):
    cfg = compose("quickstart", [*PLAIN, "strategy.rounds=4", "data.clients=3"])
    run_experiment(cfg, tmp_path / "whole")
    stopped(cfg, tmp_path / "first", 2)
    kept = checkpoint.read(tmp_path / "first")
    assert (kept.round, kept.left, kept.noise_multiplier) == (2, 2, 0.0)
    rest = checkpoint.resumed(tmp_path / "first")
    assert (rest.strategy.rounds, rest.vault.root) == (2, str(tmp_path / "first" / "vaults"))
    report = run_experiment(rest, tmp_path / "second")
    assert [each.round for each in report.rounds] == [1, 2]
    assert any("rounds before that are in another report" in text for text in report.run.warnings)
    whole, second = weights(tmp_path / "whole"), weights(tmp_path / "second")
    assert whole.keys() == second.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(second[name], array, atol=1e-4)
    with pytest.raises(DataError, match="all of its 2 rounds"):
        checkpoint.resumed(tmp_path / "second")


def test_a_run_that_was_killed_goes_on_and_one_budget_is_spent(tmp_path):
    asked = ["experiment=quickstart", "strategy.rounds=40", "data.clients=3", "hydra.run.dir=out", "name=killed"]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    run = subprocess.Popen([*AEGIS, *asked], cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 200
    while not (tmp_path / "out" / "checkpoint.npz").is_file():
        assert time.monotonic() < until
        assert run.poll() is None
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "out" / "report.json").exists()
    done = checkpoint.read(tmp_path / "out")
    assert 1 <= done.round < 40
    resumed = subprocess.run(
        [*AEGIS, "--resume", "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert f"going on after round {done.round} of 40" in resumed.stdout
    report = load_report(tmp_path / "out-resumed")
    assert max(each.round for each in report.rounds) >= done.left
    for client in report.clients:
        # σ is that of forty rounds. The round that was under way when the run was killed may be charged twice.
        assert client.noise_multiplier == done.noise_multiplier
        assert client.epsilon < client.epsilon_total < done.config.privacy.epsilon * 1.05
        assert client.audit.verified


@pytest.mark.parametrize("damage", ["cut", "other arrays", "no archive", "gone"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, damage):
    cfg = compose("quickstart", [*PLAIN, "strategy.rounds=2", "data.clients=3"])
    stopped(cfg, tmp_path / "run", 1)
    path = tmp_path / "run" / checkpoint.CHECKPOINT
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "other arrays":
        np.savez(path, weight=np.zeros(3))
    elif damage == "no archive":
        path.write_bytes(b"no archive")
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"checkpoint\.npz"):
        checkpoint.resumed(tmp_path / "run")


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"weight": (2, 30)}, "array 'bias' is none there"),
        ({"weight": (2, 30), "bias": (2,), "more": (1,)}, "array 'more' is float32 .1,. there, none in the model"),
        ({"weight": (3, 30), "bias": (3,)}, "array 'weight' is float32 .3, 30. there"),
    ],
)
def test_a_start_of_another_model_is_refused_before_a_vault_is_opened(tmp_path, arrays, told):
    np.savez(tmp_path / "start.npz", **{name: np.zeros(shape, np.float32) for name, shape in arrays.items()})
    cfg = compose("quickstart", [*PLAIN, "data.clients=3", f"model.init={tmp_path / 'start.npz'}"])
    with pytest.raises(ConfigError, match=told):
        run_experiment(cfg, tmp_path / "run")


def test_a_start_that_is_not_finite_is_refused(tmp_path):
    np.savez(tmp_path / "start.npz", weight=np.full((2, 30), np.nan, np.float32), bias=np.zeros(2, np.float32))
    cfg = compose("quickstart", [*PLAIN, "data.clients=3", f"model.init={tmp_path / 'start.npz'}"])
    with pytest.raises(ConfigError, match="not finite"):
        run_experiment(cfg, tmp_path / "run")


def test_a_run_starts_from_the_model_of_another_one(tmp_path):
    base = [*PLAIN, "strategy.rounds=1", "data.clients=3"]
    run_experiment(compose("quickstart", base), tmp_path / "first")
    first = weights(tmp_path / "first")
    # With a learning rate near nothing the model stays where it started.
    still = [*base, f"model.init={tmp_path / 'first'}", "model.learning_rate=1e-9"]
    run_experiment(compose("quickstart", still), tmp_path / "second")
    for name, array in weights(tmp_path / "second").items():
        np.testing.assert_allclose(array, first[name], atol=1e-4)


def test_moments_that_start_anew_are_told(tmp_path):
    cfg = compose("quickstart", [*PLAIN, "strategy=fedadam", "strategy.rounds=3", "data.clients=3"])
    stopped(cfg, tmp_path / "run", 1)
    report = run_experiment(checkpoint.resumed(tmp_path / "run"), tmp_path / "rest")
    assert any("moments of fedadam started anew" in text for text in report.run.warnings)


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    cfg = compose("quickstart", [*PLAIN, "strategy.rounds=1", "data.clients=3"])
    report = run_experiment(cfg, tmp_path / "run")
    assert report.run.status == "finished"
    assert any("the checkpoint of round 1 could not be written: No space left" in text for text in report.run.warnings)
    assert not (tmp_path / "run" / checkpoint.CHECKPOINT).exists()


def test_resume_takes_a_folder_and_nothing_else(tmp_path):
    for arguments in (["--resume"], ["--resume", "a", "b"], ["--resume", str(tmp_path)]):
        done = subprocess.run(
            [*AEGIS, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("aegis: ")
    assert list(Path(tmp_path).iterdir()) == []
