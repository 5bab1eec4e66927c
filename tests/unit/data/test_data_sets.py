"""The data sets: whole and scaled from scikit-learn, IDX files read or refused."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aegis_flower import data as datasets
from aegis_flower.configs import DataConfig
from aegis_flower.errors import DataError


@pytest.mark.parametrize(("name", "rows"), [("breast_cancer", 569), ("digits", 1797)])
def test_scikit_learns_sets_come_whole_scaled_and_as_their_spec_says(name: str, rows: int) -> None:
    source, origin = datasets.load(DataConfig(name=name))
    spec = datasets.spec(name)
    assert (len(source), source.spec) == (rows, spec)
    assert name in origin
    assert {c: v.shape[1] for c, v in source.columns.items()} == spec.columns
    assert all(v.dtype == np.float32 and v.min() >= -1 and v.max() <= 1 for v in source.columns.values())
    assert set(source.labels.tolist()) == set(range(spec.classes))
    assert len(set(source.subjects)) == rows


def test_a_limit_takes_the_first_rows() -> None:
    whole, _ = datasets.load(DataConfig())
    few, _ = datasets.load(DataConfig(limit=7))
    assert len(few) == 7
    assert few.subjects == whole.subjects[:7]
    assert all(np.array_equal(few.columns[c], whole.columns[c][:7]) for c in few.columns)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


IMAGES = np.random.default_rng(2).integers(0, 256, (5, 28, 28)).astype(np.uint8)
NAMES = np.array([0, 9, 3, 3, 1], np.uint8)


@pytest.fixture
def fashion(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of tiny IDX files, `changed` in place of some."""

    def write(suffix: str = "", **changed: bytes | None) -> Path:
        folder = tmp_path / "idx"
        folder.mkdir()
        for part, rows in (("train", slice(0, 3)), ("t10k", slice(3, 5))):
            for kind, body in (("images-idx3", idx(IMAGES[rows])), ("labels-idx1", idx(NAMES[rows]))):
                raw = changed.get(f"{part}_{kind[:6]}", body)
                if raw is not None:
                    stored = gzip.compress(raw) if suffix else raw
                    (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(stored)
        return folder

    return write


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read_plain_or_compressed(fashion: Any, suffix: str) -> None:
    source, origin = datasets.load(DataConfig(name="fashion_mnist", path=str(fashion(suffix))))
    np.testing.assert_array_equal(source.labels, NAMES)
    pixels = (source.columns["pixels"] + 1) / 2 * 255
    np.testing.assert_allclose(pixels, IMAGES.reshape(5, 784), atol=1e-3)
    assert "idx" in origin


@pytest.mark.parametrize(
    ("part", "raw", "says"),
    [
        ("train_images", b"\x00\x00\x08\x01" + bytes(12), "not an IDX file"),
        ("train_images", idx(IMAGES[:3], kind=13), "not an IDX file"),
        ("train_images", b"\x89PNG", "not an IDX file"),
        ("train_images", b"", "not an IDX file"),
        ("t10k_images", idx(IMAGES[3:])[:-1], "announces"),
        ("t10k_labels", idx(NAMES[3:]) + b"\x00", "announces"),
        ("train_labels", idx(NAMES[:2]), "do not match"),
        ("train_images", idx(np.zeros((3, 8, 8), np.uint8)), "do not match"),
        ("train_images", idx(np.zeros((2**16, 0, 28), np.uint8)), "do not match"),
        ("t10k_labels", None, "no t10k-labels-idx1-ubyte"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(fashion: Any, part: str, raw: bytes | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        datasets.load(DataConfig(name="fashion_mnist", path=str(fashion(**{part: raw}))))


def test_sizes_that_only_fit_after_an_overflow_are_refused(fashion: Any) -> None:
    head = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31, 2**31, 4)  # the product is 0 modulo 2^64
    with pytest.raises(DataError):
        datasets.load(DataConfig(name="fashion_mnist", path=str(fashion(train_images=head))))


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(idx(IMAGES[:3]))[:-9]])
def test_a_broken_gzip_file_is_a_data_error(fashion: Any, body: bytes) -> None:
    folder = fashion(".gz")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(body)
    with pytest.raises(DataError, match="train-images"):
        datasets.load(DataConfig(name="fashion_mnist", path=str(folder)))


def test_absent_files_come_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="apt-get install dataset-fashion-mnist") as error:
        datasets.load(DataConfig(name="fashion_mnist", path=str(tmp_path / "nowhere")))
    assert "data.path" in str(error.value)
    assert error.value.code == "AEG-D001"
