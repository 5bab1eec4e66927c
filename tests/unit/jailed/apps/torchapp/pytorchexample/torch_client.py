"""pytorchexample: a ClientApp of Flower's Message API."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from pytorchexample.torch_task import Net, load_local_data
from pytorchexample.torch_task import train as train_fn

app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Trains the model on local data."""
    model = Net()
    model.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model.to(device)

    batch_size = context.run_config["batch-size"]
    trainloader = load_local_data(context.node_config["data-path"], batch_size)

    train_loss = train_fn(model, trainloader, context.run_config["local-epochs"], msg.content["config"]["lr"], device)

    model_record = ArrayRecord(model.state_dict())
    metrics = {"train_loss": train_loss, "num-examples": len(trainloader.dataset)}
    content = RecordDict({"arrays": model_record, "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Is never called in a jail."""
    raise AssertionError
