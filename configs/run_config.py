"""What a Flower run config carries of a configuration: the whole, resolved, as text that Flower's own forms cannot bend."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from aegis_flower.configs.composition import compose
from aegis_flower.configs.config import Config, from_dict
from aegis_flower.errors import ConfigError

# The keys of a run config, which are the researcher's.
CARRIED = "aegis-config"
EXPERIMENT = "aegis-experiment"
OVERRIDES = "aegis-overrides"
OUTPUT = "aegis-output"


def overrides_from_run_config(run_config: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    """Experiment name and overrides carried by a Flower run config (``aegis-experiment``, ``aegis-overrides``)."""
    name = str(run_config.get(EXPERIMENT, "") or "") or None
    try:
        return name, shlex.split(str(run_config.get(OVERRIDES, "") or ""))
    except ValueError as error:
        raise ConfigError(OVERRIDES, f"not words of a command line ({error})") from error


def carry(cfg: Config, overrides: Sequence[str], output: str) -> str:
    """The resolved configuration, the overrides as written and the server's output folder, as one word of ASCII.

    Flower's text forms of a run config cannot hold quotes, and some nothing but ASCII; `from_run_config` reads it.
    """
    text = json.dumps({"config": cfg.to_dict(), "overrides": list(overrides), "output": output})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def from_run_config(run_config: Mapping[str, Any]) -> tuple[Config, list[str], str]:
    """Configuration, overrides and the server's output folder of a Flower run config.

    ``aegis-config`` (what `carry` made) goes before ``aegis-experiment`` and ``aegis-overrides``.

    Raises:
        ConfigError: neither can be read, or a value in it is impossible.
    """
    carried = str(run_config.get(CARRIED, "") or "")
    output = str(run_config.get(OUTPUT, "") or "")
    if not carried:
        name, overrides = overrides_from_run_config(run_config)
        return compose(name, overrides), overrides, output
    try:
        found = json.loads(base64.b64decode(carried + "=" * (-len(carried) % 4), altchars=b"-_", validate=True))
        values, overrides = found["config"], [str(o) for o in found["overrides"]]
        output = output or str(found["output"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(CARRIED, "is not what `aegis run` writes; leave it out, or submit again") from error
    return from_dict(values), overrides, output
