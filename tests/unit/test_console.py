"""Output that fails costs a run nothing; the first signal unwinds, the second one kills; a folder belongs to one run."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aegis_flower.console import Tolerant, console, quiet
from aegis_flower.files import claim
from aegis_flower.interrupts import Interrupted, watched


@pytest.mark.parametrize(("encoding", "clinic"), [("ascii", b"M?ller"), ("latin-1", b"M\xfcller")])
def test_signs_are_words_where_a_stream_is_not_utf_8_and_what_it_cannot_encode_is_replaced(
    encoding: str, clinic: bytes
) -> None:
    raw = io.BytesIO()
    out = Tolerant(io.TextIOWrapper(raw, encoding=encoding))
    assert out.write("ε ≤ 3 ± 1 · Müller 測\n") == 21
    out.flush()
    assert raw.getvalue() == b"eps <= 3 +/- 1 - " + clinic + b" ?\n"
    assert not out.broken


def test_a_closed_pipe_breaks_the_stream_and_nothing_else() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w", encoding="utf-8", buffering=1) as file:
        os.close(read)
        out = Tolerant(file)
        for _ in range(3):
            out.write("lines nobody reads\n")
            out.flush()
        assert out.broken
        assert not out.isatty()
        out.write("more\n")


def test_a_console_without_any_stream_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", None)
    console().print("to nobody")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_unwinds_and_leaves_the_second_to_kill(number: signal.Signals, code: int) -> None:
    # What runs in the background may have been started with SIGINT ignored, which stays so.
    started_with = signal.signal(number, signal.default_int_handler)
    before = signal.getsignal(number)
    with watched() as watch:
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(number)
        assert caught.value.exit_code == code
        assert watch.signum == number
        assert signal.getsignal(number) is signal.SIG_DFL
    assert signal.getsignal(number) == before
    signal.signal(number, started_with)


def test_outside_the_main_thread_no_handler_is_touched() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with watched():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_each_of_many_runs_that_start_at_once_has_a_folder_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim(tmp_path / "2026-11-28_10-00-00"), range(8)))
    assert len(set(folders)) == 8
    assert (tmp_path / "2026-11-28_10-00-00") in folders


def test_training_gives_no_logger_a_second_handler() -> None:
    """Opacus gives the root logger one when it is imported: every line of Flower's was printed twice."""
    code = "import logging, flwr.supercore.logger, aegis_flower.train; print(logging.root.handlers)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["[]"]


@pytest.mark.parametrize("ends", itertools.permutations(range(3)))
def test_a_logger_is_as_it_was_in_whatever_order_those_end_who_were_quiet_at_once(ends) -> None:
    logger = logging.getLogger("aegis.test-of-quiet")
    logger.setLevel(logging.INFO)
    levels = [logging.WARNING, logging.CRITICAL, logging.WARNING]
    held = [quiet(**{logger.name: level}) for level in levels]
    for one in held:
        one.__enter__()
    left = list(levels)
    for end in ends:
        assert logger.level == max(left)
        held[end].__exit__(None, None, None)
        left.remove(levels[end])
    assert logger.level == logging.INFO


def test_a_logger_is_as_it_was_after_an_error() -> None:
    logger = logging.getLogger("aegis.test-of-quiet")
    logger.setLevel(logging.DEBUG)
    with contextlib.suppress(ZeroDivisionError), quiet(**{logger.name: logging.CRITICAL}):
        assert logger.level == logging.CRITICAL
        raise ZeroDivisionError
    assert logger.level == logging.DEBUG


def test_whatever_a_text_stream_has_is_there(tmp_path: Path) -> None:
    stream = (tmp_path / "output").open("w")
    tolerant = Tolerant(stream)
    assert [name for name in dir(stream) if not name.startswith("_") and not hasattr(tolerant, name)] == []
    tolerant.write("a")
    tolerant.flush()
    tolerant.buffer.write(b"b")
    tolerant.close()
    assert not stream.closed
    assert (tmp_path / "output").read_bytes() == b"ab"
    stream.close()


def test_a_stream_that_is_not_there_has_nothing_else() -> None:
    assert not hasattr(Tolerant(None), "buffer")
