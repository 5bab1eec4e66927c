"""Commands that the plugin adds to ``aegis``: run, privacy, report, init, certs."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import traceback
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from aegis.cli_base import EXIT_CODES, Key, KeyFile, exit_code, fail, provider

from aegis_flower.console import console, tolerate
from aegis_flower.errors import AegisError, ConfigError, DataError, ReportError, RunFailed

if TYPE_CHECKING:
    from rich.console import Console

    from aegis_flower.config import Config
    from aegis_flower.report import RunReport
    from aegis_flower.strategies import RoundRecord
    from aegis_flower.trials import Note


def escape(text: str) -> str:
    """A name from outside for Rich, which would read brackets as markup."""
    from rich.markup import escape as escaped

    return escaped(text)


_RUN_HELP = """Runs a federated experiment and writes its report.

Arguments are Hydra overrides:

  aegis run experiment=quickstart                        five hospitals, real data, DP, secure aggregation

  aegis run experiment=quickstart privacy.epsilon=1      the same with a tighter budget

  aegis run -m experiment=digits privacy.epsilon=1,3,8   a sweep: one table, one plot

  aegis run experiment=digits data.alpha=0.3 strategy=fedadam runtime.lose=[4@3:masked]

  aegis run experiment=quickstart --cfg job              print the configuration, run nothing

  aegis run --config-dir conf experiment=mine            an experiment of your own, conf/experiment/mine.yaml

Groups (GROUP=NAME): {groups}

Keys (GROUP.KEY=VALUE) are in docs/CONFIG.md, and --cfg job prints all of them; a wrong one is refused with its path.

Output: outputs/NAME/TIME/ with report.html, report.json, model.npz and, for simulations, the nodes' vaults. Ctrl-C and
SIGTERM end a run with its report and its last model; a second one ends it at once.

