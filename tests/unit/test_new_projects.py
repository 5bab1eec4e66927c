"""New projects and `aegis.toml`: what a hurried user does wrong is said before anything is written."""

import dataclasses
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aegis_flower import compose, features, project, projects
from aegis_flower.cli.init import init_help
from aegis_flower.errors import AppError, ConfigError, DataError
from aegis_flower.node.keys import FEATURES_SHA256, KEYS
from aegis_flower.projects.names import check_name, suggestion
from aegis_flower.simulations import own_table


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("my-app", "my_app"),
        ("3 clinics", "project_3_clinics"),
        ("Kliník", "Klinik"),
        ("clinics_", "clinics"),
        ("..", "my_project"),
        ("a" * 33, "a" * 32),
        ("café/../x", "cafe_x"),
        ("class", "class_project"),
        ("match", "match_project"),
        ("json", "json_project"),
        ("torch", "torch_project"),
        ("aegis_flower", "aegis_flower_project"),
    ],
)
def test_a_name_that_is_none_is_refused_with_one_that_is(name, taken):
    with pytest.raises(ConfigError, match=rf"take {taken}$"):
        check_name(name)
    check_name(taken)


def test_every_suggestion_is_a_name():
    for text in ("", "-", "1", "_", "é" * 40, "1" * 40, "x" * 31 + "_y", "a.b c"):
        check_name(suggestion(text))


def test_nothing_is_overwritten_and_nothing_half_stays(tmp_path):
    torch = projects.template("torch")
    there = tmp_path / "clinics"
    there.mkdir()
    (there / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        projects.make(there, torch)
    (tmp_path / "afile").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        projects.make(tmp_path / "afile", torch)
    with pytest.raises(DataError, match="there is no folder"):
        projects.make(tmp_path / "none" / "clinics", torch)
    (tmp_path / "rows.csv").write_text("patient_id,age,ward\n" + "".join(f"P{i},{i % 90},a\n" for i in range(60)))
    for rows, error, told in (
        (projects.Rows(tmp_path / "none.csv"), DataError, "there is no such file"),
        (projects.Rows(tmp_path / "rows.csv"), ConfigError, r"--label COLUMN. There are patient_id, age, ward"),
        (projects.Rows(tmp_path / "rows.csv", label="iii"), DataError, "no column 'iii'"),
        (projects.Rows(tmp_path / "rows.csv", label="ward", subject="x"), DataError, "no column 'x'"),
    ):
        with pytest.raises(error, match=told):
            projects.make(tmp_path / "fresh", torch, rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["afile", "clinics", "rows.csv"]
    assert (there / "mine.txt").read_text() == "mine"


def test_a_project_of_ones_own_file_holds_no_value_of_its_rows_and_says_what_is_lacking(tmp_path):
    rows = "".join(
        f"P{i:03d},{31 + i % 7},{('cardio', 'onco')[i % 2]},{('ja', 'nein')[i % 3 == 0]}\n" for i in range(90)
    )
    file = tmp_path / 'pa\'tients "x".csv'
    file.write_text("patient_id,age,ward,ill\n" + rows)
    made = projects.make(tmp_path / "clinics", projects.template("tabular"), projects.Rows(file))
    assert made.lacking == "age: low, high; ward: levels"
    for path in made.folder.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert not any(word in text for word in ("cardio", "P017", "nein,", "31"))
    experiment = project.read(made.folder)
    cfg = compose(experiment.experiment, [], experiment.config)
    assert cfg.data.path == f"../{file.name}"
    assert (cfg.name, cfg.data.name, cfg.data.features) == ("clinics", "table", "clinics/plan.yaml")
    # Ranges are public where somebody says so: then nothing is lacking.
    public = projects.make(tmp_path / "public", projects.template("torch"), projects.Rows(file, show_ranges=True))
    assert public.lacking == ""


def test_an_experiment_finds_its_file_from_the_project_and_says_nothing_of_this_machine(tmp_path, monkeypatch):
    """`..` leaves the folder that there really is: a project that is reached by a link finds its file all the same."""
    real = tmp_path / "disk" / "work"
    real.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "work").symlink_to(real)
    rows = tmp_path / "home" / "rows-2026.csv"
    rows.write_text("patient_id,age,ill\n" + "".join(f"P{i},{i % 40},{i % 2}\n" for i in range(60)))
    (tmp_path / "home" / "newest.csv").symlink_to(rows)
    monkeypatch.chdir(tmp_path / "home")
    given = projects.Rows(Path("newest.csv"), label="ill", show_ranges=True)
    made = projects.make(Path("work", "clinics"), projects.template("tabular"), given)
    for file in made.folder.rglob("*"):
        assert not file.is_file() or str(tmp_path) not in file.read_text()
    monkeypatch.chdir(made.folder)
    cfg = compose("clinics")
    assert cfg.data.path == "../../../home/newest.csv"
    assert len(own_table.read(cfg).names) == 60
    rows.rename(rows.with_name("older.csv"))
    with pytest.raises(ConfigError, match=r"data\.path: .*no \.\./\.\./\.\./home/newest\.csv as seen from .*has moved"):
        own_table.read(cfg)


def test_a_template_is_one_folder_and_says_what_it_needs(tmp_path):
    for name, more in (("mine", ""), ("lacking", 'needs = ["no_such_module"]\nextra = "keras"\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "template.toml").write_text(f'line = "{name}"\ndata = "digits"\n{more}')
    assert list(projects.templates(tmp_path)) == ["lacking", "mine"]
    assert projects.template("mine", tmp_path).line == "mine"
    either = projects.templates(tmp_path)["mine"]
    assert dataclasses.replace(either, needs=("no_such_module or json",)).lacking == []
    assert dataclasses.replace(either, needs=("no_such_module or nor_this",)).lacking == ["no_such_module or nor_this"]
    with pytest.raises(ConfigError, match=r"needs no_such_module: pip install 'aegis-flower\[keras\]'"):
        projects.template("lacking", tmp_path)
    with pytest.raises(ConfigError, match="did you mean mine"):
        projects.template("mein", tmp_path)


def test_the_help_of_init_has_a_line_for_each_template():
    text = init_help()
    for one in projects.templates().values():
        assert f"  {one.name}: {one.line}" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("experimnt = 'x'", "did you mean experiment"),
        ("app = 3", "is no text"),
        ("app = 'clinics'", "PACKAGE.MODULE:NAME"),
        ("app = 'os;x:y'", "PACKAGE.MODULE:NAME"),
        ("config = 'nowhere'", "there is no folder"),
        ("= [", "is no TOML"),
    ],
)
def test_a_project_file_that_means_nothing_is_refused_by_its_key(tmp_path, text, told):
    (tmp_path / "aegis.toml").write_text(text)
    with pytest.raises(ConfigError, match=told):
        project.read(tmp_path)


def test_an_app_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "brokenapp1.py").write_text("import no_such_module\n")
    (tmp_path / "brokenapp2.py").write_text("app = 3\n")
    for name, told in (("brokenapp1", "no_such_module"), ("brokenapp2", "is no app"), ("brokenapp3", "brokenapp3")):
        (tmp_path / "aegis.toml").write_text(f'app = "{name}:app"')
        with pytest.raises(AppError, match=told):
            project.read(tmp_path).load()
        sys.modules.pop(name, None)


