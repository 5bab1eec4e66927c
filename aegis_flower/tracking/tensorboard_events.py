"""TensorBoard: an event file for each run under ``tensorboard/``, written with TensorBoard's own records.

Not by `torch.utils.tensorboard`: that loads TensorFlow where it is installed, and puts the machine's name into the file's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import IO, Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

from aegis_flower.configs import Config
from aegis_flower.report import RunReport
from aegis_flower.tracking.protocol import Measured, Run


class TensorBoard:
    """Scalars by round; configuration, tags and results as texts."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._records: Any = None

    def start(self, config: Config, run: Run) -> None:
        """Makes the event file."""
        folder = run.store / "tensorboard" / f"{run.name}-{run.id}"
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{int(time.time())}.aegis").open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._texts({"tags": dict(run.tags), "config": config.to_dict()})

    def round(self, measured: Measured) -> None:
        """Adds the scalars."""
        values = [Summary.Value(tag=name, simple_value=value) for name, value in sorted(measured.values.items())]
        self._summary(values, measured.round)

    def end(self, report: RunReport) -> None:
        """Adds the result, and closes the file."""
        results = report.results
        told = {"status": report.run.status, "accuracy": results.accuracy, "epsilon_max": results.epsilon_max}
        self._texts({"result": told})
        if self._file is not None:
            self._file.close()

    def _texts(self, texts: dict[str, dict[str, Any]]) -> None:
        metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        values = []
        for name, text in texts.items():
            shown = "\n".join(f"    {line}" for line in json.dumps(text, indent=1, ensure_ascii=False).splitlines())
            tensor = TensorProto(dtype="DT_STRING", string_val=[shown.encode()], tensor_shape=shape)
            values.append(Summary.Value(tag=f"{name}/text_summary", metadata=metadata, tensor=tensor))
        self._summary(values, 0)

    def _summary(self, values: Iterable[Any], round_: int) -> None:
        self._write(Event(wall_time=time.time(), step=round_, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()
