"""`aegis run`: Hydra over the arguments; each job it composes is a trial."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

import typer
from aegis.cli.output import fail

from aegis_flower.cli.trial import notes_of, trial
from aegis_flower.console import tolerate
from aegis_flower.errors import AegisError, ConfigError

_RUN_HELP = """Runs a federated experiment and writes its report.

Arguments are Hydra overrides:

  aegis run experiment=quickstart                        five hospitals, real data, DP, secure aggregation

  aegis run experiment=quickstart privacy.epsilon=1      the same with a tighter budget

  aegis run -m experiment=digits privacy.epsilon=1,3,8   a sweep: one table, one plot

  aegis run experiment=digits data.alpha=0.3 strategy=fedadam runtime.lose=[4@3:masked]

  aegis run experiment=quickstart --cfg job              print the configuration, run nothing

  aegis run --config-dir conf experiment=mine            an experiment of your own, conf/experiment/mine.yaml

  aegis run                                              in a project (aegis init): its own experiment, with its own app

  aegis run --resume outputs/quickstart/TIME             the rounds that a stopped or killed run did not do

  aegis run --resume outputs/digits/sweep_TIME           the trials that a sweep did not do

Groups (GROUP=NAME): {groups}

Keys (GROUP.KEY=VALUE) are in docs/CONFIG.md, and --cfg job prints all of them; a wrong one is refused with its path.

Output: outputs/NAME/TIME/ with report.html, report.json, model.npz and, for simulations, the nodes' vaults. Ctrl-C and
SIGTERM end a run with its report and its last model; a second one ends it at once. checkpoint.npz has the model of each round:
--resume goes on from it with the same noise, on the same vaults, in a folder beside. What was spent stays in the ledgers.

A sweep (-m) says first what it will cost at each node, and asks on a terminal; --yes answers. sweep.objective and
sweep.direction say which trial is the best one. With the extra aegis-flower\\[sweeps]:

  aegis run -m hydra/launcher=joblib experiment=digits privacy.epsilon=1,3   in parallel

  aegis run -m hydra/sweeper=optuna experiment=digits 'model.learning_rate=interval(0.1,2)'
"""


def run_help() -> str:
    """The text of ``aegis run --help``; groups and names are read from the configuration tree, so that none is left out."""
    from importlib.resources import files

    tree = files("aegis_flower") / "configs"
    found = {}
    for folder in sorted(tree.iterdir(), key=lambda f: f.name):
        if folder.is_dir() and folder.name != "__pycache__":
            names = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
            title = "data.features" if folder.name == "features" else folder.name  # plans, chosen by a key of data
            found[folder.name] = f"{title} ({' '.join(names)})"
    return _RUN_HELP.format(groups=" · ".join(found.values()))


def run(ctx: typer.Context) -> None:
    """See `run_help`."""
    from aegis_flower import project
    from aegis_flower.interrupts import watched

    arguments = list(ctx.args)
    if not {"--help", "--hydra-help", "--resume"} & set(arguments) and (found := project.here()) is not None:
        arguments = found.arguments(arguments)
    if not arguments:
        raise ConfigError(
            "", "nothing to run; `aegis run experiment=quickstart` is a start, `aegis run --help` explains"
        )
    tolerate()
    with watched() as watch:
        try:
            code = _resume(arguments) if arguments[0] == "--resume" else _run_hydra(arguments)
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


def _resume(arguments: list[str]) -> int:
    """Goes on with a run; gives the exit code."""
    from aegis_flower.checkpoint import read, resumed
    from aegis_flower.cli.trial import own_app, single
    from aegis_flower.files import claim
    from aegis_flower.sweep import plan, resuming

    match arguments:
        case ["--resume", folder] | ["--resume", folder, "--yes"]:
            pass
        case _:
            raise ConfigError(
                "--resume", "takes the folder of a run, and nothing else: its configuration is that of the run"
            )
    old = Path(folder)
    if (sweep := plan.read(old)) is not None:
        typer.echo("going on with the sweep; trials that finished are not run again")
        resuming.add(old.resolve())
        kept = [a for a in sweep.arguments if not a.startswith("hydra.sweep.dir=")]
        return _run_hydra([*kept, f"hydra.sweep.dir={old}", *arguments[2:]])
    cfg = resumed(old)
    found = read(old)
    typer.echo(f"going on after round {found.round} of {found.config.strategy.rounds}")
    return single(cfg, claim(old.with_name(f"{old.name}-resumed")), list(found.overrides), **own_app())


def _interrupted(error: BaseException, signum: int) -> int:
    import signal

    from aegis_flower import sweep

    typer.echo(
        f"aegis: interrupted by {signal.Signals(signum).name}" + "".join(f"; {n}" for n in notes_of(error)), err=True
    )
    with contextlib.suppress(Exception):  # the exit code is what a script waits for
        sweep.finish()
    return 128 + signum


def _run_hydra(arguments: list[str]) -> int:
    """Runs Hydra over the arguments; gives the exit code of the worst trial."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from aegis_flower import sweep
    from aegis_flower.configs import explain_hydra, register_schema
    from aegis_flower.configs.composition import CONFIG_MODULE
    from aegis_flower.sweep import plan

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, and leave as one line
    register_schema()
    yes = "--yes" in arguments
    arguments = plan.for_optuna([a for a in arguments if a != "--yes"])
    sys.argv = ["aegis run", *arguments]
    if plan.is_sweep(arguments):
        _announce(arguments, yes=yes)
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


def _announce(arguments: list[str], *, yes: bool) -> None:
    """Says what a sweep will cost, and asks whether it is to go on where somebody can answer.

    Raises:
        ConfigError: nobody can answer, and the budget that it spends lasts.
        typer.Abort: the answer was no.
    """
    from aegis_flower.sweep import announce, plan

    spends = True
    try:
        configs = plan.configurations(arguments)
        announce(configs)
        spends = any(cfg.privacy.on for cfg in configs)
    except AegisError:
        return  # refused in a moment, by the trial that it belongs to
    except Exception as error:  # noqa: BLE001 - a courtesy; what cannot be told beforehand is told afterwards
        typer.echo(f"what this sweep will cost is not known before it ends ({error}); each trial is charged")
    if yes or not spends:
        return
    if sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm("go on?", abort=True)
    elif plan.lasts(arguments):
        raise ConfigError(
            "--yes", "the sweep spends a budget that lasts (vault.root, runtime=deployment), and nobody is here to ask"
        )
