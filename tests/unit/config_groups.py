"""The packaged experiments and group files by name, and values at the path of a key."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

TREE = files("aegis_flower") / "configs"
EXPERIMENTS = sorted(f.name.removesuffix(".yaml") for f in (TREE / "experiment").iterdir() if f.name.endswith(".yaml"))
GROUPS = sorted(
    (group.name, file.name.removesuffix(".yaml"))
    for group in TREE.iterdir()
    if group.is_dir() and group.name not in ("experiment", "features", "__pycache__")  # features has plans
    for file in group.iterdir()
    if file.name.endswith(".yaml")
)


def nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value
