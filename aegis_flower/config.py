"""The configuration's old name. Import from `aegis_flower.configs`; this module goes with the next release."""

from aegis_flower.configs import *  # noqa: F403
