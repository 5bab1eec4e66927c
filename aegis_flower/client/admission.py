"""Admission: what a request may ask of a node, by the node's configuration and the terms sealed with its data.

The node fixes the mechanism. A message may ask for as much noise or more, for as many evaluations or fewer; never otherwise.
Nothing here opens a row, asks for a permit or charges a budget.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis_flower import gate
from aegis_flower.configs import Config
from aegis_flower.errors import ConfigError, EvaluationsSpent, OutsideTerms
from aegis_flower.ledger import Mechanism, RoundMechanism, gate_epsilon
from aegis_flower.node.keys import MAX_EVALUATIONS

if TYPE_CHECKING:
    from aegis_engine.types import DatasetTerms

    from aegis_flower.client.recipe import Recipe

_SLACK = 1 + 1e-6  # of a computed ε


def admit(client: Recipe, task: str, sigma: float, *, evaluates: bool, masked: bool) -> None:
    """Refuses a request that goes beyond what this node and its data allow.

    Args:
        client: the client that was asked.
        task: ``train`` or ``evaluate``.
        sigma: σ that the message names.
        evaluates: whether held-out rows are counted.
        masked: whether the answer leaves under masks.

    Raises:
        OutsideTerms: says which term.
        BudgetExceeded: a ledger would not grant the round.
        NodeError: the vault has no such data set.
    """
    node, cfg = client.node, client.config
    if task == "train":
        terms = node.terms(node.dataset())
        _check_terms(cfg, terms, masked)
        _check_sigma(cfg, sigma)
        if cfg.privacy.on:
            asked = RoundMechanism.of(cfg.privacy, sigma)
            node.ledger_of(node.dataset(), terms).check(
                mechanism=asked.step, steps=asked.steps, budget=terms["budget_epsilon"]
            )
    if evaluates and node.has_holdout:
        terms = node.terms(node.dataset(holdout=True))
        _check_terms(cfg, terms, masked)
        _check_evaluations(client, terms)
    elif evaluates:  # zeros, which in clear tell that this node holds nothing out: by the terms of what it has
        _check_terms(cfg, node.terms(node.dataset()), masked)


def counts_are_noised(cfg: Config, terms: DatasetTerms) -> bool:
    """Whether an evaluation is a mechanism: everywhere but where neither the run nor the data ask for privacy."""
    return cfg.privacy.on or terms["require_dp"]


def _check_terms(cfg: Config, terms: DatasetTerms, masked: bool) -> None:
    private = cfg.privacy.on
    if terms["require_secure_aggregation"] and not masked:
        raise OutsideTerms(
            "the data's terms require secure aggregation (require_secure_aggregation), and the answer to this message would "
            "leave in clear; use SecureAggregation at the server"
        )
    if terms["require_dp"] and (not private or cfg.privacy.noise != "secure"):
        raise OutsideTerms(
            f"the data's terms require differential privacy (require_dp), the run has privacy.mode={cfg.privacy.mode} and "
            f"privacy.noise={cfg.privacy.noise}"
        )
    if terms["require_dp"] and cfg.secagg.weighting == "rows":
        raise OutsideTerms(
            "the data's terms require differential privacy (require_dp), and secagg.weighting=rows would tell how many rows "
            "there are, without noise; use secagg.weighting=uniform"
        )
    delta = terms["delta"]
    if private and cfg.privacy.delta > delta:
        raise OutsideTerms(
            f"privacy.delta={cfg.privacy.delta:g} is above the δ={delta:g} of the data's terms; lower it"
        )


def _check_sigma(cfg: Config, sigma: float) -> None:
    p = cfg.privacy
    if p.mode == "off":
        if sigma:
            raise OutsideTerms(f"the server names σ={sigma:g}, but this app's configuration has privacy.mode=off")
        return
    if p.noise_multiplier is not None:
        enough = sigma >= p.noise_multiplier
    else:
        try:
            enough = sigma > 0 and _within(cfg, RoundMechanism.of(p, sigma).step)
        except ConfigError as error:  # of a σ that no mechanism of this node has
            raise OutsideTerms(f"the server names σ={sigma:g}: {error}") from None
    if not enough:
        raise OutsideTerms(
            f"the server names σ={sigma:g}, less noise than this app's configuration asks for (privacy.noise_multiplier="
            f"{p.noise_multiplier}, privacy.epsilon={p.epsilon:g} over {cfg.total_steps} steps)"
        )


def _within(cfg: Config, mechanism: Mechanism) -> bool:
    """Whether the run's steps stay within its own ε: by RDP, which is quick, and where that is too coarse by PLD."""
    p, steps = cfg.privacy, {mechanism: cfg.total_steps}
    coarse = gate_epsilon(steps, p.delta, tight=False)
    if coarse <= p.epsilon * _SLACK:
        return True
    # PLD gains less than half, and takes for ever when σ is far too small
    return coarse <= 2 * p.epsilon + 1 and gate_epsilon(steps, p.delta, tight=True) <= p.epsilon * _SLACK


def _check_evaluations(client: Recipe, terms: DatasetTerms) -> None:
    if not counts_are_noised(client.config, terms):
        return  # exact counts, which the data's terms allow
    most = min(client.node.config.max_evaluations, terms["max_evaluations"])
    run = str(client.context.run_id)
    ledger = client.node.ledger_of(client.node.dataset(holdout=True), terms)
    had = sum(e["kind"] == "reserve" and e["run"] == run for e in ledger.entries())
    if had >= most:
        raise EvaluationsSpent(
            f"run {run} has had {had} of {most} evaluations on this node's held-out rows; {MAX_EVALUATIONS} in the node "
            "config gives a run more, if the holdout's terms do"
        )
    asked = gate.counts_mechanism(client.config, terms["delta"])
    ledger.check(mechanism=asked, steps=1, budget=terms["budget_epsilon"])