def test_own_experiments_are_composed_in_the_folder_of_a_project_and_by_name_elsewhere(tmp_path, monkeypatch):
    folder = tmp_path / "it's é" / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nname: mine\nprivacy: {epsilon: 1.5}\n")
    with pytest.raises(ConfigError, match="there is no 'mine'"):
        compose("mine")
    with pytest.raises(ConfigError, match="there is no folder"):
        compose("mine", [], tmp_path / "none")
    assert compose("mine", [], folder.parent).privacy.epsilon == 1.5
    (folder.parents[1] / "aegis.toml").write_text('config = "conf"\nexperiment = "mine"\n')
    monkeypatch.chdir(folder.parents[1])
    assert compose("mine", ["privacy.delta=1e-6"]).privacy.delta == 1e-6
    for given, whole in (
        ([], ["experiment=mine"]),
        (["-m", "a=1", "b=2"], ["-m", "experiment=mine", "a=1", "b=2"]),
        (["a=1", "-m"], ["experiment=mine", "a=1", "-m"]),
        (["--cfg", "job"], ["--cfg", "job", "experiment=mine"]),
    ):
        assert project.here().arguments(given)[1:] == whole
    assert project.here().arguments(["--config-dir", "x", "experiment=quickstart"]) == [
        "--config-dir",
        "x",
        "experiment=quickstart",
    ]


def invoked(*arguments):
    from aegis.cli import app

    from aegis_flower.cli import register

    register(app)
    return CliRunner().invoke(app, arguments)


def test_the_hash_of_a_projects_plan_is_printed_as_an_operator_pins_it(tmp_path):
    made = projects.make(tmp_path / "clinics", projects.template("tabular"))
    plan = made.folder / "clinics" / "plan.yaml"
    done = invoked("data", "features", str(plan))
    assert done.exit_code == 0, done.output
    pin = done.stdout.splitlines()[-1]
    (value,) = tomllib.loads(pin).values()
    assert value == features.load(str(plan)).sha256
    assert KEYS[FEATURES_SHA256].fits(value)
    assert pin.startswith(FEATURES_SHA256)


def test_options_of_a_file_need_a_file():
    done = invoked("init", "clinics", "--label", "ill")
    assert isinstance(done.exception, ConfigError)
    assert "name the file by --data" in str(done.exception)
