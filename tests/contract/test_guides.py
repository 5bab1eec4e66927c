"""The guides by role: same chapters, messages that the code really gives, codes and settings that exist."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from aegis_flower.configs import compose
from aegis_flower.node.keys import KEYS

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs/guides").glob("*.md"))
CHAPTERS = ["What you decide", "The first ten minutes", "Daily work", "When something goes wrong"]
# What a reader sees that is no text of ours: an exit code, and Flower's own words.
NOT_OURS = {"exit code 5", "Failed to activate SuperNode"}


@cache
def sources() -> str:
    """All texts of the code, with strings that go on in another line joined."""
    folders = ("aegis_flower", "strategies", "simulations", "aegis_engine/python", "aegis_engine/crates")
    files = [f for folder in folders for end in ("py", "rs") for f in (ROOT / folder).rglob(f"*.{end}")]
    text = "\n".join(f.read_text(encoding="utf-8") for f in files if "target" not in f.parts)
    text = re.sub(r'"\s*\n\s*f?"', "", text)  # Python
    return re.sub(r"\\\n\s*", "", text)  # Rust


def rows(page: Path, chapter: str) -> list[list[str]]:
    section = page.read_text(encoding="utf-8").split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_there_is_a_guide_for_each_role_with_the_same_chapters() -> None:
    assert [page.stem for page in GUIDES] == ["engineer", "operator", "steward"]
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in GUIDES:
        assert re.findall(r"^## (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE) == CHAPTERS, page.name
        assert f"guides/{page.name}" in nav


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_each_message_is_one_that_the_code_gives_and_each_code_exists(page: Path) -> None:
    errors = (ROOT / "docs/ERRORS.md").read_text(encoding="utf-8")
    found = rows(page, "When something goes wrong")
    assert len(found) >= 8
    for message, code, _why, what in found:
        assert what, message
        assert message in NOT_OURS or message in sources() or f"| {message};" in errors, message
        for each in re.findall(r"AEG-[A-Z]\d{3}", code):
            assert f"| {each} |" in errors, each


def test_the_search_for_messages_finds_one_that_goes_over_lines_and_none_that_is_made_up() -> None:
    assert "in the node config is no setting of AEGIS, so it would protect nobody" in sources()
    assert "nobody ever wrote this sentence in the code" not in sources()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_settings_and_keys_that_a_guide_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert (
        set(re.findall(r"^(aegis-[a-z-]+) =|`(aegis-(?!flower)[a-z-]+)`", text, re.MULTILINE))
        or page.stem != "operator"
    )
    named = {a or b for a, b in re.findall(r"^(aegis-[a-z-]+) =|`(aegis-(?!flower)[a-z-]+)`", text, re.MULTILINE)}
    assert named <= KEYS.keys(), named - KEYS.keys()
    groups = "privacy|strategy|secagg|runtime|evaluation|model|data|policy|tracking"
    config = compose("quickstart")
    for group, key in re.findall(rf"`({groups})\.(?!npz)([a-z_]+)[`=]", text):
        assert hasattr(getattr(config, group), key), f"{group}.{key}"
