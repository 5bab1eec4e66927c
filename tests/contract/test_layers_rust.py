"""The Rust crates keep their floors: imports go down only, no two files need each other, files and folders stay small."""

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CRATES = Path(__file__).resolve().parents[2] / "aegis_engine" / "crates"
# Rooms (folders, and the files beside lib.rs) of each crate, lowest first; an empty list leaves the order free.
FLOORS: dict[str, list[str]] = {
    "audit": [
        "event",
        "head",
        "time",
        "cursor",
        "error",
        "canonical",
        "format",
        "mark",
        "scan",
        "read",
        "append",
        "verify",
    ],
    "folder": ["private", "root", "stat", "unfit", "walk", "place", "dir"],
    "jail": ["layer", "error", "limits", "namespaces", "view", "rules", "filter", "confine"],
    "memory": ["harden", "map", "alloc", "pages", "guarded"],
    "noise": ["clip", "error", "rng", "discrete", "gaussian", "poisson", "blocks", "plan", "session"],
    "policy": [
        "digest",
        "error",
        "bundle",
        "words",
        "rows",
        "consent",
        "permit",
        "cedar",
        "owner",
        "engine",
        "release",
    ],
    "python": [
        "convert",
        "earlier",
        "error",
        "buffer",
        "jail",
        "keys",
        "noise",
        "progress",
        "handle",
        "under_way",
        "permits",
        "data",
        "secagg",
        "vault",
    ],
    "secagg": [
        "error",
        "field",
        "ring",
        "plan",
        "secret",
        "wire",
        "encode",
        "mask",
        "shamir",
        "keys",
        "graph",
        "identity",
        "roster",
        "message",
        "client",
        "server",
        "fuzzing",
    ],
    "tables": [
        "rows",
        "size",
        "source",
        "error",
        "scan",
        "csv",
        "guard",
        "schema",
        "parquet",
        "table",
        "batches",
        "writer",
    ],
    "vault": [
        "level",
        "error",
        "system",
        "secret",
        "kdf",
        "format",
        "keys",
        "vault",
        "object",
        "ops",
        "dataset",
        "stream",
        "fuzzing",
    ],
}
# Crates in which files still need each other in a circle: take the crate out once its circle is cut.
CIRCLES: set[str] = set()
LINES, FILES = 400, 12
# Files of crates with floors that may be longer than that, each with its reason.
LONG = {"vault/error/mod": "one enum: every refusal with its text"}
# One verb per file: as many files as there are verbs.
VERBS = {"vault/ops"}


def code(text: str) -> str:
    """A file without its unit tests."""
    return re.split(r"\n#\[cfg\(test\)\]\nmod \w+ \{", text)[0]


def paths(tree: str) -> Iterator[list[str]]:
    """Every path of a `use` tree such as `a::{b, c::d}`."""
    head, brace, inner = tree.partition("{")
    start = [part for part in re.split(r"::|\s+as\s+\w+|\s", head) if part]
    if not brace:
        yield start
        return
    depth, last = 0, 0
    inner = inner.rstrip()[:-1] + ","
    for at, sign in enumerate(inner):
        depth += (sign == "{") - (sign == "}")
        if sign == "," and depth == 0:
            if part := inner[last:at].strip():
                yield from (start + path for path in paths(part))
            last = at + 1


def imports(files: dict[str, str]) -> dict[str, set[str]]:
    """By file: the files it names. What a `mod.rs` passes on from its own folder is no need of it."""
    arrows: dict[str, set[str]] = {}
    for name, text in files.items():
        here = [part for part in name.split("/") if part != "mod"]
        above = here if name.endswith("mod") else here[:-1]
        lines = re.sub(r"//[^\n]*", "", code(text))
        if name.endswith("mod"):
            lines = re.sub(r"\bpub(\([^)]*\))? use (?!crate|super)[^;]+;", "", lines)
        used = [path for tree in re.findall(r"\buse ([^;]+);", lines) for path in paths(tree)]
        rest = re.sub(r"\buse [^;]+;", "", lines)
        used += [path.split("::") for path in re.findall(r"\b(?:(?:crate|super)(?:::\w+)+)", rest)]
        arrows[name] = set()
        for path in used:
            up, least = len([part for part in path if part == "super"]), 0
            if path[0] == "crate":
                parts = path[1:]
            elif up:
                parts = here[: len(here) - up] + path[up:]
            else:
                parts, least = above + path, len(above)
            for end in range(len(parts), least, -1):
                at = "/".join(parts[:end])
                if target := next((file for file in (at, f"{at}/mod") if file in files), None):
                    arrows[name] |= {target} - {name}
                    break
    return arrows


def upward(arrows: dict[str, set[str]], floors: list[str]) -> list[str]:
    """Arrows from a room to one above it, and rooms without a floor."""
    floor = {room: number for number, room in enumerate(floors)}
    found = [f"{file} has no floor" for file in arrows if file.split("/")[0] not in floor]
    pairs = [(file, other) for file, others in arrows.items() for other in others] if not found else []
    return found + [f"{a} -> {b}" for a, b in pairs if floor[b.split("/")[0]] > floor[a.split("/")[0]]]


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """The files of some circle; none when there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def sources(crate: str) -> dict[str, str]:
    """By path without `.rs`: the files of a crate but for its root, whose business is to name all others, and its tests."""
    root = CRATES / crate / "src"
    found = {file.relative_to(root).with_suffix("").as_posix(): file.read_text() for file in root.rglob("*.rs")}
    return {name: text for name, text in found.items() if name != "lib" and "tests" not in name.split("/")}


def test_every_crate_is_named() -> None:
    assert set(FLOORS) == {folder.parent.name for folder in CRATES.glob("*/src")}


@pytest.mark.parametrize("crate", FLOORS)
def test_imports_go_down_and_no_file_needs_itself(crate: str) -> None:
    arrows = imports(sources(crate))
    if FLOORS[crate]:
        assert upward(arrows, FLOORS[crate]) == []
    assert bool(circle(arrows)) == (crate in CIRCLES), circle(arrows)


@pytest.mark.parametrize("crate", [crate for crate, floors in FLOORS.items() if floors])
def test_files_and_folders_stay_small(crate: str) -> None:
    files = sources(crate)
    long = {f"{crate}/{name}" for name, text in files.items() if len(code(text).splitlines()) > LINES}
    assert long == {name for name in LONG if name.startswith(f"{crate}/")}
    folders = [f"{crate}/{name}".rpartition("/")[0] for name in files if not name.endswith("mod")]
    assert {folder for folder in folders if folders.count(folder) > FILES} - VERBS == set()


def test_the_checker_finds_an_arrow_upwards_and_a_circle() -> None:
    files = {"low/a": "use crate::high::b::{C, D};", "high/b": "fn f() {}", "high/mod": "pub mod b;\npub use b::C;"}
    assert upward(imports(files), ["low", "high"]) == ["low/a -> high/b"]
    assert upward(imports(files), ["high", "low"]) == [] == circle(imports(files))
    assert upward(imports(files), ["low"]) == ["high/b has no floor", "high/mod has no floor"]
    for back in ("use super::super::low::a;", "fn f() -> crate::low::a::T {}", "use crate::{x, low::{a as z}};"):
        assert set(circle(imports(files | {"high/b": back}))) == {"low/a", "high/b"}, back
    unit = "\n#[cfg(test)]\nmod tests {\n    use crate::low::a;\n}"
    assert circle(imports(files | {"high/b": unit})) == []
