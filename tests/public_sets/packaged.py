"""Public data sets that come inside packages, written as files that a data steward would get. Nothing is fetched.

The packages carry the rows; the repository holds none of them. A function below reads one set from its package's own file, and
`written` puts it into a folder as CSV, Parquet, JSON lines or a folder of images.
"""

from __future__ import annotations

import importlib.util
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq


class PackageMissing(Exception):
    """A package, or the file of a set inside it, is not there. The message names it and says what to install."""


@dataclass(frozen=True)
class Packaged:
    """A set inside a package.

    Attributes:
        name: of the set, and of the file that is written.
        package: the distribution that carries it, as pip calls it.
        module: its import name.
        licence: of the rows, as the package or the source of the set states it.
        source: where the set and its description come from.
        ends: how the written file's name ends: csv, parquet or jsonl; empty for a folder of images.
        table: reads the rows from the package's folder.
    """

    name: str
    package: str
    module: str
    licence: str
    source: str
    ends: str
    table: Callable[[Path], pa.Table]

    def rows(self) -> pa.Table:
        """The rows, as the package has them.

        Raises:
            PackageMissing: the package is not installed, or its release no longer has the file.
        """
        home = folder_of(self.module, self.package, self.name)
        try:
            return self.table(home)
        except (FileNotFoundError, KeyError) as error:
            what = Path(str(getattr(error, "filename", None) or error.args[0])).name
            raise PackageMissing(
                f"the set {self.name} comes with {self.package}, whose installed release has no {what}: install the release that "
                "requirements.lock names"
            ) from error

    def written(self, folder: Path) -> Path:
        """Writes the rows into `folder`; gives the path of the file, or of the folder of images."""
        table = self.rows()
        if not self.ends:
            return _images(table, folder / self.name)
        path = folder / f"{self.name}.{self.ends}"
        if self.ends == "parquet":
            pq.write_table(table, path)
        elif self.ends == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
        else:
            pacsv.write_csv(table, path)
        return path


def folder_of(module: str, package: str, name: str) -> Path:
    """The folder of an installed module; it is not imported, for some write to the home folder when they are.

    Raises:
        PackageMissing: it is not installed.
    """
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or found.origin is None:
        raise PackageMissing(
            f"the set {name} comes with the package {package}, which is not installed: pip install {package}"
        )
    return Path(found.origin).parent


