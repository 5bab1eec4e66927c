"""Which plan an experiment names, and the shape of the data that follows: the same question at the server and at a node."""

from __future__ import annotations

from typing import Final, Protocol

from aegis_flower import data
from aegis_flower.data.spec import Spec
from aegis_flower.errors import ConfigError
from aegis_flower.features.plan import Plan
from aegis_flower.features.read import load

CHOSEN: Final = "features-sha256"  # the setting of a message in which the server tells its plan's hash


class Named(Protocol):
    """What a configuration says of the data: `aegis_flower.configs.DataConfig`."""

    @property
    def name(self) -> str:
        """Name of the data set, or ``table``."""

    @property
    def features(self) -> str | None:
        """Name or path of the plan."""


def chosen(cfg: Named) -> Plan | None:
    """The plan that a configuration names; None where it names none.

    Raises:
        ConfigError: it cannot be read, or means nothing.
    """
    return None if cfg.features is None else load(cfg.features)


def plan_of(spec: Spec) -> Plan | None:
    """The plan of a `Spec`; None of one that names columns itself."""
    return spec.plan if isinstance(spec.plan, Plan) else None


def spec_of(cfg: Named) -> Spec:
    """The public shape of the data: of the plan where there is one, else of a built-in data set.

    Raises:
        ConfigError: ``data=table`` without a plan, or a plan that means nothing.
    """
    plan = chosen(cfg)
    if plan is not None:
        return plan.spec
    if cfg.name == data.TABLE:
        raise ConfigError("data.features", "data=table needs a plan: its packaged name, or the path of its file")
    return data.spec(cfg.name)
