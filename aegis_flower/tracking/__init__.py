"""Trackers: where the numbers of a run go as it runs, besides its report. Each gets what the report says, no more."""

from aegis_flower.tracking.protocol import Measured, Run, Tracker
from aegis_flower.tracking.session import Trackers

__all__ = ["Measured", "Run", "Tracker", "Trackers"]
