"""One approval: each field, of every type and size."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from approval_world import NOW, World

from aegis_flower.approval import Approval, Entry
from aegis_flower.errors import AppNotApproved

GOOD: dict[str, Any] = {
    "fab_hash": "ab" * 32,
    "dataset": "patients",
    "mode": "any",
    "purpose": "research",
    "expires": NOW,
    "serial": 1,
}
TEXTS = ["", " ", "a ", "\n", "a\nb", "\0", "\x1b[2J", "\u202ea", "\ud800", "x" * 1025, b"a", ["a"], {"a": 1}]
NUMBERS = [-1, 2**53 + 1, 2**64, 10**400, 1.0, math.nan, math.inf, "1", True, False, b"1", [1], None]
WRONG: dict[str, list[Any]] = {
    "fab_hash": [
        None,
        "",
        "ab" * 31,
        "ab" * 33,
        "AB" * 32,
        "ag" * 32,
        "ab" * 32 + "\n",
        "../" + "a" * 61,
        "٣" * 64,
        *TEXTS,
        *NUMBERS,
    ],
    "dataset": [*TEXTS, *(n for n in NUMBERS if n is not None and not isinstance(n, str))],
    "mode": [None, "", "ANY", "any ", "all", *TEXTS, *NUMBERS],
    "purpose": [None, *TEXTS, *(n for n in NUMBERS if not isinstance(n, str))],
    "expires": [None, *NUMBERS, *TEXTS],
    "serial": [None, 0, *NUMBERS, *TEXTS],
}


def test_every_field_is_tried() -> None:
    assert WRONG.keys() == GOOD.keys()
    assert Approval(**GOOD)


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f, values in WRONG.items() for v in values], ids=lambda v: repr(v)[:24]
)
def test_a_field_of_another_type_or_out_of_bounds_is_no_approval(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{field} of an approval is"):
        Approval(**{**GOOD, field: value})
    said = {
        "app": GOOD["fab_hash"],
        "since": NOW,
        "revoked": None,
        **{k: v for k, v in GOOD.items() if k != "fab_hash"},
    }
    said["app" if field == "fab_hash" else field] = value
    try:
        line = json.dumps(said, sort_keys=True, separators=(",", ":"))
    except TypeError:
        return  # JSON has no such value
    with pytest.raises(ValueError):
        Entry.of_line(line)


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("field", ["since", "revoked"])
def test_a_time_that_is_none_is_no_entry(field: str, value: Any) -> None:
    if field == "revoked" and value is None:
        return
    with pytest.raises(ValueError, match="whole seconds"):
        Entry(Approval(**GOOD), **{"since": NOW, field: value})


@pytest.mark.parametrize("dataset", [None, "patients", "größe", "a b", "../../etc", "x" * 1024, "\N{PILE OF POO}"])
@pytest.mark.parametrize("revoked", [None, 0, 2**53])
def test_an_entry_survives_its_line_which_is_ascii(dataset: str | None, revoked: int | None) -> None:
    entry = Entry(Approval(**{**GOOD, "dataset": dataset}), 0, revoked)
    line = entry.to_line()
    assert line.isascii()
    assert "\n" not in line
    assert Entry.of_line(line) == entry


def test_an_entry_has_one_spelling() -> None:
    line = Entry(Approval(**GOOD), NOW).to_line()
    for other in (
        f" {line}",
        line.replace(":", ": ", 1),
        line.replace('"any"', '"\\u0061ny"'),
        line.replace('"any"', '"any","mode":"any"'),
        line.replace("}", ',"more":1}'),
        line.replace('"revoked":null,', ""),
        "[]",
        "null",
        "1",
        '"x"',
        "",
        "{" * 100_000,
    ):
        with pytest.raises(ValueError):
            Entry.of_line(other)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a/b", ".", "..", "approvals", "con", "-", "$(x)", "%s%n", "'\"", "ß" * 1024]
)
def test_names_are_never_paths(world: World, fab: bytes, name: str) -> None:
    app = world.approve(fab, dataset=name, purpose=name)
    files = {p.relative_to(world.folder.parent).as_posix() for p in world.folder.parent.rglob("*") if p.is_file()}
    assert files == {
        "approvals/approvals",
        f"approvals/fabs/{app}.fab",
        "operator.key",
        "operator.key.approvals",
        "operator.key.approvals.lock",
    }
    assert world.node().find(app, name, name, NOW).purpose == name
    with pytest.raises(AppNotApproved):
        world.node().find(app, f"{name}x", name, NOW)


@pytest.mark.parametrize(
    "said",
    [
        {"mode": "all"},
        {"purpose": ""},
        {"purpose": "a\n"},
        {"dataset": ""},
        {"days": 0},
        {"days": 3651},
        {"days": True},
        {"days": 1.5},
    ],
    ids=str,
)
def test_a_wrong_value_changes_nothing(world: World, fab: bytes, later_fab: bytes, said: dict[str, Any]) -> None:
    world.approve(fab)
    before = world.list.read_bytes()
    with pytest.raises(ValueError):
        world.approve(later_fab, **said)
    assert world.list.read_bytes() == before
    assert len(list(world.folder.rglob("*.fab"))) == 1
