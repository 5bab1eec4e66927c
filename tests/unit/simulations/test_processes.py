"""Ports of a deployment's processes: between choosing one and listening on it, another program may take it."""

import socket
import time

import pytest

from aegis_flower.errors import DeploymentError
from aegis_flower.simulations.flower import processes as programs
from aegis_flower.simulations.flower.processes import Process, Processes

HOST = "127.0.0.1"


@pytest.fixture
def processes(tmp_path):
    processes = Processes(tmp_path)
    yield processes
    processes.stop()


@pytest.fixture
def taken():
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def serving(process: Process) -> bool:
    return "Serving HTTP" in process.text()


def test_a_process_whose_port_was_taken_starts_on_another(processes, taken):
    ports = []

    def start(port: int) -> Process:
        ports.append(port)
        return processes.start("server", ["python", "-m", "http.server", "--bind", HOST, str(port)])

    process = processes.listen(start, serving, time.monotonic() + 60, start(taken))

    assert ports[0] == taken
    assert ports[1] not in (taken, *range(32768, 61000))  # a connection of anybody's gets no port of ours
    with socket.create_connection((HOST, ports[1]), timeout=5):
        assert process.popen.poll() is None
    assert len(list(processes.folder.glob("server*.log"))) == 2  # what the first said is kept


def test_a_process_that_ends_for_another_reason_is_not_started_again(processes):
    starts = []

    def start(port: int) -> Process:
        starts.append(port)
        return processes.start("server", ["python", "-c", "raise SystemExit('out of luck')"])

    with pytest.raises(DeploymentError, match="exited with code 1 before it was ready"):
        processes.listen(start, serving, time.monotonic() + 60, start(1))
    assert starts == [1]


def test_when_every_port_is_taken_the_error_says_so(processes, taken, monkeypatch):
    monkeypatch.setattr(programs, "free_port", lambda: taken)

    def start(port: int) -> Process:
        return processes.start("server", ["python", "-m", "http.server", "--bind", HOST, str(port)])

    with pytest.raises(DeploymentError, match=r"(?i)address already in use"):
        processes.listen(start, serving, time.monotonic() + 60, start(taken))
