"""The house of the Python code: imports go down only, there is no circle, files and folders keep their size.

The floors are written here and nowhere else. A new module takes its place in `FLOORS`; a new file of a room needs no entry.
Imports inside functions and under TYPE_CHECKING count: a type that points upwards is an arrow, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Lowest first. A name is a module or a room (a package, with all its files).
FLOORS = (
    {"errors", "steps"},
    {"files", "console", "interrupts", "weights", "inputs", "jail", "project", "archive", "plugins"},
    {"model_files"},
    {"data"},
    {"features"},
    {"metrics"},
    {"terms"},
    {"configs"},
    {"mechanism", "book"},
    {"accountant"},
    {"ledger"},
    {"node", "approval"},
    {"ingest", "importer"},
    {"projects"},
    {"wire"},
    {"planned", "groups", "stored"},
    {"stream"},
    {"models"},
    {"per_record"},
    {"train", "whole_update"},
    {"learners"},
    {"gate"},
    {"door"},
    {"mask"},
    {"client"},
    {"jailed"},
    {"service"},
    {"strategies"},
    {"simulations.own_table"},
    {"simulations.inprocess", "simulations.provision", "simulations.flower"},
    {"checkpoint", "public_test", "early_stop"},
    {"server"},
    {"report"},
    {"tracking"},
    {"server_app", "inference"},
    {"experiment"},
    {"sweep", "simulations.submit", "deploy"},
    {"cli"},
    {"kit"},
)
# The face of the package, which names what lies on every floor, and old names that go with the next release.
FACES = {"", "config", "datasets", "simulations"}
# Folders behind the links of `aegis_flower`; the app below is a project of its own, as a user's would be.
LINKED = ("strategies", "configs", "simulations")
APPS = ROOT / "simulations" / "quickstart"
MOST_FILES, MOST_LINES = 12, 400
STAGES = "aegis_flower"  # one flat file a stage, in the order in which data meet them
LONG: dict[str, str] = {}  # of the plugin, of tests and of benches


def rooms() -> dict[str, Path]:
    """Modules of the plugin by their dotted name without the package's."""
    found = {}
    for base in ("aegis_flower", *LINKED):
        for file in (ROOT / base).rglob("*.py"):
            inner = file.relative_to(ROOT / base)
            if APPS in file.parents or (base == "aegis_flower" and inner.parts[0] in LINKED):
                continue
            parts = [*([base] if base in LINKED else []), *inner.with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def arrows(files: Mapping[str, Path], package: str = "aegis_flower") -> dict[str, set[str]]:
    """Which of the modules each imports. ``from a.b import c`` is an import of a.b.c where that is a module."""
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        targets = found.setdefault(name, set())
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and (f"{node.module}.").startswith(f"{package}."):
                base = node.module.removeprefix(package).removeprefix(".")
                for alias in node.names:
                    whole = f"{base}.{alias.name}".removeprefix(".")
                    targets.add(whole if whole in files else base)
            elif isinstance(node, ast.Import):
                inner = (a.name.removeprefix(f"{package}.") for a in node.names if a.name.startswith(f"{package}."))
                targets.update(inner)
        targets &= files.keys()
        targets.discard(name)
    return found


def floor_of(name: str, floors: Iterable[set[str]] = FLOORS) -> int | None:
    for height, names in enumerate(floors):
        if any(name == room or name.startswith(f"{room}.") for room in names):
            return height
    return None


def upward(graph: Mapping[str, set[str]], floors: Iterable[set[str]] = FLOORS) -> list[str]:
    """Imports of a higher floor, or of another room of the same."""
    floors = list(floors)
    found = []
    for name, targets in graph.items():
        own = floor_of(name, floors)
        for target in targets:
            other = floor_of(target, floors)
            if own is None or other is None or other < own:
                continue
            room = next(r for r in floors[own] if name == r or name.startswith(f"{r}."))
            if other > own or not (target == room or target.startswith(f"{room}.")):
                found.append(f"{name} -> {target}")
    return sorted(found)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of modules that import each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_every_module_has_its_floor() -> None:
    names = rooms().keys() - FACES
    assert [name for name in sorted(names) if floor_of(name) is None] == []
    assert [room for floor in FLOORS for room in floor if room not in names] == []


def test_imports_go_down_only() -> None:
    graph = arrows(rooms())
    assert upward({name: targets for name, targets in graph.items() if name not in FACES}) == []


def test_no_files_import_each_other() -> None:
    graph = arrows(rooms())
    # A room's __init__ says what the room gives; its files do not import it, or it would be a circle of its own.
    assert circles(graph) == []


def test_nothing_imports_an_old_name() -> None:
    graph = arrows(rooms())
    users = {name for name, targets in graph.items() for old in ("config", "datasets") if old in targets}
    assert users == set()


# Flower's modules that promise nothing to others. `test_flower_runtime.py` has all that the node's own file needs of them.
PRIVATE = ("flwr.supercore", "flwr.supernode", "flwr.superlink", "flwr.proto")
MAY_IMPORT_PRIVATE = {
    "service.flower": "speaks the SuperNode's Runtime API",
    "strategies.cohort": "Grid.get_nodes() gives NodeInfo, a message of the protocol, which Flower names nowhere else",
    "jailed.flower_app": "an app in a jail gets a message, which Flower makes for the task of its process alone",
    "simulations.inprocess": "a Grid of one process gives a Run and says for whom messages are made, as Flower's own does",
}


def imports_private(file: Path) -> bool:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return any(f"{name}.".startswith(f"{private}.") for name in names for private in PRIVATE)


def test_flowers_private_modules_are_imported_where_the_list_says() -> None:
    assert {name for name, file in rooms().items() if imports_private(file)} == MAY_IMPORT_PRIVATE.keys()


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import flwr.supercore.run", True),
        ("from flwr import supernode", True),
        ("    from flwr.proto.node_pb2 import Node", True),
        ("from flwr.app import Context", False),
    ],
)
def test_the_check_sees_an_import_of_a_private_module(tmp_path: Path, line: str, seen: bool) -> None:
    file = tmp_path / "one.py"
    file.write_text(f"if True:\n    {line.strip()}\n")
    assert imports_private(file) is seen


