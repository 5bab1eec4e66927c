"""The server app: the `ServerApp` of an experiment for `flwr run`, which ends with a report however the run ends."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from aegis_flower import report
from aegis_flower.configs import Config, from_run_config
from aegis_flower.console import Tolerant, quiet
from aegis_flower.interrupts import watched
from aegis_flower.metrics import Metric
from aegis_flower.report import collect, words
from aegis_flower.server import Outcome, checkpoints, noise_multiplier, run_server
from aegis_flower.simulations.inprocess import InProcessGrid
from aegis_flower.strategies import OnRound, RoundRecord
from aegis_flower.tracking import Trackers

if TYPE_CHECKING:
    from torch import nn

    ModelFn = Callable[..., nn.Module]  # takes nothing, or the `Spec` of the data


def quiet_flower() -> AbstractContextManager[None]:
    """Flower's lines off the screen of one's own process, which has a line of ours for each round."""
    return quiet(flwr=logging.WARNING)


def aegis_server_app(
    config: Config | None = None, model: ModelFn | None = None, metrics: Sequence[Metric] = ()
) -> ServerApp:
    """The `ServerApp` of an experiment, for `flwr run`.

    It takes the configuration from the run config, runs the strategy, writes the report and the model into
    ``aegis-output`` (run config; default ``aegis-runs/<run id>`` under the server's working folder).

    Args:
        config: the experiment; None takes it from the run config.
        model: builds the app's own model, the same that its `VaultClient` builds; None takes the configured one.
        metrics: the app's own, beside those of the configuration; the same that its `aegis_client_app` gets.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        cfg, overrides, output = from_run_config(context.run_config)
        serve(grid, context, config or cfg, overrides, output, model, metrics)

    return app


def serve(
    grid: Grid,
    context: Context,
    cfg: Config,
    overrides: Sequence[str],
    output: str,
    model: ModelFn | None = None,
    metrics: Sequence[Metric] = (),
) -> None:
    """Runs the server's side of an experiment on a grid, and ends with its report.

    Args:
        grid: Flower's.
        context: of the run.
        cfg: the experiment.
        overrides: what the user wrote, for the report.
        output: folder of the report; empty for one by the run's number.
        model: as for `aegis_server_app`.
        metrics: as for `aegis_server_app`.
    """
    folder = Path(output or f"aegis-runs/{grid.run.run_id}")
    kind = cfg.runtime.kind
    here = isinstance(grid, InProcessGrid)
    runtime = "inprocess" if here else "deployment" if kind == "inprocess" else kind
    with (
        server_report(cfg, folder, overrides, context, runtime=runtime) as (outcome, on_round),
        quiet_flower() if here else nullcontext(),
    ):
        outcome.own_metrics = tuple(metrics)
        run_server(cfg, grid, outcome, on_round, model=model)


@contextmanager
def server_report(
    cfg: Config, folder: Path, overrides: Sequence[str], context: Context, *, runtime: str | None = None
) -> Iterator[tuple[Outcome, OnRound | None]]:
    """Collects what a deployment's server knows and writes its report, however the run ends.

    Rows, ledgers and logs stay with the nodes; of those the report says nothing.
    """
    clock = collect.Clock()
    outcome = Outcome(cfg, noise_multiplier(cfg), run_id=context.run_id)
    trackers = Trackers.of(cfg, outcome)
    trackers.start(folder)
    outcome.on_model = checkpoints(cfg, folder, overrides, outcome)
    failure: BaseException | None = None
    since = time.monotonic()
    with watched():
        try:
            yield outcome, trackers.hear(_print_round)
        except BaseException as error:  # a report first
            failure = error
            raise
        finally:
            clock.train = time.monotonic() - since
            written = collect.write(cfg, folder, overrides, outcome, [], clock, failure, runtime=runtime)
            written = trackers.end(written, folder)
            _say(_headline(written))
            _say(f"report {folder / report.JSON_NAME}")


def _say(text: str) -> None:
    """For `flwr run --stream`, which shows the app's output. A closed pipe is no reason to stop."""
    out = Tolerant(sys.stdout)
    out.write(f"aegis: {text}\n")
    out.flush()


def _print_round(record: RoundRecord) -> None:
    lost = f", lost {[(x.node, x.step, x.code or x.reason) for x in record.lost]}" if record.lost else ""
    state = record.failed or f"{len(record.participants)} clients in the sum"
    _say(f"round {record.round} {record.task}: {state}{lost}")


def _headline(written: report.RunReport) -> str:
    r = written.results
    found = f"accuracy {r.accuracy:.4f}" if r.accuracy is not None else "accuracy unknown"
    found += f" ± {r.accuracy_sd:.4f}" if r.accuracy_sd else ""
    if r.accuracy is None and r.loss is not None:
        found = f"loss {r.loss:.4f}"
    rows = "an unknown number of" if r.test_rows is None else r.test_rows
    worst = words.most_spent(written.clients)
    spent = f", ε {words.run_epsilon(worst)} {words.per(worst)}" if worst is not None else ""
    return f"run {written.run.status}, {found} over {rows} held-out rows{spent}"
