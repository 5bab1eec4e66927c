"""Measuring: whether the declared metrics can be counted on this node's held-out rows, before one is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aegis_flower import gate
from aegis_flower.client import admission
from aegis_flower.data.schema import described
from aegis_flower.errors import DataMismatch
from aegis_flower.features import plan_of
from aegis_flower.groups import KINDS
from aegis_flower.metrics import BY_TARGET, OF_CLASSES, Target, check_alone, made_up, target_of

if TYPE_CHECKING:
    from aegis_flower.client.recipe import Recipe


def check(client: Recipe) -> None:
    """Refuses metrics that say nothing of what this client predicts, and a group that may not be told.

    Raises:
        ConfigError: a metric that there is not.
        DataMismatch: says what to name instead.
        AppError: an app's own metric mixes records, or fails on made-up ones.
    """
    plan = plan_of(client.spec)
    own = target_of(plan.label) if plan else Target("multiclass", client.spec.classes)
    _check_kind(client, own)
    for statistic in {s.name: s for m in client.own_metrics for s in m.statistics}.values():
        check_alone(statistic, made_up(own))
    if client.config.evaluation.group is not None:
        _check_group(client, client.config.evaluation.group)


def _check_kind(client: Recipe, own: Target) -> None:
    asked, metrics = client.config.evaluation.metrics, client.metrics.metrics
    of_classes = [m.name for m in metrics if m.name in OF_CLASSES]
    if of_classes and not client.predicts_classes and (asked is not None or _noised(client)):
        raise DataMismatch(
            f"the client predicts a number (its Spec has one class), of which {', '.join(of_classes)} would tell noise alone; "
            "name metrics of numbers (evaluation.metrics=[mae,rmse] with the label of a feature plan, else [loss]), or measure "
            "no model (evaluation.rounds=never)"
        )
    target = gate.target(client.config)
    if asked is not None and own != target and any(m.name in BY_TARGET for m in metrics):
        raise DataMismatch(
            f"the metrics are declared for {target.task} labels with {target.classes} outputs, which the configuration's data "
            f"have; the client's Spec has {own.task} ones with {own.classes}. Give both apps the metrics: metrics=[...]"
        )


def _noised(client: Recipe) -> bool:
    terms = client.node.terms(client.node.dataset(holdout=True))
    return admission.counts_are_noised(client.config, terms)


def _check_group(client: Recipe, name: str) -> None:
    node, e, asked = client.node, client.config.evaluation, client.config.policy.columns
    dataset = node.dataset(holdout=True)
    what = f"evaluation.group={name!r}"
    if name not in node.terms(dataset)["approved_columns"]:
        raise DataMismatch(f"{what} is a column that the terms of the held-out rows do not approve; the steward can")
    if asked is not None and name not in asked:
        raise DataMismatch(f"{what} is a column for which policy.columns does not ask; leave policy.columns out")
    column = described(node.vault.card(dataset)["about"]).get(name)
    if column is None or column.role != "group" or column.kind not in KINDS:
        raise DataMismatch(
            f'{what} is no group by the schema of the held-out rows; it needs role = "group" and a kind of {", ".join(KINDS)}'
        )
    if column.levels and (unknown := [level for level in e.groups if level not in column.levels]):
        raise DataMismatch(
            f"evaluation.groups names {', '.join(unknown)}, which the schema does not declare for {name!r}"
        )
