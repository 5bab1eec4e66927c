"""The app the server runs. It counts the trips of messages at Flower's grid, and keeps what the strategy says of its rounds."""

import dataclasses
import json
from pathlib import Path

from flwr.serverapp import ServerApp

from aegis_flower.configs import compose, overrides_from_run_config
from aegis_flower.server import run_server
from aegis_flower.server_app import server_report

app = ServerApp()


class CountingGrid:
    """Flower's grid; each batch of messages that is sent is a trip, and each answer leaves a file when it is there."""

    def __init__(self, grid, folder):
        self._grid, self._folder = grid, folder
        self._sent = {}
        self.trips = []
        (folder / "received").mkdir(parents=True)

    def __getattr__(self, name):
        return getattr(self._grid, name)

    def push_messages(self, messages):
        messages = list(messages)
        record = messages[0].content.config_records["aegis"]
        step = messages[0].metadata.message_type.rpartition("_")[2]
        self.trips.append({"round": record["round"], "task": record["task"], "step": step, "to": len(messages)})
        ids = list(self._grid.push_messages(messages))
        self._sent |= dict.fromkeys(ids, f"{step}-{record['round']}")
        return ids

    def pull_messages(self, message_ids):
        replies = list(self._grid.pull_messages(message_ids))
        for reply in replies:
            if not reply.has_error():
                step = self._sent[reply.metadata.reply_to_message_id]
                (self._folder / "received" / f"{step}.{reply.metadata.src_node_id}").touch()
        return replies


@app.main()
def main(grid, context):
    name, overrides = overrides_from_run_config(context.run_config)
    cfg = compose(name, overrides)
    folder = Path(context.run_config["aegis-output"])
    counting = CountingGrid(grid, folder)
    with server_report(cfg, folder, overrides, context) as (outcome, on_round):
        try:
            run_server(cfg, counting, outcome, on_round)
        finally:
            rounds = [dataclasses.asdict(record) for record in outcome.rounds]
            (folder / "records.json").write_text(json.dumps({"rounds": rounds, "trips": counting.trips}))
