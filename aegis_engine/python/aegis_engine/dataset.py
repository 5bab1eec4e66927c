"""``aegis_engine.data.dataset`` under its old address, until 0.2."""

from __future__ import annotations

from aegis_engine.data import open as dataset_of
from aegis_engine.data.dataset import *  # noqa: F403
from aegis_engine.data.dataset import __all__ as _names

__all__ = [*_names, "dataset_of"]  # noqa: PLE0604
