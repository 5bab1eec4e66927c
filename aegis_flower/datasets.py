"""The data sets' old name. Import from `aegis_flower.data`; this module goes with the next release."""

from aegis_flower.data import *  # noqa: F403
