"""Control: what the operator asks of a running node, by files in a folder of mode 0700 that only the operator's user may enter.

| file | written by | says |
|---|---|---|
| `lock` | the node | held while it runs: one node for each folder |
| `paused` | `aegis node pause` | use is halted until `aegis node resume` takes the file away, over restarts too |
| `stop` | `aegis node stop` | end gracefully; names the process that is meant |
| `status.json` | the node | what `aegis node status` shows |
| `claim.json` | the node | the task it works on, so that a restart can answer for it |
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, Self

from aegis_flower.errors import NodeError
from aegis_flower.files import write_atomically


class Control:
    """The folder of one node's orders.

    Raises:
        NodeError: the folder is another user's, or others may enter it.
    """

    def __init__(self, folder: Path, *, make: bool = True) -> None:
        self.folder = folder
        self._lock: int | None = None
        if make:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            found = folder.lstat()
        except FileNotFoundError:
            raise NodeError(f"{folder} does not exist: no node with this NODE.TOML has ever run here") from None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise NodeError(f"{folder} must be this user's, with mode 0700: whoever writes there may stop the node")

    # -- one node a folder ---------------------------------------------------------------------------------------------------

    def take(self) -> Self:
        """Takes the folder for this process, until `release` or its end.

        Raises:
            NodeError: another process runs this node.
        """
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise NodeError(f"this node runs already (process {self._owner()}); its folder is {self.folder}") from None
        self._lock = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self.file("stop").unlink(missing_ok=True)  # an order to a process that is gone
        return self

    def release(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def running(self) -> int | None:
        """The process that runs this node; None where there is none."""
        descriptor = self._open_lock()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return self._owner() or -1
        finally:
            os.close(descriptor)
        return None

    def _open_lock(self) -> int:
        return os.open(self.file("lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def _owner(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(self.file("lock").read_text())
        return 0

    # -- orders -----------------------------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether use is halted."""
        return os.path.lexists(self.file("paused"))

    def pause(self) -> None:
        """Halts all use, from now on and after a restart."""
        write_atomically({self.file("paused"): json.dumps({"at": int(time.time())}).encode()})

    def resume(self) -> None:
        """Lets use go on."""
        self.file("paused").unlink(missing_ok=True)

    @property
    def stopping(self) -> bool:
        """Whether this process is asked to end."""
        try:
            return int(self.file("stop").read_text()) == os.getpid()
        except (OSError, ValueError):
            return False

    def stop(self, process: int) -> None:
        """Asks a process that runs this node to end."""
        write_atomically({self.file("stop"): str(process).encode()})

    # -- what the node says -----------------------------------------------------------------------------------------------------

    def say(self, status: dict[str, Any]) -> None:
        """Writes the status."""
        write_atomically({self.file("status.json"): json.dumps(status).encode()})

    def status(self) -> dict[str, Any]:
        """The status that was written last; empty where there is none."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.file("status.json").read_bytes())
            return found if isinstance(found, dict) else {}
        return {}

    def file(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name
