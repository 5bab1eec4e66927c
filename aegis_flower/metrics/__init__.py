"""Metrics: what an evaluation tells of held-out rows, as declared and bounded sums, and how it is read from them.

Free of frameworks: arrays of numpy go in. Nothing here opens a vault or adds noise; the engine does, by what is declared.
"""

from aegis_flower.metrics.choose import BY_TARGET as BY_TARGET
from aegis_flower.metrics.choose import DEFAULT as DEFAULT
from aegis_flower.metrics.choose import NAMES as NAMES
from aegis_flower.metrics.choose import OF_CLASSES as OF_CLASSES
from aegis_flower.metrics.choose import declared as declared
from aegis_flower.metrics.choose import target_of as target_of
from aegis_flower.metrics.metric import Metric as Metric
from aegis_flower.metrics.metric import Metrics as Metrics
from aegis_flower.metrics.metric import Tally as Tally
from aegis_flower.metrics.rows import Judged as Judged
from aegis_flower.metrics.rows import Target as Target
from aegis_flower.metrics.rows import joined as joined
from aegis_flower.metrics.rows import made_up as made_up
from aegis_flower.metrics.spread import sigma as sigma
from aegis_flower.metrics.spread import spread as spread
from aegis_flower.metrics.statistic import Statistic as Statistic
from aegis_flower.metrics.statistic import check_alone as check_alone

__all__ = [
    "BY_TARGET",
    "DEFAULT",
    "NAMES",
    "OF_CLASSES",
    "Judged",
    "Metric",
    "Metrics",
    "Statistic",
    "Tally",
    "Target",
    "check_alone",
    "declared",
    "joined",
    "made_up",
    "sigma",
    "spread",
    "target_of",
]
