"""The steward's day as one shell script, `stewards_day.sh`, on files that a hospital would have."""

import os
import random
import subprocess
import sys
from pathlib import Path

DAY = Path(__file__).with_name("stewards_day.sh")
HEAD = "patient_id;Nachname;age;sex;ward;admitted;crp;ill"


def patients(first: int, count: int) -> list[str]:
    drawn = random.Random(first)
    rows = []
    for at in range(count):
        name, sex, ward = drawn.choice(["Maier", "Huber"]), drawn.choice("fm"), drawn.choice(["cardio", "onco"])
        age = drawn.randint(18, 95) if at % 40 else ""
        day, crp = f"{at % 28 + 1:02d}.{at % 12 + 1:02d}.2024", f"{drawn.randint(0, 90)},{drawn.randint(0, 9)}"
        rows.append(f"P{first + at // 2:05d};{name};{age};{sex};{ward};{day};{crp};{drawn.choice(['ja', 'nein'])}")
    return rows


def test_a_stewards_day_needs_no_python(tmp_path):
    rows = [*patients(0, 600), "P00999;Huber;old;f;onco;31.02.2024;1,0;ja", ";Huber;40;f;onco;01.02.2024;1,0;ja"]
    (tmp_path / "patients.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    (tmp_path / "december.csv").write_text("\n".join([HEAD, *patients(290, 100)]) + "\n")
    given = [f"P{at:05d},research,given,2024-01-01" for at in range(300)]
    withdrawn = ["P00001,research,withdrawn,2024-02-01", "P00002,research,withdrawn,2024-02-01"]
    (tmp_path / "consents.csv").write_text("\n".join(["person,purpose,decision,date", *given, *withdrawn]) + "\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(DAY)],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "COLUMNS": "120", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    out = done.stdout
    assert done.returncode == 0, out + done.stderr
    assert "age: not a whole number: 1 in line 602" in done.stderr
    assert "patient_id: no identifier of a person: 1 in line 603" in done.stderr
    assert "2 rows do not fit the schema, and nothing was stored" in done.stderr
    assert "given: 298 people, 298 have consent now and had none" in out
    assert "withdrawn: 2 people, 4 rows governed" in out
    # Once as she called, once after the delivery and the old list: still withdrawn.
    assert out.count("2 rows\nresearch: no consent") == 2
    assert "withheld from 1 people who withdrew consent here before" in out
    assert "would become wider than before; give the reason" in done.stderr
    assert "patients: narrower: min_rows; wider: retention_days" in out
    assert "erased: 2 rows removed from 1 data sets" in out
    assert "dropped patients and patients.holdout" in out
    # The card is public, and the draft of the schema: no value of a row, and no column that looks like a name.
    for name in ("card.md", "schema.toml", "mock.csv"):
        text = (tmp_path / name).read_text()
        assert "Maier" not in text
        assert "cardio" not in text
    assert "Nachname" not in (tmp_path / "card.md").read_text()
    # Nobody is named in the audit log.
    assert not any(word in out for word in ("P00007", "P00001"))
