"""What is made from the code is as the code makes it: `make generated` writes it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from generated import ROOT, between, files
from test_layers import rooms

from aegis_flower.configs import run_config
from aegis_flower.node.keys import KEYS
from aegis_flower.service.keys import SERVICE_KEYS

FILES = files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_committed_file_is_what_the_code_makes_of_it(path: Path) -> None:
    assert path.read_bytes() == FILES[path].encode(), f"{path.relative_to(ROOT)} is out of date: make generated"


def test_text_around_a_table_stays() -> None:
    text = "before\n<!-- generated: a -->\n\nold\n\n<!-- end -->\nafter <!-- end -->\n"
    assert between(text, "a", "new") == text.replace("old", "new")
    with pytest.raises(ValueError, match="must stand there once"):
        between(text, "b", "new")


def texts(file: Path) -> Iterator[str]:
    """Every text of a file's code, those in f-strings too, but no docstring."""
    tree = ast.parse(file.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    yield from (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    )


def test_a_key_of_a_node_or_run_config_is_written_in_one_place() -> None:
    own = {run_config.CARRIED, run_config.EXPERIMENT, run_config.OVERRIDES, run_config.OUTPUT}
    home = {
        **dict.fromkeys(KEYS, "node.keys"),
        **dict.fromkeys(SERVICE_KEYS, "service.keys"),
        **dict.fromkeys(own, "configs.run_config"),
    }
    key = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, home))})(?![\w-])")
    found = {
        f"{name}: {each}"
        for name, file in rooms().items()
        for text in texts(file)
        for each in key.findall(text)
        if name != home[each]
        and name != "configs.schema"  # whose sentences are for docs/CONFIG.md
        and (name, each) != ("approval.signed", "aegis-approvals")  # the first word of the list of approvals
    }
    assert found == set()
    used = {
        each
        for name in ("node.keys", "service.keys", "configs.run_config")
        for each in key.findall(" ".join(texts(rooms()[name])))
    }
    assert used == set(home)
