"""Preflight: everything about the app that can be wrong is found before a row is read or a budget charged.

The app's `Spec` is compared with the layout of the data set, its model with what the server sent; then model, loss and optimiser
are tried on made-up rows, forward and backward (`aegis_flower.per_record.probe`). What passes is remembered for the run, in this
process and, proved by the vault, in Flower's state, so a deployment pays once per run.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord

from aegis_flower.client import measuring
from aegis_flower.client.local import LearnerModel
from aegis_flower.configs import ScheduleConfig
from aegis_flower.data.schema import described
from aegis_flower.errors import AegisError, AppError, DataMismatch, DeviceMissing, ModelMismatch, PreflightFailed
from aegis_flower.features import CHOSEN, check_promises, check_types, plan_of
from aegis_flower.learners import Learner, is_torch, learner_of
from aegis_flower.node.keys import FEATURES_SHA256
from aegis_flower.weights import BASE, base_sha256, travelling

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aegis_flower.client.recipe import Recipe
    from aegis_flower.features import Plan
    from aegis_flower.weights import NDArrays

_DOMAIN = "aegis/v1/preflight"
_RECORD = "aegis.preflight"
_KEPT, _KEPT_IN_STATE = 256, 8
_passed: OrderedDict[tuple[object, str], bool] = OrderedDict()


def check(client: Recipe, parameters: NDArrays, *, trains: bool, evaluates: bool) -> None:
    """Refuses an app that cannot work on this node's data; reads and charges nothing.

    Raises:
        DataMismatch, ModelMismatch, DeviceMissing, AppError: each says what to change.
    """
    _check_plans(client)
    if trains and client.config.privacy.mode == "blocks":
        raise AppError(
            "privacy.mode=blocks trains each block of people in a jail of its own, and this app runs in the node's process: take "
            "runtime=jailed, or a node that jails its app"
        )
    if trains:
        if not client.torch_model:
            _refuse_weights(client, f"{type(client).__name__} trains by itself (torch_model = False)")
        functorch = _once(client, parameters, holdout=False)
        if client.torch_model:
            _of_this_message(client, functorch)
    if evaluates and client.node.has_holdout:
        _once(client, parameters, holdout=True)
        measuring.check(client)


def _of_this_message(client: Recipe, functorch: bool) -> None:
    """The settings of this message: those that passed before were other ones."""
    made = client.model()
    if not is_torch(made):
        _check_read(client, learner_of(made, client.spec))
        return
    from aegis_flower.train import Probed

    client.probed = Probed(functorch)
    _settings(client, made)


def _once(client: Recipe, parameters: NDArrays, *, holdout: bool) -> bool:
    """Whether per-sample gradients are torch.func's; found out once per run, app and form of the model."""
    key = _key(client, parameters, holdout)
    known = _remembered(client, key)
    if known is None:
        features, label_width = _check_layout(client, holdout)
        known = (
            _check_model(client, parameters, features, label_width, trains=not holdout) if client.torch_model else False
        )
        _remember(client, key, known)
    return known


# -- what passed before ----------------------------------------------------------------------------------------------------------


