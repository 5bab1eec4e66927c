"""The `aegis` command as its users meet it: a process, its output, its exit code."""

import json
import os
import subprocess
import sys
import uuid

import pytest
from aegis import cli

from aegis_flower.report import load_report

USAGE, REFUSED, INTEGRITY = 2, 3, 5


@pytest.fixture
def vault(aegis, tmp_path):
    """A vault with one file in it: folder, key file, object id."""
    folder, key = tmp_path / "vault", tmp_path / "vault.key"
    assert aegis("vault", "init", folder, "--make-key", key_file=key).returncode == 0
    (tmp_path / "a.csv").write_text("amount\n12\n")
    added = json.loads(aegis("vault", "add", folder, "a.csv", "--json", key_file=key).stdout)
    return folder, key, added[0]["id"]


def _fails(done, code, *texts):
    """Exit code, one line on stderr that has the texts, no traceback."""
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in " ".join(done.stderr.split())
    return done.stderr


# -- vault --------------------------------------------------------------------------------------------------------


def test_the_five_lines_of_the_design_work_as_written(tmp_path):
    (tmp_path / "finance_data.csv").write_bytes(b"account,amount\n" + b"1,2\n" * 1000)
    script = """
from aegis import Vault
vault = Vault.new("./my_secure_vault", key=b"SUPER_SECRET_32_BYTE_KEY_1234567")   # exactly 32 bytes
file_id = vault.store_file("finance_data.csv")     # streams; physical file: my_secure_vault/objects/xx/<uuid>.enc
print(file_id)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    file_id = done.stdout.strip()
    assert str(uuid.UUID(file_id)) == file_id
    (path,) = (tmp_path / "my_secure_vault" / "objects").rglob("*.enc")
    assert path.name == f"{file_id}.enc"
    assert len(path.parent.name) == 2
    assert b"account" not in path.read_bytes()
    again = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert again.returncode == 0, "Vault.new opens what is there with that key"
    assert again.stdout.strip() != file_id


def test_a_file_goes_in_is_listed_checked_and_shredded(aegis, vault, tmp_path):
    folder, key, object_id = vault
    (listed,) = json.loads(aegis("vault", "ls", folder, "--json", key_file=key).stdout)
    assert (listed["id"], listed["name"], listed["bytes"]) == (object_id, "a.csv", 10)
    stat = json.loads(aegis("vault", "stat", folder, object_id, "--json", key_file=key).stdout)
    assert (stat["id"], stat["chunks"]) == (object_id, 1)
    assert json.loads(aegis("vault", "verify", folder, "--json", key_file=key).stdout) == [
        {"id": object_id, "ok": True, "chunks": 1}
    ]
    assert (tmp_path / "a.csv").exists(), "the source stays"

    receipt = json.loads(aegis("vault", "shred", folder, object_id, "--yes", "--json", key_file=key).stdout)
    assert receipt["objects"] == [object_id]
    assert receipt["level"] in ("logical", "ratcheted-file")
    assert receipt["caveats"], "what shredding does not reach is said"
    assert json.loads(aegis("vault", "ls", folder, "--json", key_file=key).stdout) == []
    _fails(aegis("vault", "stat", folder, object_id, key_file=key), 1, "was shredded", "AEG-V014")


def test_text_output_names_the_same_objects(aegis, vault):
    folder, key, object_id = vault
    assert object_id in aegis("vault", "ls", folder, key_file=key).stdout
    assert "a.csv" in aegis("vault", "stat", folder, object_id, key_file=key).stdout
    assert "1 of 1 objects are whole" in aegis("vault", "verify", folder, key_file=key).stdout


def test_shredding_asks_first_and_fails_rather_than_degrades(aegis, vault):
    folder, key, object_id = vault
    assert aegis("vault", "shred", folder, object_id, key_file=key, text="n\n").returncode == 1
    strict = aegis("vault", "shred", folder, object_id, "--yes", "--require", "hardware", key_file=key)
    _fails(strict, 1, "nothing was shredded", "AEG-V020")
    assert len(json.loads(aegis("vault", "ls", folder, "--json", key_file=key).stdout)) == 1
    assert aegis("vault", "shred", folder, object_id, key_file=key, text="y\n").returncode == 0
    assert json.loads(aegis("vault", "ls", folder, "--json", key_file=key).stdout) == []


def test_wrong_key_wrong_length_and_no_vault_are_three_different_errors(aegis, vault, tmp_path):
    folder, _, _ = vault
    keys = {}
    for name, size in (("other", 32), ("short", 31)):
        keys[name] = tmp_path / f"{name}.key"
        keys[name].write_bytes(os.urandom(size))
        keys[name].chmod(0o600)
    (tmp_path / "empty").mkdir()
    texts = {
        _fails(aegis("vault", "ls", folder, key_file=keys["other"]), 1, "key", "AEG-V"),
        _fails(aegis("vault", "ls", folder, key_file=keys["short"]), 1, "32", "AEG-V"),
        _fails(aegis("vault", "ls", tmp_path / "empty", key_file=keys["other"]), 1, "not a vault", "AEG-V001"),
        _fails(aegis("vault", "ls", tmp_path / "gone", key_file=keys["other"]), 1, "no vault at", "AEG-V002"),
    }
    assert len({text.rsplit("[", 1)[1] for text in texts}) == 4, "each has its own code"


def test_a_key_file_others_can_read_is_refused(aegis, vault):
    folder, key, _ = vault
    key.chmod(0o644)
    _fails(aegis("vault", "ls", folder, key_file=key), 1, "chmod 600")


def test_init_never_touches_a_vault_or_a_key_that_is_there(aegis, vault, tmp_path):
    folder, key, object_id = vault
    before = key.read_bytes()
    _fails(aegis("vault", "init", folder, key_file=key), 1, "already a vault", "AEG-V003")
    _fails(aegis("vault", "init", tmp_path / "new", "--make-key", key_file=key), 1, "AEG-V007")
    assert key.read_bytes() == before
    assert object_id in aegis("vault", "ls", folder, key_file=key).stdout


def test_usage_errors_exit_with_2_and_say_what_to_give(aegis, vault):
    folder, key, object_id = vault
    _fails(aegis("nope"), USAGE, "No such command")
    _fails(aegis("vault", "ls", key_file=key), USAGE, "VAULT")
    _fails(aegis("vault", "ls", folder), USAGE, "--key-file")
    _fails(aegis("vault", "stat", folder, "nonsense", key_file=key), USAGE, "UUID")
    _fails(aegis("vault", "verify", folder, "nonsense", key_file=key), USAGE, "UUID")
    _fails(aegis("vault", "shred", folder, object_id, "--require", "x", key_file=key), USAGE, "ratcheted-file")
    _fails(aegis("audit", "verify", folder, "--expect", "here"), USAGE, "RECORDS:HASH")
    _fails(aegis("audit", "verify", folder, "--expect", "3:00"), USAGE, "RECORDS:HASH")
    assert aegis().returncode == USAGE
    missing = "00000000-0000-4000-8000-000000000000"
    _fails(aegis("vault", "stat", folder, missing, key_file=key), 1, missing, "AEG-V013")
    _fails(aegis("vault", "add", folder, "missing.csv", key_file=key), 1, "missing.csv")


def test_a_plain_file_is_not_added_where_nobody_could_ever_read_it(aegis, tmp_path):
    folder, key = tmp_path / "vault", tmp_path / "key"
    assert aegis("vault", "init", folder, "--make-key", "--govern", "core", key_file=key).returncode == 0
    (tmp_path / "a.csv").write_text("amount\n12\n")
    error = " ".join(aegis("vault", "add", folder, "a.csv", key_file=key).stderr.replace("│", "").split())
    assert "governed" in error
    assert "ingest" in error
    assert json.loads(aegis("vault", "ls", folder, "--json", key_file=key).stdout) == []


def test_a_rotation_makes_the_new_key_on_request_and_overwrites_none(aegis, vault, tmp_path):
    folder, key, object_id = vault
    new = tmp_path / "new.key"
    for wrong in (["--make-key"], ["--make-key", "--new-key", "env:X"], ["--make-key", "--new-key-file", key]):
        assert aegis("vault", "rotate", folder, *wrong, key_file=key).returncode == USAGE
    assert aegis("vault", "rotate", folder, "--make-key", "--new-key-file", new, key_file=key).returncode == 0
    assert new.stat().st_mode & 0o777 == 0o600
    assert object_id in aegis("vault", "ls", folder, key_file=new).stdout
    _fails(aegis("vault", "ls", folder, key_file=key), 1, "AEG-V006")


def test_the_versions_are_told(aegis):
    told = aegis("--version").stdout
    assert all(f"{name} " in told for name in ("aegis-flower-engine", "aegis-flower", "flwr"))


def test_without_the_plugin_its_commands_say_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(cli.importlib.metadata, "entry_points", lambda **_: ())
    for command in cli.PLUGIN:
        monkeypatch.setattr(sys, "argv", ["aegis", command, "x"])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == USAGE
        assert "pip install aegis-flower" in capsys.readouterr().err


def test_every_command_of_the_plugin_is_known_to_the_engine():
    import typer

    from aegis_flower.cli import register

    app = typer.Typer()
    register(app)
    names = [c.name for c in app.registered_commands] + [g.name for g in app.registered_groups]
    assert sorted(names) == sorted(cli.PLUGIN)


# -- audit, doctor ------------------------------------------------------------------------------------------------


def test_the_audit_log_is_checked_against_a_head_kept_elsewhere(aegis, vault):
    folder, _, object_id = vault
    result = json.loads(aegis("audit", "verify", folder, "--json").stdout)
    kept = f"{result['records']}:{result['head']}"
    assert "lies in it" in aegis("audit", "verify", folder, "--expect", kept).stdout
    assert aegis("audit", "verify", folder / "audit", "--expect", kept).returncode == 0
    head = "00" + result["head"][2:] if not result["head"].startswith("00") else "11" + result["head"][2:]
    _fails(aegis("audit", "verify", folder, "--expect", f"{result['records']}:{head}"), INTEGRITY, "AEG-A")
    _fails(aegis("audit", "verify", folder, "--expect", f"{result['records'] + 1}:{head}"), INTEGRITY, "AEG-A")
    stored, written = json.loads(aegis("audit", "tail", folder, "-n", "2", "--json").stdout)
    assert (stored["event"], stored["object"]) == ("store", object_id)
    assert (written["event"], written["generation"]) == ("keystore", 2)
    assert object_id in aegis("audit", "tail", folder).stdout


def test_doctor_names_the_loaded_engine_and_what_weakens_a_vault(aegis, vault):
    folder, _, _ = vault
    facts = json.loads(aegis("doctor", folder, "--json").stdout)
    assert facts["release build"] is True
    assert len(facts["engine sha256"]) == 64
    assert os.path.isfile(facts["engine file"])  # noqa: PTH113 - a text from JSON
    assert facts["flwr"].startswith("1.")
    assert not any(str(folder) in note for note in facts["notes"])
    folder.chmod(0o755)
    done = aegis("doctor", folder)
    assert "chmod 700" in done.stdout
    assert "engine sha256" in done.stdout


# -- run ----------------------------------------------------------------------------------------------------------


def test_a_run_from_any_folder_prints_its_result_and_leaves_a_report(aegis, tmp_path):
    here = tmp_path / "elsewhere"
    here.mkdir()
    done = aegis("run", "experiment=quickstart", "strategy.rounds=2", cwd=here)
    assert done.returncode == 0, done.stderr
    (path,) = here.glob("outputs/quickstart/*/report.json")
    report = load_report(path)
    assert report.run.status == "finished"
    assert "strategy.rounds=2" in report.config.overrides
    assert report.config.resolved["strategy"]["rounds"] == 2
    assert str(path.with_name("report.html").relative_to(here)) in done.stdout
    assert path.with_name("report.html").is_file()
    assert path.with_name("model.npz").is_file()
    assert "round   1" in done.stdout

    shown = aegis("report", "show", cwd=here)
    assert shown.returncode == 0
    assert "hospital-3" in shown.stdout
    assert aegis("report", "show", path.parent, cwd=tmp_path).stdout == shown.stdout

    vaults = path.parent / "vaults"
    spent = aegis("privacy", "show", vaults / "hospital-1", key_file=vaults / "keys" / "hospital-1.key")
    assert spent.returncode == 0
    client = next(c for c in report.clients if c.node == "hospital-1")
    assert f"{client.epsilon:.3f}" in spent.stdout
    where = f"file:{vaults / 'keys' / 'hospital-1.key'}"
    assert aegis("privacy", "show", vaults / "hospital-1", "--key", where).stdout == spent.stdout
    assert "breast_cancer" in spent.stdout
    kept = f"{client.audit.records}:{client.audit.head}"
    assert aegis("audit", "verify", vaults / "hospital-1", "--expect", kept).returncode == 0


@pytest.mark.parametrize(
    ("override", "texts"),
    [
        ("privacy.epsilom=3", ["privacy.epsilom", "did you mean privacy.epsilon?"]),
        ("privacy.epsilon=-1", ["privacy.epsilon", "must be above 0"]),
        ("privacy.epsilon=much", ["privacy.epsilon", "much"]),
        ("strategy.name=fedagv", ["strategy.name", "did you mean 'fedavg'?"]),
        ("runtime.lose=[1@1:lunch]", ["runtime.lose", "NODE@ROUND:STEP"]),
        ("model=linear", ["model", "linear", "logistic"]),
        ("secagg=clear", ["secagg.enabled", "policy.require_secure_aggregation=false"]),
        ("privacy=off", ["privacy.mode", "policy.require_dp=false"]),
        ("data.clients=2", ["data.clients", "secagg.min_cohort"]),
    ],
)
def test_an_impossible_configuration_exits_with_2_and_the_path_of_the_key(aegis, tmp_path, override, texts):
    _fails(aegis("run", "experiment=quickstart", override), USAGE, *texts)
    assert not list(tmp_path.rglob("report.json"))


def test_run_without_arguments_and_with_an_unknown_experiment_exit_with_2(aegis):
    _fails(aegis("run"), USAGE, "experiment=quickstart")
    _fails(aegis("run", "experiment=quikstart"), USAGE, "quikstart", "quickstart")


def test_run_help_explains_overrides_groups_and_exit_codes(aegis):
    done = aegis("run", "--help")
    assert done.returncode == 0
    for text in ("experiment=quickstart", "-m experiment=digits", "fedprox", "krum", "Exit codes", "privacy"):
        assert text in done.stdout


def test_a_configuration_can_be_printed_without_running(aegis, tmp_path):
    done = aegis("run", "experiment=digits", "privacy.epsilon=2", "--cfg", "job")
    assert done.returncode == 0
    assert "epsilon: 2" in done.stdout
    assert not list(tmp_path.rglob("vault.json"))


@pytest.mark.parametrize(
    ("override", "texts"),
    [("policy.purpose=marketing", ["core.purpose", "AEG-P001"]), ("policy.budget_epsilon=0.1", ["AEG-B001", "budget"])],
)
def test_a_refused_run_exits_with_3_names_the_reason_and_leaves_a_report(aegis, tmp_path, override, texts):
    done = aegis("run", "experiment=quickstart", "strategy.rounds=1", override, "hydra.run.dir=out")
    _fails(done, REFUSED, "run refused", *texts)
    assert load_report(tmp_path / "out" / "report.json").run.status == "refused"


def test_a_failed_run_exits_with_1(aegis, tmp_path):
    lost = "runtime.lose=[0@1:masked,1@1:masked,2@1:masked]"
    done = aegis("run", "experiment=quickstart", "strategy.rounds=1", lost, "hydra.run.dir=out")
    _fails(done, 1, "not enough clients", "AEG-S015")
    assert load_report(tmp_path / "out" / "report.json").run.status == "failed"


def test_a_sweep_prints_one_table_draws_one_plot_and_charges_one_budget(aegis, tmp_path):
    done = aegis("run", "-m", "experiment=digits", "privacy.epsilon=1,3", "strategy.rounds=3", "hydra.sweep.dir=sweep")
    assert done.returncode == 0, done.stderr
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [t["overrides"] for t in sweep["trials"]] == [{"privacy.epsilon": "1"}, {"privacy.epsilon": "3"}]
    one, three = (t["epsilon_max"] for t in sweep["trials"])
    assert 0 < one <= 1 < three <= 3
    assert sweep["charged"]["epsilon"] > three, "both trials are charged to the same vaults"
    heads = [line for line in done.stdout.splitlines() if "trial" in line and "privacy.epsilon" in line]
    assert len(heads) == 1, "one table over all trials"
    assert (tmp_path / "sweep" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "sweep" / "sweep.html").is_file()
    assert "sweep.png" in done.stdout


def test_a_refused_trial_does_not_cost_the_sweep(aegis, tmp_path):
    done = aegis(
        "run", "-m", "experiment=quickstart", "policy.purpose=research,marketing", "strategy.rounds=1",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert done.returncode == REFUSED
    assert "core.purpose" in done.stderr
    reports = {p.parent.name: load_report(p).run.status for p in (tmp_path / "sweep").glob("*/report.json")}
    assert reports == {"0": "finished", "1": "refused"}
    sweep = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [t["status"] for t in sweep["trials"]] == ["finished", "refused"], "every trial is in the table"


# -- init ---------------------------------------------------------------------------------------------------------


def test_a_name_that_is_no_package_is_refused_with_one_that_is(aegis, tmp_path):
    _fails(aegis("init", "hospital-app"), 2, "take hospital_app", "AEG-C001")
    assert list(tmp_path.iterdir()) == []
    assert aegis("init", "hospital_app").returncode == 0
    _fails(aegis("init", "hospital_app"), 1, "not empty")


def test_a_bad_bundle_leaves_no_vault_and_no_key_behind(tmp_path):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "schema.cedarschema").touch()
    (bundle / "broken.cedar").write_text("nonsense")
    command = [sys.executable, "-m", "aegis", "vault", "init", "v", "-k", "k", "--make-key", "--govern", str(bundle)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4
    assert "broken.cedar" in done.stderr
    assert not (tmp_path / "v").exists()
    assert not (tmp_path / "k").exists()
