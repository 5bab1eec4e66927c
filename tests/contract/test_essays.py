"""The first sentence of a room says what may be put there, and the example of the public face runs."""

from __future__ import annotations

import doctest
from pathlib import Path

import aegis
import pytest

ENGINE = Path(__file__).parents[2] / "aegis_engine"
CRATES = ("policy", "secagg", "tables", "python")
ROOMS = [
    *(p for crate in CRATES for p in sorted(ENGINE.glob(f"crates/{crate}/src/**/mod.rs")) if "tests" not in p.parts),
    *(
        ENGINE / "python" / p
        for p in ("aegis/cli/__init__.py", "aegis_engine/__init__.py", "aegis_engine/data/__init__.py")
    ),
]


@pytest.mark.parametrize("room", ROOMS, ids=lambda p: "/".join(p.parts[-4:-1]))
def test_a_room_begins_with_what_may_be_put_there(room: Path) -> None:
    text = room.read_text().lstrip('/!" ').replace("\n//!", "")
    assert "may be put here" in " ".join(text[:300].split()), room


def test_the_example_of_the_face_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(aegis)
    assert (result.failed, result.attempted) == (0, 5)
