"""`aegis init`: a new project, as a copy of the packaged Flower App."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from aegis_flower.errors import DataError


def init(folder: Annotated[Path, typer.Argument(help="folder to make")]) -> None:
    """Makes a new project: a Flower App with a VaultClient of your own, which runs at once."""
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder")
    source = Path(__file__).parents[1] / "simulations" / "quickstart"
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "aegis-runs"))
    typer.echo(f"made {folder}; try:\n  cd {folder}\n  python simulate.py\nthen read README.md there")
