"""The budget of a trial: whether every vault has enough left for the whole of it, asked before its first round."""

from __future__ import annotations

from pathlib import Path

from aegis_flower import gate
from aegis_flower.configs import Config
from aegis_flower.errors import BudgetExceeded
from aegis_flower.ledger import Ledger
from aegis_flower.mechanism import RoundMechanism
from aegis_flower.node.node import HOLDOUT


def check(cfg: Config, root: Path) -> None:
    """Refuses a trial that would be refused in the middle, after it has spent what is left.

    A trial that another one runs beside may still meet a budget that the other has spent: the nodes' own ledgers decide.

    Args:
        cfg: of the trial; it is taken to run all of its rounds, and on every node.
        root: of the vaults; what is not there yet has its whole budget.

    Raises:
        BudgetExceeded: names the vault.
    """
    if not cfg.privacy.on:
        return
    from aegis_engine import ComplianceEngine, Vault
    from aegis_flower.server import noise_multiplier

    train = RoundMechanism.of(cfg.privacy, noise_multiplier(cfg)).step
    for key in sorted((root / "keys").glob("*.key")):
        vault = Vault.open(str(root / key.stem), key_file=str(key))
        engine = ComplianceEngine(vault)
        for entry in vault.list():
            terms = engine.terms(str(entry["id"]))
            delta = float(terms.get("delta", 1e-5))
            held_out = str(entry["name"]).endswith(HOLDOUT)
            steps = cfg.evaluations if held_out else cfg.total_steps
            if not steps:
                continue
            mechanism = gate.counts_mechanism(cfg, delta) if held_out else train
            ledger = Ledger(vault, str(entry["id"]), delta=delta)
            try:
                ledger.check(mechanism=mechanism, steps=steps, budget=float(terms["budget_epsilon"]))
            except BudgetExceeded as error:
                raise BudgetExceeded(
                    f"the whole trial would bring ε of {entry['name']!r} in {key.stem} from {error.spent:.2f} to "
                    f"{error.after:.2f} of {error.budget:g}; nothing of it was run. Take fewer trials or rounds, more noise, or "
                    "have the data steward raise the budget",
                    spent=error.spent,
                    after=error.after,
                    budget=error.budget,
                ) from None
