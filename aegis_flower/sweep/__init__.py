"""Sweeps: what the trials of a Hydra multirun leave in their folders, and the one table and plot that they end with."""

from aegis_flower.sweep.callback import SweepSummary as SweepSummary
from aegis_flower.sweep.callback import announce as announce
from aegis_flower.sweep.callback import exit_codes as exit_codes
from aegis_flower.sweep.callback import finish as finish
from aegis_flower.sweep.callback import resuming as resuming
from aegis_flower.sweep.callback import shared_vaults as shared_vaults
from aegis_flower.sweep.callback import summarise as summarise
