"""A budget belongs to people, not to a name: whatever the data set is called and however often it is stored anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aegis_engine.errors import AegisError, VaultError, VaultTampered

from aegis_engine import Vault
from aegis_flower.ingest import Terms, ingest
from aegis_flower.ledger import Ledger

TERMS = Terms(purposes=["research"])


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(str(tmp_path / "v"), key=bytes(32))
    made.govern("core")
    return made


def take_in(vault: Vault, name: str, people: list[str], **more: Any) -> str:
    return ingest(vault, name, {"x": np.zeros((len(people), 2), np.float32)}, people, TERMS, **more)


def test_a_rename_and_a_reencryption_keep_the_lineage(vault: Vault) -> None:
    first = take_in(vault, "a", ["p", "q"])
    lineage = vault.lineage("a")
    assert len(lineage) == 32
    vault.rename(first, "b")
    assert vault.lineage("b") == lineage
    again = str(vault.reencrypt(first))
    assert again != first
    assert vault.lineage(again) == vault.lineage("b") == lineage


@pytest.mark.parametrize("end", ["live", "shredded", "renamed", "other process"])
def test_one_person_in_common_goes_on_with_the_lineage(vault: Vault, end: str) -> None:
    first = take_in(vault, "a", ["p", "q"])
    lineage = vault.lineage("a")
    if end == "shredded":
        vault.shred(first)
    elif end == "renamed":
        vault.rename(first, "z")
    elif end == "other process":
        vault = Vault.open(vault.path, key=bytes(32))
    take_in(vault, "b", ["q", "r"])
    assert vault.lineages("b") == [lineage]
    take_in(vault, "c", ["r"])
    assert vault.lineages("c") == [lineage]
    take_in(vault, "d", ["s"])
    assert vault.lineage("d") != lineage


def test_people_of_several_lineages_spend_all_of_them(vault: Vault) -> None:
    take_in(vault, "a", ["p"])
    take_in(vault, "b", ["q"])
    take_in(vault, "c", ["p", "q", "r"])
    both = [vault.lineage("a"), vault.lineage("b")]
    assert vault.lineages("c") == both
    take_in(vault, "d", ["r"])
    assert vault.lineages("d") == both


def test_a_holdout_has_a_lineage_of_its_own(vault: Vault) -> None:
    take_in(vault, "a", ["p", "q"])
    take_in(vault, "a.holdout", ["p", "q"])
    take_in(vault, "b", ["p"], role="holdout")
    assert vault.lineage("a.holdout") != vault.lineage("a")
    assert vault.lineage("b") == vault.lineage("a.holdout")


def test_a_person_in_another_spelling_is_the_same_person(vault: Vault) -> None:
    take_in(vault, "a", ["Jos\u00e9"])
    take_in(vault, "b", [" Jose\u0301 "])
    assert vault.lineage("b") == vault.lineage("a")


def test_a_lineage_that_the_steward_names_is_gone_on_with(vault: Vault) -> None:
    take_in(vault, "a", ["p"])
    terms = Terms(purposes=["research"], lineage=vault.lineage("a"))
    ingest(vault, "b", {"x": np.zeros(1)}, ["q"], terms)
    assert vault.lineage("b") == vault.lineage("a")
    take_in(vault, "c", ["q"])
    assert vault.lineage("c") == vault.lineage("a")
    with pytest.raises(VaultError, match="no lineage"):
        ingest(vault, "d", {"x": np.zeros(1)}, ["t"], Terms(purposes=["research"], lineage="ab" * 16))


@pytest.mark.parametrize("how", ["older", "gone"])
def test_an_older_register_put_back_is_found(vault: Vault, tmp_path: Path, how: str) -> None:
    take_in(vault, "a", ["p"])
    folder = Path(vault.path) / "lineage"
    shutil.copytree(folder, tmp_path / "older")
    take_in(vault, "b", ["q"])
    path = vault.path
    del vault
    shutil.rmtree(folder)
    if how == "older":
        shutil.copytree(tmp_path / "older", folder)
    with pytest.raises(VaultTampered, match="lineage") as error:
        take_in(Vault.open(path, key=bytes(32)), "c", ["q"])
    assert error.value.code == "AEG-P018"


def test_no_person_and_no_lineage_is_read_from_the_register_without_the_key(vault: Vault) -> None:
    take_in(vault, "a", ["patient-7"])
    raw = b"".join(f.read_bytes() for f in (Path(vault.path) / "lineage").iterdir())
    assert b"patient-7" not in raw
    assert vault.lineage("a").encode() not in raw


def test_a_data_set_that_cannot_say_whose_it_is_has_no_fresh_budget(vault: Vault) -> None:
    take_in(vault, "a", ["p", "q"])
    for file in Path(vault.path, "objects").rglob("*.enc"):
        data = bytearray(file.read_bytes())
        data[-5] ^= 1
        file.write_bytes(data)
    with pytest.raises(AegisError):
        Ledger(Vault.open(vault.path, key=bytes(32)), "a")
