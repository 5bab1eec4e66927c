"""Facts on the permit: what the engine read for a decision is not read again in the round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aegis_engine.errors import VaultError
from by_hand import START, STRICT, ByHand, Server

from aegis_engine import Vault
from aegis_flower import wire
from aegis_flower.client import VaultClient
from aegis_flower.ledger import Ledger
from aegis_flower.node.node import close_nodes, open_node

ASKED = {"layout", "terms", "budget_epsilon", "explain", "lineages", "datasets", "list", "dataset"}


class Heard:
    """The engine, or the vault, with the names of what was asked of it."""

    def __init__(self, inner: Any, names: list[str]) -> None:
        self._inner, self._names = inner, names

    def __getattr__(self, name: str) -> Any:
        self._names.append(name)
        return getattr(self._inner, name)


def test_a_permit_has_the_terms_and_the_layout_of_its_data_set(governed: Any) -> None:
    engine, permit = governed.engine(), governed.permit()
    assert permit.facts == engine.terms(governed.dataset)
    assert permit.layout == engine.layout(governed.dataset)
    assert permit.facts["budget_epsilon"] == engine.budget_epsilon(governed.dataset)
    assert Ledger(governed.vault, governed.dataset).lineages == permit.facts["lineages"] != []


def test_facts_are_those_of_the_decision_whatever_comes_after(govern: Any) -> None:
    g = govern(budget_epsilon=3.0)
    permit = g.permit()
    g.vault.shred(g.dataset)
    assert permit.facts["budget_epsilon"] == 3.0


def test_an_owners_permit_has_no_facts(tmp_path: Path) -> None:
    vault = Vault.create(tmp_path / "vault", key_file=str(tmp_path / "key"), make_key=True)
    permit = vault.owner_permit(vault.store_bytes(b"a note", "note"))
    for name in ("facts", "layout"):
        with pytest.raises(VaultError, match="no policy bundle"):
            getattr(permit, name)


@pytest.mark.parametrize(("holdout", "sets"), [(None, 1), (STRICT, 2)])
def test_governance_rows_are_decrypted_once_in_a_round_and_not_in_the_next(
    tmp_path: Path, holdout: Any, sets: int
) -> None:
    """Admission, preflight, permit, ledger, rows, gates: one decryption of each data set that the round uses."""
    nodes = ByHand(tmp_path, holdout=holdout, node={"aegis-max-evaluations": 2})
    close_nodes()
    server = Server(nodes.cfg)
    for _ in range(2):
        found = nodes.round_(server, [1, 2, 3], noise_multiplier=nodes.sigma, evaluate=True)
        assert found.codes == {""}
        opened = [open_node(context, nodes.cfg) for context in nodes.contexts.values()]
        assert [node.vault.governance_reads for node in opened] == [sets] * 3


def test_nobody_asks_for_terms_layout_or_lineages_once_there_is_a_permit(tmp_path: Path) -> None:
    nodes = ByHand(tmp_path, nodes=1)
    context = nodes.contexts[1]
    node = open_node(context, nodes.cfg)
    names: list[str] = []
    node.engine, node.vault = Heard(node.engine, names), Heard(node.vault, names)
    client: VaultClient = nodes.client(node, nodes.cfg, context)
    client.respond(wire.Request(1, noise_multiplier=nodes.sigma, evaluate=True), START, ["w", "b"], masked=True)
    after = names[names.index("authorize") :]
    assert {"authorize", "gate"} <= set(after)
    assert not ASKED & set(after)
    assert names.count("terms") <= 4
