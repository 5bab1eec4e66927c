"""A trial: one run with its progress, its report and its exit code, from Hydra or from a project of the user's."""

from __future__ import annotations

import logging
import math
import traceback
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from aegis.cli.output import exit_code

from aegis_flower.cli.progress import Progress, escape
from aegis_flower.console import console, quiet, tolerate
from aegis_flower.errors import AegisError, BudgetExceeded, RunFailed

if TYPE_CHECKING:
    from aegis_flower.configs import Config
    from aegis_flower.report.model import RunReport
    from aegis_flower.sweep.trials import Note


def notes_of(error: BaseException) -> list[str]:
    """What was added to an error on its way."""
    return [str(note) for note in getattr(error, "__notes__", [])]


def trial(composed: Any) -> tuple[float, int]:
    """One Hydra job, of a single run or of a sweep: runs it, whatever happens, and notes what came of it in its folder.

    Returns:
        The trial's value for a sweeper, ``sweep.objective`` (the worst there is where it has none); and its exit code.
    """
    import dataclasses

    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from aegis_flower.files import claim
    from aegis_flower.sweep.trials import Note

    hydra_cfg = HydraConfig.get()
    given = Path(hydra_cfg.runtime.output_dir)
    overrides = list(hydra_cfg.overrides.task)
    many = hydra_cfg.mode == RunMode.MULTIRUN
    if many and (done := _finished(hydra_cfg, overrides)) is not None:
        return _value(composed, done), 0
    folder = claim(given)
    note = Note(int(hydra_cfg.job.num) if many else 0, overrides, str(folder.resolve()))
    try:
        note = _noted(composed, note, folder, Path(hydra_cfg.sweep.dir) if many else None)
        note.write(folder)
        report = _job(composed, note, folder, overrides, Path(hydra_cfg.sweep.dir) if many else None)
    except AegisError as error:
        typer.echo(f"aegis: {error}" + "".join(f"; {n}" for n in notes_of(error)) + f" [{error.code}]", err=True)
        dataclasses.replace(
            note,
            status=getattr(error, "status", "refused" if isinstance(error, BudgetExceeded) else "failed"),
            error=str(error),
            exit_code=exit_code(error),
        ).write(folder)
        return _value(composed, None), exit_code(error)
    except Exception as error:  # noqa: BLE001 - a sweep goes on, and its table has the trial
        text = f"{type(error).__name__}: {error}"
        where = traceback.extract_tb(error.__traceback__)[-1]
        typer.echo(
            f"aegis: {text} ({where.filename}:{where.lineno})" + "".join(f"; {n}" for n in notes_of(error)), err=True
        )
        dataclasses.replace(note, status="failed", error=text).write(folder)
        return _value(composed, None), 1
    except BaseException as error:
        code = getattr(error, "exit_code", 130)
        dataclasses.replace(note, status="interrupted", error=str(error), exit_code=code).write(folder)
        raise
    dataclasses.replace(note, status="finished", exit_code=0).write(folder)
    return _value(composed, report), 0


def _finished(hydra_cfg: Any, overrides: list[str]) -> RunReport | None:
    """The report of a trial that an earlier start of a resumed sweep finished."""
    from aegis_flower.sweep.resume import earlier

    report = earlier(Path(hydra_cfg.sweep.dir), int(hydra_cfg.job.num), overrides).report
    if report is not None:
        typer.echo(f"trial {hydra_cfg.job.num} finished before; it is not run again")
    return report


def _value(composed: Any, report: RunReport | None) -> float:
    """What a sweeper is told: the objective, or where there is none the worst that there is."""
    from aegis_flower.configs import SweepConfig, from_hydra
    from aegis_flower.sweep import objective

    try:
        asked = from_hydra(composed).sweep
    except Exception:  # noqa: BLE001 - its configuration is what is wrong with the trial
        asked = SweepConfig()
    found = objective.value(asked, report)
    return objective.worst(asked) if found is None else found


def _noted(composed: Any, note: Note, folder: Path, sweep_dir: Path | None) -> Note:
    """The note with whose data the trial uses and where its vaults are."""
    import dataclasses

    from aegis_flower.configs import from_hydra
    from aegis_flower.sweep.trials import source_of

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


def _job(composed: Any, note: Note, folder: Path, overrides: list[str], sweep_dir: Path | None) -> RunReport | None:
    import dataclasses

    from aegis_flower.configs import from_hydra

    cfg = from_hydra(composed)
    if sweep_dir is not None:
        from aegis_flower.sweep.resume import earlier

        cfg = earlier(sweep_dir, note.number, overrides).config or cfg
    if note.root:
        cfg = dataclasses.replace(cfg, vault=dataclasses.replace(cfg.vault, root=note.root))
        if sweep_dir is not None:
            from aegis_flower.sweep import budget

            budget.check(cfg, Path(note.root))
    with quieted():
        report = shown(cfg, folder, overrides, **own_app())
    if report is not None and report.run.status != "finished":
        raise _Ended(report)
    return report


def quieted() -> AbstractContextManager[None]:
    """Flower's and AEGIS's own log lines off the screen while a run goes on: refusals are in the report, and shown at the end."""
    return quiet(flwr=logging.WARNING, aegis=logging.CRITICAL)


