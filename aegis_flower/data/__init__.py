"""Real data for the experiments: one file a set, and how a simulation splits its rows. Nothing is downloaded."""

from aegis_flower.data.breast_cancer import RANGES as BREAST_CANCER_RANGES
from aegis_flower.data.fashion_mnist import DEBIAN as DEBIAN_FASHION_MNIST
from aegis_flower.data.registry import DATASETS as DATASETS
from aegis_flower.data.registry import TABLE as TABLE
from aegis_flower.data.registry import load as load
from aegis_flower.data.registry import spec as spec
from aegis_flower.data.spec import DataSet as DataSet
from aegis_flower.data.spec import Floats as Floats
from aegis_flower.data.spec import Ints as Ints
from aegis_flower.data.spec import Source as Source
from aegis_flower.data.spec import Spec as Spec
from aegis_flower.data.splits import Split as Split
from aegis_flower.data.splits import partition as partition
from aegis_flower.data.splits import split as split

__all__ = [
    "BREAST_CANCER_RANGES",
    "DATASETS",
    "DEBIAN_FASHION_MNIST",
    "TABLE",
    "DataSet",
    "Floats",
    "Ints",
    "Source",
    "Spec",
    "Split",
    "load",
    "partition",
    "spec",
    "split",
]