For a sweep with Optuna (hydra/sweeper=optuna) a trial's value is its accuracy: set hydra.sweeper.direction=maximize.
"""


def run_help() -> str:
    """The text of ``aegis run --help``; groups and names are read from the configuration tree, so that none is left out."""
    from importlib.resources import files

    tree = files("aegis_flower") / "configs"
    found = {}
    for folder in sorted(tree.iterdir(), key=lambda f: f.name):
        if folder.is_dir() and folder.name != "__pycache__":
            names = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
            found[folder.name] = f"{folder.name} ({' '.join(names)})"
    return _RUN_HELP.format(groups=" · ".join(found.values()))


def register(app: typer.Typer) -> None:
    """Adds the plugin's commands (entry point ``aegis.commands``)."""
    app.command(
        "run",
        help=run_help(),
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
    """See `run_help`."""
    from aegis_flower.interrupts import watched

    if not ctx.args:
        raise ConfigError(
            "", "nothing to run; `aegis run experiment=quickstart` is a start, `aegis run --help` explains"
        )
    tolerate()
    with watched() as watch:
        try:
            code = _run_hydra(list(ctx.args))
        except SystemExit:
            raise
        except BaseException as error:
            # The run watches by itself while it runs; a signal while modules are imported comes out as whatever the import
            # makes of it.
            signum = watch.signum or getattr(error, "signum", None)
            if signum is None:
                raise
            code = _interrupted(error, signum)
    if code:
        raise SystemExit(code)


def _interrupted(error: BaseException, signum: int) -> int:
    import signal

    from aegis_flower import sweep

    typer.echo(
        f"aegis: interrupted by {signal.Signals(signum).name}" + "".join(f"; {n}" for n in _notes(error)), err=True
    )
    with contextlib.suppress(Exception):  # the exit code is what a script waits for
        sweep.finish()
    return 128 + signum


def _notes(error: BaseException) -> list[str]:
    return [str(note) for note in getattr(error, "__notes__", [])]


def _run_hydra(arguments: list[str]) -> int:
    """Runs Hydra over the arguments; gives the exit code of the worst trial."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from aegis_flower import sweep
    from aegis_flower.config import CONFIG_MODULE, explain_hydra, register_schema

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, and leave as one line
    register_schema()
    sys.argv = ["aegis run", *arguments]
    _announce(arguments)
    sweep.exit_codes.clear()
    codes: list[int] = []

    def job(composed: Any) -> float:
        value, code = trial(composed)
        codes.append(code)
        return value

    try:
        hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        sweep.finish()
        fail(explain_hydra(error))
    except OSError as error:  # Hydra cannot make the output folder, say
        sweep.finish()
        fail(ConfigError("", f"{error.strerror or error}: {error.filename or 'the output folder'}"))
    # Trials of another process are known by their folders alone.
    return max([*codes, *sweep.exit_codes], default=0)


def _announce(arguments: list[str]) -> None:
    """Says what a sweep will cost, where Hydra's own sweeper takes the choices that the command line names."""
    if not {"-m", "--multirun"} & set(arguments) or {"--cfg", "-c", "--help", "--hydra-help", "--info"} & set(
        arguments
    ):
        return
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from aegis_flower.config import compose
    from aegis_flower.sweep import announce

    overrides = [a for a in arguments if not a.startswith("-") and not a.startswith(("hydra.", "hydra/"))]
    try:
        if any(a.startswith(("hydra/sweeper", "--config")) for a in arguments):
            raise ValueError("its trials are not known beforehand")
        parsed = OverridesParser.create().parse_overrides(overrides)
        batches = [batch for part in BasicSweeper.split_arguments(parsed, None) for batch in part]
        if len(batches) > _MOST_ANNOUNCED:
            raise ValueError(f"there are {len(batches)} trials")
        announce(overrides, [compose(None, list(batch)) for batch in batches])
    except AegisError:
        return  # refused in a moment, by the trial that it belongs to
    except Exception as error:  # noqa: BLE001 - a courtesy; what cannot be told beforehand is told afterwards
        typer.echo(f"what this sweep will cost is not known before it ends ({error}); each trial is charged")


_MOST_ANNOUNCED = 64


def trial(composed: Any) -> tuple[float, int]:
    """One Hydra job, of a single run or of a sweep: runs it, whatever happens, and notes what came of it in its folder.

    Returns:
        The trial's value for a sweeper, its accuracy (0 where there is none); and its exit code.
    """
    import dataclasses

    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from aegis_flower.files import claim
    from aegis_flower.trials import Note

    hydra_cfg = HydraConfig.get()
    given = Path(hydra_cfg.runtime.output_dir)
    overrides = list(hydra_cfg.overrides.task)
    many = hydra_cfg.mode == RunMode.MULTIRUN
    folder = claim(given)
    note = Note(int(hydra_cfg.job.num) if many else 0, overrides, str(folder.resolve()))
    try:
        note = _noted(composed, note, folder, Path(hydra_cfg.sweep.dir) if many else None)
        note.write(folder)
        report = _job(composed, note, folder, overrides)
    except AegisError as error:
        typer.echo(f"aegis: {error}" + "".join(f"; {n}" for n in _notes(error)) + f" [{error.code}]", err=True)
        dataclasses.replace(
            note, status=getattr(error, "status", "failed"), error=str(error), exit_code=exit_code(error)
        ).write(folder)
        return 0.0, exit_code(error)
    except Exception as error:  # noqa: BLE001 - a sweep goes on, and its table has the trial
        text = f"{type(error).__name__}: {error}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        typer.echo(
            f"aegis: {text} ({where.filename}:{where.lineno})" + "".join(f"; {n}" for n in _notes(error)), err=True
        )
        dataclasses.replace(note, status="failed", error=text).write(folder)
        return 0.0, 1
    except BaseException as error:
        code = getattr(error, "exit_code", 130)
        dataclasses.replace(note, status="interrupted", error=str(error), exit_code=code).write(folder)
        raise
    dataclasses.replace(note, status="finished", exit_code=0).write(folder)
    return (report.results.accuracy or 0.0) if report is not None else 0.0, 0


def _noted(composed: Any, note: Note, folder: Path, sweep_dir: Path | None) -> Note:
    """The note with whose data the trial uses and where its vaults are."""
    import dataclasses

    from aegis_flower.config import from_hydra
    from aegis_flower.trials import source_of

    cfg = from_hydra(composed)
    root = ""
    if cfg.runtime.kind != "deployment":
        root = str(_vault_root(cfg, folder, sweep_dir).resolve())
    return dataclasses.replace(note, source=source_of(cfg), runtime=cfg.runtime.kind, root=root)


