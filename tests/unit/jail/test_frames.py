"""Frames and inputs: of fixed size, exact both ways, sealed."""

import os
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from aegis_flower.jail import frames
from aegis_flower.jail.frames import Ended, Order, Report
from aegis_flower.jail.inputs import Work, region

UINT = st.integers(0, 2**64 - 1)
ORDERS = st.builds(Order, st.integers(0, 2**32 - 1), UINT, st.floats(0, 1e9), UINT, UINT, UINT, UINT, UINT)


@given(ORDERS)
def test_an_order_reads_as_it_was_written(order):
    assert Order.unpack(order.pack()) == order


@given(st.binary(max_size=200))
def test_bytes_of_another_size_are_no_frame(data):
    for kind in (Order, Report):
        if len(data) != kind.FORM.size:
            with pytest.raises(ValueError, match="bytes in place of"):
                kind.unpack(data)


def test_a_frame_has_no_room_for_words():
    assert Report.FORM.size == 13
    assert len(Ended) == 5


def test_descriptors_travel_with_a_frame_and_no_more_than_three_are_taken():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        frames.send(ours, Report(1, 0, 0.0), [0, 1, 2])
        data, taken = frames.receive(theirs, Report.FORM.size)
        assert (Report.unpack(data).number, len(taken)) == (1, 3)
        assert not any(os.get_inheritable(fd) for fd in taken)
        for fd in taken:
            os.close(fd)
        frames.send(ours, Report(2, 0, 0.0), [0, 1, 2, 0, 1])
        _, taken = frames.receive(theirs, Report.FORM.size)
        assert len(taken) <= 4  # what the alignment of the control message leaves room for
        for fd in taken:
            os.close(fd)


NUMBERS = st.sampled_from(["?", "u1", "i4", "<i8", "<f4", "<f8", ">f4"]).flatmap(
    lambda kind: arrays.arrays(np.dtype(kind), arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5))
)


@given(
    st.dictionaries(st.text(max_size=8), NUMBERS, max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
def test_work_reads_as_it_was_sealed(rows, settings):
    work = Work("a:b", {"w": np.ones((2, 2), np.float32)}, rows, settings)
    fd = work.sealed()
    try:
        read = Work.mapped(fd)
    finally:
        os.close(fd)
    assert (read.entry, read.settings, list(read.rows)) == ("a:b", settings, list(rows))
    for name, values in rows.items():
        assert read.rows[name].dtype == values.dtype
        np.testing.assert_array_equal(read.rows[name], values)


def test_sealed_memory_cannot_be_written_grown_or_unsealed():
    fd = Work("a:b", {"w": np.ones(4, np.float32)}).sealed()
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 1 << 20)
    finally:
        os.close(fd)


def test_the_region_of_an_answer_keeps_its_size():
    fd = region(64)
    try:
        for size in (63, 65):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        assert os.pwrite(fd, b"x" * 64, 0) == 64
    finally:
        os.close(fd)
