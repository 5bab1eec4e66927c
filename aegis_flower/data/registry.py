"""The data sets of the experiments. A new one is a file beside this one, an entry here and `configs/data/NAME.yaml`."""

from __future__ import annotations

import numpy as np

from aegis_flower.data import breast_cancer, digits, fashion_mnist
from aegis_flower.data.spec import Choice, DataSet, Source, Spec
from aegis_flower.errors import ConfigError

DATASETS: dict[str, DataSet] = {
    "breast_cancer": breast_cancer.DATA_SET,
    "digits": digits.DATA_SET,
    "fashion_mnist": fashion_mnist.DATA_SET,
}


TABLE = "table"  # rows that are in the vaults already, read by a feature plan


def noun(name: str) -> str:
    """What a simulation calls the nodes that hold a data set."""
    return "node" if name == TABLE else known(name).noun


def spec(name: str) -> Spec:
    """The public shape of a data set, without reading it."""
    return known(name).spec


def known(name: str) -> DataSet:
    """The entry of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in DATASETS:
        raise ConfigError("data.name", f"{name!r} is not one of {', '.join(DATASETS)}")
    return DATASETS[name]


def load(cfg: Choice) -> tuple[Source, str]:
    """Reads the configured data set.

    Returns:
        The rows, and where they came from (for the audit log and the report).

    Raises:
        DataError: files are missing or not what they should be; the text says what to install.
    """
    chosen = known(cfg.name)
    columns, labels, origin = chosen.load(cfg)
    count = len(labels) if cfg.limit is None else min(cfg.limit, len(labels))
    subjects = [f"{chosen.person}-{i:06d}" for i in range(len(labels))]
    source = Source(chosen.spec, columns, labels, subjects)
    return (source if count == len(labels) else source.take(np.arange(count, dtype=np.int64))), origin
