"""sklearnexample: a ClientApp of Flower's Message API."""

import warnings

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from sklearnexample.sklearn_task import (
    create_log_reg_and_instantiate_parameters,
    get_model_parameters,
    load_data,
    set_model_params,
)

app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Trains the model on local data."""
    model = create_log_reg_and_instantiate_parameters("l2")
    ndarrays = msg.content["arrays"].to_numpy_ndarrays()
    set_model_params(model, ndarrays)

    X_train, y_train = load_data(context.node_config["data-path"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(context.run_config["local-epochs"]):
            model.fit(X_train, y_train)

    model_record = ArrayRecord(get_model_parameters(model))
    metrics = {"num-examples": len(X_train)}
    content = RecordDict({"arrays": model_record, "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=msg)
