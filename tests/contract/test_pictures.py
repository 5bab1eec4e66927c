"""docs/pictures: readable at 390 pixels, in light and dark, by a screen reader; nothing runs and nothing is fetched."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = sorted((ROOT / "docs/pictures").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
NARROW = 390 - 2 * 16  # of a page with margins
LEAST = 10  # pixels of a letter's size there


def test_the_four_pictures_are_there_and_shown() -> None:
    assert {p.stem for p in PICTURES} == {"pipeline", "trust", "key-tree", "round-trips"}
    pages = "\n".join(p.read_text() for p in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
    for picture in PICTURES:
        assert f"pictures/{picture.name})" in pages


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_a_picture_has_a_text_a_dark_mode_and_letters_that_can_be_read(picture: Path) -> None:
    source = picture.read_text(encoding="utf-8")
    root = ET.fromstring(source)
    assert root.get("role") == "img"
    for part in ("title", "desc"):
        found = root.find(f"{SVG}{part}")
        assert found is not None
        assert found.text
        assert found.get("id") in str(root.get("aria-labelledby")).split()
    style = root.findtext(f"{SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    _, _, width, height = map(float, str(root.get("viewBox")).split())
    sizes = [float(size) for size in re.findall(r"(?:font-size|font):\s*([\d.]+)px", style)]
    assert min(sizes) * NARROW / width >= LEAST
    for tag in ("script", "foreignObject", "image", "use", "a"):
        assert root.find(f".//{SVG}{tag}") is None, tag
    assert "://" not in source.replace("http://www.w3.org/2000/svg", "")
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x", "-1")) <= width
        assert 0 <= float(text.get("y", "-1")) <= height


@pytest.mark.parametrize("picture", PICTURES, ids=lambda p: p.stem)
def test_every_colour_class_of_a_picture_has_one_for_the_dark(picture: Path) -> None:
    style = ET.fromstring(picture.read_text(encoding="utf-8")).findtext(f"{SVG}style") or ""
    light, dark = style.split("@media", 1)
    coloured = r"(text|\.[a-z]+) \{[^}]*#[0-9a-f]{6}"
    assert set(re.findall(coloured, light)) == set(re.findall(coloured, dark))
