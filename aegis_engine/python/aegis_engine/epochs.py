"""``aegis_engine.data.epochs`` under its old address, until 0.2."""

from __future__ import annotations

from aegis_engine.data.epochs import *  # noqa: F403
from aegis_engine.data.epochs import __all__ as _names

__all__ = [*_names]  # noqa: PLE0604
