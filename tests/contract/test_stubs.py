"""The stub of the native module: every return is typed, every name has a docstring, every typed dictionary is what comes."""

from __future__ import annotations

import ast
import typing
from pathlib import Path

import pytest

import aegis_engine
from aegis_engine import Vault, audit_read, audit_verify, doctor, types

STUBS = sorted((Path(aegis_engine.__file__).parent).glob("_*.pyi"))
KEY = bytes(range(32))
FUNCTIONS = [
    pytest.param(node, id=f"{stub.stem}.{node.name}.{node.lineno}")
    for stub in STUBS
    for node in ast.walk(ast.parse(stub.read_text()))
    if isinstance(node, ast.FunctionDef)
]


def test_no_return_is_an_untyped_dictionary() -> None:
    assert len(STUBS) == 8
    assert len(FUNCTIONS) > 200
    returns = [ast.unparse(p.values[0].returns or ast.Constant(None)) for p in FUNCTIONS]
    assert not [r for r in returns if "dict[str, Any]" in r]


def test_every_function_of_the_stub_says_what_it_does() -> None:
    assert not [p.id for p in FUNCTIONS if not ast.get_docstring(p.values[0])]


def fits(value: object, kind: object) -> None:
    hints = typing.get_type_hints(kind)
    assert isinstance(value, dict)
    assert set(value) == set(hints)
    for name, hint in hints.items():
        if typing.is_typeddict(hint):
            fits(value[name], hint)
        elif typing.get_origin(hint) is list and typing.is_typeddict(typing.get_args(hint)[0]):
            for one in value[name]:
                fits(one, typing.get_args(hint)[0])


def test_receipts_reports_and_facts_have_the_fields_of_their_types(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "v", KEY)
    stored = [vault.store_bytes(b"x", f"n{i}") for i in range(2)]
    vault.backup_keystore(tmp_path / "copy", aegis_engine.KeyProvider.raw(KEY))
    fits(vault.list()[0], types.ObjectInfo)
    fits(vault.stat(stored[0]), types.ObjectInfo)
    receipt = vault.shred(stored[0])
    fits(receipt, types.ShredReceipt)
    assert len(receipt["copies"]) == 1
    fits(vault.scrub(), types.ScrubReport)
    (tmp_path / "v/objects/.DS_Store").write_text("of a desktop")
    report = Vault.fsck(tmp_path / "v", KEY)
    fits(report, types.FsckReport)
    assert len(report["findings"]) == 1
    for fact in doctor(tmp_path / "v"):
        fits(fact, types.MachineFact)
    fits(audit_verify(tmp_path / "v/audit"), types.AuditReport)
    assert all({"event", "time", "seq", "hash"} <= set(record) for record in audit_read(tmp_path / "v/audit"))
