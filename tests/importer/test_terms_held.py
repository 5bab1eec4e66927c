"""What was promised and what was spent outlives every amendment, delivery, erasure and new import of the same people."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from aegis_engine.errors import AegisError

from aegis_engine import ComplianceEngine, Request, Vault
from aegis_flower.data.schema import Column, Schema
from aegis_flower.importer import add, extend, terms_file
from aegis_flower.ledger import Ledger, Mechanism
from aegis_flower.terms import Terms

SCHEMA = Schema(columns={"who": Column(kind="text", role="subject"), "x": Column(kind="integer")})
TERMS = Terms(purposes=["research"], min_rows=5, min_subjects=5, budget_epsilon=3.0)
DELTA = 1e-5


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    made = Vault.create(tmp_path / "vault", bytes(32))
    made.govern("core")
    return made


def csv(tmp_path: Path, *people: str) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text("who,x\n" + "".join(f"{who},{at}\n" for at, who in enumerate(people)))
    return path


def people(first: int = 0, count: int = 40) -> list[str]:
    return [f"p{first + at}" for at in range(count)]


def stored(vault: Vault, tmp_path: Path, name: str = "set", terms: Terms = TERMS, who: list[str] | None = None) -> None:
    add(vault, csv(tmp_path, *(who or people())), name, SCHEMA, terms, holdout=0, consent_given=True)


def facts(vault: Vault, name: str = "set", **changed: Any) -> dict[str, Any]:
    return {**vault.card(vault.datasets()[name])["facts"], **changed}


# -- what was spent ------------------------------------------------------------------------------------------------


def again(vault: Vault, tmp_path: Path, **terms: Any) -> str:
    vault.shred(vault.datasets()["set"])
    stored(vault, tmp_path, "other", dataclasses.replace(TERMS, **terms))
    return "other"


def delivered(vault: Vault, tmp_path: Path, who: list[str]) -> str:
    extend(vault, csv(tmp_path, *who), "set", SCHEMA, consent_given=True)
    return "set"


def amended(vault: Vault, **changed: Any) -> str:
    vault.amend(vault.datasets()["set"], facts=facts(vault, **changed), reason="a reason")
    return "set"


def erased(vault: Vault) -> str:
    for one in people()[:5]:
        vault.erase_person(one)
    return "set"


def only_one_in_common(vault: Vault, tmp_path: Path) -> str:
    vault.shred(vault.datasets()["set"])
    stored(vault, tmp_path, "other", who=[people()[7], *people(1000)])
    return "other"


STEPS: dict[str, Callable[[Vault, Path], str]] = {
    "one more row of somebody there": lambda v, t: delivered(v, t, people(count=1)),
    "one more person": lambda v, t: delivered(v, t, people(500, 1)),
    "a delivery of others": lambda v, t: delivered(v, t, people(500)),
    "a drop and another name": again,
    "a drop and another basis": lambda v, t: again(v, t, basis="public_task"),
    "a drop and another purpose": lambda v, t: again(v, t, purposes=["teaching"]),
    "a drop and a smaller budget": lambda v, t: again(v, t, budget_epsilon=1.0),
    "one person of many in another set": only_one_in_common,
    "an erasure": lambda v, t: erased(v),
    "a larger budget": lambda v, t: amended(v, budget_micro_epsilon=9_000_000),
    "a smaller delta": lambda v, t: amended(v, delta_femto=10**9),
}


@pytest.mark.parametrize("step", STEPS)
def test_what_was_spent_never_falls(tmp_path: Path, vault: Vault, step: str) -> None:
    stored(vault, tmp_path)
    Ledger(vault, "set").reserve(run="1", round_=1, mechanism=Mechanism(2.0, 0.25), steps=4, delta=DELTA, budget=3.0)
    before = Ledger(vault, "set").spent(DELTA)
    name = STEPS[step](vault, tmp_path)
    after = Ledger(Vault.open(vault.path, bytes(32)), name).spent(DELTA)
    assert (after.epsilon, after.steps) >= (before.epsilon, before.steps)
    assert before.epsilon > 0


# -- what was promised -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["budget_epsilon", "delta"])
@pytest.mark.parametrize("drop", ["dropped", "live", "renamed", "other process"])
def test_a_new_import_of_the_same_people_promises_no_more_than_before(
    tmp_path: Path, vault: Vault, term: str, drop: str
) -> None:
    stored(vault, tmp_path)
    larger = dataclasses.replace(TERMS, **{term: 2 * getattr(TERMS, term)})
    if drop == "dropped":
        vault.shred(vault.datasets()["set"])
    elif drop == "renamed":
        vault.rename(vault.datasets()["set"], "z")
    elif drop == "other process":
        vault = Vault.open(vault.path, bytes(32))
    one_of_them = [people()[3], *people(1000)]
    with pytest.raises(AegisError, match=f"{term} would be wider than what people of these rows were promised"):
        stored(vault, tmp_path, "other", larger, one_of_them)
    assert "other" not in vault.datasets()
    stored(vault, tmp_path, "strangers", larger, people(2000))
    stored(vault, tmp_path, "other", TERMS, one_of_them)
    card = vault.card(vault.datasets()["other"])
    wanted = terms_file.of_card(card)
    wider = dataclasses.replace(wanted, **{term: getattr(larger, term)}).facts(
        card["facts"]["columns"], "other", "train"
    )
    vault.amend(card["id"], facts=wider, reason="the board agreed")
    # The reason is on record, so from now on it is what these people are promised.
    vault.shred(vault.datasets()["other"])
    stored(vault, tmp_path, "again", larger, one_of_them)


def test_narrower_terms_stay_promised_when_the_set_is_dropped(tmp_path: Path, vault: Vault) -> None:
    stored(vault, tmp_path)
    amended(vault, budget_micro_epsilon=1_000_000)
    vault.shred(vault.datasets()["set"])
    with pytest.raises(AegisError, match="budget_epsilon 1"):
        stored(vault, tmp_path)


def test_a_set_that_was_refused_promises_nothing(tmp_path: Path, vault: Vault) -> None:
    """Otherwise a slip of the pen would bind people's data for good."""
    little = dataclasses.replace(TERMS, budget_epsilon=0.001)
    vault.store_bytes(b"x", "taken")
    with pytest.raises(AegisError):
        stored(vault, tmp_path, "taken", little)
    stored(vault, tmp_path)


