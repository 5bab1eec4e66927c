"""Feature plans: outputs keep to declared bounds, rows stay apart, and scikit-learn's own transformers agree."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder

from aegis_flower import features
from aegis_flower.features.categories import Ids, Index, OneHot
from aegis_flower.features.columns import Boolean, Number, Whole
from aegis_flower.features.moments import Date, Time
from aegis_flower.features.sequences import ListIds, ListNumbers, Tensor, TextBag, TextIds
from aegis_flower.features.tokens import LONGEST, words
from aegis_flower.features.values import read

QUIET = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
WARDS = ("north", "süd", "no")
# Every transform, with what stands for gaps and unknown values; the label is a number.
PLAN = features.Plan(
    columns={
        "age": Number(low=0, high=120, missing=60),
        "dose": Number(low=-5, high=5, scale="standard", mean=1, deviation=3, missing=0),
        "count": Whole(low=-3, high=7, missing=2),
        "smokes": Boolean(missing=0.5),
        "ward": OneHot(levels=WARDS, missing="slot"),
        "born": Date(origin="2000-01-01", low=-20_000, high=10_000, parts=("month", "weekday"), missing=0),
        "seen": Time(
            origin="2020-01-01T00:00:00+02:00", unit="seconds", low=-1e9, high=1e9, parts=("weekday",), missing=0
        ),
        "notes": TextBag(ids=11, missing="empty"),
        "scan": Tensor(shape=(2, 2), low=0, high=255, missing=0),
        "pulse": ListNumbers(length=3, low=30, high=220, pad=-1, missing="empty"),
        "bed": Ids(low=0, high=9, unknown=10, missing=11),
        "code": Index(levels=WARDS, missing="slot"),
        "words": TextIds(ids=7, length=4, missing="empty"),
        "tokens": ListIds(length=3, low=1, high=9, pad=0, unknown=10, missing="empty"),
    },
    label=features.Label(task="regression", column="cost", low=0, high=1000, missing=0),
    inputs={
        "numbers": ("age", "dose", "count", "smokes", "ward", "born", "seen", "notes", "scan", "pulse"),
        "ids": ("bed", "code", "words", "tokens"),
    },
)
FLOATS = st.one_of(st.none(), st.floats(width=64))
TEXT = st.one_of(st.none(), st.sampled_from(WARDS), st.text(max_size=20))
MOMENTS = st.one_of(st.none(), st.datetimes())
KINDS: dict[str, tuple[Any, Any]] = {
    "age": (FLOATS, pa.float64()),
    "dose": (st.one_of(st.none(), st.floats(width=32)), pa.float32()),
    "count": (st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)), pa.int32()),
    "smokes": (st.one_of(st.none(), st.booleans()), pa.bool_()),
    "ward": (TEXT, pa.string()),
    "born": (st.one_of(st.none(), st.dates()), pa.date32()),
    "seen": (MOMENTS, pa.timestamp("us", "UTC")),
    "notes": (TEXT, pa.large_string()),
    "scan": (st.one_of(st.none(), st.lists(FLOATS, min_size=4, max_size=4)), pa.list_(pa.float64(), 4)),
    "pulse": (st.one_of(st.none(), st.lists(FLOATS, max_size=6)), pa.list_(pa.float64())),
    "bed": (st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), pa.int64()),
    "code": (TEXT, pa.dictionary(pa.int32(), pa.string())),
    "words": (TEXT, pa.string()),
    "tokens": (st.one_of(st.none(), st.lists(st.integers(-5, 20), max_size=6)), pa.list_(pa.int32())),
    "cost": (FLOATS, pa.float64()),
}


@st.composite
def tables(draw: Any, least: int = 0) -> pa.Table:
    rows = draw(st.integers(least, 12))
    columns = {name: draw(st.lists(values, min_size=rows, max_size=rows)) for name, (values, _) in KINDS.items()}
    return pa.table({name: pa.array(columns[name], kind) for name, (_, kind) in KINDS.items()})


def same(one: features.Applied, other: features.Applied) -> None:
    assert one.inputs.keys() == other.inputs.keys()
    for at, values in one.inputs.items():
        np.testing.assert_array_equal(values, other.inputs[at], strict=True)
    assert one.label is not None
    assert other.label is not None
    np.testing.assert_array_equal(one.label, other.label, strict=True)


def column(name: str) -> slice:
    """Where a column of the plan is in its input."""
    group = next(names for names in PLAN.groups.values() if name in names)
    start = sum(PLAN.columns[c].width for c in group[: group.index(name)])
    return slice(start, start + PLAN.columns[name].width)


@QUIET
@given(tables())
def test_every_value_lies_in_the_declared_bounds_and_none_is_nan(table: pa.Table) -> None:
    made = PLAN.apply(table)
    assert {at: (a.shape[1], a.dtype) for at, a in made.inputs.items()} == PLAN.shapes
    for at, values in made.inputs.items():
        low, high = PLAN.bounds[at]
        assert len(values) == table.num_rows
        assert len(PLAN.names[at]) == values.shape[1] == len(low)
        slack = 1e-6 * (1 + np.abs(low) + np.abs(high))
        assert not np.isnan(values).any()
        assert (values >= low - slack).all()
        assert (values <= high + slack).all()
    assert made.label is not None
    assert ((made.label >= -1) & (made.label <= 1)).all()


@QUIET
@given(tables(least=2), st.data())
def test_a_row_of_the_output_depends_on_that_row_alone(table: pa.Table, data: Any) -> None:
    row = data.draw(st.integers(0, table.num_rows - 1))
    whole, alone = PLAN.apply(table), PLAN.apply(table.slice(row, 1))
    same(features.Applied({at: a[row : row + 1] for at, a in whole.inputs.items()}, whole.label[row : row + 1]), alone)
    order = data.draw(st.permutations(range(table.num_rows)))
    mixed = PLAN.apply(table.take(order))
    same(features.Applied({at: a[order] for at, a in whole.inputs.items()}, whole.label[order]), mixed)


@QUIET
@given(tables(), tables())
def test_batches_can_be_cut_anywhere(one: pa.Table, other: pa.Table) -> None:
    first, second = PLAN.apply(one), PLAN.apply(other)
    together = PLAN.apply(pa.concat_tables([one, other]))
    joined = {at: np.concatenate([first.inputs[at], second.inputs[at]]) for at in first.inputs}
    same(features.Applied(joined, np.concatenate([first.label, second.label])), together)


@QUIET
@given(tables())
def test_one_hot_values_add_up_to_one_and_indicators_tell_the_gaps(table: pa.Table) -> None:
    numbers = PLAN.apply(table).inputs["numbers"]
    np.testing.assert_array_equal(numbers[:, column("ward")].sum(1), 1)
    gaps = {name: np.array([v is None for v in table[name].to_pylist()], bool) for name in KINDS}
    for name in ("age", "dose"):
        gaps[name] |= np.array([v is not None and np.isnan(v) for v in table[name].to_pylist()], bool)
    gaps["scan"] = np.array(
        [v is None or any(x is None or np.isnan(x) for x in v) for v in table["scan"].to_pylist()], bool
    )
    for name in ("age", "dose", "count", "smokes", "ward", "born", "seen", "scan", "pulse"):
        np.testing.assert_array_equal(numbers[:, column(name)][:, -1], gaps[name], err_msg=name)
    born, seen = numbers[:, column("born")], numbers[:, column("seen")]
    for parts in (born[:, 1:13], born[:, 13:20], seen[:, 1:8]):
        assert set(parts.sum(1)) <= {0, 1}
    np.testing.assert_array_equal(born[:, 1:13].sum(1), ~gaps["born"])
    there = [v for v in table["born"].to_pylist() if v is not None]
    np.testing.assert_array_equal(born[~gaps["born"], 1:13].argmax(1), [v.month - 1 for v in there])
    np.testing.assert_array_equal(born[~gaps["born"], 13:20].argmax(1), [v.weekday() for v in there])


@QUIET
@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.floats(-1e5, 1e5), st.floats(1e-3, 1e5))
def test_numbers_are_scaled_as_scikit_learn_scales_them(data: list[float], low: float, room: float) -> None:
    high = low + room
    plan = features.Plan(
        columns={"n": Number(low=low, high=high)},
        label=features.Label(task="regression", column="y", low=0, high=1),
    )
    made = plan.apply(pa.table({"n": data}), label=False).inputs["x"]
    wanted = MinMaxScaler((-1, 1), clip=True).fit([[low], [high]]).transform(np.array(data)[:, None])
    np.testing.assert_allclose(made, wanted, atol=2e-4 if abs(low) / room > 1e6 else 1e-5)


@QUIET
@given(st.lists(st.sampled_from([*WARDS, "elsewhere"]), min_size=1))
def test_categories_are_as_scikit_learn_encodes_them(data: list[str]) -> None:
    plan = features.Plan(
        columns={"w": OneHot(levels=WARDS)}, label=features.Label(task="regression", column="y", low=0, high=1)
    )
    made = plan.apply(pa.table({"w": data}), label=False).inputs["x"]
    encoder = OneHotEncoder(categories=[list(WARDS)], handle_unknown="ignore", sparse_output=False)
    wanted = encoder.fit(np.array(WARDS)[:, None]).transform(np.array(data)[:, None])
    np.testing.assert_array_equal(made[:, :3], wanted)
    np.testing.assert_array_equal(made[:, 3], np.array(data) == "elsewhere")


def fnv(word: bytes) -> int:
    found = 0xCBF29CE484222325
    for byte in word[:LONGEST]:
        found = (found ^ byte) * 0x100000001B3 % 2**64
    return found


def spelled(text: str) -> list[bytes]:
    """The words of a text, one byte after the other."""
    found, word = [], b""
    for byte in [*text.encode(), 0]:
        if byte >= 0x80 or chr(byte).isalnum():
            word += bytes([byte]).lower()
        elif word:
            found.append(word)
            word = b""
    return found


@QUIET
@given(st.lists(st.one_of(st.none(), st.text(max_size=90)), max_size=8), st.integers(2, 50), st.integers(1, 5))
def test_words_have_the_ids_of_a_hash_that_is_written_down(texts: list[str | None], ids: int, length: int) -> None:
    row, place, found = words(read(pa.array(texts, pa.string()), "text", "notes"), ids, length)
    wanted = []
    for at, text in enumerate(texts):
        for nth, word in enumerate(spelled(text or "")[:length]):
            code = fnv(word)
            wanted.append((at, nth, 1 + (code ^ code >> 32) % (ids - 1)))
    assert list(zip(row.tolist(), place.tolist(), found.tolist(), strict=True)) == wanted


@pytest.mark.parametrize(
    ("word", "code"), [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)]
)
def test_the_hash_is_fnv_1a(word: bytes, code: int) -> None:
    """Vectors of Landon Curt Noll's own test suite."""
    assert fnv(word) == code


