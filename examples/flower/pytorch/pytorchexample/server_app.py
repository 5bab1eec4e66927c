"""pytorchexample: the app of the server."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from aegis_flower import SecureAggregation
from aegis_flower.configs import from_run_config
from aegis_flower.server import noise_multiplier
from pytorchexample.task import Net, load_centralized_dataset, test

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs the rounds, and saves the last model."""
    lr: float = context.run_config["learning-rate"]
    cfg, *_ = from_run_config(context.run_config)

    global_model = Net()
    arrays = ArrayRecord(global_model.state_dict())

    strategy = SecureAggregation(FedAvg(), noise_multiplier=noise_multiplier(cfg), cohort=cfg.data.clients)

    result = strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"lr": lr}),
        num_rounds=cfg.strategy.rounds,
        evaluate_fn=global_evaluate,
    )

    print("\nSaving final model to disk...")
    state_dict = result.arrays.to_torch_state_dict()
    torch.save(state_dict, "final_model.pt")


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """Accuracy and loss on the server's own test set."""
    model = Net()
    model.load_state_dict(arrays.to_torch_state_dict())
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model.to(device)
    test_loss, test_acc = test(model, load_centralized_dataset(), device)
    return MetricRecord({"accuracy": test_acc, "loss": test_loss})
