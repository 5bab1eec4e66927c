"""Installs both wheels into a clean environment elsewhere and uses them there: ``python tests/wheels/check.py dist``.

Builds nothing and downloads nothing. The clean environment gets our wheels by `uv pip install --no-deps`; third-party
packages come from the running environment through a folder of links, made from the files that each distribution's own
RECORD lists, so that nothing of ours, no editable install and no ``.pth`` file of the checkout can leak in.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

OURS = {"aegis-flower", "aegis-flower-engine"}
GENERIC = {"strategies", "configs", "simulations", "tests", "benches", "docs", "recorder", "quickstart"}
ROOT = Path(__file__).resolve().parents[2]

FIVE_LINES = """
from aegis import Vault
vault = Vault.new("./my_secure_vault", key=b"SUPER_SECRET_32_BYTE_KEY_1234567")   # exactly 32 bytes
file_id = vault.store_file("finance_data.csv")     # streams; physical file: my_secure_vault/objects/xx/<uuid>.enc
print(file_id)
"""

WHERE = """
import importlib.metadata, json
import aegis, aegis_engine, aegis_engine._native, aegis_flower, aegis_flower.strategies, aegis_flower.simulations.inprocess
modules = (aegis, aegis_engine, aegis_engine._native, aegis_flower, aegis_flower.strategies, aegis_flower.simulations.inprocess)
print(json.dumps([m.__file__ for m in modules]))
"""


def check(holds: bool, problem: str) -> None:
    """Ends the script with the problem unless it holds."""
    if not holds:
        sys.exit(f"wheels: {problem}")


def say(line: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"wheels: {line}\n")
    sys.stdout.flush()


def one(folder: Path, pattern: str) -> Path:
    """The one file in `folder` of that pattern."""
    found = sorted(folder.glob(pattern))
    check(len(found) == 1, f"{folder} has {len(found)} files {pattern}, expected 1: {[f.name for f in found]}")
    return found[0]


def check_contents(plugin: Path, engine: Path, sdist: Path) -> None:
    """Names in the wheels and the sdist."""
    with zipfile.ZipFile(plugin) as archive:
        plugin_names = archive.namelist()
        links = [i.filename for i in archive.infolist() if (i.external_attr >> 16) & 0o170000 == 0o120000]
    with zipfile.ZipFile(engine) as archive:
        engine_names = archive.namelist()
    check(not links, f"{plugin.name} holds symbolic links: {links}")
    tops = {n.partition("/")[0] for n in [*plugin_names, *engine_names]}
    packages = {t for t in tops if not t.endswith((".dist-info", ".data", ".libs"))}
    check(packages == {"aegis", "aegis_engine", "aegis_flower"}, f"top-level names are {sorted(packages)}")
    needed = {
        "aegis_flower/py.typed",
        "aegis_flower/report.schema.json",
        "aegis_flower/configs/config.yaml",
        "aegis_flower/configs/experiment/quickstart.yaml",
        "aegis_flower/strategies/secure_aggregation.py",
        "aegis_flower/simulations/inprocess.py",
        "aegis_flower/simulations/quickstart/pyproject.toml",
        "aegis_flower/simulations/quickstart/simulate.py",
        "aegis_flower/simulations/quickstart/quickstart/client_app.py",
    }
    for path in ROOT.joinpath("configs").rglob("*.yaml"):
        needed.add(f"aegis_flower/{path.relative_to(ROOT).as_posix()}")
    templates = sorted(ROOT.joinpath("aegis_flower/report/page/templates").iterdir())
    check(len(templates) > 1, "the reports have no templates")
    needed |= {path.relative_to(ROOT).as_posix() for path in templates}
    templates = [path for path in ROOT.joinpath("aegis_flower/projects/templates").rglob("*") if path.is_file()]
    needed |= {path.relative_to(ROOT).as_posix() for path in templates}
    check(not needed - set(plugin_names), f"{plugin.name} lacks {sorted(needed - set(plugin_names))}")
    needed = {
        "aegis/__init__.py",
        "aegis/cli/__init__.py",
        "aegis_engine/py.typed",
        "aegis_engine/_native.pyi",
        "aegis_engine/data/__init__.py",
    }
    check(not needed - set(engine_names), f"{engine.name} lacks {sorted(needed - set(engine_names))}")
    check("-abi3-" in engine.name, f"{engine.name} is not abi3")
    check(plugin.name.endswith("-py3-none-any.whl"), f"{plugin.name} is not pure Python")
    litter = [
        n for n in [*plugin_names, *engine_names] if re.search(r"__pycache__|\.pyc$|\.key$|aegis-runs|/outputs/", n)
    ]
    check(not litter, f"the wheels hold {litter[:5]}")
    for archive, names in ((plugin, plugin_names), (engine, engine_names)):
        check(any(n.endswith("entry_points.txt") for n in names), f"{archive.name} has no entry points")
    check(any("/licenses/" in n or n.endswith("LICENSE") for n in plugin_names), f"{plugin.name} has no LICENSE")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    odd = [m.name for m in members if not (m.isfile() or m.isdir())]
    check(not odd, f"{sdist.name} holds links, not files: {odd}")
    inside = {m.name.partition("/")[2] for m in members}
    for name in ("aegis_flower/strategies/secure_aggregation.py", "aegis_flower/configs/config.yaml", "pyproject.toml"):
        check(name in inside, f"{sdist.name} lacks {name}")


def link_third_party(folder: Path) -> int:
    """Links every importable top-level file and folder of every distribution but ours into `folder`."""
    folder.mkdir()
    count = 0
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name in OURS or not distribution.files:
            continue
        site = Path(str(distribution.locate_file(""))).resolve()
        tops = {
            f.parts[0] for f in distribution.files if f.parts[0] not in ("..", "__pycache__") and not f.is_absolute()
        }
        for top in tops:
            target = folder / top
            # A .pth file is code or a path of that environment; nothing of ours may come in that way.
            if (
                top.endswith(".pth")
                or top.startswith(("aegis", "_aegis"))
                or target.exists()
                or not (site / top).exists()
            ):
                continue
            target.symlink_to(site / top)
            count += 1
    return count


def clean_environment(folder: Path, wheels: list[Path]) -> Path:
    """A new virtual environment with the wheels and links to third-party packages; returns its interpreter."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--quiet", "--offline", "--no-deps", "--python", str(python), *map(str, wheels)],
        check=True,
    )
    links = folder / "third-party"
    check(link_third_party(links) > 50, "too few third-party packages in the running environment")
    site = one(folder / "lib", "python*/site-packages")
    (site / "third_party.pth").write_text(f"{links}\n", encoding="utf-8")
    return python


