"""The kit: one object that is an app's client, its server and its runs, so that both sides build the same model.

torch is imported where a model is built: a step of a deployment that does not train starts without it.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from aegis_flower import data as data_sets
from aegis_flower import features
from aegis_flower import project as projects
from aegis_flower.client import VaultClient, aegis_client_app
from aegis_flower.configs import (
    CARRIED,
    EXPERIMENT,
    OUTPUT,
    Config,
    compose,
    from_run_config,
    overrides_from_run_config,
)
from aegis_flower.data.spec import built
from aegis_flower.door import DoorApp
from aegis_flower.errors import AppError, ConfigError, RunFailed
from aegis_flower.project import Project

if TYPE_CHECKING:
    from aegis_flower.inference import TrainedModel
    from aegis_flower.metrics import Metric
    from aegis_flower.report import RunReport
    from aegis_flower.server import ModelFn

__all__ = ["AegisApp", "aegis_app"]

SCHEMA: Final = "schema.toml"
PLAN: Final = "plan.yaml"


@dataclass(frozen=True)
class _Choice:
    """What the app says of its experiment, before anything is composed."""

    config: Config | None
    experiment: str | None
    overrides: tuple[str, ...]
    project: Project | None
    config_dir: str | Path | None

    def compose(self, run_config: Mapping[str, Any]) -> tuple[Config, list[str], str]:
        """Configuration, overrides and output folder; what a run config carries goes before what the app says."""
        if str(run_config.get(CARRIED, "") or ""):
            cfg, overrides, output = from_run_config(run_config)
            return self._at_home(cfg), overrides, output
        output = str(run_config.get(OUTPUT, "") or "")
        name, more = overrides_from_run_config(run_config)
        if self.config is not None:
            if name or more:
                raise ConfigError(
                    EXPERIMENT, "the app was made with config=, which no run config changes; leave it out"
                )
            return self.config, [], output
        overrides = [*self.overrides, *more]
        folder = self.config_dir or (self.project.config if self.project is not None else None)
        return self._at_home(compose(name or self.experiment, overrides, folder)), overrides, output

    def _at_home(self, cfg: Config) -> Config:
        """A project's own files are found from its folder, wherever a node has put it."""
        if self.project is None:
            return cfg
        home, said = self.project.place, cfg.data
        return replace(
            cfg,
            data=replace(said, features=home(said.features), schema=home(said.schema), path=home(said.path)),
        )


class _Composer:
    """The experiment of a run config, composed once: in one process each message of each node asks again.

    Flower's simulation engine sends the client to Ray's workers by pickle, and with it this; what was composed stays behind.
    """

    def __init__(self, choice: _Choice) -> None:
        self._choice = choice
        self._once = functools.lru_cache(maxsize=8)(self._compose)

    def __call__(self, run_config: Mapping[str, Any]) -> Config:
        frozen = tuple((str(key), str(value)) for key, value in run_config.items() if str(key).startswith("aegis-"))
        return self._once(frozen)

    def __reduce__(self) -> tuple[type[_Composer], tuple[_Choice]]:
        return _Composer, (self._choice,)

    def _compose(self, frozen: tuple[tuple[str, str], ...]) -> Config:
        return self._choice.compose(dict(frozen))[0]


