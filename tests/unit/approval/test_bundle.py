"""A bundle read as data: its hash is Flower's, nothing of it runs, and nothing in it is too much."""

from __future__ import annotations

import hashlib
import io
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from bundles import FILES, PROJECT, built, packed

from aegis_flower.approval import Bundle, read, unpack
from aegis_flower.approval.difference import difference
from aegis_flower.errors import BadBundle


def link(name: str, mode: int = stat.S_IFLNK | 0o777) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_the_hash_is_that_of_flowers_own_command(tmp_path: Path) -> None:
    app = tmp_path / "study"
    for name, data in FILES.items():
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_bytes(
            data.replace(b"raise", b"# raise")
        )  # `flwr build` imports the package, which would end it
    flwr = Path(sys.executable).with_name("flwr")
    subprocess.run([flwr, "build", "--app", app], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (file,) = tmp_path.glob("*.fab")
    bundle = read(file.read_bytes())
    assert bundle.fab_hash.startswith(file.name.split(".")[-2])
    assert bundle.fab_hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (bundle.publisher, bundle.name, bundle.version) == ("clinic", "study", "1.2.0")
    assert bundle.components == {"serverapp": "study.server:app", "clientapp": "study.client:app"}
    assert bundle.config == {"aegis-experiment": "quickstart", "rounds": 3, "deep.lr": 0.1}
    assert bundle.faults == bundle.notes == ()
    assert {f.name for f in bundle.files} == {*FILES, ".info/CONTENT"}
    assert all(f.sha256 == hashlib.sha256(bundle.contents[f.name]).hexdigest() for f in bundle.files)


def test_what_flower_unpacks_is_what_is_unpacked_here(tmp_path: Path, fab: bytes) -> None:
    bundle = unpack(fab, tmp_path)
    found = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with zipfile.ZipFile(io.BytesIO(fab)) as archive:
        assert found == {name: archive.read(name) for name in archive.namelist()} == bundle.contents
    with pytest.raises(BadBundle, match="is not empty"):
        unpack(fab, tmp_path)


HOSTILE = {
    "absolute": ("/etc/cron.d/x", "absolute path"),
    "drive": ("C:/x.py", "absolute path"),
    "up": ("../x.py", "leads out"),
    "up in the middle": ("a/../../x.py", "leads out"),
    "twice slashed": ("a//x.py", "no plain path"),
    "dot": ("./x.py", "no plain path"),
    "backslash": ("..\\x.py", "no plain path"),
    "escape": ("\x1b[2Jx.py", "no plain path"),
    "line end": ("a\nb.py", "no plain path"),
    "turned round": ("\u202eyp.x", "no plain path"),
    "long": ("a" * 600, "no plain path"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_path_that_leads_elsewhere_is_a_fault_and_is_never_written(case: str, tmp_path: Path) -> None:
    name, said = HOSTILE[case]
    fab = packed({**FILES, name: b"x"})
    bundle = read(fab)
    assert any(said in fault for fault in bundle.faults), bundle.faults
    assert name not in bundle.contents
    (tmp_path / "app").mkdir()
    with pytest.raises(BadBundle, match="cannot be unpacked"):
        unpack(fab, tmp_path / "app")
    assert list(tmp_path.rglob("*")) == [tmp_path / "app"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_a_device_is_a_fault(mode: int) -> None:
    bundle = read(packed([*FILES.items(), (link("study/data", mode | 0o777), b"/etc/passwd")]))
    assert any("not a file" in fault for fault in bundle.faults)
    assert "study/data" not in bundle.contents


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_a_fault() -> None:
    assert any("twice" in f for f in read(packed([*FILES.items(), ("study/client.py", b"evil")])).faults)
    assert any("a file and a folder" in f for f in read(packed({**FILES, "study": b"x"})).faults)


def test_a_name_with_a_zero_byte_is_seen_whole() -> None:
    fab = packed({**FILES, "study/notesXevil.py": b"x"}).replace(b"notesXevil", b"notes\0evil")
    assert any("no plain path" in fault for fault in read(fab).faults)


def test_a_manifest_that_lies_or_is_missing_is_a_fault(tmp_path: Path) -> None:
    assert read(packed(FILES)).faults == ()
    assert any("no .info/CONTENT" in f for f in read(packed(FILES, manifest=False)).faults)
    more = io.BytesIO(packed(FILES))
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("study/unlisted.py", b"x")  # Flower would unpack it and check nothing
    assert any("unlisted" in f for f in read(more.getvalue()).faults)


@pytest.mark.parametrize(
    ("project", "said"),
    [(b"\xff", "no TOML"), (b"[", "no TOML"), (b"a = " + b"[" * 5000, "no TOML"), (None, "no pyproject.toml")],
    ids=["bytes", "broken", "deep", "none"],
)
def test_a_project_that_cannot_be_read_is_a_fault(project: bytes | None, said: str) -> None:
    files = {k: v for k, v in FILES.items() if k != "pyproject.toml"}
    bundle = read(packed({**({"pyproject.toml": project} if project is not None else {}), **files}))
    assert any(said in fault for fault in bundle.faults)
    assert (bundle.publisher, bundle.config) == ("", {})


@pytest.mark.parametrize(
    "project", [b"tool = 1", b"[tool]\nflwr = []", b"[tool.flwr]\napp = 'x'", b"project = [1]", b""]
)
def test_a_project_of_another_form_reads_as_empty(project: bytes) -> None:
    bundle = read(packed({**FILES, "pyproject.toml": project}))
    assert (bundle.publisher, bundle.name, bundle.components, bundle.config) == ("", "", {}, {})


@pytest.mark.parametrize("junk", [b"", b"PK\x05\x06", b"x" * 1000, b"PK\x03\x04" + b"\0" * 500])
def test_what_is_no_archive_is_refused(junk: bytes) -> None:
    with pytest.raises(BadBundle, match="no Flower App Bundle"):
        read(junk)


def test_a_bundle_cut_or_changed_at_any_place_is_read_or_refused(fab: bytes) -> None:
    whole = read(fab)
    for at in range(0, len(fab), 3):
        bad = bytearray(fab)
        bad[at] ^= 0xFF
        for one in (bytes(bad), fab[:at]):
            try:
                found = read(one)
            except BadBundle:
                continue
            assert found.fab_hash != whole.fab_hash


def test_a_bomb_is_not_unpacked() -> None:
    big = b"\0" * (20 << 20)
    bundle = read(packed({**FILES, "big.md": big}))
    assert any("bytes unpacked" in f for f in bundle.faults)
    assert "big.md" not in bundle.contents
    part = b"\0" * (15 << 20)
    bundle = read(packed({**FILES, **{f"{n}.md": part for n in range(6)}}))
    assert sum(map(len, bundle.contents.values())) <= 64 << 20
    assert bundle.faults
    assert any("files; 2000" in f for f in read(packed({**FILES, **{f"f{n}": b"" for n in range(2001)}})).faults)
    with pytest.raises(BadBundle, match="at most"):
        read(b"\0" * (10 * 2**20 + 1))


def test_a_size_that_lies_is_a_fault() -> None:
    fab = bytearray(packed({**FILES, "big.md": b"x" * 100_000}))
    at = fab.rfind(b"PK\x01\x02", 0, fab.rfind(b"big.md"))
    fab[at + 24 : at + 28] = (10).to_bytes(4, "little")
    bundle = read(bytes(fab))
    assert any("big.md" in f for f in bundle.faults)
    assert len(bundle.contents.get("big.md", b"")) <= 10


def test_methods_and_places_that_flower_does_not_write_are_faults(fab: bytes) -> None:
    assert any("packed as Flower" in f for f in read(packed(FILES, compression=zipfile.ZIP_LZMA)).faults)
    assert any("before its first file" in f for f in read(b"#!/bin/sh\n" + fab).faults)


NOTES = {
    "study/x.pth": (b"import os", "at every start"),
    "study/native.so": (b"", "native code"),
    "study/data.md": (b"\x7fELF\0", "native code under another name"),
    "sitecustomize.py": (b"", "at every start"),
    "study/w.pkl": (b"", "pickle"),
    "torch/__init__.py": (b"", "name of a module of others"),
    "aegis_flower.py": (b"", "name of a module of others"),
    "json.py": (b"", "name of a module of others"),
    "study/a.py": ("x = 1  # \u202e evil".encode(), "hide or turn round"),
    "study/b.py": (b"x = '" + b"A" * 2000 + b"'", "a line of"),
    "study/c.py": (b"\xff", "not UTF-8"),
    "Study/client.py": (b"", "capital letters"),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_a_person_should_look_at_is_named(name: str) -> None:
    data, said = NOTES[name]
    bundle = read(packed({**FILES, name: data}))
    assert bundle.faults == ()
    assert any(said in note for note in bundle.notes), bundle.notes


def test_reading_imports_nothing_of_it(fab: bytes) -> None:
    before = set(sys.modules)
    assert read(fab).notes == ()
    assert not {name for name in set(sys.modules) - before if name.startswith("study")}


def other(**files: bytes) -> Bundle:
    return read(built(**files))


def test_the_difference_is_in_lines(fab: bytes) -> None:
    said = difference(read(fab), other(study__client=b"app = 5\n", study__more=b"x = 1\n"))
    assert said[:7] == [
        "--- a/study/client.py",
        "+++ b/study/client.py",
        "@@ -1,2 +1,2 @@",
        "-app = 1",
        "+app = 5",
        " ",
        "--- /dev/null",
    ]
    assert "+x = 1" in said
    assert difference(read(fab), read(fab)) == []
    assert difference(read(fab), other(study__client=b"")) != []
    assert difference(read(packed(FILES)), read(packed({**FILES, "e.md": b""}))) == ["file e.md is new, and empty"]


def test_the_difference_is_bounded(fab: bytes) -> None:
    long = b"\n".join(b"%d" % (n * 7919 % 101) for n in range(200_000))
    said = difference(read(fab), other(study__client=long))
    assert len(said) == 1
    assert "too long" in said[0]
    assert "no text" in difference(read(packed(FILES)), read(packed({**FILES, "d.md": b"\xff\xfe"})))[0]
    many = {f"study/m{n}.py": b"\n".join(b"%d" % k for k in range(2000)) for n in range(10)}
    assert len(difference(read(packed(FILES)), read(packed({**FILES, **many})))) == 10_001


def test_the_example_is_what_the_tests_think() -> None:
    assert "SystemExit" in FILES["study/__init__.py"].decode()
    assert "clientapp" in PROJECT
