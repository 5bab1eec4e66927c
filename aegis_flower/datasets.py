"""Real data for the experiments, and how a simulation splits it over nodes. Nothing is downloaded."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from aegis_flower.errors import ConfigError, DataError

if TYPE_CHECKING:
    from aegis_flower.config import DataConfig

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")

# Ranges of the 30 measurements as scikit-learn's documentation of the set prints them. Scaling by published constants
# costs no privacy; scaling by statistics of a hospital's own rows would.
BREAST_CANCER_RANGES: dict[str, tuple[float, float]] = {
    "mean_radius": (6.981, 28.11),
    "mean_texture": (9.71, 39.28),
    "mean_perimeter": (43.79, 188.5),
    "mean_area": (143.5, 2501.0),
    "mean_smoothness": (0.053, 0.163),
    "mean_compactness": (0.019, 0.345),
    "mean_concavity": (0.0, 0.427),
    "mean_concave_points": (0.0, 0.201),
    "mean_symmetry": (0.106, 0.304),
    "mean_fractal_dimension": (0.05, 0.097),
    "radius_error": (0.112, 2.873),
    "texture_error": (0.36, 4.885),
    "perimeter_error": (0.757, 21.98),
    "area_error": (6.802, 542.2),
    "smoothness_error": (0.002, 0.031),
    "compactness_error": (0.002, 0.135),
    "concavity_error": (0.0, 0.396),
    "concave_points_error": (0.0, 0.053),
    "symmetry_error": (0.008, 0.079),
    "fractal_dimension_error": (0.001, 0.03),
    "worst_radius": (7.93, 36.04),
    "worst_texture": (12.02, 49.54),
    "worst_perimeter": (50.41, 251.2),
    "worst_area": (185.2, 4254.0),
    "worst_smoothness": (0.071, 0.223),
    "worst_compactness": (0.027, 1.058),
    "worst_concavity": (0.0, 1.252),
    "worst_concave_points": (0.0, 0.291),
    "worst_symmetry": (0.156, 0.664),
    "worst_fractal_dimension": (0.055, 0.208),
}


@dataclass(frozen=True)
class Spec:
    """What a model needs to know of a data set, public.

    Attributes:
        columns: feature columns and their lengths, in order.
        label: name of the label column.
        classes: number of labels; 1 where a number is predicted.
        image: height and width where the features are one image, else None.
        dtypes: columns that keep the type they are stored in, such as ``{"tokens": "int64"}``; the others become float32, and are
            refused where that could change a value.
        label_dtype: the type the labels are stored in, to be checked; None takes whole numbers, and floats where `classes` is 1.
    """

    columns: dict[str, int]
    label: str
    classes: int
    image: tuple[int, int] | None = None
    dtypes: dict[str, str] = field(default_factory=dict)
    label_dtype: str | None = None

    @property
    def features(self) -> int:
        """Number of input values of one record."""
        return sum(self.columns.values())


@dataclass(frozen=True)
class Source:
    """Rows in memory before ingest: features by column, labels, and the subject each row is about."""

    spec: Spec
    columns: dict[str, Floats]
    labels: Ints
    subjects: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Ints) -> Source:
        """The given rows."""
        return Source(
            self.spec,
            {k: v[rows] for k, v in self.columns.items()},
            self.labels[rows],
            [self.subjects[int(i)] for i in rows],
        )


Loaded = tuple[dict[str, Floats], Ints, str]


@dataclass(frozen=True)
class DataSet:
    """One data set of the experiments: all that is known of it. A new one is a new entry of `DATASETS`.

    Attributes:
        spec: its public shape.
        load: reads columns, labels, and where they came from.
        noun: what a simulation calls the nodes that hold it.
        person: what its subjects' made-up ids begin with.
    """

    spec: Spec
    load: Callable[[DataConfig], Loaded]
    noun: str
    person: str


def spec(name: str) -> Spec:
    """The public shape of a data set, without reading it."""
    return _known(name).spec


def _known(name: str) -> DataSet:
    if name not in DATASETS:
        raise ConfigError("data.name", f"{name!r} is not one of {', '.join(DATASETS)}")
    return DATASETS[name]


def load(cfg: DataConfig) -> tuple[Source, str]:
    """Reads the configured data set.

    Returns:
        The rows, and where they came from (for the audit log and the report).

    Raises:
        DataError: files are missing or not what they should be; the text says what to install.
    """
    known = _known(cfg.name)
    columns, labels, origin = known.load(cfg)
    count = len(labels) if cfg.limit is None else min(cfg.limit, len(labels))
    subjects = [f"{known.person}-{i:06d}" for i in range(len(labels))]
    source = Source(known.spec, columns, labels, subjects)
    return (source if count == len(labels) else source.take(np.arange(count, dtype=np.int64))), origin


def _breast_cancer(_: DataConfig) -> Loaded:
    from sklearn import datasets  # heavy: only a simulation's provisioning needs it

    bunch: Any = datasets.load_breast_cancer()
    low, high = np.array(list(BREAST_CANCER_RANGES.values()), dtype=np.float64).T
    scaled = np.clip(2 * (bunch.data - low) / (high - low) - 1, -1, 1).astype(np.float32)
    columns = {name: scaled[:, i : i + 1] for i, name in enumerate(BREAST_CANCER_RANGES)}
    return columns, np.asarray(bunch.target, dtype=np.int64), "scikit-learn breast_cancer"


def _digits(_: DataConfig) -> Loaded:
    from sklearn import datasets

    bunch: Any = datasets.load_digits()
    return {"pixels": _pixels(bunch.data, 16.0)}, np.asarray(bunch.target, dtype=np.int64), "scikit-learn digits"


def _fashion_mnist(cfg: DataConfig) -> Loaded:
    folder = Path(cfg.path) if cfg.path else DEBIAN_FASHION_MNIST
    images, labels = _idx_pair(folder)
    return {"pixels": _pixels(images.reshape(len(images), -1), 255.0)}, labels, f"IDX files ({folder.name})"


DATASETS: dict[str, DataSet] = {
    "breast_cancer": DataSet(
        Spec(dict.fromkeys(BREAST_CANCER_RANGES, 1), "benign", 2), _breast_cancer, "hospital", "patient"
    ),
    "digits": DataSet(Spec({"pixels": 64}, "digit", 10, (8, 8)), _digits, "office", "writer"),
    "fashion_mnist": DataSet(Spec({"pixels": 784}, "garment", 10, (28, 28)), _fashion_mnist, "shop", "image"),
}


def _pixels(values: npt.NDArray[Any], top: float) -> Floats:
    return (np.asarray(values, dtype=np.float32) / np.float32(top) * 2 - 1).astype(np.float32)


def _idx_pair(folder: Path) -> tuple[npt.NDArray[np.uint8], Ints]:
    advice = (
        "install Debian's package (apt-get install dataset-fashion-mnist), or set data.path to a folder "
        "with train-images-idx3-ubyte[.gz], train-labels-idx1-ubyte[.gz] and the two t10k files"
    )
    if not folder.is_dir():
        raise DataError(f"no folder {folder} with Fashion-MNIST; {advice}")
    images = [_idx(_find(folder, f"{part}-images-idx3-ubyte", advice), 3) for part in ("train", "t10k")]
    labels = [_idx(_find(folder, f"{part}-labels-idx1-ubyte", advice), 1) for part in ("train", "t10k")]
    for pixels, names in zip(images, labels, strict=True):
        if len(pixels) != len(names) or pixels.shape[1:] != (28, 28):
            raise DataError(f"{folder}: {len(pixels)} images of {pixels.shape[1:]} do not match {len(names)} labels")
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


def partition(labels: Ints, cfg: DataConfig, seed: int, minimum: int) -> list[Ints]:
    """Splits row numbers over the nodes: ``iid``, or non-IID with a Dirichlet draw of each label's shares.

    The Dirichlet split is that of Hsu et al. 2019 (arXiv 1909.06335, section 3); it is drawn again, at most 1000 times,
    until every node has at least `minimum` rows.

    Raises:
        DataError: the rows cannot give every node its minimum.
    """
    if len(labels) < minimum * cfg.clients:
        raise DataError(
            f"{len(labels)} rows cannot give {cfg.clients} nodes at least {minimum} rows each; "
            "lower data.clients or policy.min_rows"
        )
    rng = np.random.default_rng(seed)
    if cfg.partition == "iid":
        return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), cfg.clients)]
    for _ in range(1000):
        parts: list[list[Ints]] = [[] for _ in range(cfg.clients)]
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            shares = rng.dirichlet(np.full(cfg.clients, cfg.alpha))
            cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for part, chunk in zip(parts, np.split(rows, cuts), strict=True):
                part.append(chunk)
        split = [np.sort(np.concatenate(part)) for part in parts]
        if min(len(part) for part in split) >= minimum:
            return split
    raise DataError(
        f"no Dirichlet split with data.alpha={cfg.alpha} gives every node {minimum} rows; raise data.alpha, or lower "
        "data.clients"
    )


@dataclass(frozen=True)
class Split:
    """Which of a simulated node's rows are held out, and the generator that goes on to draw who withdrew."""

    holdout: Ints
    train: Ints
    rng: np.random.Generator


def split(rows: int, cfg: DataConfig, seed: int, index: int) -> Split:
    """Splits the rows of node `index`.

    Raises:
        ConfigError: `data.holdout` leaves no row to evaluate on, or none to train on.
    """
    rng = np.random.default_rng([seed, index])
    order = rng.permutation(rows)
    cut = round(rows * cfg.holdout)
    if not 0 < cut < rows:
        raise ConfigError(
            "data.holdout",
            f"{cfg.holdout:g} of a node's {rows} rows leaves {'none to train on' if cut else 'none held out'}",
        )
    return Split(np.sort(order[:cut]), np.sort(order[cut:]), rng)
