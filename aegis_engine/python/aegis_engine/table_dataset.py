"""``aegis_engine.data.table_dataset`` under its old address, until 0.2."""

from __future__ import annotations

from aegis_engine.data.table_dataset import *  # noqa: F403
from aegis_engine.data.table_dataset import __all__ as _names

__all__ = [*_names]  # noqa: PLE0604
