"""Fashion-MNIST, 28 x 28 pixels: 70 000 images in IDX files, from Debian's package or a folder of the user's."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aegis_flower.data.spec import Choice, DataSet, Ints, Loaded, Spec, pixels
from aegis_flower.errors import DataError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def _load(cfg: Choice) -> Loaded:
    folder = Path(cfg.path) if cfg.path else DEBIAN
    images, labels = _idx_pair(folder)
    return {"pixels": pixels(images.reshape(len(images), -1), 255.0)}, labels, f"IDX files ({folder.name})"


def _idx_pair(folder: Path) -> tuple[npt.NDArray[np.uint8], Ints]:
    advice = (
        "install Debian's package (apt-get install dataset-fashion-mnist), or set data.path to a folder "
        "with train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the two t10k files"
    )
    if not folder.is_dir():
        raise DataError(f"no folder {folder} with Fashion-MNIST; {advice}")
    images = [_idx(_find(folder, f"{part}-images-idx3-ubyte", advice), 3) for part in ("train", "t10k")]
    labels = [_idx(_find(folder, f"{part}-labels-idx1-ubyte", advice), 1) for part in ("train", "t10k")]
    for part, names in zip(images, labels, strict=True):
        if len(part) != len(names) or part.shape[1:] != (28, 28):
            raise DataError(f"{folder}: {len(part)} images of {part.shape[1:]} do not match {len(names)} labels")
    return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def _find(folder: Path, stem: str, advice: str) -> Path:
    for name in (stem, f"{stem}.gz", stem.replace("-idx", ".idx"), stem.replace("-idx", ".idx") + ".gz"):
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} has no {stem} (or .gz); {advice}")


def _idx(path: Path, dims: int) -> npt.NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes (format: http://yann.lecun.com/exdb/mnist, two zero bytes, type, rank)."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
    head = 4 + 4 * dims
    if len(raw) < head or raw[:4] != bytes([0, 0, 8, dims]):
        raise DataError(f"{path} is not an IDX file of unsigned bytes with {dims} dimensions")
    shape = struct.unpack(f">{dims}I", raw[4:head])
    if len(raw) != head + math.prod(shape):
        raise DataError(f"{path} announces {shape} but holds {len(raw) - head} bytes")
    return np.frombuffer(raw, dtype=np.uint8, offset=head).reshape(shape)


DATA_SET = DataSet(Spec({"pixels": 784}, "garment", 10, (28, 28)), _load, "shop", "image")
