"""Inputs: a task's rows, model and settings in one sealed piece of memory, and the region its answer comes back in."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

_LENGTH: Final = struct.Struct("<Q")
_ALIGNED: Final = 64  # bytes, for vector instructions
_NOEXEC_SEAL: Final = 0x0008  # memfd_create(2)
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
KINDS: Final = frozenset("biufU")  # numbers, flags and texts of a fixed width: nothing that would have to be unpickled


@dataclass(frozen=True)
class Work:
    """What a task is to do.

    Attributes:
        entry: ``module:function`` of the app. It is called as ``function(parameters, rows, settings)`` and returns arrays of the
            parameters' shapes, in their order.
        parameters: the model's arrays by name, float32.
        rows: arrays by name, a row in each along the first axis; of numbers, flags, or texts of a fixed width (``U``).
        settings: numbers, flags and texts that the operator approved.
    """

    entry: str
    parameters: Arrays
    rows: Arrays = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the answer."""
        return 4 * sum(a.size for a in self.parameters.values())

    def sealed(self) -> int:
        """A descriptor of memory that nobody can change any more.

        Raises:
            TypeError: an array is not of numbers, flags or texts.
        """
        arrays = {f"p{i}": a for i, a in enumerate(self.parameters.values())}
        arrays |= {f"r{i}": a for i, a in enumerate(self.rows.values())}
        places, at = {}, 0
        for key, values in arrays.items():
            if values.dtype.kind not in KINDS:
                raise TypeError(f"arrays of numbers, flags or texts go into a jail, not of {values.dtype}")
            places[key] = (values.dtype.str, values.shape, at)
            at += -(-values.nbytes // _ALIGNED) * _ALIGNED
        head = json.dumps(
            {
                "entry": self.entry,
                "parameters": list(self.parameters),
                "rows": list(self.rows),
                "settings": dict(self.settings),
                "places": places,
            }
        ).encode()
        start = -(-(_LENGTH.size + len(head)) // _ALIGNED) * _ALIGNED
        fd = os.memfd_create("aegis_inputs", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _NOEXEC_SEAL)
        try:
            os.ftruncate(fd, start + at)
            _write(fd, _LENGTH.pack(len(head)) + head, 0)
            for key, values in arrays.items():
                _write(fd, np.ascontiguousarray(values).reshape(-1).view(np.uint8), start + places[key][2])
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_WRITE)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @classmethod
    def mapped(cls, fd: int) -> Work:
        """The work in sealed memory. The arrays are views of it, and cannot be written to."""
        size = os.fstat(fd).st_size
        memory = memoryview(mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ))
        (length,) = _LENGTH.unpack(memory[: _LENGTH.size])
        head = json.loads(bytes(memory[_LENGTH.size : _LENGTH.size + length]))
        start = -(-(_LENGTH.size + length) // _ALIGNED) * _ALIGNED

        def array(key: str) -> npt.NDArray[Any]:
            dtype, shape, at = head["places"][key]
            count = int(np.prod(shape, dtype=np.int64))
            return np.frombuffer(memory, np.dtype(dtype), count, start + at).reshape(shape)

        parameters = {name: array(f"p{i}") for i, name in enumerate(head["parameters"])}
        rows = {name: array(f"r{i}") for i, name in enumerate(head["rows"])}
        return cls(head["entry"], parameters, rows, head["settings"])


def region(size: int) -> int:
    """A descriptor of shared memory of exactly so many bytes, zero, that can neither grow nor shrink."""
    fd = os.memfd_create("aegis_answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | _NOEXEC_SEAL)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write(fd: int, data: Any, at: int) -> None:
    left = memoryview(data)
    while left:
        done = os.pwrite(fd, left, at)
        left, at = left[done:], at + done
