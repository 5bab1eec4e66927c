"""A masked round, phase by phase: opening, masking, closing. `MaskedRounds` runs them for every round of a run."""

from aegis_flower.strategies.masked.masking import InputCheck as InputCheck
from aegis_flower.strategies.masked.rounds import MaskedRounds as MaskedRounds
