"""LoRA by peft on a checkpoint of one's own: adapters travel, what they sit on stays, and neither fails without a word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_own_table import written
from torch import nn

from aegis_flower import aegis_app
from aegis_flower.data import Spec
from aegis_flower.data import schema as schemas
from aegis_flower.errors import AppError, ModelMismatch, RunFailed
from aegis_flower.inference import load
from aegis_flower.per_record.probe import probe
from aegis_flower.simulations import own_table
from aegis_flower.train import Probed
from aegis_flower.weights import base_sha256, travelling, weights

peft = pytest.importorskip("peft")

CPU = torch.device("cpu")
CE = nn.functional.cross_entropy


class Network(nn.Module):
    """What a checkpoint is of: two hidden layers and a head."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(features, 16), nn.Linear(16, 16), nn.Linear(16, classes)
        self.unused = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x)))))


def checkpoint(path: Path, spec: Any, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    torch.save(Network(spec.features, spec.classes).state_dict(), path)
    return path


def adapters(path: Path, *targets: str) -> Any:
    def model(spec: Any) -> nn.Module:
        base = Network(spec.features, spec.classes)
        base.load_state_dict(torch.load(path, weights_only=True))
        wanted = peft.LoraConfig(target_modules=list(targets or ("first", "second")), modules_to_save=["head"], r=4)
        return peft.get_peft_model(base, wanted)

    return model


SPEC = Spec({"x": 8}, "y", 3)  # as many inputs as the plan of iris gives


def test_only_what_is_trained_travels_and_the_rest_has_a_hash(tmp_path):
    model = adapters(checkpoint(tmp_path / "base.pt", SPEC))(SPEC)
    names = list(travelling(model))
    assert all("lora_" in name or "modules_to_save" in name for name in names)
    assert [p.shape for p in travelling(model).values()] == [a.shape for a in weights(model)]
    assert sum(a.size for a in weights(model)) < sum(p.numel() for p in model.parameters())
    again = adapters(tmp_path / "base.pt")(SPEC)
    assert base_sha256(model) == base_sha256(again)  # LoRA's own start differs; it travels
    other = adapters(checkpoint(tmp_path / "other.pt", SPEC, seed=1))(SPEC)
    assert base_sha256(model) != base_sha256(other)
    assert base_sha256(Network(8, 3)) is None
    assert list(travelling(Network(8, 3))) == [name for name, _ in Network(8, 3).named_parameters()]


@pytest.mark.parametrize("private", [True, False], ids=["example", "off"])
def test_adapters_that_learn_nothing_are_refused_before_a_charge(tmp_path, private):
    path = checkpoint(tmp_path / "base.pt", SPEC)
    assert probe(lambda: adapters(path)(SPEC), CE, SPEC, CPU, private=private) in (Probed(), Probed(functorch=True))

    def disabled() -> nn.Module:
        model = adapters(path)(SPEC)
        for module in model.modules():
            if isinstance(module, peft.tuners.lora.LoraLayer):
                module._disable_adapters = (
                    True  # what disable_adapter_layers() leaves, with the gradients switched on again
                )
        return model

    for broken in (disabled, lambda: adapters(path, "first", "unused")(SPEC)):
        with pytest.raises(AppError, match="no gradient"):
            probe(broken, CE, SPEC, CPU, private=private)


def app_of(model: Any, folder: Path, *more: str) -> Any:
    path, schema, plan = written(folder, "iris")
    few = [
        "data.clients=3",
        "data.partition=iid",
        "strategy.rounds=3",
        "tracking.progress=false",
        "privacy.sample_rate=0.5",
    ]
    return aegis_app(model, data=path, schema=schema, features=plan, name="lora", overrides=[*few, *more])


@pytest.mark.parametrize("mode", ["example", "update"])
def test_adapters_train_under_masks_and_noise_and_predict_on_the_same_checkpoint(tmp_path, mode):
    path = checkpoint(tmp_path / "base.pt", SPEC)
    app = app_of(adapters(path), tmp_path, f"privacy={mode}", "evaluation.rounds=never", "strategy.rounds=2")
    report = app.run(folder=tmp_path / "run")
    assert (report.run.status, report.run.private) == ("finished", True)
    trained = app.load(tmp_path / "run")
    assert list(trained.weights) == list(travelling(adapters(path)(SPEC)))
    table, _ = own_table.rows_of(tmp_path / "iris.csv", schemas.read(tmp_path / "schema.toml"))
    assert trained.outputs(table).shape == (150, 3)
    for form in ("npz", "torch"):  # files without a place for the hash: model.json has it
        trained.export(tmp_path / form, form)
        assert np.array_equal(load(tmp_path / form, adapters(path)).outputs(table), trained.outputs(table))
    held = (tmp_path / "run" / "model.safetensors").read_bytes()
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(ModelMismatch, match=r"nothing in the folder says .*Put the run's model\.safetensors back"):
        app.load(tmp_path / "run").outputs(table)
    (tmp_path / "run" / "model.safetensors").write_bytes(held)
    checkpoint(path, SPEC, seed=3)
    with pytest.raises(ModelMismatch, match="sit on frozen parameters"):
        app.load(tmp_path / "run").outputs(table)


def test_adapters_learn_without_dp(tmp_path):
    path = checkpoint(tmp_path / "base.pt", SPEC)
    off = ["privacy=off", "policy.require_dp=false", "strategy.rounds=8", "privacy.steps_per_round=10"]
    report = app_of(adapters(path), tmp_path, *off).run(folder=tmp_path / "run")
    assert report.results.accuracy > 0.6


def test_a_node_with_another_checkpoint_refuses(tmp_path):
    made = []

    def model(spec: Any) -> nn.Module:
        path = checkpoint(tmp_path / f"base-{len(made)}.pt", spec, seed=len(made))
        made.append(path)
        return adapters(path)(spec)

    with pytest.raises(RunFailed, match="same checkpoint on both sides"):
        app_of(model, tmp_path, "evaluation.rounds=never").run(folder=tmp_path / "run")


def test_a_first_round_that_moves_no_adapter_ends_the_run(tmp_path):
    path = checkpoint(tmp_path / "base.pt", SPEC)
    off = ["privacy=off", "policy.require_dp=false", "model.learning_rate=1e-30", "strategy.rounds=2"]
    with pytest.raises(RunFailed, match="no adapter changed in round 1"):
        app_of(adapters(path), tmp_path, *off).run(folder=tmp_path / "run")
