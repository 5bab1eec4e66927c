"""The probe: models and losses that mix records are found by trying, whatever they are called; what is right passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from flwr.app import Context, RecordDict
from opacus.layers import DPMultiheadAttention
from torch import nn

from aegis_flower.client import VaultClient, aegis_client_app, handlers
from aegis_flower.configs import from_dict
from aegis_flower.data import Spec
from aegis_flower.errors import AppError
from aegis_flower.node.node import close_nodes
from aegis_flower.per_record.checks import Probed
from aegis_flower.per_record.evaluation import class_weighted
from aegis_flower.per_record.losses import clipped_sum, gradients, mean_loss, per_sample
from aegis_flower.per_record.probe import probe

F = nn.functional
SPEC = Spec({"x": 4}, "y", 2)
CPU = torch.device("cpu")
CE = F.cross_entropy
BCE = F.binary_cross_entropy_with_logits


class By(nn.Module):
    """A linear layer and a function around it."""

    def __init__(self, function: Callable[[nn.Module, torch.Tensor], torch.Tensor], outputs: int = 2) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(4, outputs), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.layer, x)


class Attention(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attend, self.out = DPMultiheadAttention(4, 2, batch_first=batch_first), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None]
        return self.out(self.attend(x, x, x)[0][:, 0])  # type: ignore[no-any-return]


class Padded(nn.Module):
    def __init__(self, mode: str) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv1d(1, 3, 3, padding=1, padding_mode=mode), nn.Linear(12, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.conv(x[:, None])).flatten(1))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    def __init__(self, padding_idx: int | None) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(8, 5, padding_idx=padding_idx), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.table(x.long()).mean(1))  # type: ignore[no-any-return]


def zeroed() -> nn.Module:
    """All its outputs are zero, whatever it mixes in front."""
    model = By(lambda a, x: a(x - x.mean(0)))
    nn.init.zeros_(model.layer.weight)
    return model


MIXING: dict[str, Callable[[], nn.Module]] = {
    "centred": lambda: By(lambda a, x: a(x - x.mean(0))),
    "centred, weights of zero": zeroed,
    "functional batch norm": lambda: By(lambda a, x: F.batch_norm(a(x), None, None, training=True)),
    "a share of the batch's sum": lambda: By(lambda a, x: a(x) / a(x).abs().sum()),
    "softmax over records": lambda: By(lambda a, x: a(x).softmax(0)),
    "neighbours": lambda: By(lambda a, x: a(x) + a(x).roll(1, 0) * 0.1),
    "the first record": lambda: By(lambda a, x: a(x - 0.1 * x[:1])),
    "the size of the batch": lambda: By(lambda a, x: a(x) / len(x)),
    "the place in the batch": lambda: By(lambda a, x: a(x) * torch.arange(1.0, len(x) + 1)[:, None]),
    "attention over the batch": lambda: Attention(batch_first=False),
    "centred, and random": lambda: By(lambda a, x: a(F.dropout(x - x.mean(0), 0.5))),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_model_that_mixes_records_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(AppError, match=r"GroupNorm|ModuleValidator|single record"):
        probe(MIXING[name], CE, SPEC, CPU)


LOSSES: dict[str, Callable[..., Any]] = {
    "class weights inside": nn.CrossEntropyLoss(weight=torch.tensor([1.0, 200.0])),
    "class-balanced by the batch": lambda o, y: CE(
        o, y, weight=len(y) / (2 * torch.bincount(y, minlength=2).float().clamp(min=1))
    ),
    "in-batch contrast": lambda o, y: CE(F.normalize(o) @ F.normalize(o).T / 0.1, torch.arange(len(o))),
    "centred": lambda o, y: CE(o - o.mean(0), y),
    "sum": lambda o, y: CE(o, y, reduction="sum"),
    "largest": lambda o, y: CE(o, y, reduction="none").max(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_mixes_records_is_refused_with_the_remedy(name: str) -> None:
    with pytest.raises(AppError, match=r"class_weights|reduction='mean'"):
        probe(lambda: nn.Linear(4, 2), LOSSES[name], SPEC, CPU)


def test_a_broadcast_between_outputs_and_labels_is_refused() -> None:
    with pytest.raises(AppError, match=r"one shape|same size"):
        probe(lambda: nn.Linear(4, 1), lambda o, y: F.mse_loss(o, y.float()), SPEC, CPU)


GOOD: dict[str, tuple[Callable[[], nn.Module], Callable[..., Any]]] = {
    "linear": (lambda: nn.Linear(4, 2), CE),
    "without reduction": (lambda: nn.Linear(4, 2), lambda o, y: CE(o, y, reduction="none")),
    "class weights": (lambda: nn.Linear(4, 2), class_weighted([1.0, 200.0])),
    "dropout": (lambda: nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)), CE),
    "functional dropout": (lambda: By(lambda a, x: a(F.dropout(x, 0.5))), CE),
    "overwriting": (lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)), CE),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)), CE),
    "attention": (lambda: Attention(batch_first=True), CE),
    "embedding": (lambda: Tokens(None), CE),
    "double": (lambda: nn.Linear(4, 2).double(), CE),
    "one logit": (lambda: nn.Linear(4, 1), lambda o, y: BCE(o, y.float().unsqueeze(1))),
    "one number": (lambda: nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), lambda o, y: BCE(o, y.float())),
    "a position in each row": (
        lambda: nn.Sequential(nn.Linear(4, 8), nn.Unflatten(1, (2, 4))),
        lambda o, y: CE(o, y[:, None].expand(-1, 4)),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_treats_each_record_by_itself_passes(name: str) -> None:
    assert probe(*GOOD[name], SPEC, CPU) == Probed()


@pytest.mark.parametrize("make", [lambda: Padded("circular"), lambda: Padded("reflect"), lambda: Tokens(0)])
def test_where_opacus_derives_a_layer_wrongly_torch_does_it(make: Callable[[], nn.Module]) -> None:
    """Padding modes and padding_idx: relative errors of 0.02 to 0.9 went into the model."""
    found = probe(make, CE, SPEC, CPU)
    assert found.functorch
    model, x, y = make(), torch.randint(0, 3, (5, 4)).float(), torch.tensor([0, 1, 1, 0, 1])
    with per_sample(model, functorch=True) as net:
        mean_loss(CE, net(x), y).backward()
        got = gradients(model, 5)
    for i in range(5):
        wanted = torch.autograd.grad(CE(model(x[i : i + 1]), y[i : i + 1]), list(model.parameters()))
        for g, w in zip(got, wanted, strict=True):
            torch.testing.assert_close(g[i], w.reshape(-1), rtol=1e-4, atol=1e-6)


MISTAKES: dict[str, tuple[Callable[[], Any], Callable[..., Any], str]] = {
    "half precision": (lambda: nn.Linear(4, 2).half(), CE, r"float16.*model\.float\(\)"),
    "bfloat16": (lambda: nn.Linear(4, 2).bfloat16(), CE, r"bfloat16.*model\.float\(\)"),
    "other width": (lambda: nn.Linear(5, 2), CE, r"rows of shape \(4,\)"),
    "one output for two classes": (lambda: nn.Linear(4, 1), CE, "labels of shape"),
    "all frozen": (lambda: nn.Linear(4, 2).requires_grad_(False), CE, "requires_grad=False"),
    "a tuple": (lambda: By(lambda a, x: (a(x), x)), CE, "one tensor"),
    "no records in front": (lambda: By(lambda a, x: a(x).T), CE, "first dimension"),
    "a batch of one collapses": (
        lambda: By(lambda a, x: a(x).squeeze(), 1),
        lambda o, y: BCE(o, y.float()),
        "batch of 1",
    ),
    "a number as loss": (lambda: nn.Linear(4, 2), lambda o, y: 1.0, "return a tensor"),
    "a loss of another shape": (lambda: nn.Linear(4, 2), lambda o, y: torch.ones(17), "one number for each"),
    "no model": (lambda: 1 / 0, CE, "cannot be built: ZeroDivisionError"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_everyday_mistake_is_named_before_anything_is_charged(name: str) -> None:
    make, loss, told = MISTAKES[name]
    with pytest.raises(AppError, match=told) as error:
        probe(make, loss, SPEC, CPU)
    assert error.value.code != "AEG-X000"


def test_a_loss_with_class_weights_is_the_weighted_sum_over_the_number_of_records() -> None:
    torch.manual_seed(0)
    out, y = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    by_hand = (CE(out, y, reduction="none") * torch.tensor([1.0, 50.0])[y]).sum() / 6
    torch.testing.assert_close(mean_loss(class_weighted([1.0, 50.0]), out, y), by_hand)
    for bad in ([], [1.0, float("nan")], [1.0, -1.0]):
        with pytest.raises(AppError):
            class_weighted(bad)


def test_class_weights_of_the_app_weigh_the_clients_own_loss(govern: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    g = govern()
    seen: list[VaultClient] = []
    monkeypatch.setattr(handlers, "register", lambda app, make: seen.append(make(context)))
    where = {"aegis-vault": str(g.folder), "aegis-key-file": str(g.key_file), "aegis-dataset": "tiny"}
    node_config = {**where, "aegis-trust-server": True}
    context = Context(run_id=1, node_id=1, node_config=node_config, state=RecordDict(), run_config={})
    aegis_client_app(VaultClient, class_weights=[1.0, 50.0], config=from_dict({}))
    out, y = torch.randn(6, 2), torch.tensor([0, 1, 1, 0, 1, 0])
    by_hand = CE(out, y, reduction="none") * torch.tensor([1.0, 50.0])[y]
    torch.testing.assert_close(seen[0].loss()(out, y), by_hand)
    close_nodes()
    with pytest.raises(AppError, match="class_weights"):
        aegis_client_app(lambda context: None, class_weights=[1.0])


def test_one_record_moves_the_weighted_sum_by_at_most_the_clip() -> None:
    model, loss = nn.Linear(4, 2), class_weighted([1.0, 200.0])
    x, y = torch.randn(40, 4), (torch.arange(40) == 3).long()

    def summed(rows: torch.Tensor) -> torch.Tensor:
        with per_sample(model) as net:
            mean_loss(loss, net(x[rows]), y[rows]).backward()
            return torch.cat(clipped_sum(gradients(model, len(rows)), 1.0))

    whole = torch.arange(40)
    for i in range(40):
        assert float((summed(whole) - summed(whole[whole != i])).norm()) <= 1.001


def test_a_regression_and_a_vector_of_labels_are_tried_with_their_own_kind() -> None:
    mse = lambda o, y: F.mse_loss(o[:, 0], y)  # noqa: E731
    assert probe(lambda: nn.Linear(4, 1), mse, Spec({"x": 4}, "y", 1), CPU) == Probed()
    both = lambda o, y: BCE(o, y.float())  # noqa: E731
    assert probe(lambda: nn.Linear(4, 5), both, SPEC, CPU, label_width=5) == Probed()
    ids = Spec({"x": 4}, "y", 2, dtypes={"x": "int64"})
    assert probe(lambda: Tokens(None), CE, ids, CPU) == Probed()
