"""Trials: read back from their folders whatever became of them, and what they cost the same people together."""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from aegis_flower.accountant import Mechanism, epsilon
from aegis_flower.cli import run as command
from aegis_flower.cli import trial as cli
from aegis_flower.configs import compose
from aegis_flower.errors import ConfigError
from aegis_flower.interrupts import Interrupted
from aegis_flower.sweep import callback, trials
from aegis_flower.sweep.trials import Note, _Charged, _worst

TRAIN, COUNTS = Mechanism(2.0, 0.25), Mechanism(1.5, 1.0, kind="counts")


def note(folder: Path, number: int, **changes: object) -> Note:
    (folder / str(number)).mkdir(parents=True, exist_ok=True)
    made = replace(Note(number, [f"seed={number}"], str(folder / str(number))), **changes)  # type: ignore[arg-type]
    made.write(folder / str(number))
    return made


def test_every_trial_is_found_whatever_became_of_it(tmp_path: Path) -> None:
    for number, status in enumerate(("finished", "failed", "started", "interrupted")):
        note(tmp_path, number, status=status)
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / trials.FILE).write_text("{")
    found = trials.read(tmp_path)
    assert [n.status for n, _ in found] == ["finished", "failed", "started", "interrupted", "failed"]
    assert all(report is None for _, report in found)
    assert found[2][0].exit_code == 1, "what never said how it ended did not end well"


def test_two_sets_of_vaults_of_the_same_people_are_composed_and_not_the_larger_taken() -> None:
    one = _Charged(Counter({TRAIN: 40}), Counter({COUNTS: 1}))
    together = _worst([one, one], 1e-5)
    assert together == pytest.approx(
        max(epsilon({TRAIN: 80}, 1e-5), epsilon({TRAIN: 40, COUNTS: 1}, 1e-5), epsilon({COUNTS: 2}, 1e-5))
    )
    assert together > epsilon({TRAIN: 40}, 1e-5) * 1.2
    assert _worst([one], 1e-5) == pytest.approx(max(epsilon({TRAIN: 40}, 1e-5), epsilon({COUNTS: 1}, 1e-5)))
    assert _worst([one] * 9, 1e-5) >= epsilon({TRAIN: 360}, 1e-5), "beyond what can be tried, everything is added"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": "", "root": "x"}, "whose data"),
        ({"source": "s", "runtime": "deployment"}, "stay with the nodes"),
        ({"source": "s", "runtime": "inprocess", "root": ""}, "where its vaults are"),
    ],
)
def test_a_total_that_is_not_known_says_why(tmp_path: Path, changes: dict[str, str], why: str) -> None:
    (total,) = trials.totals([(note(tmp_path, 0, **changes), None)])
    assert total.epsilon is None
    assert why in total.why


def test_a_sweep_says_beforehand_what_it_will_cost_under_every_override() -> None:
    base = ["strategy.rounds=1", "privacy.noise_multiplier=2"]
    configs = [compose("quickstart", [*base, f"seed={s}"]) for s in (1, 2, 3)]
    (line,) = trials.expected(configs)
    cost = epsilon({Mechanism(2.0, 0.3): 12}, 1e-5)
    assert "3 trials on the same people (breast_cancer)" in line
    assert f"ε {cost:.2f}" in line
    off = compose("quickstart", ["privacy=off", "policy.require_dp=false"])
    assert "without DP" in trials.expected([off])[0]
    assert len(trials.expected([configs[0], compose("digits")])) == 2


@pytest.mark.parametrize(
    ("became", "value", "code", "status"),
    [
        (SimpleNamespace(results=SimpleNamespace(accuracy=0.75)), 0.75, 0, "finished"),
        (SimpleNamespace(results=SimpleNamespace(accuracy=None)), 0.0, 0, "finished"),
        (ConfigError("seed", "no"), 0.0, 2, "failed"),
        (ZeroDivisionError("of somebody's"), 0.0, 1, "failed"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_trial_has_a_value_for_a_sweeper_and_a_note_whatever_it_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, became: Any, value: float, code: int, status: str
) -> None:
    """Optuna wants a float; a trial that raised was in no table."""
    run = SimpleNamespace(
        runtime=SimpleNamespace(output_dir=str(tmp_path / "sweep" / "3")),
        overrides=SimpleNamespace(task=["seed=3"]),
        mode=RunMode.MULTIRUN,
        job=SimpleNamespace(num=3),
        sweep=SimpleNamespace(dir=str(tmp_path / "sweep")),
    )

    def job(*_: Any) -> Any:
        if isinstance(became, Exception):
            raise became
        return became

    monkeypatch.setattr(HydraConfig, "get", lambda: run)
    monkeypatch.setattr(cli, "_noted", lambda _, note, *more: note)
    monkeypatch.setattr(cli, "_job", job)
    assert cli.trial(None) == (value, code)
    ((note, report),) = trials.read(tmp_path / "sweep")
    assert (note.number, note.overrides, note.status, note.exit_code) == (3, ["seed=3"], status, code)
    assert report is None


@pytest.mark.parametrize(
    ("overrides", "promised"),
    [
        ([], "ε ≤ 3 a record"),
        (["privacy.noise_multiplier=0.8"], "ε ≤ 21."),
        (["privacy.noise=insecure_test", "policy.require_dp=false"], "NOT PRIVATE"),
        (["privacy=off", "policy.require_dp=false"], "NOT PRIVATE"),
    ],
)
def test_the_first_line_promises_what_the_noise_keeps(overrides: list[str], promised: str) -> None:
    cfg = compose("quickstart", overrides)
    line = cli._guarantee(cfg)
    assert promised in line
    assert ("ε ≤" in line) == ("NOT PRIVATE" not in line)
    if cfg.privacy.noise_multiplier:
        kept = epsilon({Mechanism(0.8, cfg.privacy.sample_rate, cfg.privacy.clip): cfg.total_steps}, cfg.privacy.delta)
        assert float(line.split()[2]) >= kept


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_is_summed_up_with_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    """Hydra's own callbacks do not run after an interrupt."""
    note(tmp_path, 0, status="finished")
    note(tmp_path, 1, status="interrupted", exit_code=code)

    def interrupted(arguments: list[str]) -> int:
        raise Interrupted(number)

    monkeypatch.setattr(callback, "_open", [tmp_path])
    monkeypatch.setattr(command, "tolerate", lambda: None)
    monkeypatch.setattr(command, "_run_hydra", interrupted)
    with pytest.raises(SystemExit) as ended:
        command.run(SimpleNamespace(args=["-m", "experiment=quickstart"]))  # type: ignore[arg-type]
    assert ended.value.code == code
    told = json.loads((tmp_path / "sweep.json").read_text())
    assert [t["status"] for t in told["trials"]] == ["finished", "interrupted"]


def test_a_signal_while_modules_are_imported_ends_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The import makes of it what it likes: an ImportError of 111 lines, once."""

    def importing(arguments: list[str]) -> int:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("half a module") from None
        return 0

    started_with = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what runs in the background
    monkeypatch.setattr(command, "tolerate", lambda: None)
    monkeypatch.setattr(command, "_run_hydra", importing)
    try:
        with pytest.raises(SystemExit) as ended:
            command.run(SimpleNamespace(args=["experiment=quickstart"]))  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, started_with)
    assert ended.value.code == 130
    assert capsys.readouterr().err == "aegis: interrupted by SIGINT\n"