class AegisApp:
    """An app of one's own: ``client`` and ``server`` are Flower's components, ``run`` trains in this process.

    Attributes:
        client: the `ClientApp` of every node.
        model: builds the model on both sides; None where it is the configured one.
        metrics: the app's own, on both sides.
    """

    def __init__(self, choice: _Choice, client: Any, model: ModelFn | None, recipe: Mapping[str, Any]) -> None:
        self._choice = choice
        self._composed = _Composer(choice)
        own = recipe.get("spec")
        self.model: ModelFn | None = (
            functools.partial(built, model, lambda: own) if model is not None and own is not None else model
        )
        self.metrics: Sequence[Metric] = tuple(recipe.get("metrics", ()))
        self.client: DoorApp = aegis_client_app(client, model=self.model, config=self._composed, **recipe)

    @functools.cached_property
    def server(self) -> ServerApp:
        """The `ServerApp`, which ends with a report however the run ends."""
        app = ServerApp()

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            from aegis_flower.server_app import serve

            cfg, overrides, output = self._choice.compose(context.run_config)
            serve(grid, context, cfg, overrides, output, self.model, self.metrics)

        return app

    def config(self, *overrides: str) -> Config:
        """The experiment as `run` would take it.

        Raises:
            ConfigError: an unknown key, or an impossible value.
        """
        return self._chosen(overrides).compose({})[0]

    def run(
        self,
        *overrides: str,
        folder: str | Path | None = None,
        nodes: Sequence[Mapping[str, Any]] | None = None,
        resume: str | Path | None = None,
        **options: Any,
    ) -> RunReport:
        """Trains in this process, shows rounds, accuracy and ε, and leaves model, card and report in a folder.

        Args:
            overrides: ``KEY=VALUE``, as for `aegis run`.
            folder: of the run; None takes ``outputs/NAME/TIME``.
            nodes: node configs of vaults that are there, one a node; None makes vaults of the configured data.
            resume: folder of a run that was stopped; its remaining rounds are done, with the same noise.
            options: those of `run_experiment`, such as ``on_round``.

        Raises:
            ConfigError, DataError: what is wrong or missing, before a vault is made. A schema and a feature plan that are missing
                are drafted, for people to review.
            RunFailed: the run gave no model. The report is there and says why.
        """
        from aegis_flower.cli.trial import quieted, shown
        from aegis_flower.errors import DataError
        from aegis_flower.files import claim

        if resume is not None:
            from aegis_flower.checkpoint import read, resumed

            if overrides or nodes is not None:
                raise ConfigError("resume", "a run goes on as it was; leave overrides and nodes out")
            cfg, said = resumed(Path(resume)), list(read(Path(resume)).overrides)
        else:
            cfg, said, _ = self._chosen(overrides).compose({})
            if nodes is not None:
                cfg = replace(cfg, data=replace(cfg.data, clients=len(nodes)))
            else:
                _drafted(cfg)
            features.chosen(cfg.data)  # a plan that means nothing is said before there is a folder
        if cfg.runtime.kind != "inprocess":
            raise ConfigError("runtime.kind", "run() trains in this process; `aegis run` and `flwr run` submit the app")
        where = Path(folder) if folder is not None else _new_folder(cfg.name)
        if folder is not None and where.is_dir() and any(where.iterdir()):
            raise DataError(f"{where} is not empty; name a new folder")
        where = claim(where)
        own: dict[str, Any] = {"client_app": self.client, "model": self.model, "metrics": self.metrics}
        with quieted():
            report = shown(cfg, where, said, nodes=nodes, **own, **options)
        assert report is not None
        if report.run.status != "finished":
            raise RunFailed(f"the run is {report.run.status}: {report.run.reason}; the report is in {where}")
        return report

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """`run` as a command: overrides are the arguments of the process; gives the exit code, that of `aegis run`."""
        from aegis.cli.output import exit_code, say

        from aegis_flower.errors import AegisError
        from aegis_flower.interrupts import Interrupted, watched

        with watched():
            try:
                self.run(*(sys.argv[1:] if arguments is None else arguments))
            except (AegisError, Interrupted) as error:
                say(f"aegis: {error}", err=True)
                return exit_code(error)
        return 0

    def load(self, folder: str | Path) -> TrainedModel:
        """The model that a run of this app left, ready for new rows."""
        from aegis_flower.inference import load

        return load(folder, model=self.model)

    def _chosen(self, overrides: Sequence[str]) -> _Choice:
        """What the app says, and more overrides."""
        if not overrides:
            return self._choice
        if self._choice.config is not None:
            raise ConfigError("overrides", "the app was made with config=, which nothing changes; put them there")
        return replace(self._choice, overrides=(*self._choice.overrides, *overrides))


