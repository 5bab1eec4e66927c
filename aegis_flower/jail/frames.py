"""Frames: what node and warm parent say to each other. Of fixed size and type: there is no room for text."""

from __future__ import annotations

import array
import enum
import socket
import struct
from dataclasses import astuple, dataclass
from typing import ClassVar, Self

DESCRIPTORS = 3  # inputs, output, log


class Ended(enum.IntEnum):
    """How a task ended."""

    DONE = 0
    FAILED = 1  # it raised, or gave something else than it was asked for
    KILLED = 2  # by a signal: its own fault, or a limit of memory or CPU
    LATE = 3  # its time was up
    UNCONFINED = 4  # a layer of the jail could not be put up, so no app ran


class _Frame:
    FORM: ClassVar[struct.Struct]

    def pack(self) -> bytes:
        """The frame's bytes."""
        return self.FORM.pack(*astuple(self))  # type: ignore[call-overload]

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """A frame of its bytes.

        Raises:
            ValueError: they are not of its size.
        """
        if len(data) != cls.FORM.size:
            raise ValueError(f"a frame of {len(data)} bytes in place of {cls.FORM.size}")
        return cls(*cls.FORM.unpack(data))


@dataclass(frozen=True)
class Order(_Frame):
    """From the node: run a task. Its three descriptors come along.

    Attributes:
        number: of the task.
        size: bytes of the output.
        seconds: it may take.
        cpu_seconds, memory, threads, scratch, files: see `aegis_flower.jail.Limits`.
    """

    FORM: ClassVar[struct.Struct] = struct.Struct("<IQdQQQQQ")
    number: int
    size: int
    seconds: float
    cpu_seconds: int
    memory: int
    threads: int
    scratch: int
    files: int


@dataclass(frozen=True)
class Report(_Frame):
    """From the warm parent: a task has ended, and nothing of it runs any more. Number 0: the parent is ready.

    Attributes:
        number: of the task.
        ended: an `Ended`.
        cpu: seconds of CPU it used.
    """

    FORM: ClassVar[struct.Struct] = struct.Struct("<IBd")
    number: int
    ended: int
    cpu: float


def send(to: socket.socket, frame: _Frame, descriptors: list[int] | None = None) -> None:
    """Sends a frame, and descriptors with it."""
    carried = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())] if descriptors else []
    to.sendmsg([frame.pack()], carried)


def receive(of: socket.socket, size: int) -> tuple[bytes, list[int]]:
    """A frame's bytes, empty at the end, and the descriptors that came along."""
    space = socket.CMSG_SPACE(DESCRIPTORS * array.array("i").itemsize)
    data, carried, _, _ = of.recvmsg(size + 1, space, socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, values in carried:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(values[: len(values) - len(values) % found.itemsize])
    return data, list(found)
