"""Commands that the plugin adds to ``aegis``: run, privacy, report, init, certs."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from aegis.cli_base import EXIT_CODES, exit_code, fail

from aegis_flower.errors import AegisError, ConfigError, DataError, ReportError

if TYPE_CHECKING:
    from rich.console import Console

    from aegis_flower.config import Config
    from aegis_flower.report import RunReport
    from aegis_flower.strategies import RoundRecord

RUN_HELP = """Runs a federated experiment and writes its report.

Arguments are Hydra overrides:

  aegis run experiment=quickstart                        five hospitals, real data, DP, secure aggregation

  aegis run experiment=quickstart privacy.epsilon=1      the same with a tighter budget

  aegis run -m experiment=digits privacy.epsilon=1,3,8   a sweep: one table, one plot

  aegis run experiment=digits data.alpha=0.3 strategy=fedadam runtime.lose=[4@3:masked]

  aegis run experiment=quickstart --cfg job              print the configuration, run nothing

Groups (GROUP=NAME): data (breast_cancer digits fashion_mnist) · model (logistic mlp cnn) · vault (folder) ·
policy (core) · privacy (example off) · secagg (masked clear) · strategy (fedavg fedavgm fedadam fedyogi fedprox) ·
runtime (inprocess ray deployment) · tracking (console quiet) · experiment (quickstart digits fashion_mnist)

Keys (GROUP.KEY=VALUE) are documented in aegis_flower/config.py; a wrong one is refused with its path.
Output: outputs/NAME/TIME/ with report.html, report.json, model.npz and, for simulations, the nodes' vaults.
"""


def register(app: typer.Typer) -> None:
    """Adds the plugin's commands (entry point ``aegis.commands``)."""
    app.command(
        "run",
        help=RUN_HELP,
        epilog=EXIT_CODES,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(run)
    privacy = typer.Typer(help="The privacy budget of a vault's data.", no_args_is_help=True)
    privacy.command("show")(privacy_show)
    app.add_typer(privacy, name="privacy")
    reports = typer.Typer(help="Reports of runs.", no_args_is_help=True)
    reports.command("show")(report_show)
    reports.command("open")(report_open)
    app.add_typer(reports, name="report")
    app.command("init")(init)
    certs = typer.Typer(help="Certificates and node keys for a deployment on your own machines.", no_args_is_help=True)
    certs.command("make")(certs_make)
    app.add_typer(certs, name="certs")


def run(ctx: typer.Context) -> None:
    """See `RUN_HELP`."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from aegis_flower.config import CONFIG_MODULE, explain_hydra, register_schema

    if not ctx.args:
        raise ConfigError(
            "", "nothing to run; `aegis run experiment=quickstart` is a start, `aegis run --help` explains"
        )
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, and leave as one line
    register_schema()
    sys.argv = ["aegis run", *ctx.args]
    failures: list[AegisError] = []

    def job(composed: Any) -> dict[str, str]:
        # Hydra would print its own message, and a sweep would lose the trials after this one.
        try:
            return _job(composed)
        except AegisError as error:
            typer.echo(f"aegis: {error} [{error.code}]", err=True)
            failures.append(error)
            return {}

    try:
        hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(explain_hydra(error))
    if failures:
        raise SystemExit(max(exit_code(error) for error in failures))


def _job(composed: Any) -> dict[str, str]:
    """One Hydra job; the result goes to the sweep's summary."""
    import dataclasses
    import logging

    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from rich.console import Console

    from aegis_flower.config import from_hydra

    cfg = from_hydra(composed)
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    overrides = list(hydra_cfg.overrides.task)
    if hydra_cfg.mode == RunMode.MULTIRUN and cfg.vault.root is None and cfg.runtime.kind == "inprocess":
        from aegis_flower.sweep import shared_vaults

        root = shared_vaults(Path(hydra_cfg.sweep.dir), cfg)
        cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=str(root)))
    from flwr.supercore import logger as _  # noqa: F401 - sets its level when imported, so ours must come after

    logging.getLogger("flwr").setLevel(logging.WARNING)
    logging.getLogger("aegis").setLevel(logging.ERROR)  # refusals are in the report and on the screen
    console = Console()
    report = _run(cfg, folder, overrides, console)
    if report is not None and report.run.status != "finished":
        raise _Ended(report)
    return {"folder": str(folder)}


class _Ended(AegisError):
    """A run ended without a model; the report says why."""

    def __init__(self, report: RunReport) -> None:
        refused = report.run.status == "refused"
        super().__init__(f"run {report.run.status}: {report.run.reason}", "AEG-R001")
        self.exit_code = 3 if refused else 1


def _run(cfg: Config, folder: Path, overrides: list[str], console: Console) -> RunReport | None:
    from aegis_flower.experiment import run_experiment
    from aegis_flower.report import HTML_NAME, print_report

    if cfg.runtime.kind != "inprocess":
        from aegis_flower.simulations.submit import submit

        submit(cfg, folder, overrides)
        return None
    console.print(f"[bold]{cfg.name}[/]: {cfg.data.clients} nodes, {cfg.data.name}, {_guarantee(cfg)}", highlight=False)
    with _Progress(cfg, console) as progress:
        report = run_experiment(cfg, folder, overrides=overrides, on_round=progress)
    print_report(report, console)
    if cfg.tracking.html:
        console.print(f"report: {_relative(folder / HTML_NAME)}", highlight=False, soft_wrap=True)
    return report


