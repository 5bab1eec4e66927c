"""Certificates and node keys for trials: private ones are their owner's alone, public ones may be handed out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aegis_flower.simulations.flower.certs import KeyFileExists, make_certificates, make_node_keys


def test_private_keys_are_their_owners_alone_and_what_is_handed_out_is_readable(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made, (node,) = make_certificates(tmp_path / "certs"), make_node_keys(tmp_path / "certs", 1)
    finally:
        os.umask(before)
    for file, mode in (
        (made.key, 0o600),
        (node.private, 0o600),
        (made.ca, 0o644),
        (made.certificate, 0o644),
        (node.public, 0o644),
    ):
        assert file.stat().st_mode & 0o777 == mode, file.name


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    make_node_keys(tmp_path, 2)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(KeyFileExists):
        make_certificates(tmp_path)
    with pytest.raises(KeyFileExists):
        make_node_keys(tmp_path, 3)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