def _vault_root(cfg: Config, folder: Path, sweep_dir: Path | None) -> Path:
    if cfg.vault.root is not None:
        return Path(cfg.vault.root)
    if sweep_dir is None:
        return folder / "vaults"
    from aegis_flower.sweep import shared_vaults

    return shared_vaults(sweep_dir, cfg)


def _job(composed: Any, note: Note, folder: Path, overrides: list[str]) -> RunReport | None:
    import dataclasses

    from aegis_flower.config import from_hydra

    cfg = from_hydra(composed)
    if note.root:
        cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=note.root))
    quiet()
    report = _run(cfg, folder, overrides)
    if report is not None and report.run.status != "finished":
        raise _Ended(report)
    return report


def quiet() -> None:
    """Flower's and AEGIS's own log lines off the screen: refusals are in the report, and shown at the end."""
    import logging

    from flwr.supercore import logger as _  # noqa: F401 - sets its level when imported, so ours must come after

    logging.getLogger("flwr").setLevel(logging.WARNING)
    logging.getLogger("aegis").setLevel(logging.CRITICAL)


class _Ended(AegisError):
    """A run ended without a model; the report says why."""

    def __init__(self, report: RunReport) -> None:
        self.status = report.run.status
        super().__init__(f"run {report.run.status}: {report.run.reason}", "AEG-R001")
        self.exit_code = 3 if self.status == "refused" else 1


def _run(cfg: Config, folder: Path, overrides: list[str], **options: Any) -> RunReport | None:
    from aegis_flower.experiment import run_experiment
    from aegis_flower.report import HTML_NAME, JSON_NAME, load_report, print_report

    out = console()
    if cfg.runtime.kind != "inprocess":
        from aegis_flower.simulations.submit import submit

        try:
            submit(cfg, folder, overrides)
        except RunFailed:
            if not (folder / JSON_NAME).is_file():
                raise
        return load_report(folder)  # it says whether the run finished; Flower's exit code does not
    out.print(
        f"[bold]{escape(cfg.name)}[/]: {cfg.data.clients} nodes, {cfg.data.name}, {_guarantee(cfg)}", highlight=False
    )
    try:
        with _Progress(cfg, out) as progress:
            report = run_experiment(cfg, folder, overrides=overrides, on_round=progress, **options)
    except KeyboardInterrupt as error:
        if not _notes(error):
            error.add_note(f"the report is in {_relative(folder)}")
        raise
    print_report(report, out)
    page = folder / (HTML_NAME if cfg.tracking.html else JSON_NAME)
    out.print(f"report: {_relative(page)}", highlight=False, soft_wrap=True)
    return report


def _guarantee(cfg: Config) -> str:
    """What the run promises before it starts: ε of the noise it will use, or that it promises nothing."""
    masks = "secure aggregation" if cfg.secagg.enabled else "updates in clear"
    p = cfg.privacy
    if p.mode == "off":
        return f"no DP (NOT PRIVATE), {masks}"
    if p.noise != "secure":
        return f"test noise that protects nobody (NOT PRIVATE), {masks}"
    promised = p.epsilon
    if p.noise_multiplier is not None:
        from aegis_flower.ledger import Mechanism, epsilon

        promised = epsilon({Mechanism(p.noise_multiplier, p.sample_rate, p.clip): cfg.total_steps}, p.delta)
        promised = math.ceil(promised * 100) / 100
    return f"ε ≤ {promised:.6g} a record (δ={p.delta:g}), {masks}"


