"""Fills the owners' vaults, and runs both apps in this process. Run: `python simulate.py [KEY=VALUE ...]`."""

import shlex
import sys
import tomllib
from pathlib import Path

from tfexample.client_app import app
from tfexample.task import load_model

from aegis_flower.cli import simulate

if __name__ == "__main__":
    said = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text("utf-8"))
    overrides = shlex.split(said["tool"]["flwr"]["app"]["config"]["aegis-overrides"])
    sys.exit(simulate(None, [*overrides, *sys.argv[1:]], Path("aegis-runs"), client_app=app, model=load_model))