@QUIET
@given(st.lists(st.one_of(st.none(), st.lists(st.integers(-5, 20), max_size=6)), max_size=8))
def test_lists_are_cut_and_filled_up(lists: list[list[int] | None]) -> None:
    feature = ListIds(length=3, low=1, high=9, pad=0, unknown=10, missing="empty")
    made = feature.encode(read(pa.array(lists, pa.list_(pa.int32())), "list", "tokens"), "tokens")
    wanted = [[v if 1 <= v <= 9 else 10 for v in (one or [])[:3]] for one in lists]
    assert made.tolist() == [[*one, *[0] * (3 - len(one))] for one in wanted]


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@QUIET
@given(st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=5, unique=True), min_size=1, max_size=4), NAMES)
def test_a_written_plan_is_read_as_the_same_plan(columns: dict[str, list[str]], label: str) -> None:
    columns.pop(label, None)
    made = {name: OneHot(levels=tuple(levels)) for name, levels in columns.items()}
    plan = features.Plan(
        columns={**made, "n of it": Number(low=0, high=1e-7, missing=0)},
        label=features.Label(task="binary", column=label, levels=("no", "yes")),
        about="written\nby hand",
    )
    again = features.parse(features.write(plan))
    assert again == plan
    assert again.sha256 == plan.sha256
    assert again.about == plan.about


