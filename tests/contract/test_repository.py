"""What the repository promises to whoever clones it."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"AEG-[A-Z]\d{3}")


def _tracked():
    """Files a commit would hold: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = {n for n in listed.stdout.decode().split("\0") if n}
    return sorted(ROOT / n for n in names if (ROOT / n).is_symlink() or (ROOT / n).exists())


def _texts(*suffixes):
    for path in _tracked():
        if path.is_symlink() or (suffixes and path.suffix not in suffixes):
            continue
        raw = path.read_bytes()
        if b"\0" not in raw:
            yield path, raw.decode("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "LICENSE",
        "CHANGELOG.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "README.md",
        "docs/ARCHITECTURE.md",
        "docs/ERRORS.md",
    ],
)
def test_the_documents_a_newcomer_looks_for_are_there(name):
    assert (ROOT / name).stat().st_size > 200


def test_the_licence_is_mit_everywhere():
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    for project in (ROOT / "pyproject.toml", ROOT / "aegis_engine" / "pyproject.toml"):
        assert tomllib.loads(project.read_text())["project"]["license"] == "MIT"


def test_the_changelog_keeps_a_security_heading():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "Keep a Changelog" in text
    assert re.search(r"^### Security$", text, re.MULTILINE)


def test_links_are_relative_and_stay_in_the_repository():
    links = {p.relative_to(ROOT).as_posix(): p.readlink() for p in _tracked() if p.is_symlink()}
    assert {"aegis_flower/strategies", "aegis_flower/configs", "aegis_flower/simulations"} <= set(links)
    for name, target in links.items():
        assert not target.is_absolute(), f"{name} -> {target}"
        assert (ROOT / name).resolve(strict=True).is_relative_to(ROOT), f"{name} leaves the repository"


def test_nobody_imports_through_the_generic_names_of_the_links():
    generic = re.compile(r"^\s*(?:from|import) (?:strategies|configs|simulations)\b", re.MULTILINE)
    found = [p.relative_to(ROOT) for p, text in _texts(".py") if generic.search(text)]
    assert not found, "the import name is aegis_flower.strategies and so on"


# A registry other than the public defaults, or a path that exists only on somebody's machine.
_MIRROR = re.compile(
    r"(?:--(?:extra-)?index-url|--find-links|index-url\s*=|replace-with\s*=|^\[source\.|registry\s*=\s*\"http)",
    re.MULTILINE,
)
_MACHINE = re.compile(r"(?<![\w./~-])/(?:work|root|home/\w+|Users/\w+)/[\w.]")


def test_no_registry_and_no_machine_path_is_committed():
    here = Path(__file__).resolve()
    for path, text in _texts():
        if path.resolve() == here or path.name == "Cargo.lock":
            continue
        for pattern in (_MIRROR, _MACHINE):
            hit = pattern.search(text)
            assert hit is None, f"{path.relative_to(ROOT)}: {text[max(0, hit.start() - 40) : hit.end() + 40]!r}"


def test_the_python_lock_has_a_hash_for_everything_and_names_no_index():
    text = (ROOT / "requirements.lock").read_text()
    logical = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    assert len(logical) > 50
    for line in logical:
        assert re.match(r"[a-z0-9._-]+==\S+", line), f"not a pinned package: {line[:80]}"
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), f"no hash: {line[:80]}"
    assert "://" not in text
    names = {line.partition("==")[0] for line in logical}
    assert not {n for n in names if n.startswith("aegis")}, "our own packages are built, never fetched"


def test_the_rust_lock_is_committed_and_fetches_from_one_place():
    lock = ROOT / "aegis_engine" / "Cargo.lock"
    assert lock in _tracked()
    packages = tomllib.loads(lock.read_text())["package"]
    assert len(packages) > 50
    sources = {p["source"] for p in packages if "source" in p}
    assert sources == {"registry+https://github.com/rust-lang/crates.io-index"}
    assert all("checksum" in p for p in packages if "source" in p)


def test_built_and_private_files_are_ignored():
    names = [p.relative_to(ROOT).as_posix() for p in _tracked()]
    names = [n for n in names if "/vectors/" not in n]
    bad = [
        n for n in names if n.endswith((".so", ".key", ".pyc", ".enc")) or n.startswith(("outputs/", "dist/", ".venv/"))
    ]
    assert not bad


def _codes_in_the_package():
    used = {}
    for path, text in _texts(".py", ".rs", ".cedar"):
        place = path.relative_to(ROOT).as_posix()
        source = place.startswith(("aegis_flower/", "strategies/", "simulations/", "aegis_engine/python/"))
        source |= place.startswith("aegis_engine/crates/") and "/src/" in place and "/tests/" not in place
        if source:
            for code in CODE.findall(text):
                used.setdefault(code, place)
    return used


def test_every_error_code_is_documented_and_every_documented_code_exists():
    used = _codes_in_the_package()
    assert len(used) > 40
    documented = set(CODE.findall((ROOT / "docs" / "ERRORS.md").read_text()))
    missing = {code: place for code, place in used.items() if code not in documented}
    assert not missing, "used and not in docs/ERRORS.md"
    assert not documented - set(used), "in docs/ERRORS.md and used nowhere"


def test_no_two_meanings_share_a_code_in_the_plugin():
    errors = (ROOT / "aegis_flower" / "errors.py").read_text()
    codes = re.findall(r'^    code = "(AEG-\w+)"', errors, re.MULTILINE)
    assert len(codes) == len(set(codes)) >= 8


def test_the_documents_name_only_files_that_exist():
    for name in ("README.md", "docs/ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"):
        document = ROOT / name
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{name} links to {target}"