def test_people_of_a_smaller_budget_join_a_set_of_a_larger_one_only_with_a_reason(tmp_path: Path, vault: Vault) -> None:
    stored(vault, tmp_path, "small", dataclasses.replace(TERMS, budget_epsilon=1.0), people(1000))
    stored(vault, tmp_path)
    delivery = csv(tmp_path, *people(1000, 3))
    old = vault.datasets()["set"]
    with pytest.raises(AegisError, match="budget_epsilon would become wider"):
        extend(vault, delivery, "set", SCHEMA, consent_given=True)
    assert vault.datasets()["set"] == old
    extend(vault, delivery, "set", SCHEMA, consent_given=True, reason="they agreed")
    (record,) = vault.audit_records("amend")
    assert (record["wider"], record["reason"], record["rows"]) == (["budget_epsilon"], "they agreed", 3)


def test_a_smaller_promise_elsewhere_does_not_stop_deliveries_to_a_set_of_the_same_people(
    tmp_path: Path, vault: Vault
) -> None:
    stored(vault, tmp_path)
    stored(vault, tmp_path, "study", dataclasses.replace(TERMS, budget_epsilon=1.0))
    extend(vault, csv(tmp_path, *people(count=3), "newcomer"), "set", SCHEMA, consent_given=True)
    assert vault.audit_records("amend") == []


# -- every term -------------------------------------------------------------------------------------------------------

# Each: wider, narrower; None where there is no such value.
CHANGES: dict[str, tuple[Any, Any]] = {
    "purposes": (["research", "teaching"], None),
    "approved_columns": (["x", "y"], ["x"]),
    "retention_days": (366, 364),
    "min_rows": (4, 6),
    "min_subjects": (4, 6),
    "budget_epsilon": (3.5, 2.5),
    "delta": (2e-5, 5e-6),
    "require_dp": (False, True),
    "require_secure_aggregation": (False, True),
    "max_evaluations": (101, 99),
    "controller": ("somebody else", None),
}
# Of rows, not of the set: another basis is another import, a lineage is never left.
FIXED = {"basis", "lineage"}


@pytest.mark.parametrize("term", [field.name for field in dataclasses.fields(Terms)])
@pytest.mark.parametrize("way", ["wider", "narrower"])
def test_each_term_is_narrowed_freely_and_widened_with_a_reason(
    tmp_path: Path, vault: Vault, term: str, way: Literal["wider", "narrower"]
) -> None:
    assert (term in CHANGES) != (term in FIXED), "a new term has its place here"
    if term in FIXED:
        return
    value = CHANGES[term][way == "narrower"]
    if value is None:
        return
    columns = {**SCHEMA.columns, "y": Column(kind="integer")}
    start = dataclasses.replace(
        TERMS, approved_columns=["x"] if term == "approved_columns" and way == "wider" else None
    )
    if term.startswith("require_") and way == "narrower":
        start = dataclasses.replace(start, **{term: False})
    path = tmp_path / "two.csv"
    path.write_text("who,x,y\n" + "".join(f"{who},1,2\n" for who in people()))
    add(vault, path, "set", dataclasses.replace(SCHEMA, columns=columns), start, consent_given=True)
    day = vault.card(vault.datasets()["set"])["classes"][0]["last_day"]
    assert day is not None
    changes = []
    for side, role in (("set", "train"), ("set.holdout", "holdout")):
        card = vault.card(vault.datasets()[side])
        asked = dataclasses.replace(terms_file.of_card(card), **{term: value})
        last = day - 365 + value if term == "retention_days" else None
        changes.append((card["id"], asked.facts(["x", "y"], side, role), last))
    before = vault.datasets()
    if way == "narrower":
        done = vault.amend_together(changes)
        assert [(len(one["narrower"]), one["wider"]) for one in done] == [(1, [])] * 2
        return
    for reason in ("", " \t"):
        with pytest.raises(AegisError, match=f"{term} would become wider"):
            vault.amend_together(changes, reason=reason)
    assert vault.datasets() == before
    done = vault.amend_together(changes, reason="decided")
    assert [(one["narrower"], one["wider"]) for one in done] == [([], [term])] * 2
    assert {record["reason"] for record in vault.audit_records("amend")} == {"decided"}