def test_the_plan_of_every_transform_is_read_as_it_was_written() -> None:
    again = features.parse(features.write(PLAN))
    assert again == PLAN
    assert again.sha256 == PLAN.sha256


def test_the_hash_follows_what_changes_an_output_and_nothing_else() -> None:
    text = features.write(PLAN)
    assert features.parse(text + "about: for people\n").sha256 == PLAN.sha256
    assert features.parse(text.replace("low: 0,", "low: 0.0,")).sha256 == PLAN.sha256
    changed = [
        text.replace("high: 120", "high: 121"),
        text.replace("north, süd", "süd, north"),
        text.replace("pad: -1", "pad: 1"),
    ]
    assert len({features.parse(one).sha256 for one in changed} | {PLAN.sha256}) == 4


def test_dates_are_days_since_the_origin_whatever_holds_them() -> None:
    days = [date(2000, 1, 1), date(1999, 12, 22), None]
    plan = features.Plan(
        columns={"d": Date(origin="2000-01-01", low=-100, high=100, missing=50)},
        label=features.Label(task="regression", column="y", low=0, high=1),
    )
    for kind in (
        pa.date32(),
        pa.date64(),
        pa.timestamp("s"),
        pa.timestamp("ms"),
        pa.timestamp("us"),
        pa.timestamp("ns", "UTC"),
    ):
        made = plan.apply(pa.table({"d": pa.array(days, pa.date32()).cast(kind)}), label=False).inputs["x"]
        np.testing.assert_allclose(made, [[0, 0], [-0.1, 0], [0.5, 1]], atol=1e-6, err_msg=str(kind))
