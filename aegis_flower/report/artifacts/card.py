"""The model's card: what it is, of what data, at what ε, how good, and where its limits are. Made of the report and public files.

No node, person or path is named in it, so that it can go where the model goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from aegis_flower import data
from aegis_flower.data import schema as schemas
from aegis_flower.data.schema import Schema
from aegis_flower.errors import AegisError
from aegis_flower.features import Plan
from aegis_flower.report.model import RunReport
from aegis_flower.report.words import NODE, PERSON, basis, clean, epsilon, number, percent, whole

NAME: Final = "MODEL_CARD.md"
# By code point: a bar would end a cell, a backtick its code, and the third begins markup.
_ESCAPED: Final = {0x7C: r"\|", 0x60: "'", 0x3C: "\u2039"}
_LEVELS: Final = 12  # of a category that are written out
_LIMITS: Final = (
    "It predicts for people like those whose rows it was trained on. Nobody has tried it on others.",
    "The ε above bounds what the model reveals about {what}, and nothing that left in another way.",
    "A model tells facts that hold for many people. That is what it is for, and no ε bounds it.",
    "The accuracy is that of held-out rows of the same nodes. It is no evidence of use in practice.",
    "Nothing here says how good the model is for groups of people.",
)


def text(report: RunReport, shapes: Mapping[str, tuple[int, ...]], plan: Plan | None) -> str:
    """The card as Markdown.

    Args:
        report: of the run.
        shapes: of the model's arrays, by name.
        plan: how columns become inputs; None for a packaged data set.
    """
    parts = (
        _head(report),
        _model(report, shapes, plan),
        _data(report, plan),
        _privacy(report),
        _results(report),
        _limits(report),
        _use(plan),
    )
    return "\n".join(line for part in parts for line in part)


def _head(report: RunReport) -> Iterator[str]:
    run = report.run
    yield f"# Model card: {_cell(run.name)}"
    yield ""
    yield f"Trained by AEGIS {_cell(report.versions.aegis_flower)}, run `{_cell(run.id)}` of {_cell(run.started)}, {run.status}."
    yield f"Configuration: SHA-256 `{report.config.sha256}`."
    yield ""


def _model(report: RunReport, shapes: Mapping[str, tuple[int, ...]], plan: Plan | None) -> Iterator[str]:
    yield "## Model"
    yield ""
    if plan is not None:
        yield f"Task: {plan.label.task}."
        yield ""
    yield f"Numbers: {whole(sum(math.prod(shape) for shape in shapes.values()))}, in these arrays:"
    yield ""
    yield from _table(
        ("array", "shape"), ((f"`{_cell(n)}`", " x ".join(map(str, s)) or "one number") for n, s in shapes.items())
    )
    init = report.config.resolved.get("model", {}).get("init")
    if init is not None:
        yield "The model started from the arrays of another file (`model.init`). That file's own data are not part of this card."
        yield ""


def _data(report: RunReport, plan: Plan | None) -> Iterator[str]:
    told = report.config.resolved.get("data", {})
    yield "## Data"
    yield ""
    people = f"{len(report.clients)} nodes took part" if report.clients else "No node took part"
    yield f"Data set: `{_cell(str(told.get('name', '')))}`. {people}; each kept its rows."
    yield ""
    if plan is None:
        known = data.DATASETS.get(str(told.get("name")))
        if known is not None:
            spec = known.spec
            yield f"Columns: {len(spec.columns)}, of {spec.features} numbers."
            yield f"Label: `{_cell(spec.label)}`, of {spec.classes} classes."
            yield ""
        return
    about = _schema(told.get("schema"))
    rows = []
    plain = plan.plain()["columns"]
    for name in plan.columns:
        column = about.columns.get(name) if about is not None else None
        words = (
            " ".join(filter(None, (column.about, f"({column.unit})" if column.unit else "")))
            if column is not None
            else ""
        )
        rows.append((f"`{_cell(name)}`", plain[name]["kind"], _transform(plain[name]), _cell(words)))
    yield from _table(("column", "kind", "as the plan reads it", "about"), rows)
    label = plan.plain()["label"]
    yield f"Label: `{_cell(', '.join(plan.label.reads))}` ({_transform(label)})."
    yield f"Feature plan: `features.yaml`, SHA-256 `{plan.sha256}`."
    yield ""


def _schema(path: Any) -> Schema | None:
    """The public schema, where it is still there."""
    try:
        return schemas.read(path) if path and Path(path).is_file() else None
    except (AegisError, OSError):
        return None


def _transform(plain: Mapping[str, Any]) -> str:
    said = []
    for key, value in plain.items():
        if key in ("kind", "task", "column", "columns"):
            continue
        if isinstance(value, list) and len(value) > _LEVELS:
            value = [*value[:_LEVELS], f"and {len(value) - _LEVELS} more"]  # noqa: PLW2901 - the same, shortened
        said.append(f"{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return _cell("; ".join([*([str(plain["task"])] if "task" in plain else []), *said]))


def _privacy(report: RunReport) -> Iterator[str]:
    results = report.results
    yield "## Privacy"
    yield ""
    if not report.run.private:
        yield f"**NOT PRIVATE.** {_cell(', '.join(report.run.labels))}: treat this model as you treat the rows it was trained on."
        yield ""
    worst = max((c for c in report.clients if c.epsilon is not None), key=lambda c: c.epsilon or 0.0, default=None)
    rows = [
        (f"ε of a {worst.unit if worst is not None else 'record'}, this run", epsilon(results.epsilon_max)),
        ("ε of a person, this run", epsilon(results.epsilon_person_max)),
        ("ε of a record, all runs on these data", epsilon(results.epsilon_total_max)),
    ]
    yield from _table(("what", "at most"), rows)
    if worst is not None:
        yield f"Of the node with the largest ε: {basis(worst)}."
        yield ""
    yield from (f"- with noise of its own: {_cell(each)}" for each in results.noised_outputs)
    yield from (f"- without noise: {_cell(each)}" for each in results.unnoised_outputs)
    yield ""


def _results(report: RunReport) -> Iterator[str]:
    r = report.results
    yield "## Results"
    yield ""
    deviation = f", standard deviation of its noise {percent(r.accuracy_sd)}" if r.accuracy_sd else ""
    rows = [
        ("accuracy on held-out rows", percent(r.accuracy) + deviation),
        ("accuracy of always naming the largest class", percent(r.majority_class_accuracy)),
        ("loss on held-out rows", number(r.loss)),
        ("held-out rows", whole(r.test_rows)),
        ("rounds", whole(len(report.rounds))),
    ]
    yield from _table(("what", "value"), rows)


def _limits(report: RunReport) -> Iterator[str]:
    yield "## Limits"
    yield ""
    node = any(c.unit == NODE for c in report.clients)
    what = "all of a node's training rows together" if node else "one record of a node's training rows"
    if any(c.unit == PERSON for c in report.clients):
        what = "all of a person's training rows at a node together"
    yield from (f"- {each.replace('{what}', what)}" for each in _LIMITS)
    yield from (f"- {_cell(each)}" for each in report.run.labels)
    if warnings := len(report.run.warnings):  # they name nodes and paths
        yield f"- The run's report has {warnings} {'warning' if warnings == 1 else 'warnings'}; ask for it where it was trained."
    yield ""


def _use(plan: Plan | None) -> Iterator[str]:
    yield "## Use"
    yield ""
    if plan is not None:
        yield "`aegis model predict FOLDER new.csv --schema schema.toml --out predictions.csv`, where FOLDER holds this card."
        yield ""
    yield "In Python: `aegis_flower.inference.load(FOLDER)`, or `safetensors.torch.load_file` for the arrays alone."
    yield ""


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def _cell(value: str) -> str:
    """A text from outside that stays in its place: no line end, no cell's end, no markup."""
    return clean(value).translate(_ESCAPED)
