"""Trackers: real ones, each read back by its own library; what leaves to them; and faults that cost the run nothing."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aegis_flower import compose, run_experiment
from aegis_flower.errors import ConfigError
from aegis_flower.report import load_report
from aegis_flower.report.model import RunReport
from aegis_flower.tracking import Trackers, session

FEW = ["data.clients=3", "strategy.rounds=2"]
PUBLIC = "def evaluate(arrays, round):\n    return {'score': round / 4}\n"

pytestmark = pytest.mark.timeout(900)  # several runs, each of which loads torch


def ran(folder: Path, *overrides: str, **options: Any) -> RunReport:
    (folder / "public.py").write_text(PUBLIC)
    cfg = compose("quickstart", [*FEW, f"evaluation.server={folder / 'public.py'}", *overrides])
    return run_experiment(cfg, folder / "run", **options)


def test_a_csv_has_a_line_a_round_and_the_numbers_of_the_report(tmp_path: Path) -> None:
    report = ran(tmp_path, "tracking.to=[csv]", "evaluation.rounds=every")
    rows = {int(row["round"]): row for row in csv.DictReader((tmp_path / "run" / "metrics.csv").open())}
    assert list(rows) == [0, 1, 2]
    for each in report.rounds:
        row = rows[each.round]
        assert float(row["accuracy"]) == each.accuracy
        assert float(row["public/score"]) == each.public_metrics["score"]
        assert int(row["participants"]) == len(each.participants) == 3
        assert float(row["epsilon_bound"]) >= (each.epsilon_max or 0)
    assert rows[0]["participants"] == "", "nobody trained for the start model"
    assert rows[0]["accuracy"] != ""


def test_tensorboard_reads_the_events_back(tmp_path: Path) -> None:
    ran(tmp_path, "tracking.to=[tensorboard]", f"tracking.folder={tmp_path / 'all'}")
    (file,) = (tmp_path / "all" / "tensorboard").glob("*/events.out.tfevents.*")
    assert socket.gethostname() not in file.name
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    reader, events = PyRecordReader_New(str(file)), []
    while True:
        try:
            reader.GetNext()
        except Exception:  # noqa: BLE001 - its end of file
            break
        events.append(Event.FromString(reader.record()))
    found = {(v.tag, e.step): v.simple_value for e in events for v in e.summary.value if v.HasField("simple_value")}
    assert found["public/score", 1] == 0.25
    assert found["participants", 2] == 3
    assert found["accuracy", 2] > 0
    assert ("accuracy", 1) not in found, "only the last model is measured under DP"


def test_mlflow_reads_the_run_back_and_its_own_address_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    report = ran(tmp_path, "tracking.to=[mlflow]")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=(tmp_path / "run" / "mlruns").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("quickstart").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["aegis.config_sha256"] == report.config.sha256
    assert float(run.data.tags["aegis.epsilon"]) <= 3
    assert run.data.params["strategy.rounds"] == "2"
    assert run.data.metrics["final/accuracy"] == report.results.accuracy
    scores = client.get_metric_history(run.info.run_id, "public/score")
    assert [(m.step, m.value) for m in scores] == [(0, 0.0), (1, 0.25), (2, 0.5)]


def test_wandb_writes_an_offline_run_without_the_machine_the_user_or_the_code(tmp_path: Path) -> None:
    ran(tmp_path, "tracking.to=[wandb]")
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    data = file.read_bytes()
    assert b"public/score" in data
    assert b"final/accuracy" in data
    names = [p.name for p in file.parent.rglob("*") if p.is_file() and p.suffix != ".log"]
    assert "requirements.txt" not in names
    assert "wandb-metadata.json" not in names
    for private in (sys.executable, str(Path(__file__).name)):
        assert private.encode() not in data


class Kept:
    """A tracker that keeps all it is given."""

    all: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        Kept.all.append(self)

    def start(self, config: Any, run: Any) -> None:
        self.calls.append(("start", run))

    def round(self, measured: Any) -> None:
        self.calls.append(("round", measured))

    def end(self, report: Any) -> None:
        self.calls.append(("end", report))


OWN = """
import test_trackers
class Mine(test_trackers.Kept): pass
class Breaks(test_trackers.Kept):
    def round(self, measured):
        super().round(measured)
        raise SystemExit(f"no disk\\nleft")
