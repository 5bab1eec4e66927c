"""Flower app: somebody's `ClientApp`, called as a SuperNode would call it. Runs inside the jail, after it is up.

The app gets a Flower message with the round's arrays and the server's settings, and a context whose node config has
``data-path``, the file with the rows. Its reply's arrays are taken; metrics, state and everything else of it end with the task.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.supercore.task_identity import TaskIdentity

from aegis_flower.jailed.files import write

Arrays = Mapping[str, npt.NDArray[Any]]
DATA_PATH, DATA_FORMAT = "data-path", "data-format"
# What an app made of a client_fn (NumPyClient) reads and gives, in Flower's records.
_OLD_ARRAYS, _OLD_CONFIG, _OLD_REPLY = "fitins.parameters", "fitins.config", "fitres.parameters"
_RUN, _NODE = 1, 1  # numbers that say nothing


def train(parameters: Arrays, rows: Arrays, settings: Mapping[str, Any]) -> list[npt.NDArray[Any]]:
    """One round of the app's own training.

    Args:
        parameters: the model's arrays by name.
        rows: by column.
        settings: ``clientapp`` (``module:attribute``), ``round``, ``train_config``, ``run_config``, ``node_config``, ``files``.

    Returns:
        The arrays that the app's reply carries, in the order of `parameters`.

    Raises:
        ValueError: the reply is an error, or carries no arrays or several records of them.
    """
    app = _loaded(settings["clientapp"])
    path = write(rows, settings["files"])
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, _RUN, _NODE
    config = {"server-round": int(settings["round"]), **settings["train_config"]}
    old = _is_old(app)
    message = Message(_content(parameters, config, old=old), dst_node_id=_NODE, message_type="train")
    node_config = {**settings["node_config"], DATA_PATH: str(path), DATA_FORMAT: settings["files"]}
    context = Context(
        run_id=_RUN,
        node_id=_NODE,
        node_config=node_config,
        state=RecordDict(),
        run_config=dict(settings["run_config"]),
    )
    reply = app(message, context)
    if reply.has_error():
        raise ValueError(f"the app replied with an error: {reply.error.reason}")
    return _given(reply.content, parameters, old=old)


def _loaded(entry: str) -> ClientApp:
    module, _, name = entry.partition(":")
    app = getattr(importlib.import_module(module), name)
    if not isinstance(app, ClientApp):
        raise TypeError(f"{entry} is a {type(app).__name__}, no ClientApp")
    return app


def _is_old(app: ClientApp) -> bool:
    """Whether it was made of a client_fn: such an app takes no function of the Message API."""
    try:
        app.train("aegis_probe")  # registers nothing until it is given a function
    except ValueError:
        return True
    return False


def _content(parameters: Arrays, config: dict[str, Any], *, old: bool) -> RecordDict:
    if old:
        numbered = ArrayRecord({str(i): Array(np.asarray(a)) for i, a in enumerate(parameters.values())})
        return RecordDict({_OLD_ARRAYS: numbered, _OLD_CONFIG: ConfigRecord(config)})
    named = ArrayRecord({name: Array(np.asarray(a)) for name, a in parameters.items()})
    return RecordDict({"arrays": named, "config": ConfigRecord(config)})


def _given(content: RecordDict, parameters: Arrays, *, old: bool) -> list[npt.NDArray[Any]]:
    records = content.array_records
    if old:
        return _arrays(records[_OLD_REPLY].values())
    if len(records) != 1:
        raise ValueError(f"the app's reply has {len(records)} records of arrays; one is taken")
    (record,) = records.values()
    if set(record) == set(parameters):
        return _arrays(record[name] for name in parameters)
    return _arrays(record.values())


def _arrays(given: Iterable[Array]) -> list[npt.NDArray[Any]]:
    return [array.numpy() for array in given]
