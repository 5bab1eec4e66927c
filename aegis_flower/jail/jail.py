"""The node's side of a jail: starts the warm parent, hands it work, takes back one array."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from aegis_engine.errors import JailError

from aegis_engine import _native
from aegis_flower.jail import frames
from aegis_flower.jail.frames import Ended, Order, Report
from aegis_flower.jail.inputs import Work, region
from aegis_flower.jail.setup import Setup, python_path, readable

LAYERS: Final = tuple(_native.jail_layers())
LOG_BYTES: Final = 64 << 10  # of a task's words that are kept; the rest is read and dropped
_START_SECONDS: Final = 120.0  # torch's import on a busy machine
_GRACE: Final = 30.0  # seconds after a task's deadline in which the parent must have said that it ended
_COMPUTING: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)
_MAIN: Final = "import sys; sys.path[:] = sys.argv[2:]; from aegis_flower.jail.parent import main; main(sys.argv[1])"


@dataclass(frozen=True)
class Limits:
    """What a task may use. Beyond it, an allocation or a thread fails, or the kernel ends the task.

    Attributes:
        seconds: from its start to its end.
        cpu_seconds: of all its threads together.
        memory: bytes of address space.
        threads: of all tasks of the jail together.
        scratch: bytes of its scratch folder ``/scratch``, which is gone afterwards.
        files: open ones.
    """

    seconds: float = 600.0
    cpu_seconds: int = 3600
    memory: int = 16 << 30
    threads: int = 64
    scratch: int = 64 << 20
    files: int = 256


@dataclass(frozen=True)
class Result:
    """What came of a task.

    Attributes:
        ended: how it ended. A node tells a server no more than a code.
        update: the array it wrote, flat; None unless it is done. Its values are the app's: nothing is known of them.
        cpu_seconds: it used.
        log: what it printed, cut; for the node's own log.
    """

    ended: Ended
    update: npt.NDArray[np.float32] | None
    cpu_seconds: float
    log: str


class Jail:
    """A warm parent and its tasks, one at a time.

    Guarantees, against an app that does what it likes:
        - Of a task comes back: `Result.update`, of exactly the size that was asked for; how it ended; what it printed, for the
          node's log; how long it took, and the CPU it used.
        - It reads Python, its packages, the system's libraries, its own folder and its inputs; no other file, process or network.
        - Nothing of it is left when `run` returns: no process, no file, no memory that the next task could find.

    Not guaranteed: that `update` tells little of the rows (the engine clips and noises it), that timing and success tell nothing,
    that the kernel has no fault.

    Args:
        app: folder of the app's code.
        preload: modules that the warm parent imports, so that tasks start quickly.
        more: further files and folders that tasks may read.
        without: layers to leave out, for tests of the others.

    Raises:
        JailError: the kernel does not give a layer.
    """

    def __init__(
        self,
        app: str | Path,
        *,
        preload: Iterable[str] = ("numpy",),
        more: Iterable[str | Path] = (),
        without: Iterable[str] = (),
    ) -> None:
        layers = tuple(name for name in LAYERS if name not in set(without))
        if "namespaces" not in layers:  # a mount would be one of the host's
            layers = tuple(name for name in layers if name != "view")
        self.layers = layers
        folder = Path(app).resolve()
        if not folder.is_dir():
            raise JailError(f"{folder}: there is no such folder of an app", "AEG-J002")
        self._number = 0
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path = python_path()
        setup = Setup(
            control=theirs.fileno(),
            app=str(folder),
            readable=readable(folder, tuple(Path(p) for p in more)),
            path=path,
            preload=tuple(preload),
            layers=layers,
        )
        self._control, self._words = ours, _Words()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-I", "-B", "-c", _MAIN, setup.text(), *path],
                stdin=subprocess.DEVNULL,
                stdout=self._words.fd,
                stderr=self._words.fd,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
        self._words.let_go()
        self._expect(0, _START_SECONDS)

    def run(self, work: Work, limits: Limits | None = None) -> Result:
        """Runs one task. Only numbers go in and come out; see the class for what is guaranteed.

        Raises:
            JailError: the jail itself failed, and was ended: no app is at fault.
            TypeError: the work holds arrays of other things than numbers.
        """
        limits = limits or Limits()
        self._number += 1
        size = work.size
        inputs, output, words = work.sealed(), region(size or 1), _Words()
        try:
            order = Order(
                self._number,
                size,
                limits.seconds,
                limits.cpu_seconds,
                limits.memory,
                limits.threads,
                limits.scratch,
                limits.files,
            )
            try:
                frames.send(self._control, order, [inputs, output, words.fd])
            except OSError as error:
                raise self._broken(f"its warm parent is gone: {error}") from None
            words.let_go()
            report = self._expect(self._number, limits.seconds + _GRACE)
            ended = Ended(report.ended)
            if ended is Ended.UNCONFINED:
                raise self._broken(f"a task could not be confined:\n{words.text()}")
            update = _read(output, size) if ended is Ended.DONE else None
            return Result(ended, update, report.cpu, words.text())
        finally:
            words.let_go()
            os.close(inputs)
            os.close(output)

    def _expect(self, number: int, seconds: float) -> Report:
        self._control.settimeout(seconds)
        try:
            data, descriptors = frames.receive(self._control, Report.FORM.size)
        except OSError:
            data, descriptors = b"", []
        for fd in descriptors:  # nobody of ours sends any
            os.close(fd)
        try:
            report = Report.unpack(data)
        except ValueError:
            report = None
        if report is None or descriptors or report.number != number or report.ended not in tuple(Ended):
            self.close()
            raise self._broken(self._words.text() or "its warm parent does not answer")
        return report

    def _broken(self, why: str) -> JailError:
        self.close()
        return JailError(f"the jail failed: {why.strip()[-2000:]}", "AEG-J004")

    @property
    def alive(self) -> bool:
        """Whether the warm parent runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends the warm parent at once, from any thread: `run` of a task that runs raises. `close` comes all the same."""
        self._process.kill()

    def close(self) -> None:
        """Ends the warm parent, and with it everything in its namespaces."""
        self._control.close()
        if self._process.poll() is None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.send_signal(signal.SIGKILL)
                self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Words:
    """A pipe that is read to its end, of which the first bytes are kept."""

    def __init__(self) -> None:
        out, self.fd = os.pipe2(os.O_CLOEXEC)
        self._kept = bytearray()
        self._open = True
        self._reader = threading.Thread(target=self._read, args=(out,), daemon=True)
        self._reader.start()

    def _read(self, out: int) -> None:
        with os.fdopen(out, "rb", buffering=0) as pipe:
            while part := pipe.read(1 << 16):
                self._kept += part[: LOG_BYTES - len(self._kept)]

    def let_go(self) -> None:
        """Closes the node's own end for writing."""
        if self._open:
            self._open = False
            os.close(self.fd)

    def text(self) -> str:
        """What was kept, once everybody has let go."""
        self.let_go()
        self._reader.join(1.0)
        return bytes(self._kept).decode("utf-8", "replace")


def _environment() -> dict[str, str]:
    """Nothing of the node's own but how to compute: other variables may hold keys."""
    kept = {name: os.environ[name] for name in _COMPUTING if name in os.environ}
    # torch asks for a folder of its compiler's cache when it is imported; the warm parent has none of its own
    home = {
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "TORCHINDUCTOR_CACHE_DIR": "/scratch",
        "USER": "app",
        "LOGNAME": "app",
    }
    return {"LANG": "C.UTF-8", **home, **kept}


def _read(output: int, size: int) -> npt.NDArray[np.float32]:
    if not size:
        return np.empty(0, np.float32)
    with mmap.mmap(output, size, prot=mmap.PROT_READ) as memory:
        return np.frombuffer(memory, np.float32).copy()
