"""The card of a data set: a Markdown table whatever the schema's own words are."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from test_importing import SCHEMA, TERMS, lines, written

from aegis_engine import Vault
from aegis_flower.cli.cards import data_card
from aegis_flower.data.schema import Column, Schema
from aegis_flower.importer import add


def test_a_bar_or_a_line_break_in_a_unit_or_a_level_stays_in_its_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schema = Schema(
        columns={
            **SCHEMA.columns,
            "age": Column(kind="integer", low=0, high=120, unit="years | months", about="age\nat admission"),
            "ward": dataclasses.replace(SCHEMA.columns["ward"], unit="a|b"),
        }
    )
    key = tmp_path / "vault.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    vault = Vault.create(tmp_path / "vault", key.read_bytes())
    vault.govern("core")
    add(vault, written(tmp_path / "rows.csv", lines(0, 40)), "patients", schema, TERMS)
    del vault
    data_card(vault=tmp_path / "vault", name="patients", key_file=key)
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert len(table) >= 5
    for line in table:
        assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
    assert "years \\| months; age at admission" in printed
    assert "a\\|b" in printed
