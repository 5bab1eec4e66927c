"""Holds the stubs of the native module against the module itself: ``python tests/stubtest.py``.

The stub is split by subject (``_vault.pyi``, ``_permits.pyi``, ...), which are no modules at run time. Here each gets one with
the names that its stub has, so that stubtest looks at them.
"""

from __future__ import annotations

import ast
import sys
import types
from pathlib import Path

import aegis_engine._native as native
from mypy.stubtest import parse_options, test_stubs

ALLOWED = Path(__file__).parent / "stubtest-allow.txt"
PACKAGE = Path(native.__file__).parent


def modules() -> list[str]:
    """The stub of the native module, and those that it is put together from."""
    names = [native.__name__]
    for stub in sorted(PACKAGE.glob("_*.pyi")):
        name = f"aegis_engine.{stub.stem}"
        if name == native.__name__:
            continue
        module = types.ModuleType(name)
        for node in ast.parse(stub.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                setattr(module, node.name, getattr(native, node.name))
        sys.modules[name] = module
        names.append(name)
    return names


if __name__ == "__main__":
    sys.exit(test_stubs(parse_options([*modules(), "--allowlist", str(ALLOWED), "--ignore-unused-allowlist"])))