def simulate(experiment: str, overrides: list[str], runs: Path, **options: Any) -> int:
    """Runs a project's own apps in this process, as `aegis run` runs the packaged ones; for a project's ``simulate.py``.

    Args:
        experiment: name of an experiment.
        overrides: KEY=VALUE, as for `aegis run`.
        runs: folder under which the run gets one of its own.
        options: ``client_app``, ``model`` and others of `run_experiment`.

    Returns:
        The exit code, that of `aegis run`.
    """
    from aegis_flower.config import compose
    from aegis_flower.files import claim
    from aegis_flower.interrupts import Interrupted, watched

    tolerate()
    quiet()
    with watched():
        try:
            cfg = compose(experiment, overrides)
            folder = claim(runs / f"{sum(1 for _ in runs.glob('*')) + 1:03d}")
            report = _run(cfg, folder, overrides, **options)
            if report is not None and report.run.status != "finished":
                raise _Ended(report)
        except AegisError as error:
            typer.echo(f"aegis: {error} [{error.code}]", err=True)
            return exit_code(error)
        except Interrupted as error:
            typer.echo(f"aegis: {error}" + "".join(f"; {n}" for n in _notes(error)), err=True)
            return error.exit_code
    return 0


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
        """Takes note of a finished round; output that fails costs nothing but itself."""
        with contextlib.suppress(Exception):
            self._show(record)

    def _show(self, record: RoundRecord) -> None:
        from aegis_flower.gate import means

        before = "" if record.task == "evaluate" else "before it "
        found = means(record.metrics)
        share = found.get("accuracy")
        note = f"{before}accuracy {share:.3f}" if share is not None else ""
        if found and share is None:  # a number is predicted
            note = f"{before}loss {found['loss']:.3f}"
        if share is not None and self._cfg.privacy.mode == "example":
            from aegis_flower.report_build import accuracy_sd

            sd = accuracy_sd(self._cfg, record, [])
            note += f" ± {sd:.3f}" if sd else ""
        lost = f", lost {len({x.node for x in record.lost})}" if record.lost else ""
        state = record.failed or f"{len(record.participants)} in the sum{lost}"
        done = record.round if record.task == "train" else self._cfg.strategy.rounds
        self._bar.update(self._task, completed=done, description="training", note=f"{state}  {note}")
        if self._bar.disable and self._cfg.tracking.progress:
            name = "final evaluation" if record.task == "evaluate" else f"round {record.round:>3}"
            self._console.print(f"{name}: {state}  {note}".rstrip(), highlight=False, markup=False)


def privacy_show(
    vault: Annotated[Path, typer.Argument(metavar="VAULT", help="folder of the vault")],
    key_file: KeyFile = None,
    key: Key = None,
    delta: Annotated[
        float | None, typer.Option(help="δ at which ε is stated; by default that of each data set's terms")
    ] = None,
) -> None:
    """Shows what each data set's privacy budget was spent on, by all runs: for a record, and for the person with most rows."""
    from rich.table import Table

    from aegis_engine import ComplianceEngine, Vault
    from aegis_flower.accountant import DELTA, within
    from aegis_flower.ledger import NEIGHBOURING, UNIT, Ledger
    from aegis_flower.report_books import _rows, mechanisms

    if delta is not None:
        within("--delta", delta, DELTA)
    tolerate()
    out = console()
    opened = Vault.open(str(vault), provider(key_file, key))
    engine = ComplianceEngine(opened)
    decisions = opened.audit_records("authorize")
    table = Table(
        title=f"unit {UNIT}, neighbours {NEIGHBOURING}, Poisson sampling, PLD accountant where it is proved, else RDP"
    )
    for column in ("data set", "δ", "ε spent", "ε for a person", "ε budget", "steps", "runs"):
        table.add_column(column, justify="left" if column == "data set" else "right", overflow="fold")
    notes = []
    for name, dataset in sorted(opened.datasets().items()):
        at = delta if delta is not None else float(engine.terms(dataset).get("delta", 1e-5))
        ledger = Ledger(opened, dataset, delta=float(engine.terms(dataset).get("delta", 1e-5)))
        spent = ledger.spent(at)
        rows = _rows(decisions, dataset)
        person = f"{ledger.spent_by_person(at, rows):.3f} ({rows} rows)" if rows else "not known"
        budget = engine.budget_epsilon(dataset)
        table.add_row(
            escape(name), f"{at:g}", f"{spent.epsilon:.3f}", person, f"{budget:g}", str(spent.steps), str(spent.runs)
        )
        with contextlib.suppress(AegisError):
            notes += [
                f"{name}: {m.steps} steps of {m.kind}, σ={m.noise_multiplier:g}, rate {m.sample_rate:g}, clip {m.clip:g}"
                for m in mechanisms(ledger.mechanisms())
            ]
    out.print(table)
    for note in notes:
        out.print(note, highlight=False, markup=False)


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
    from aegis_flower.report import load_report, print_report

    tolerate()
    print_report(load_report(_find_report(report)), console())


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
