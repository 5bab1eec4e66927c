"""Who may import what: heavy or foreign packages stay where they belong. `test_layers.py` has the order of rooms."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from test_layers import rooms

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "aegis_flower"
ENGINE = ROOT / "aegis_engine" / "python"


def modules() -> dict[str, Path]:
    return {name: file for name, file in rooms().items() if name}


def imported(file: Path) -> Iterator[str]:
    """Dotted names of everything a file imports anywhere but under TYPE_CHECKING; ``from a import b`` gives a and a.b."""
    tree = ast.parse(file.read_text())
    for block in [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]:
        block.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(name: str) -> str:
    return name.partition(".")[0]


def every_file() -> list[Path]:
    folders = [
        PACKAGE,
        ROOT / "strategies",
        ROOT / "simulations",
        ROOT / "configs",
        ENGINE,
        ROOT / "benches",
        ROOT / "tests",
    ]
    return sorted({f.resolve() for folder in folders for f in folder.rglob("*.py")})


def test_flowers_legacy_client_is_imported_in_one_file() -> None:
    users = {
        name for name, file in modules().items() if any(f"{i}.".startswith("flwr.client.") for i in imported(file))
    }
    assert users == {"client.vault_client"}


def test_opacus_is_known_to_one_file() -> None:
    assert {name for name, file in modules().items() if any(top(i) == "opacus" for i in imported(file))} == {
        "per_record.losses"
    }


def test_pydantic_checks_reports_and_configurations_and_nothing_else() -> None:
    users = {
        name for name, file in modules().items() if any(top(i) in {"pydantic", "pydantic_core"} for i in imported(file))
    }
    assert users == {"configs.check", "configs.keys", "report.check", "report.model", "report.records", "report.write"}


@pytest.mark.parametrize(
    ("statement", "loaded"),
    [("import aegis_flower.client.app", False), ("from flwr.supernode.cli import flwr_clientapp", True)],
)
def test_a_message_of_a_deployment_pays_for_no_pydantic_that_flower_has_not_loaded(
    statement: str, loaded: bool
) -> None:
    """The first configuration loads it. If Flower's own process no longer does, each step pays 0.15 s: think again."""
    code = f"import sys; {statement}; print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == str(loaded)


def test_the_cryptography_of_the_protocol_is_met_in_the_mask_and_the_masked_strategies() -> None:
    users = {
        name for name, file in modules().items() if any(i.startswith("aegis_engine.SecAgg") for i in imported(file))
    }
    rooms_ = {name.rpartition(".")[0] if name.startswith("strategies.masked.") else name for name in users}
    sums = {"strategies.plan", "strategies.masked", "strategies.secure_aggregation", "strategies.bucketed"}
    assert rooms_ == {"mask", "door", *sums}


def test_no_file_imports_the_top_level_folders_by_themselves() -> None:
    for file in every_file():
        generic = {top(i) for i in imported(file)} & {"strategies", "configs", "simulations", "tests"}
        assert not generic, file


def test_the_engines_python_imports_neither_torch_nor_flower_nor_yaml_nor_the_plugin_at_its_top() -> None:
    files = sorted(ENGINE.rglob("*.py"))
    assert files
    for file in files:
        # One file is for users of torch, and nothing imports it at its top.
        for_torch = {"torch"} if file.name == "torch.py" else set()
        unwanted = {"torch", "flwr", "yaml", "hydra", "omegaconf", "opacus"} - for_torch
        assert not {top(i) for i in imported(file)} & unwanted, file
        tops = ast.parse(file.read_text()).body
        assert not any("aegis_flower" in ast.dump(n) for n in tops if isinstance(n, ast.Import | ast.ImportFrom)), file


@pytest.mark.parametrize(
    "statement", ["import aegis", "from aegis import ComplianceEngine, Vault", "import aegis_flower"]
)
def test_importing_the_face_loads_nothing_heavy(statement: str) -> None:
    heavy = "{'torch', 'flwr', 'opacus', 'hydra', 'sklearn', 'matplotlib', 'dp_accounting', 'jinja2'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


def test_a_step_that_does_not_train_loads_neither_torch_nor_opacus_nor_the_accountant_nor_jinja2(
    tmp_path: Path,
) -> None:
    """Each message of a deployment is a process of its own, for which these are seconds and most of a gigabyte."""
    code = f"""
import pathlib, sys
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from aegis_flower import aegis_client_app, compose, wire
from aegis_flower.simulations.provision import provision

cfg = compose("quickstart", [])
node = provision(cfg, pathlib.Path({str(tmp_path)!r}))[0]
context = Context(run_id=1, node_id=1, node_config=node.node_config, state=RecordDict(), run_config={{}})
TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
ask = RecordDict({{wire.RECORD: wire.Request(1).to_record()}})
reply = aegis_client_app(config=cfg)(Message(ask, dst_node_id=1, message_type=wire.ADVERTISE), context)
assert len(wire.Reply.from_content(reply.content).payload) > 100
print(sorted({{'torch', 'opacus', 'dp_accounting', 'jinja2', 'markupsafe'}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_of_the_face_are_there() -> None:
    import aegis

    import aegis_flower

    for name in aegis_flower.__all__:
        assert getattr(aegis_flower, name) is not None
    for name in aegis._PLUGIN:
        assert getattr(aegis, name) is getattr(aegis_flower, name)
    with pytest.raises(AttributeError):
        aegis.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        aegis_flower.nothing  # noqa: B018