def _key(client: Recipe, parameters: NDArrays, holdout: bool) -> str:
    app = type(client)
    parts = (
        client.context.run_id,
        client.context.node_id,
        client.config.sha256,
        f"{app.__module__}.{app.__qualname__}",
        [a.shape for a in parameters],
        repr(client.spec),
        client.node.dataset(holdout),
        holdout,
        client.round_config.get(BASE),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _app(client: Recipe) -> tuple[object, ...]:
    return type(client), client.model_fn, client.loss_fn, client.optimizer_fn


def _proof(client: Recipe, key: str, functorch: bool) -> bytes:
    return client.node.vault.mac(_DOMAIN, f"{key}:{functorch}".encode())


def _remembered(client: Recipe, key: str) -> bool | None:
    if (_app(client), key) in _passed:
        return _passed[_app(client), key]
    record: Any = client.context.state.config_records.get(_RECORD, {})
    proof = record.get(key[:32])
    for functorch in (False, True):
        if isinstance(proof, bytes) and hmac.compare_digest(proof, _proof(client, key, functorch)):
            return functorch
    return None


def _remember(client: Recipe, key: str, functorch: bool) -> None:
    _passed[_app(client), key] = functorch
    while len(_passed) > _KEPT:
        _passed.popitem(last=False)
    kept: dict[str, Any] = dict(client.context.state.config_records.get(_RECORD, {}))
    kept[key[:32]] = _proof(client, key, functorch)
    client.context.state[_RECORD] = ConfigRecord(dict(list(kept.items())[-_KEPT_IN_STATE:]))


def _check_plans(client: Recipe) -> None:
    """Whether server and node read the data by the same feature plan; each has its own copy, and the server tells its hash.

    The operator may have pinned one: an app that brings another then has nothing to read here.
    """
    plan, sent = plan_of(client.spec), client.round_config.get(CHOSEN)
    name = client.config.data.features or "of the client's Spec"
    pinned = client.node.config.features_sha256
    if pinned is not None and (plan is None or plan.sha256 != pinned):
        raise DataMismatch(
            f"this node's operator pinned the feature plan {pinned} ({FEATURES_SHA256} in the node config), and this app reads "
            + (f"the data by {name}, which has {plan.sha256}" if plan is not None else "the data by none")
            + "; read the app's plan, and pin it if it may be used"
        )
    if sent is not None and plan is None:
        raise DataMismatch(
            f"the server reads the data by a feature plan (hash {sent!r:.80}), this client by none; give it the plan"
        )
    if sent is not None and plan is not None and sent != plan.sha256:
        raise DataMismatch(
            f"the server's feature plan has the hash {sent!r:.80}, this node's plan {name} has {plan.sha256}: one model would "
            "mean two things; give both the same file"
        )


def _refuse_weights(client: Recipe, why: str) -> None:
    """What trains by itself would leave the weights of records out without a word.

    Raises:
        DataMismatch: the plan has a weight.
    """
    plan = plan_of(client.spec)
    if plan is not None and plan.weight is not None:
        raise DataMismatch(
            f"the feature plan weighs records by {plan.weight.column!r}, and {why}, where nothing multiplies a record's loss "
            "by its weight; take weight out of the plan"
        )


# -- the data set ----------------------------------------------------------------------------------------------------------


def _check_layout(client: Recipe, holdout: bool) -> tuple[int, int]:
    """Compares the app's `Spec` with the data set; gives the number of feature values a row opens, and of label values."""
    if (plan := plan_of(client.spec)) is not None:
        return _check_planned(client, plan, holdout)
    from aegis_flower.stream import check_layout

    node, spec = client.node, client.spec
    layout = {name: (dtype, width) for name, dtype, width in node.engine.layout(node.dataset(holdout))}
    what = f"data set {node.config.dataset + ('.holdout' if holdout else '')!r}"
    asked = client.config.policy.columns
    approved = node.terms(node.dataset(holdout))["approved_columns"]
    for name in (*spec.columns, spec.label):
        if name not in layout:
            raise DataMismatch(
                f"{what} has no column {name!r}, which the client's Spec names; it has {', '.join(layout)}. Set self.spec of the "
                "client to what the data are"
            )
    check_layout([(name, dtype, width) for name, (dtype, width) in layout.items()], spec)
    if asked is not None and spec.label not in asked:
        raise DataMismatch(
            f"policy.columns does not ask for the label column {spec.label!r}, so there is nothing to learn from"
        )
    if spec.label not in approved:
        raise DataMismatch(f"the terms of {what} do not approve the label column {spec.label!r}")
    features = sum(w for name, w in spec.columns.items() if (asked is None or name in asked) and name in approved)
    if not features:
        raise DataMismatch(
            f"policy.columns leaves no feature column of {what}; it may ask for {', '.join(spec.columns)}"
        )
    return features, layout[spec.label][1]


def _check_planned(client: Recipe, plan: Plan, holdout: bool) -> tuple[int, int]:
    """As `_check_layout`, of a plan: types and schema of its columns, and that all of them may be asked for."""
    node = client.node
    dataset = node.dataset(holdout)
    what = f"data set {node.config.dataset + ('.holdout' if holdout else '')!r}"
    check_types(plan, node.engine.layout(dataset), what)
    check_promises(plan, described(node.vault.card(dataset)["about"]), what)
    approved, asked = node.terms(dataset)["approved_columns"], client.config.policy.columns
    for name in plan.reads:
        if name not in approved:
            raise DataMismatch(f"the feature plan reads the column {name!r}, which the terms of {what} do not approve")
        if asked is not None and name not in asked:
            raise DataMismatch(
                f"the feature plan reads the column {name!r}, for which policy.columns does not ask; leave policy.columns out, "
                "and the permit is for exactly the plan's columns"
            )
    return client.spec.features, plan.label.width


# -- the model -------------------------------------------------------------------------------------------------------------


def _check_model(client: Recipe, parameters: NDArrays, features: int, label_width: int, *, trains: bool) -> bool:
    from aegis_flower import train as training

    model = _built(client, parameters)
    if isinstance(model, LearnerModel):
        _check_learner(client, model, features, label_width, trains=trains)
        return False
    _check_base(client, model)
    device = _device(client)
    loss = _loss(client)
    private = trains and client.config.privacy.by_record
    try:
        if trains:
            probed = training.probe(
                lambda: model, loss, client.spec, device, private=private, features=features, label_width=label_width
            )
            _settings(client, model)
            return probed.functorch
        training.probe(model.eval, loss, client.spec, device, private=False, features=features, label_width=label_width)
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(f"the client's model or loss fails on made-up rows: {_told(error)}") from error
    return False


def _check_base(client: Recipe, model: nn.Module) -> None:
    """Whether adapters sit on the same frozen parameters here as at the server: those do not travel."""
    own, sent = base_sha256(model), client.round_config.get(BASE)
    if own is not None and sent is None:
        raise ModelMismatch(
            "the model has adapters, and the server does not say what they sit on; your own server sends "
            f"train_config and evaluate_config with {BASE!r}: aegis_flower.weights.base_sha256(model)"
        )
    if own != sent:
        raise ModelMismatch(
            f"the frozen parameters below the adapters have the hash {own}, the server's {sent!r:.80}: one adapter would mean "
            "two things. Load them from the same checkpoint on both sides; parameters that are made at random, such as a new "
            "head, are to be trained (modules_to_save=[...]) or made under one seed"
        )


def _check_learner(client: Recipe, local: LearnerModel, features: int, label_width: int, *, trains: bool) -> None:
    """As `_check_model`, of a learner: what privacy it can have, what settings it reads, and a try on made-up rows."""
    from aegis_flower.learners import probe

    mode = client.config.privacy.mode if trains else "off"
    if trains:
        probe.check_mode(local.learner, mode)
        _check_read(client, local.learner)
        if mode != "example":
            _refuse_weights(client, f"a model of {local.learner.framework} with privacy.mode={mode} trains by itself")
    probe.probe(
        lambda: learner_of(client.model(), client.spec),
        client.spec,
        mode=mode,
        features=features,
        label_width=label_width,
    )


def _check_read(client: Recipe, learner: Learner) -> None:
    """Whatever of the round's settings the learner does not read is refused."""
    from aegis_flower.learners import probe

    if client.loss_fn is not None or client.optimizer_fn is not None or "loss" in vars(client):
        raise AppError(
            f"loss=, optimizer= and class_weights= are of torch; {learner.framework} has its own: leave them out"
        )
    model, sent = client.config.model, client.round_config
    asked: dict[str, str] = {}
    if model.schedule != ScheduleConfig():
        asked["learning_rate"] = "model.schedule"
    if sent.learning_rate is not None:
        asked["learning_rate"] = 'strategy.train_config["lr"]'
    if model.momentum:
        asked["momentum"] = "model.momentum"
    if client.proximal_mu:
        asked["proximal_mu"] = "FedProx's proximal_mu"
    probe.check_settings(learner, asked)
    sent.refuse_unread()


def _built(client: Recipe, parameters: NDArrays) -> Any:
    """The model of torch, or the learner as `LearnerModel`."""
    try:
        made = client.model()
        model = made if is_torch(made) else LearnerModel(client, learner_of(made, client.spec))
        own = (
            [a.shape for a in model.arrays()]
            if isinstance(model, LearnerModel)
            else [tuple(p.shape) for p in travelling(model).values()]
        )
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(f"the client's model() fails: {_told(error)}") from error
    if own != [a.shape for a in parameters]:
        raise ModelMismatch(
            f"the server's model has shapes {[a.shape for a in parameters]}, this client's has {own}; build the same model on "
            "both sides: aegis_server_app(model=...) takes it"
        )
    return model


def _loss(client: Recipe) -> Any:
    try:
        return client.loss()
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(f"the client's loss() fails: {_told(error)}") from error


def _device(client: Recipe) -> torch.device:
    import torch

    from aegis_flower import models

    name = client.config.model.device
    try:
        device = models.device(name)
        torch.zeros(1, device=device)
    except AegisError:
        raise
    except Exception as error:
        raise DeviceMissing(
            f"model.device={name} cannot be used on this node: {_told(error)}; set model.device=auto or cpu"
        ) from error
    return device


def _settings(client: Recipe, model: nn.Module | None = None) -> None:
    """Builds the optimiser once and takes a step of zeros, so that it reads its settings of the message; whatever nobody read is
    refused.
    """
    model = model if model is not None else client.model()
    _loss(client)
    try:
        optimizer = client.optimizer(model.parameters())
        for p in model.parameters():
            p.grad = p.detach().new_zeros(p.shape) if p.requires_grad else None
        optimizer.step()
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(f"the client's optimizer() fails: {_told(error)}") from error
    client.round_config.refuse_unread()


def _told(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"