def test_both_sides_change_or_neither(tmp_path: Path, vault: Vault) -> None:
    add(vault, csv(tmp_path, *people()), "set", SCHEMA, TERMS)
    sides = [vault.card(one) for one in vault.datasets().values()]
    good, bad = ({**side["facts"], "min_rows": rows} for side, rows in zip(sides, (9, 1), strict=True))
    before = vault.datasets()
    for other in (bad, {**good, "approved_columns": ["nobody"]}):
        with pytest.raises(AegisError):
            vault.amend_together([(sides[0]["id"], good, None), (sides[1]["id"], other, None)])
    with pytest.raises(AegisError, match="named twice"):
        vault.amend_together([(sides[0]["id"], good, None)] * 2)
    with pytest.raises(AegisError, match="nothing was changed"):
        vault.amend_together([])
    assert vault.datasets() == before
    assert vault.audit_records("amend") == []


# -- deliveries -------------------------------------------------------------------------------------------------------


WIDER_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "another basis": ({"basis": "public_task"}, "basis"),
    "a later last day": ({"retention_days": 366}, "retention_days"),
}


@pytest.mark.parametrize("case", WIDER_ROWS)
def test_a_delivery_beyond_the_terms_needs_a_reason_that_is_put_on_record(
    tmp_path: Path, vault: Vault, case: str
) -> None:
    keys, name = WIDER_ROWS[case]
    stored(vault, tmp_path)
    old, delivery = vault.datasets(), csv(tmp_path, *people(100, 4))
    for reason in ("", "  "):
        with pytest.raises(AegisError, match=f"{name} would become wider"):
            extend(vault, delivery, "set", SCHEMA, reason=reason, **keys)
    assert vault.datasets() == old
    assert vault.audit_records("amend") == []
    extend(vault, delivery, "set", SCHEMA, reason="a new law", **keys)
    (record,) = vault.audit_records("amend")
    assert (record["wider"], record["reason"], record["rows"]) == ([name], "a new law", 4)
    assert record["replaced_by"] == vault.datasets()["set"]
    # From now on the set has such rows, and the next ones are nothing new.
    extend(vault, csv(tmp_path, *people(200, 4)), "set", SCHEMA, **keys)
    assert len(vault.audit_records("amend")) == 1


def test_a_delivery_for_a_shorter_time_needs_no_reason(tmp_path: Path, vault: Vault) -> None:
    stored(vault, tmp_path)
    extend(vault, csv(tmp_path, *people(100, 4)), "set", SCHEMA, retention_days=1)
    assert vault.audit_records("amend") == []


# -- consent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", itertools.permutations(["withdraw", "erase", "extend", "add"]))
def test_no_order_of_deliveries_gives_back_what_somebody_took(
    tmp_path: Path, vault: Vault, order: tuple[str, ...]
) -> None:
    stored(vault, tmp_path)
    who = people()[3]
    taken: set[str] = set()
    for step in order:
        if step == "withdraw":
            vault.consent_withdraw(who, "research", unknown_ok=True)
        elif step == "erase":
            vault.erase_person(who)
        else:
            delivery = csv(tmp_path, who, *people(100 if step == "add" else 200, 20))

            def deliver(step: str = step, delivery: Path = delivery) -> None:
                if step == "extend":
                    extend(vault, delivery, "set", SCHEMA, consent_given=True)
                else:
                    add(vault, delivery, "more", SCHEMA, TERMS, holdout=0, consent_given=True)

            if "erase" in taken:
                with pytest.raises(AegisError) as refused:
                    deliver()
                assert refused.value.code == "AEG-P016"
            else:
                deliver()
        taken.add(step)
        for dataset in vault.datasets().values():
            card = vault.card(dataset)
            # Everybody else has consent; somebody erased has no row.
            without = card["consent"]["research"]["without"]
            assert without == (1 if "withdraw" in taken and "erase" not in taken else 0), (order, step)
            permit = ComplianceEngine(vault).authorize(
                dataset, Request(action="train", purpose="research", columns=["x"])
            )
            theirs = without * (card["rows"] - card["people"] + 1)
            assert permit.rows == card["rows"] - theirs, (order, step)
