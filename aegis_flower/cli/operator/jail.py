"""`aegis jail`: what this machine gives to keep an app that nobody trusts."""

from __future__ import annotations

import json
import tempfile
from typing import Annotated

import typer

from aegis_flower.errors import AegisError


def jail_check(
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable output")] = False,
) -> None:
    """Puts a jail up, runs a task in it, and says which layers stand. Exits with 1 where one is missing.

    Needs no vault and no root: the layers are namespaces, a view of named paths, limits, no capabilities, Landlock (Linux 6.12)
    and a system-call filter.
    """
    import numpy as np

    from aegis_flower.jail import Ended, Jail, Work
    from aegis_flower.jail.jail import LAYERS

    found: dict[str, object] = {"layers": list(LAYERS), "complete": False, "problem": None}
    with tempfile.TemporaryDirectory(prefix="aegis-jail-") as folder:
        try:
            with Jail(folder) as jail:
                # any function will do that is there everywhere and gives nothing: a task that fails by itself was confined
                ended = jail.run(Work("os:getpid", {"w": np.zeros(1, np.float32)})).ended
            found["complete"] = ended is Ended.FAILED
        except AegisError as error:
            found["problem"] = str(error)
    if as_json:
        typer.echo(json.dumps(found))
    elif found["complete"]:
        typer.echo(f"a task was confined by all layers: {', '.join(LAYERS)}")
    else:
        typer.echo(f"no task can be confined here: {found['problem']}")
    raise typer.Exit(0 if found["complete"] else 1)