class BreaksLate(test_trackers.Kept):
    def end(self, report):
        raise OSError("gone")
class Lacks:
    def start(self, config, run): ...
class Wants:
    def __init__(self, folder): ...
"""


def own(folder: Path, name: str) -> str:
    (folder / "own.py").write_text(OWN)
    return f"tracking.to=[{folder / 'own.py'}:{name}]"


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "test_trackers", sys.modules[__name__])
    Kept.all.clear()


def test_a_tracker_of_ones_own_gets_start_rounds_in_order_and_end_and_no_number_of_a_node(tmp_path: Path) -> None:
    report = ran(
        tmp_path, own(tmp_path, "Mine"), "evaluation.rounds=every", "runtime.lose=[2@2:masked]", "data.clients=4"
    )
    (mine,) = Kept.all
    kinds = [kind for kind, _ in mine.calls]
    assert kinds == ["start", "round", "round", "round", "end"]
    run = mine.calls[0][1]
    assert run.tags["config_sha256"] == report.config.sha256
    assert run.tags["private"] == "true"
    rounds = [each for kind, each in mine.calls if kind == "round"]
    assert [each.round for each in rounds] == [0, 1, 2]
    assert rounds[2].values["lost"] == 1
    allowed = {"accuracy", "loss", "test-rows", "public/score", "epsilon_bound", "participants", "lost", "seconds"}
    assert set().union(*(each.values for each in rounds)) <= allowed | {"bytes_up"}
    assert all(type(value) is float for each in rounds for value in each.values.values())
    assert mine.calls[-1][1] == report


@pytest.mark.parametrize(("name", "told"), [("Breaks", "SystemExit: no disk left"), ("BreaksLate", "OSError: gone")])
def test_a_tracker_that_fails_is_told_once_and_costs_the_run_nothing(tmp_path: Path, name: str, told: str) -> None:
    report = ran(tmp_path, own(tmp_path, name))
    assert report.run.status == "finished"
    assert sum(told in text for text in report.run.warnings) == 1
    assert load_report(tmp_path / "run") == report, "also where the report was written already"
    (mine,) = Kept.all
    assert [kind for kind, _ in mine.calls].count("round") == (1 if name == "Breaks" else 3)


def test_a_run_that_is_ended_by_an_exception_ends_its_trackers_with_its_report(tmp_path: Path) -> None:
    def halt(record: Any) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        ran(tmp_path, own(tmp_path, "Mine"), on_round=halt)
    (mine,) = Kept.all
    kind, report = mine.calls[-1]
    assert kind == "end"
    assert report.run.status == "failed"


@pytest.mark.parametrize(
    ("name", "told"), [("Lacks", "has no round, end"), ("Wants", "cannot be made without arguments")]
)
def test_what_is_no_tracker_is_refused_before_a_vault_is_made(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ran(tmp_path, own(tmp_path, name))
    assert not (tmp_path / "run" / "vaults").exists()


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_package_that_is_missing_is_named_with_its_extra_before_anything_is_spent(tmp_path: Path, name: str) -> None:
    script = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from pathlib import Path\nfrom aegis_flower import compose, run_experiment\n"
        f"run_experiment(compose('quickstart', ['tracking.to=[{name}]']), Path('run'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert f"pip install 'aegis-flower[{name}]'" in done.stderr
    assert not (tmp_path / "run" / "vaults").exists()


def test_every_tracker_that_a_configuration_can_name_is_there() -> None:
    from aegis_flower.configs.training import TRACKERS

    assert tuple(session._OWN) == TRACKERS
    assert Trackers.__doc__
