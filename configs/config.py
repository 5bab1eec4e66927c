"""`Config`: one experiment, whole and checked, from keywords or from plain values."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

from aegis_flower.configs.check import check
from aegis_flower.configs.keys import number_of
from aegis_flower.configs.schema import Groups
from aegis_flower.errors import ConfigError


@dataclass(frozen=True)
class Config(Groups):
    """One experiment, whole.

    Raises:
        ConfigError: a value has another type or is impossible; names its key.
    """

    def __post_init__(self) -> None:
        check(self)


def from_dict(values: Mapping[str, Any]) -> Config:
    """Builds and validates a `Config` from nested plain values.

    Raises:
        ConfigError: an unknown key or an impossible value, with the key's path.
    """
    return cast("Config", _build(Config, values, ""))


def _build(cls: type, values: Mapping[str, Any], prefix: str) -> object:
    if not isinstance(values, Mapping):
        raise ConfigError(prefix.rstrip("."), f"{values!r} is no group of keys")
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    for key in values:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {prefix}{close[0]}?" if close else ""
            raise ConfigError(f"{prefix}{key}", f"no such key{hint}")
    kwargs = {}
    for key, value in values.items():
        kind = hints[key]
        if dataclasses.is_dataclass(kind):
            kwargs[key] = _build(cast("type", kind), value, f"{prefix}{key}.")
        else:
            kwargs[key] = number_of(kind, value)
    return cls(**kwargs)