class Elsewhere:
    """Runs commands of the clean environment in a folder that has nothing to do with the checkout."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.bin, self.folder = python.parent, folder
        inherited = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "AEGIS_", "FLWR_"))
        }
        self.environment = inherited | {"FLWR_TELEMETRY_ENABLED": "0", "PYTHONNOUSERSITE": "1", "COLUMNS": "160"}

    def __call__(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        text = done.stdout[-3000:] + done.stderr[-3000:]
        check(done.returncode == 0, f"`{program} {' '.join(arguments)[:80]}` exited with {done.returncode}:\n{text}")
        return done.stdout


def use(python: Path, folder: Path) -> None:
    """What a user does first."""
    elsewhere = Elsewhere(python, folder)
    environment = python.parents[1].resolve()
    for file in json.loads(elsewhere("python", "-c", WHERE)):
        check(Path(file).is_relative_to(environment), f"{file} was imported, which is not in the clean environment")

    (folder / "finance_data.csv").write_bytes(b"account,amount\n1,2\n")
    file_id = elsewhere("python", "-c", FIVE_LINES).strip()
    stored = one(folder / "my_secure_vault" / "objects", "*/*.enc")
    check(stored.name == f"{file_id}.enc", f"the five lines printed {file_id!r} and stored {stored.name}")
    say("the five lines work")

    facts = json.loads(elsewhere("aegis", "doctor", "--json"))
    check(facts["plugin"] is not None, "the plugin's distribution is not installed")
    check(facts["release build"], "the engine's wheel is a debug build")
    elsewhere("aegis", "run", "experiment=quickstart", "strategy.rounds=2", "hydra.run.dir=out")
    report = json.loads((folder / "out" / "report.json").read_text())
    check(report["run"]["status"] == "finished", f"the run {report['run']['status']}: {report['run']['reason']}")
    check(all(c["audit"]["verified"] for c in report["clients"]), "an audit log was not verified")
    check(Path(report["versions"]["engine_path"]).is_relative_to(environment), "another engine ran")
    check((folder / "out" / "report.html").is_file(), "no report.html")
    say(f"aegis run experiment=quickstart: {report['run']['status']}")

    elsewhere("aegis", "init", "project")
    Elsewhere(python, folder / "project")("aegis", "run", "strategy.rounds=2")
    say("aegis init makes a project that runs")


def main() -> None:
    """See the module."""
    dist = Path(sys.argv[1] if len(sys.argv) > 1 else "dist").resolve()
    plugin, engine = one(dist, "aegis_flower-*.whl"), one(dist, "aegis_flower_engine-*.whl")
    check_contents(plugin, engine, one(dist, "aegis_flower-*.tar.gz"))
    say("aegis, aegis_engine and aegis_flower are the only top-level names; package data are there")
    with tempfile.TemporaryDirectory(prefix="aegis-wheels-") as name:
        folder = Path(name).resolve() / "elsewhere"
        folder.mkdir()
        python = clean_environment(Path(name).resolve() / "venv", [engine, plugin])
        site = one(python.parents[1] / "lib", "python*/site-packages")
        present = GENERIC & {p.name for p in site.iterdir()}
        check(not present, f"generic names in site-packages: {sorted(present)}")
        use(python, folder)
    say("all good")


if __name__ == "__main__":
    main()