def _guarantee(cfg: Config) -> str:
    masks = "secure aggregation" if cfg.secagg.enabled else "updates in clear"
    if cfg.privacy.mode == "off":
        return f"no DP (NOT PRIVATE), {masks}"
    return f"ε ≤ {cfg.privacy.epsilon:g} a record (δ={cfg.privacy.delta:g}), {masks}"


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


class _Progress:
    """One bar over the rounds on a terminal, one line a round elsewhere."""

    def __init__(self, cfg: Config, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._cfg, self._console = cfg, console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (cfg.tracking.progress and console.is_terminal),
        )
        self._task = self._bar.add_task("making vaults", total=cfg.strategy.rounds, note="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, record: RoundRecord) -> None:
        """Takes note of a finished round."""
        rows = record.metrics.get("examples", 0)
        before = "" if record.task == "evaluate" else "before it "
        note = f"{before}accuracy {record.metrics['correct'] / rows:.3f}" if rows else ""
        lost = f", lost {len({x.node for x in record.lost})}" if record.lost else ""
        state = record.failed or f"{len(record.participants)} in the sum{lost}"
        done = record.round if record.task == "train" else self._cfg.strategy.rounds
        self._bar.update(self._task, completed=done, description="training", note=f"{state}  {note}")
        if self._bar.disable and self._cfg.tracking.progress:
            name = "final evaluation" if record.task == "evaluate" else f"round {record.round:>3}"
            self._console.print(f"{name}: {state}  {note}", highlight=False)


def privacy_show(
    vault: Annotated[Path, typer.Argument(metavar="VAULT", help="folder of the vault")],
    key_file: Annotated[
        Path, typer.Option("--key-file", "-k", envvar="AEGIS_KEY_FILE", help="file with the vault's key")
    ],
    delta: Annotated[float, typer.Option(help="δ at which ε is stated")] = 1e-5,
) -> None:
    """Shows what each data set's privacy budget was spent on, by all runs."""
    from rich.console import Console
    from rich.table import Table

    from aegis_engine import ComplianceEngine, Vault
    from aegis_flower.ledger import NEIGHBOURING, UNIT, Ledger

    opened = Vault.open(str(vault), key_file=str(key_file))
    engine = ComplianceEngine(opened)
    table = Table(title=f"ε at δ={delta:g}; unit {UNIT}, neighbours {NEIGHBOURING}, Poisson sampling, PLD accountant")
    for column in ("data set", "ε spent", "ε budget", "steps", "runs"):
        table.add_column(column, justify="left" if column == "data set" else "right")
    for name, dataset in opened.datasets().items():
        spent = Ledger(opened, name).spent(delta)
        budget = engine.budget_epsilon(dataset)
        table.add_row(name, f"{spent.epsilon:.3f}", f"{budget:g}", str(spent.steps), str(spent.runs))
    Console().print(table)


def _find_report(path: Path | None) -> Path:
    from aegis_flower.report import JSON_NAME

    if path is None:
        found = sorted(Path("outputs").glob(f"**/{JSON_NAME}"), key=lambda p: p.stat().st_mtime)
        if not found:
            raise ReportError("no report under ./outputs; run something first, or name a report")
        return found[-1]
    return path / JSON_NAME if path.is_dir() else path


ReportPath = Annotated[Path | None, typer.Argument(metavar="[REPORT]", help="folder of a run; the newest by default")]


def report_show(report: ReportPath = None) -> None:
    """Prints a report in the terminal."""
    from rich.console import Console

    from aegis_flower.report import load_report, print_report

    print_report(load_report(_find_report(report)), Console())


def report_open(report: ReportPath = None) -> None:
    """Opens a report's page in the browser, or says where it is."""
    from aegis_flower.report import HTML_NAME

    page = _find_report(report).with_name(HTML_NAME)
    if not page.is_file():
        raise ReportError(f"{page} is missing; the run had tracking.html=false")
    if not webbrowser.open(page.resolve().as_uri()):
        typer.echo(f"no browser here; the report is {page}")


def init(folder: Annotated[Path, typer.Argument(help="folder to make")]) -> None:
    """Makes a new project: a Flower App with a VaultClient of your own, which runs at once."""
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder")
    source = Path(__file__).parent / "simulations" / "quickstart"
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "aegis-runs"))
    typer.echo(f"made {folder}; try:\n  cd {folder}\n  python simulate.py\nthen read README.md there")


def certs_make(
    folder: Annotated[Path, typer.Argument(help="folder for certificates and keys")],
    nodes: Annotated[int, typer.Option(min=1, help="SuperNodes to make authentication keys for")] = 3,
    host: Annotated[list[str] | None, typer.Option(help="name or address of the SuperLink; may be repeated")] = None,
) -> None:
    """Makes a certificate authority, the SuperLink's certificate and the SuperNodes' keys (30 days; not a PKI)."""
    from aegis_flower.certs import make_certificates, make_node_keys

    make_certificates(folder, hosts=tuple(host or ("localhost", "127.0.0.1")))
    make_node_keys(folder, nodes)
    for file in sorted(folder.iterdir()):
        typer.echo(str(file))