class _Ended(AegisError):
    """A run ended without a model; the report says why."""

    def __init__(self, report: RunReport) -> None:
        self.status = report.run.status
        super().__init__(f"run {report.run.status}: {report.run.reason}", "AEG-R001")
        self.exit_code = 3 if self.status == "refused" else 1


def own_app() -> dict[str, Any]:
    """What a run takes of the project in the current folder: its app in place of the packaged one."""
    from aegis_flower import project

    found = project.here()
    app = found.load() if found is not None else None
    if found is None or app is None:
        return {}
    return {"client_app": app.client, "model": app.model, "metrics": app.metrics, "app_dir": found.root}


def shown(
    cfg: Config, folder: Path, overrides: list[str], *, app_dir: Path | None = None, **options: Any
) -> RunReport | None:
    """Runs one configuration into a folder and shows what comes of it.

    Args:
        cfg: the experiment, under whatever runtime.
        folder: of the run.
        overrides: what the user wrote.
        app_dir: folder of the Flower App that ray and deployments run; None takes the packaged one.
        options: those of `run_experiment`, for runs in this process.
    """
    from aegis_flower.report import HTML_NAME, JSON_NAME, load_report, print_report

    out = console()
    if cfg.runtime.kind not in ("inprocess", "jailed"):
        from aegis_flower.simulations.submit import APP, submit

        try:
            submit(cfg, folder, overrides, app_dir or APP, options.get("client_app"))
        except RunFailed:
            if not (folder / JSON_NAME).is_file():
                raise
        return load_report(folder)  # it says whether the run finished; Flower's exit code does not
    out.print(
        f"[bold]{escape(cfg.name)}[/]: {cfg.data.clients} nodes, {cfg.data.name}, {_guarantee(cfg)}", highlight=False
    )
    try:
        with Progress(cfg, out) as progress:
            progress.phase("loading Flower")
            from aegis_flower.experiment import run_experiment

            hears = {"on_round": progress, "on_phase": progress.phase}
            report = run_experiment(cfg, folder, overrides=overrides, **{**hears, **options})
    except KeyboardInterrupt as error:
        if not notes_of(error):
            error.add_note(f"the report is in {_relative(folder)}")
        raise
    print_report(report, out)
    page = folder / (HTML_NAME if cfg.tracking.html else JSON_NAME)
    if "safetensors" in report.files:
        out.print(f"model: {_relative(folder / report.files['safetensors'])}", highlight=False, soft_wrap=True)
    out.print(f"report: {_relative(page)}", highlight=False, soft_wrap=True)
    out.print(_last_line(report, folder), highlight=False, soft_wrap=True, markup=False)
    return report


def _last_line(report: RunReport, folder: Path) -> str:
    """What a run came to, in one line: accuracy, ε, where the model is."""
    from aegis_flower.report import plain, words

    results, worst = report.results, words.most_spent(report.clients)
    said = [f"accuracy {words.accuracy(results)}" if results.accuracy is not None else "accuracy not known"]
    if found := plain.interval_text(results):
        said[0] += f" (95{words.THIN}% interval {found})"
    if results.accuracy is None and results.loss is not None:
        said = [f"loss {words.number(results.loss, 3)}"]
    said.append(f"ε {words.run_epsilon(worst)} {words.per(worst)}" if worst is not None else "no ε")
    model = report.files.get("model")
    made = model is not None and plain.gave_model(report)
    said.append(f"model {_relative(folder / str(model))}" if made else "no model")
    return f"{report.run.status}: {', '.join(said)}"


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
        from aegis_flower.ledger import RoundMechanism, epsilon

        promised = epsilon({RoundMechanism.of(p, p.noise_multiplier).step: cfg.total_steps}, p.delta)
        promised = math.ceil(promised * 100) / 100
    unit = {"update": "per node", "blocks": "a person"}.get(p.mode, "a record")
    return f"ε ≤ {promised:.6g} {unit} (δ={p.delta:g}), {masks}"


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
    from aegis_flower.configs import compose
    from aegis_flower.files import claim

    tolerate()
    try:
        cfg = compose(experiment, overrides)
        folder = claim(runs / f"{sum(1 for _ in runs.glob('*')) + 1:03d}")
    except AegisError as error:
        typer.echo(f"aegis: {error} [{error.code}]", err=True)
        return exit_code(error)
    return single(cfg, folder, overrides, **options)


def single(cfg: Config, folder: Path, overrides: list[str], **options: Any) -> int:
    """Runs one configuration into a folder, without Hydra; gives the exit code. `options` are those of `run_experiment`."""
    from aegis_flower.interrupts import Interrupted, watched

    with quieted(), watched():
        try:
            report = shown(cfg, folder, overrides, **options)
            if report is not None and report.run.status != "finished":
                raise _Ended(report)
        except AegisError as error:
            typer.echo(f"aegis: {error} [{error.code}]", err=True)
            return exit_code(error)
        except Interrupted as error:
            typer.echo(f"aegis: {error}" + "".join(f"; {n}" for n in notes_of(error)), err=True)
            return error.exit_code
    return 0


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