def python_files() -> list[Path]:
    folders = ("aegis_flower", *LINKED, "aegis_engine/python", "tests", "benches")
    return sorted(
        {f for folder in folders for f in (ROOT / folder).rglob("*.py") if ".venv" not in f.parts}
        - {f for link in LINKED for f in (ROOT / "aegis_flower" / link).rglob("*.py")}
    )


def too_long(files: Iterable[Path]) -> dict[str, int]:
    counts = {file.as_posix(): len(file.read_text().splitlines()) for file in files}
    return {name: count for name, count in counts.items() if count > MOST_LINES}


def test_files_keep_to_a_length_that_can_be_read() -> None:
    files = python_files()
    assert {file.relative_to(ROOT).parts[0] for file in files} >= {"aegis_flower", "tests", "benches"}
    over = {name.removeprefix(f"{ROOT.as_posix()}/"): count for name, count in too_long(files).items()}
    assert over.keys() == LONG.keys(), over


def test_no_two_files_of_the_tests_have_one_name() -> None:
    # They are no packages: pytest and `import` would take one file for the other, where both are collected in one process.
    tests = (ROOT / "tests").rglob("*.py")
    names = [file.name for file in tests if file.name not in {"conftest.py", "__init__.py"}]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_folders_keep_to_a_number_of_files_that_can_be_looked_over() -> None:
    folders: dict[str, int] = {}
    for file in python_files():
        name = file.parent.relative_to(ROOT).as_posix()
        if file.stem != "__init__" and not name.startswith("tests"):
            folders[name] = folders.get(name, 0) + 1
    assert {name: count for name, count in folders.items() if count > MOST_FILES and name != STAGES} == {}


def test_each_room_says_first_what_may_be_put_there() -> None:
    for folder in sorted({f.parent for f in python_files() if f.name == "__init__.py"}):
        if APPS in folder.parents or folder == APPS or "tests" in folder.parts:
            continue
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert said, folder
        assert said.partition("\n\n")[0].rstrip().endswith((".", ":")), folder


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"errors": {"cli.run"}, "cli.run": set()}, ["errors -> cli.run"]),
        (
            {"simulations.inprocess": {"simulations.flower"}, "simulations.flower": set()},
            ["simulations.inprocess -> simulations.flower"],
        ),
        ({"cli.run": {"cli.trial", "errors"}, "cli.trial": set(), "errors": set()}, []),
    ],
)
def test_the_check_sees_an_arrow_that_goes_up(graph: dict[str, set[str]], found: list[str]) -> None:
    assert upward(graph) == found


def test_the_check_sees_a_circle() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_the_check_sees_a_file_that_is_too_long(tmp_path: Path) -> None:
    for count in (MOST_LINES, MOST_LINES + 1):
        (tmp_path / f"{count}.py").write_text("pass\n" * count)
    assert too_long(tmp_path.iterdir()) == {(tmp_path / "401.py").as_posix(): 401}
