"""Preflight: everything about the app that can be wrong is found before a row is read or a budget charged.

The app's model is built and fed a batch of zeros, forward and backward; its parameters are compared with what the server
sent, its `Spec` with the layout of the data set. What passes is remembered for the run, in this process and, proved by the
vault, in Flower's state, so a deployment pays once per run.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from flwr.app import ConfigRecord

from aegis_flower.errors import AegisError, DataMismatch, DeviceMissing, ModelMismatch, PreflightFailed

if TYPE_CHECKING:
    import torch
    from torch import nn

    from aegis_flower.vault_client import NDArrays, VaultClient

_DOMAIN = "aegis/v1/preflight"
_RECORD = "aegis.preflight"
_BATCH = 3  # rows of zeros: more than one, so that a loss without a mean is seen
_KEPT = 256
_passed: OrderedDict[tuple[object, str], None] = OrderedDict()


def check(client: VaultClient, parameters: NDArrays, *, trains: bool, evaluates: bool) -> None:
    """Refuses an app that cannot work on this node's data; reads and charges nothing.

    Raises:
        DataMismatch, ModelMismatch, DeviceMissing, PreflightFailed: each says what to change.
    """
    holdouts = [False] * trains + [True] * (evaluates and client.node.has_holdout)
    for holdout in holdouts:
        key = _key(client, parameters, holdout)
        if _remembered(client, key):
            # the settings of this message are new in every round
            if trains and client.round_config.custom:
                _settings(client)
            continue
        columns = _check_layout(client, holdout)
        if client.torch_model:
            _check_model(client, parameters, columns, trains=not holdout)
        _remember(client, key)


def _key(client: VaultClient, parameters: NDArrays, holdout: bool) -> str:
    app = type(client)
    parts = (
        client.context.run_id,
        client.context.node_id,
        client.config.sha256,
        f"{app.__module__}.{app.__qualname__}",
        [a.shape for a in parameters],
        repr(client.spec),
        client.node.dataset(holdout),
        sorted(client.round_config),
        client.proximal_mu > 0,
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _remembered(client: VaultClient, key: str) -> bool:
    made_by = (type(client), client.model_fn, client.loss_fn, client.optimizer_fn)
    if (made_by, key) in _passed:
        return True
    record: Any = client.context.state.config_records.get(_RECORD, {})
    proof = record.get(key[:16])
    return isinstance(proof, bytes) and hmac.compare_digest(proof, client.node.vault.mac(_DOMAIN, key.encode()))


def _remember(client: VaultClient, key: str) -> None:
    made_by = (type(client), client.model_fn, client.loss_fn, client.optimizer_fn)
    _passed[made_by, key] = None
    while len(_passed) > _KEPT:
        _passed.popitem(last=False)
    kept: dict[str, Any] = dict(client.context.state.config_records.get(_RECORD, {}))
    kept[key[:16]] = client.node.vault.mac(_DOMAIN, key.encode())
    client.context.state[_RECORD] = ConfigRecord(dict(list(kept.items())[-8:]))


def _check_layout(client: VaultClient, holdout: bool) -> dict[str, int]:
    """Compares the app's `Spec` with the data set; gives the feature columns the run asks for, with their widths."""
    node, spec = client.node, client.spec
    layout = {name: (dtype, width) for name, dtype, width in node.engine.layout(node.dataset(holdout))}
    what = f"data set {node.config.dataset + ('.holdout' if holdout else '')!r}"
    asked = client.config.policy.columns
    approved = node.terms(node.dataset(holdout))["approved_columns"]
    columns = {}
    for name, width in spec.columns.items():
        if name not in layout:
            raise DataMismatch(
                f"{what} has no column {name!r}, which the client's Spec names; it has {', '.join(layout)}"
            )
        if layout[name][1] != width:
            raise DataMismatch(
                f"{what}: column {name!r} has {layout[name][1]} values per row, the client's Spec says {width}"
            )
        if (asked is None or name in asked) and name in approved:
            columns[name] = width
    if spec.label not in layout:
        raise DataMismatch(f"{what} has no label column {spec.label!r}, which the client's Spec names")
    if asked is not None and spec.label not in asked:
        raise DataMismatch(
            f"policy.columns does not ask for the label column {spec.label!r}, so there is nothing to learn from"
        )
    if spec.label not in approved:
        raise DataMismatch(f"the terms of {what} do not approve the label column {spec.label!r}")
    if not columns:
        raise DataMismatch(
            f"policy.columns leaves no feature column of {what}; it may ask for {', '.join(spec.columns)}"
        )
    return columns


def _check_model(client: VaultClient, parameters: NDArrays, columns: dict[str, int], *, trains: bool) -> None:
    import torch

    model = _built(client, parameters)
    device = _device(client)
    zeros = torch.zeros((_BATCH, sum(columns.values())), dtype=torch.float32, device=device)
    labels = torch.zeros(_BATCH, dtype=torch.int64, device=device)
    try:
        model.to(device).train(trains)
        outputs = model(zeros)
        value = client.loss()(outputs, labels)
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(
            f"the client's model or loss fails on {_BATCH} rows of zeros with {zeros.shape[1]} features and labels 0: "
            f"{_told(error)}"
        ) from error
    if not isinstance(value, torch.Tensor) or value.dim() != 0:
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise PreflightFailed(
            f"the client's loss gives {shape} for {_BATCH} rows; it must be one number, the mean over the rows "
            "(reduction='mean')"
        )
    if trains:
        _check_step(client, model, value)


def _built(client: VaultClient, parameters: NDArrays) -> nn.Module:
    import torch

    try:
        model = client.model()
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(f"the client's model() fails: {_told(error)}") from error
    own = list(model.parameters())
    if [tuple(p.shape) for p in own] != [a.shape for a in parameters]:
        raise ModelMismatch(
            f"the server's model has shapes {[a.shape for a in parameters]}, this client's has "
            f"{[tuple(p.shape) for p in own]}; build the same model on both sides"
        )
    if wrong := {str(p.dtype) for p in own if p.dtype != torch.float32}:
        raise ModelMismatch(
            f"the client's model has parameters of {', '.join(sorted(wrong))}; noise and masks are made for torch.float32: "
            "call .float() on it"
        )
    return model


def _device(client: VaultClient) -> torch.device:
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


def _check_step(client: VaultClient, model: nn.Module, value: torch.Tensor) -> None:
    try:
        value.backward()  # type: ignore[no-untyped-call]
    except Exception as error:
        raise PreflightFailed(f"the client's loss cannot be differentiated: {_told(error)}") from error
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise PreflightFailed(
            f"the client's model does not use its parameters {', '.join(idle[:5])} in forward(), so they have no gradient; "
            "leave them out or freeze them (requires_grad_(False))"
        )
    model.zero_grad(set_to_none=True)
    _settings(client, model)


def _settings(client: VaultClient, model: nn.Module | None = None) -> None:
    """Builds the optimiser once, so that it reads its settings of the message; whatever nobody read is refused."""
    try:
        model = model or client.model()
        client.loss()
        client.optimizer(model.parameters())
    except AegisError:
        raise
    except Exception as error:
        raise PreflightFailed(f"the client's optimizer() fails: {_told(error)}") from error
    client.round_config.refuse_unread()


def _told(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"
