"""What of a Flower App travels to server and nodes."""

import subprocess
import sys
import zipfile
from pathlib import Path


def built(folder: Path) -> list[str]:
    """Names of the files in the bundle that `flwr build` makes of an app."""
    flwr = Path(sys.executable).with_name("flwr")
    done = subprocess.run(
        [flwr, "build", "--app", folder], cwd=folder.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (fab,) = folder.parent.glob("*.fab")
    return zipfile.ZipFile(fab).namelist()