def _images(table: pa.Table, folder: Path) -> Path:
    from PIL import Image

    for at, (label, pixels) in enumerate(zip(table["label"].to_pylist(), table["image"].to_pylist(), strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(pixels, np.uint8)).save(folder / label / f"{at:05}.png")
    return folder


def _csv(path: Path, **options: Any) -> pa.Table:
    with path.open("rb") as file:  # Python's error names the file that is not there
        return pacsv.read_csv(file, **options)


# -- scikit-learn ------------------------------------------------------------------------------------------------------------


def _bunch(name: str) -> Callable[[Path], pa.Table]:
    """A set that scikit-learn loads: its features by their names, and what is to be predicted in words."""

    def table(_: Path) -> pa.Table:
        from sklearn import datasets

        bunch: Any = getattr(datasets, f"load_{name}")()
        names = [column.split(" (")[0].replace(" ", "_") for column in bunch.feature_names]
        columns: dict[str, Any] = {column: bunch.data[:, at] for at, column in enumerate(names)}
        words = getattr(bunch, "target_names", None)
        target = bunch.target if words is None else [str(words[t]) for t in bunch.target]
        return pa.table({**columns, "target": target})

    return table


def _digits(_: Path) -> pa.Table:
    """Pixels of 0 to 16 become grey values of 0 to 240."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = (bunch.images * 15).astype(np.uint8)
    return pa.table({"label": [str(t) for t in bunch.target], "image": [image.tolist() for image in images]})


# -- statsmodels -------------------------------------------------------------------------------------------------------------


def _anes96(home: Path) -> pa.Table:
    how = pacsv.ParseOptions(delimiter="\t", quote_char="'")
    return _csv(home / "datasets" / "anes96" / "anes96.csv", parse_options=how)


def _fair(home: Path) -> pa.Table:
    """With what Fair asks, whether there was an affair, in place of the time spent in one."""
    table = _csv(home / "datasets" / "fair" / "fair.csv")
    affair = np.where(table["affairs"].to_numpy() > 0, "yes", "no")
    return table.drop_columns(["affairs"]).append_column("affair", pa.array(affair))


# -- lifelines and scikit-survival -------------------------------------------------------------------------------------------


def _rossi(home: Path) -> pa.Table:
    return _csv(home / "datasets" / "rossi.csv")


def _arff(name: str, leave_out: tuple[str, ...] = ()) -> Callable[[Path], pa.Table]:
    def table(home: Path) -> pa.Table:
        from scipy.io import arff

        path = home / "datasets" / "data" / f"{name}.arff"
        with path.open() as file:  # a file that is not there is told by its name
            rows, _ = arff.loadarff(file)
        columns = {n.replace(".", "_"): rows[n] for n in rows.dtype.names or () if n not in leave_out}
        # Words are bytes there, and a gap in a number is no number.
        return pa.table(
            {n: pa.array(v.astype(str) if v.dtype.kind == "S" else v, from_pandas=True) for n, v in columns.items()}
        )

    return table


# -- vega_datasets -----------------------------------------------------------------------------------------------------------


def _cars(home: Path) -> pa.Table:
    return pa.Table.from_pylist(json.loads((home / "_data" / "cars.json").read_text()))


def _seattle_weather(home: Path) -> pa.Table:
    as_text = pacsv.ConvertOptions(column_types={"date": pa.string()})
    return _csv(home / "_data" / "seattle-weather.csv", convert_options=as_text)


def _bay_or_sound(home: Path) -> pa.Table:
    """The hourly temperatures of a day in two cities as a list each; days on which an hour is missing have a shorter one."""
    days: dict[tuple[str, str], list[float]] = {}
    for city, name in (("San Francisco", "sf-temps"), ("Seattle", "seattle-temps")):
        as_text = pacsv.ConvertOptions(column_types={"date": pa.string()})
        hours = _csv(home / "_data" / f"{name}.csv", convert_options=as_text)
        for moment, degrees in zip(hours["date"].to_pylist(), hours["temp"].to_pylist(), strict=True):
            days.setdefault((city, moment[:10]), []).append(degrees)
    return pa.table({"city": [city for city, _ in days], "temperatures": list(days.values())})


# -- pydataset ---------------------------------------------------------------------------------------------------------------


def _ecdat(home: Path, name: str) -> pa.Table:
    with tarfile.open(home / "resources.tar.gz") as archive:
        file = archive.extractfile(f"resources/rdata/csv/Ecdat/{name}.csv")
        assert file is not None  # a missing member is a KeyError
        return pacsv.read_csv(file).drop_columns([""])


def _computers(home: Path) -> pa.Table:
    return _ecdat(home, "Computers")


def _catsup(home: Path) -> pa.Table:
    """Each purchase of a household after its first: the brands it bought before, the last one first, and what it bought then."""
    table = _ecdat(home, "Catsup")
    brands = {"heinz41": 1, "heinz32": 2, "heinz28": 3, "hunts32": 4}
    before: dict[int, list[int]] = {}
    rows = []
    for household, choice in zip(table["id"].to_pylist(), table["choice"].to_pylist(), strict=True):
        bought = before.setdefault(household, [])
        if bought:
            rows.append({"household": f"h{household}", "before": bought[::-1], "choice": choice})
        bought.append(brands[choice])
    return pa.Table.from_pylist(rows)


# -- all ---------------------------------------------------------------------------------------------------------------------

_SKLEARN, _UCI = ("scikit-learn", "sklearn"), "CC BY 4.0 (UCI Machine Learning Repository)"
_VEGA, _PYDATASET = ("vega-datasets", "vega_datasets"), ("pydataset", "pydataset")
_NOAA = "public domain (NOAA)"
_HOME = "https://archive.ics.uci.edu/dataset"
_ECDAT = "GPL-2 or later (R package Ecdat)"
_RDATASETS = "https://vincentarelbundock.github.io/Rdatasets/doc/Ecdat"

ALL = {
    packaged.name: packaged
    for packaged in (
        Packaged("iris", *_SKLEARN, _UCI, f"{_HOME}/53/iris", "csv", _bunch("iris")),
        Packaged("wine", *_SKLEARN, _UCI, f"{_HOME}/109/wine", "csv", _bunch("wine")),
        Packaged(
            "breast_cancer",
            *_SKLEARN,
            _UCI,
            f"{_HOME}/17/breast+cancer+wisconsin+diagnostic",
            "parquet",
            _bunch("breast_cancer"),
        ),
        Packaged(
            "diabetes",
            *_SKLEARN,
            "none stated (Efron et al. 2004); scikit-learn distributes it under BSD-3-Clause",
            "https://www4.stat.ncsu.edu/~boos/var.select/diabetes.html",
            "csv",
            _bunch("diabetes"),
        ),
        Packaged("digits", *_SKLEARN, _UCI, f"{_HOME}/80/optical+recognition+of+handwritten+digits", "", _digits),
        Packaged(
            "anes96",
            "statsmodels",
            "statsmodels",
            "public domain (as statsmodels states)",
            "https://www.statsmodels.org/stable/datasets/generated/anes96.html",
            "csv",
            _anes96,
        ),
        Packaged(
            "fair",
            "statsmodels",
            "statsmodels",
            "included with permission of the author (as statsmodels states)",
            "https://www.statsmodels.org/stable/datasets/generated/fair.html",
            "csv",
            _fair,
        ),
        Packaged(
            "rossi",
            "lifelines",
            "lifelines",
            "none stated (Rossi, Berk and Lenihan 1980); lifelines distributes it under MIT",
            "https://lifelines.readthedocs.io/en/latest/lifelines.datasets.html",
            "csv",
            _rossi,
        ),
        Packaged(
            "gbsg2",
            "scikit-survival",
            "sksurv",
            "GPL-3 (R package TH.data)",
            "https://scikit-survival.readthedocs.io/en/stable/api/generated/sksurv.datasets.load_gbsg2.html",
            "csv",
            _arff("GBSG2"),
        ),
        Packaged(
            "flchain",
            "scikit-survival",
            "sksurv",
            "LGPL-2 or later (R package survival)",
            "https://scikit-survival.readthedocs.io/en/stable/api/generated/sksurv.datasets.load_flchain.html",
            "parquet",
            _arff("flchain", ("chapter",)),  # the cause of death is what is not known before
        ),
        Packaged("cars", *_VEGA, _UCI, f"{_HOME}/9/auto+mpg", "jsonl", _cars),
        Packaged(
            "seattle_weather",
            *_VEGA,
            _NOAA,
            "https://github.com/vega/vega-datasets/blob/main/SOURCES.md",
            "csv",
            _seattle_weather,
        ),
        Packaged(
            "temperatures",
            *_VEGA,
            _NOAA,
            "https://github.com/vega/vega-datasets/blob/main/SOURCES.md",
            "parquet",
            _bay_or_sound,
        ),
        Packaged("computers", *_PYDATASET, _ECDAT, f"{_RDATASETS}/Computers.html", "csv", _computers),
        Packaged("catsup", *_PYDATASET, _ECDAT, f"{_RDATASETS}/Catsup.html", "jsonl", _catsup),
    )
}
