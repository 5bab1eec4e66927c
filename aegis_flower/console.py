"""Console: output that never costs a run. What cannot be written or encoded is left out, and training goes on."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


# Signs of ours in ASCII, for streams that are not UTF-8: what reads along there seldom agrees on the rest.
_ASCII = str.maketrans(
    {
        "ε": "eps",
        "δ": "delta",
        "σ": "sigma",
        "≤": "<=",
        "±": "+/-",
        "·": "-",
        "–": "-",
        "\u202f": " ",
        "…": "...",
        "✕": "x",
        "§": "S.",
    }
)


class Tolerant:
    """A text stream in front of another: on one that is not UTF-8, signs are words and what it cannot encode becomes ``?``; after
    an error it writes nothing more.

    A closed pipe (``| head``) or a full disk under the log file is a reader's matter, not the run's.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self._stream = stream
        self.broken = stream is None

    def write(self, text: str) -> int:
        """Writes as much as can be."""
        length = len(text)
        if not self.encoding.lower().startswith("utf"):
            text = text.translate(_ASCII)
        if not self.broken and self._stream is not None:
            try:
                self._stream.write(text)
            except UnicodeError:
                encoding = self.encoding
                with self._forgiving():
                    self._stream.write(text.encode(encoding, "replace").decode(encoding, "replace"))
            except (OSError, ValueError):  # ValueError: the stream was closed
                self._break()
        return length

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes, where there is something to flush to."""
        if not self.broken and self._stream is not None:
            with self._forgiving():
                self._stream.flush()

    @property
    def encoding(self) -> str:
        """That of the stream."""
        return getattr(self._stream, "encoding", None) or "ascii"

    @property
    def errors(self) -> str:
        """As text streams have it."""
        return "replace"

    def isatty(self) -> bool:
        """Whether a terminal reads along."""
        with contextlib.suppress(OSError, ValueError):
            return not self.broken and self._stream is not None and self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor.

        Raises:
            OSError: there is none any more.
        """
        if self.broken or self._stream is None:
            raise OSError("no descriptor")
        return self._stream.fileno()

    def close(self) -> None:
        """Flushes; the stream behind is the process's, and stays open."""
        self.flush()

    def __getattr__(self, name: str) -> Any:
        """What else a text stream has, such as ``buffer``, is the stream's own, errors and all."""
        if name.startswith("_"):  # of this object itself, which may be half made, as in a copy
            raise AttributeError(name)
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _forgiving(self) -> Any:
        try:
            yield
        except (OSError, ValueError):
            self._break()

    def _break(self) -> None:
        """Python flushes at exit once more, and would then fail: what is left goes nowhere."""
        self.broken = True
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.dup2(nowhere, self._stream.fileno())  # type: ignore[union-attr]
            finally:
                os.close(nowhere)


def tolerate() -> None:
    """Puts a `Tolerant` stream in front of this process's standard output and error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Tolerant):
            setattr(sys, name, Tolerant(stream))


def console(*, stderr: bool = False) -> Console:
    """A console whose output never fails."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream if isinstance(stream, Tolerant) else Tolerant(stream))  # type: ignore[arg-type]


class _Quiet:
    """Which of a logger's levels holds, of those that runs in several threads ask for: the highest, and at the end its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, list[int]] = {}
        self._own: dict[str, int] = {}

    def ask(self, name: str, level: int) -> None:
        with self._lock:
            if not self._asked.get(name):
                self._own[name] = logging.getLogger(name).level
            self._asked.setdefault(name, []).append(level)
            self._set(name)

    def let_go(self, name: str, level: int) -> None:
        with self._lock:
            self._asked[name].remove(level)
            self._set(name)

    def _set(self, name: str) -> None:
        logging.getLogger(name).setLevel(max(self._asked[name], default=self._own[name]))


_QUIET = _Quiet()


@contextlib.contextmanager
def quiet(**levels: int) -> Iterator[None]:
    """Keeps loggers' lines below a level off the screen for a while; then they are as they were, whoever else was quiet then.

    Only for a while, since the process may be somebody else's: a notebook, a sweep's worker, a test.

    Args:
        levels: by the loggers' names.
    """
    importlib.import_module(
        "flwr.supercore.logger"
    )  # sets the level of Flower's logger when first imported: ours must come after
    with contextlib.ExitStack() as stack:
        for name, level in levels.items():
            _QUIET.ask(name, level)
            stack.callback(_QUIET.let_go, name, level)
        yield
