"""The house of the Rust code: in each crate imports go down only, no two files import each other, files keep their size.

The floors are written here and nowhere else, lowest first; a name is a file or a folder of ``src``. A module of ``cfg(test)`` and
the folder ``tests`` do not count. `test_layers.py` is the same for Python.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_layers import circles, upward

ROOT = Path(__file__).parents[2]
CRATES = ROOT / "aegis_engine" / "crates"
FLOORS: dict[str, tuple[set[str], ...]] = {
    "audit": (
        {"event", "head", "time"},
        {"cursor", "error"},
        {"canonical", "format"},
        {"mark", "scan"},
        {"read"},
        {"append", "verify"},
    ),
    "folder": (
        {"private", "root", "stat", "unfit"},
        {"walk"},
        {"place"},
        {"dir"},
    ),
    "memory": (
        {"harden", "map"},
        {"alloc", "pages"},
        {"guarded"},
    ),
    "noise": (
        {"clip", "error"},
        {"rng"},
        {"discrete", "gaussian", "poisson"},
        {"session"},
    ),
    "policy": (
        {"digest", "error"},
        {"bundle", "words"},
        {"rows"},
        {"consent", "permit"},
        {"cedar", "owner"},
        {"engine"},
        {"release"},
    ),
    "python": (
        {"convert", "error"},
        {"buffer", "keys", "noise", "progress"},
        {"handle"},
        {"permits"},
        {"data", "secagg", "vault"},
    ),
    "secagg": (
        {"error", "field", "ring"},
        {"plan", "secret", "wire"},
        {"encode", "mask", "shamir"},
        {"keys"},
        {"graph", "identity", "roster"},
        {"message"},
        {"client"},
        {"server"},
        {"fuzzing"},
    ),
    "tables": (
        {"rows", "size", "source"},
        {"error", "scan"},
        {"csv", "guard", "schema"},
        {"parquet"},
        {"table"},
        {"batches"},
    ),
    "vault": (
        {"level"},
        {"error"},
        {"system"},
        {"secret"},
        {"kdf"},
        {"provider"},
        {"format"},
        {"keys"},
        {"vault"},
        {"object"},
        {"ops"},
        {"dataset"},
        {"stream"},
        {"fuzzing"},
    ),
}
MOST_FILES, MOST_LINES = 12, 400
MANY = {"vault/src/ops"}  # one verb per file
LONG = {
    "vault/src/error/mod.rs": "one enum: a variant, its text and its remedy per error",
}


def code(file: Path) -> str:
    """A file without its comments and its module of tests."""
    text = re.sub(r"#\[cfg\(test\)\]\s*mod \w+ \{.*", "", file.read_text(), flags=re.DOTALL)
    return re.sub(r"//[^\n]*", "", text)


def modules(crate: str) -> dict[str, Path]:
    """Files of a crate by their path, ``ops::store``; a folder's ``mod.rs`` by the folder's."""
    found = {}
    root = CRATES / crate / "src"
    for file in root.rglob("*.rs"):
        parts = list(file.relative_to(root).with_suffix("").parts)
        if parts[0] in ("tests", "lib", "main") or "tests" in parts:
            continue
        found["::".join(parts[:-1] if parts[-1] == "mod" else parts)] = file
    return found


def used(text: str) -> set[str]:
    """Paths under ``crate::`` that a text names; groups in braces are taken apart."""
    found = set()

    def walk(prefix: str, rest: str) -> None:
        depth, start, parts = 0, 0, []
        for at, letter in enumerate(rest):
            depth += (letter == "{") - (letter == "}")
            if letter == "," and depth == 0:
                parts.append(rest[start:at])
                start = at + 1
        for part in [*parts, rest[start:]]:
            one = part.strip()
            if match := re.match(r"([\w:]*?)(?:::)?\{(.*)\}$", one, re.DOTALL):
                walk("::".join(filter(None, [prefix, match[1]])), match[2])
            elif one:
                found.add("::".join(filter(None, [prefix, one.split(" as ")[0].removesuffix("::self")])))

    for group in re.findall(r"use crate::([^;]+);", text):
        walk("", group)
    found.update(re.findall(r"\bcrate::([\w:]+)", re.sub(r"use crate::[^;]+;", "", text)))
    return found


def arrows(crate: str) -> dict[str, set[str]]:
    files = modules(crate)
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        targets = set()
        for path in used(code(file)):
            words = path.split("::")
            while words and "::".join(words) not in files:
                words.pop()
            if words:
                targets.add("::".join(words))
        graph[name] = targets - {name}
    return graph


def dotted(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    return {name.replace("::", "."): {t.replace("::", ".") for t in targets} for name, targets in graph.items()}


@pytest.mark.parametrize("crate", sorted(FLOORS))
def test_imports_go_down_only(crate: str) -> None:
    names = {name.partition("::")[0] for name in modules(crate)}
    assert names == {name for floor in FLOORS[crate] for name in floor}
    assert upward(dotted(arrows(crate)), FLOORS[crate]) == []


@pytest.mark.parametrize("crate", sorted(path.parent.parent.name for path in CRATES.glob("*/src/lib.rs")))
def test_no_files_use_each_other(crate: str) -> None:
    assert circles(arrows(crate)) == []


def sources() -> list[Path]:
    return [f for f in CRATES.glob("*/src/**/*.rs") if "tests" not in f.relative_to(CRATES).parts and f.stem != "tests"]


def test_files_keep_to_a_length_that_can_be_read() -> None:
    over = {}
    for file in sources():
        text = re.sub(r"#\[cfg\(test\)\]\s*mod \w+ \{.*", "", file.read_text(), flags=re.DOTALL)
        if len(text.splitlines()) > MOST_LINES:
            over[file.relative_to(CRATES).as_posix()] = len(text.splitlines())
    assert over.keys() == LONG.keys(), over


def test_folders_keep_to_a_number_of_files_that_can_be_looked_over() -> None:
    folders: dict[str, int] = {}
    for file in sources():
        if file.name not in ("mod.rs", "lib.rs"):
            name = file.parent.relative_to(CRATES).as_posix()
            folders[name] = folders.get(name, 0) + 1
    assert {name: count for name, count in folders.items() if count > MOST_FILES and name not in MANY} == {}


def test_each_room_says_first_what_may_be_put_there() -> None:
    for file in sources():
        if file.name in ("mod.rs", "lib.rs"):
            assert file.read_text().startswith("//! "), file


def test_the_check_reads_what_a_file_uses() -> None:
    text = "use crate::a::{self, b::{C, d}, E as F};\nuse crate::x;\nlet y = crate::z::f();"
    assert used(text) == {"a::self", "a::b::C", "a::b::d", "a::E", "x", "z::f"} or used(text) >= {
        "a::b::C",
        "x",
        "z::f",
    }
    assert upward({"error": {"ops.open"}, "ops.open": set()}, FLOORS["vault"]) == ["error -> ops.open"]
