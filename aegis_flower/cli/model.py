"""`aegis model`: what a run left, and what it says of new rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from aegis.cli.output import AsJson, say, show

if TYPE_CHECKING:
    from aegis_flower.data.schema import Schema
    from aegis_flower.inference import TrainedModel

Run = Annotated[Path, typer.Argument(metavar="RUN", help="folder of a run, or of an export of its model")]


def _load(run: Path) -> TrainedModel:
    """The model of a run; in a project's folder, by the project's own app."""
    from aegis_flower import project
    from aegis_flower.inference import load

    found = project.here()
    app = found.load() if found is not None else None
    return load(run, model=app.model if app is not None else None)


def model_show(run: Run, as_json: AsJson = False) -> None:
    """Shows a run's model: its task, inputs, arrays, accuracy, and what it cost."""
    from aegis_flower.errors import ModelMismatch
    from aegis_flower.inference import load

    trained = load(run)
    plan, about = trained.plan, trained.about
    arrays = {name: list(value.shape) for name, value in trained.weights.items()}
    kind: str | None = trained.config.model.kind
    try:
        _ = trained.module
    except ModelMismatch:
        kind = None  # an app's own
    whole: dict[str, Any] = {
        "run": about.run,
        "status": about.status,
        "private": about.private,
        "kind": kind or "the app's own",
        "task": plan.label.task if plan is not None else None,
        "features_sha256": plan.sha256 if plan is not None else None,
        "columns": list(plan.columns) if plan is not None else None,
        "parameters": sum(int(value.size) for value in trained.weights.values()),
        "arrays": arrays,
        "accuracy": about.accuracy,
        "accuracy_sd": about.accuracy_sd,
        "epsilon": about.epsilon,
        "epsilon_person": about.epsilon_person,
    }
    told = [f"{key}: {value}" for key, value in whole.items() if value is not None and key not in ("arrays", "columns")]
    told += [f"column: {name}" for name in whole["columns"] or ()]
    told += [f"array: {name} {' x '.join(map(str, shape))}" for name, shape in arrays.items()]
    show(whole, told, as_json)


def model_export(
    run: Run,
    to: Annotated[
        Literal["safetensors", "npz", "torch"], typer.Option(help="form of the arrays; torch: a state dict, model.pt")
    ] = "safetensors",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="new folder; by default NAME-model in the current one")
    ] = None,
) -> None:
    """Writes a run's model for use elsewhere: arrays, card, feature plan. It names no node and no path of yours.

    aegis model export outputs/clinics/TIME --to torch --out clinics-model
    """
    from aegis_flower.inference import load

    trained = load(run)
    for file in trained.export(out or Path(f"{trained.about.name}-model"), to):
        say(str(file))


def model_predict(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="new rows: CSV, Parquet, Arrow or JSON lines")],
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV file to be written")],
    schema: Annotated[
        Path, typer.Option("--schema", metavar="TOML", help="what the columns of the file are, as for the import")
    ],
) -> None:
    """Predicts new rows, by the same feature plan that the model was trained with. Labels need not be there."""
    import pyarrow as pa
    import pyarrow.csv as pc

    from aegis_flower.data import schema as schemas
    from aegis_flower.errors import BadRows, DataError
    from aegis_flower.importer.add import lines_of
    from aegis_flower.importer.convert import Bad, convert
    from aegis_flower.importer.reading.batches import Malformed
    from aegis_flower.importer.reading.files import read

    if out.exists():
        raise typer.BadParameter(f"{out} is there already; name another file", param_hint="--out")
    trained = _load(run)
    about = _inputs_of(schemas.read(schema), trained)
    bad, malformed = Bad(), Malformed()
    tables = []
    for batch in read(file, about.source, malformed):
        found = convert(batch, about, bad, str)
        if bad.rows or malformed.count:
            continue  # told together, at the end
        made: dict[str, Any] = {"row": pa.array(range(batch.first + 1, batch.first + batch.rows + 1))}
        if about.subject is not None:
            made[about.subject] = found.subjects.dictionary_decode()
        made |= {name: pa.array(values) for name, values in trained.predict(found.table).items()}
        tables.append(pa.table(made))
    if bad.rows or malformed.count:
        lines = lines_of(bad, malformed)
        for line in lines:
            say(f"  {line}", err=True)
        raise BadRows(
            f"{file.name}: {bad.rows + malformed.count} rows do not fit the schema; nothing was predicted", lines
        )
    if not tables:
        raise DataError(f"{file.name}: there are no rows")
    whole = pa.concat_tables(tables)
    pc.write_csv(whole, out)
    say(f"{whole.num_rows} predictions in {out}: {', '.join(whole.column_names)}")


def _inputs_of(schema: Schema, trained: TrainedModel) -> Schema:
    """The schema's columns that the plan reads, and the subject: labels and others need not be in the file."""
    from dataclasses import replace

    from aegis_flower.errors import DataError

    if trained.plan is None:
        raise DataError("the run had no feature plan, so nothing says what columns mean")
    wanted = {*trained.plan.columns, *([schema.subject] if schema.subject else [])}
    if lacking := [name for name in trained.plan.columns if name not in schema.columns]:
        raise DataError(f"the schema has no column {lacking[0]!r}, which the feature plan reads")
    columns = {name: column for name, column in schema.columns.items() if name in wanted}
    return replace(schema, columns=columns)


COMMANDS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("show", model_show),
    ("predict", model_predict),
    ("export", model_export),
)
