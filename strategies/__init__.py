"""Server side: strategies that learn only sums, and the one in clear for comparison."""

from aegis_flower.strategies.bucketed import Bucketed
from aegis_flower.strategies.clear import ClearAggregation
from aegis_flower.strategies.masked import InputCheck
from aegis_flower.strategies.plan import Plan
from aegis_flower.strategies.rounds import STOP, Lost, OnRound, RoundRecord
from aegis_flower.strategies.secure_aggregation import SecureAggregation

__all__ = [
    "STOP",
    "Bucketed",
    "ClearAggregation",
    "InputCheck",
    "Lost",
    "OnRound",
    "Plan",
    "RoundRecord",
    "SecureAggregation",
]
