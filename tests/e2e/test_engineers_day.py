"""The engineer's day as one shell script, `engineers_day.sh`, on a file that a hospital would have."""

import csv
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aegis_flower.report import load_report

DAY = Path(__file__).with_name("engineers_day.sh")


def patients(count: int, *, labelled: bool) -> str:
    drawn = random.Random(5)
    lines = ["patient_id,age,ward,crp,ill" if labelled else "patient_id,age,ward,crp"]
    for at in range(count):
        age, crp = drawn.randint(18, 95), drawn.randint(0, 400)
        ward = drawn.choice(["cardio", "onco", "other"])
        row = f"P{at:05d},{age},{ward},{crp}"
        lines.append(f"{row},{'yes' if crp + 2 * age > 300 else 'no'}" if labelled else row)
    return "\n".join(lines) + "\n"


@pytest.mark.timeout(1200)
def test_an_engineers_day_ends_with_predictions_of_an_own_model(tmp_path, capsys):
    (tmp_path / "patients.csv").write_text(patients(1500, labelled=True))
    (tmp_path / "new.csv").write_text(patients(25, labelled=False))
    done = subprocess.run(
        ["sh", str(DAY)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "120",
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    out = done.stdout
    assert done.returncode == 0, out + done.stderr
    assert "nobody declared age: low, high; ward: levels; crp: low, high" in out
    assert "killed: 137" in out
    assert re.search(r"going on after round \d+ of 8", out)
    assert "is there already; name a new folder" in done.stderr
    project = tmp_path / "clinics"
    killed = load_report(project / "outputs" / "long-resumed")
    assert killed.run.status == "finished"
    assert 0 < len(killed.rounds) < 8
    # The killed run's first rounds are on the ledgers, too.
    assert all(client.epsilon_total > client.epsilon > 0 for client in killed.clients)
    assert killed.results.accuracy > 0.6
    started = load_report(project / "outputs" / "next")
    assert started.run.status == "finished"
    with np.load(project / "outputs" / "next" / "model.npz") as model:
        assert [model[name].shape for name in model.files] == [(6, 9), (6,), (2, 6), (2,)]
    weights = torch.load(tmp_path / "ill-model-torch" / "model.pt", weights_only=True)
    assert [tuple(value.shape) for value in weights.values()] == [(6, 9), (6,), (2, 6), (2,)]
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["patient_id"] for row in rows] == [f"P{at:05d}" for at in range(25)]
    assert {row["prediction"] for row in rows} <= {"true", "false"}
    for file in (tmp_path / "ill-model").iterdir():
        text = file.read_bytes().decode("latin-1")
        assert not any(word in text for word in ("node-1", str(tmp_path), "P00001")), file
    with capsys.disabled():
        sys.stdout.write(f"\nengineer's day: {re.search(r'from a file to a report: .*', out)[0]}\n")