def aegis_app(
    model: ModelFn | None = None,
    *,
    client: type[VaultClient] | Callable[[Context], Any] = VaultClient,
    data: str | os.PathLike[str] | None = None,
    schema: str | os.PathLike[str] | None = None,
    features: str | os.PathLike[str] | None = None,
    name: str | None = None,
    experiment: str | None = None,
    overrides: Sequence[str] = (),
    config: Config | None = None,
    config_dir: str | os.PathLike[str] | None = None,
    project: str | os.PathLike[str] | None = None,
    **recipe: Any,
) -> AegisApp:
    """Makes an app of one's own: one model for both sides, one configuration, one place that runs it.

    Args:
        model: builds the model, of torch, scikit-learn or JAX (`aegis_flower.learners`). It takes nothing, or the `Spec` of the
            data (its inputs and classes); None takes ``model.kind``.
        client: as for `aegis_client_app`; a subclass of `VaultClient` where a function is not enough.
        data: a file of one's own (CSV, Parquet, Arrow, JSON lines, a folder of images), or the name of a packaged data set.
        schema: what the columns of the file are; by default ``schema.toml`` beside it.
        features: how columns become inputs; by default ``plan.yaml`` beside the file.
        name: of the run and its folder under ``outputs/``.
        experiment: name of an experiment, packaged or of `config_dir`.
        overrides: ``KEY=VALUE``, as for `aegis run`.
        config: a whole configuration, in place of everything above that says something of one.
        config_dir: folder of experiments of one's own.
        project: a file of the project that the app belongs to (``__file__``): its ``aegis.toml`` says experiment and folder.
        recipe: further arguments of `aegis_client_app`: ``loss``, ``optimizer``, ``class_weights``,
            ``spec``, ``metrics``.

    Raises:
        AppError, ConfigError: arguments that do not go together; says which.
    """
    said = {"data": data, "schema": schema, "features": features, "name": name, "experiment": experiment}
    more = {"overrides": overrides or None, "config_dir": config_dir, "project": project}
    given = [key for key, value in {**said, **more}.items() if value is not None]
    if config is not None and given:
        raise AppError(
            f"config= is a whole configuration; leave {', '.join(f'{key}=' for key in given)} out, or config="
        )
    if isinstance(overrides, str):
        raise AppError(f"overrides is a list of KEY=VALUE, such as overrides=[{overrides!r}]")
    if model is not None and not callable(model):
        raise AppError(
            f"model is a {type(model).__name__}; give the function or class that builds it, so that each side builds its own"
        )
    home = projects.around(os.fspath(project)) if project is not None else None
    chosen = [*_of_data(data, schema, features), *([f"name={_quoted(name)}"] if name is not None else []), *overrides]
    whole = _Choice(
        config,
        experiment or (home.experiment if home is not None else None),
        tuple(chosen),
        home,
        None if config_dir is None else Path(config_dir).resolve(),
    )
    return AegisApp(whole, client, model, recipe)


def _of_data(
    data: str | os.PathLike[str] | None, schema: str | os.PathLike[str] | None, features: str | os.PathLike[str] | None
) -> list[str]:
    """The overrides that name the data."""
    packaged = data is not None and str(data) in data_sets.DATASETS
    if (data is None or packaged) and (schema is not None or features is not None):
        raise AppError("schema= and features= go with data= and the path of a file")
    if data is None:
        return []
    if packaged:
        return [f"data={data}"]
    folder = Path(data).parent
    plan = str(features or folder / PLAN)
    if "/" not in plan and not plan.endswith((".yaml", ".yml")):
        plan = f"./{plan}"
    paths = {"path": str(data), "schema": str(schema or folder / SCHEMA), "features": plan}
    return ["data=table", *(f"data.{key}={_quoted(value)}" for key, value in paths.items())]


def _quoted(text: str) -> str:
    """A text as an override holds it, whatever characters are in it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _new_folder(name: str) -> Path:
    from datetime import datetime

    return Path("outputs") / name / datetime.now().astimezone().strftime("%Y-%m-%d_%H-%M-%S")


def _drafted(cfg: Config) -> None:
    """Writes drafts of the schema and the plan that a run of a file needs and lacks, and ends there: people review them."""
    from aegis_flower.importer.started import drafts

    rows, schema, plan = cfg.data.path, cfg.data.schema, cfg.data.features
    if cfg.data.name != data_sets.TABLE or rows is None or schema is None or plan is None:
        return
    packaged = "/" not in plan and not plan.endswith((".yaml", ".yml"))
    if packaged or (Path(schema).is_file() and Path(plan).is_file()):
        return
    written = drafts(Path(rows), Path(schema), Path(plan))
    raise ConfigError(
        "data",
        f"{' and '.join(str(file) for file in written.files)} did not exist and {'is' if len(written.files) == 1 else 'are'} now "
        f"drafted from {cfg.data.path}. Review every line"
        + (f"; nobody declared {written.lacking}" if written.lacking else "")
        + "; then run again",
    )
