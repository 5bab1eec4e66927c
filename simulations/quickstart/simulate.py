"""Runs this app in one process, with vaults made from real data: ``python simulate.py [KEY=VALUE ...]``.

Overrides reach server and clients alike. Exit codes are those of `aegis run`.
"""

import sys
from pathlib import Path

from quickstart.client_app import app
from quickstart.model import model

from aegis_flower.cli import simulate

if __name__ == "__main__":
    sys.exit(simulate("quickstart", sys.argv[1:], Path("aegis-runs"), client_app=app, model=model))
