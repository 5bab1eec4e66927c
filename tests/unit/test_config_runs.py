"""What a run is handed: overrides that keep their quotes, Flower's own parser, the runtimes, planned losses."""

from __future__ import annotations

import os
import shlex
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aegis_flower.configs import Config, RuntimeConfig, compose, from_run_config, overrides_from_run_config, parse_loss
from aegis_flower.errors import AppError, ConfigError


def test_overrides_of_a_run_config_keep_their_quotes_and_spaces() -> None:
    wanted = ["vault.root=/srv/my vaults", "policy.columns=[a,b]", "name='it''s'", "privacy.epsilon=3"]
    name, found = overrides_from_run_config({"aegis-experiment": "digits", "aegis-overrides": shlex.join(wanted)})
    assert name == "digits"
    assert found == wanted
    assert overrides_from_run_config({}) == (None, [])
    assert overrides_from_run_config({"aegis-experiment": "", "aegis-overrides": ""}) == (None, [])


def test_a_quoted_override_reaches_the_config() -> None:
    name, found = overrides_from_run_config({"aegis-overrides": """'vault.root="/srv/my vaults"' data.clients=4"""})
    cfg = compose(name, found)
    assert cfg.vault.root == "/srv/my vaults"
    assert cfg.data.clients == 4


def test_an_open_quote_in_a_run_config_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="aegis-overrides"):
        overrides_from_run_config({"aegis-overrides": "name='half"})


@pytest.mark.parametrize(
    "override",
    [
        'policy.purpose="cancer research"',
        "policy.granted_purposes=[research,'a, b']",
        "name='Übung'",
        "vault.root='/srv/my vaults'",
        """policy.purpose='a "quoted" one'""",
    ],
)
def test_what_submit_writes_comes_through_flowers_own_parser_as_it_was(override: str) -> None:
    from flwr.common.config import parse_config_args

    from aegis_flower.simulations.submit import run_config

    cfg = compose("digits", [override, "data.clients=4"])
    carried = run_config(cfg, ["experiment=digits", override], Path("/tmp/out put"))
    text = " ".join(f'{key}="{value}"' for key, value in carried.items())
    found, overrides, output = from_run_config(parse_config_args([text]))
    assert found == cfg
    assert overrides == ["experiment=digits", override]
    assert output == "/tmp/out put"


def test_a_runtime_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from aegis_flower.simulations import submit

    monkeypatch.setattr(submit.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'aegis-flower\[ray\]'"):
        submit.submit(compose("quickstart", ["runtime=ray"]), tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_an_app_that_cannot_be_sent_to_rays_workers_is_refused_before_anything_starts(tmp_path: Path) -> None:
    from aegis_flower import aegis_app
    from aegis_flower.simulations import submit

    lock = threading.Lock()

    def model() -> Any:
        with lock:
            return None

    cfg = compose("quickstart", ["runtime=ray"])
    with pytest.raises(AppError, match=r"by pickle.*lock"):
        submit.submit(cfg, tmp_path / "out", [], client=aegis_app(model).client)
    assert not (tmp_path / "out").exists()


def test_flowers_helpers_are_those_of_this_environment_and_paths_do_not_depend_on_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from aegis_flower.simulations import submit
    from aegis_flower.simulations.flower import deployment

    monkeypatch.chdir(tmp_path)
    started: list[Any] = []
    done = SimpleNamespace(returncode=0, ok=True, log="")

    def run(command: list[str], **options: Any) -> Any:
        started.append((command, options["env"]))
        (tmp_path / "out" / "report.json").write_text("{}")
        return done

    monkeypatch.setattr(submit.subprocess, "run", run)
    submit.submit(compose("quickstart", ["runtime=deployment"]), Path("out"), [])
    ((command, environment),) = started
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert Path(command[0]).parent == Path(sys.executable).parent

    carried: list[Any] = []
    monkeypatch.setattr(deployment, "ray_run", lambda app, given, *more, **options: carried.append(given) or done)
    cfg = compose("quickstart", ["runtime=ray", "vault.root=./v", "data.clients=3"])
    submit.submit(cfg, Path("out"), [])
    found, _, output = from_run_config(carried[0])
    assert (found.vault.root, output) == (str(tmp_path / "v"), str(tmp_path / "out"))
    assert (tmp_path / "v" / "hospital-1").is_dir()


@pytest.mark.parametrize("carried", ["x", "!!", "eyJhIjoxfQ", "bnVsbA", "W10", "a" * 10_000])
def test_a_carried_configuration_that_is_none_is_refused(carried: str) -> None:
    with pytest.raises(ConfigError, match="aegis-config"):
        from_run_config({"aegis-config": carried})


def test_a_loss_is_node_round_and_step() -> None:
    assert parse_loss("2@7:masked") == (2, 7, "masked")


@pytest.mark.parametrize("text", ["", "2@7", "2:7@masked", "x@7:masked", "2@7:sometime", "-1@7:masked", "2@7:masked "])
def test_what_is_no_loss_is_refused_with_the_steps_there_are(text: str) -> None:
    with pytest.raises(ConfigError, match="unmask") as error:
        parse_loss(text)
    assert error.value.path == "runtime.lose"
    with pytest.raises(ConfigError):
        Config(runtime=RuntimeConfig(lose=[text]))
