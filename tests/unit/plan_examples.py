"""Small feature plans, as text and read."""

from __future__ import annotations

from aegis_flower import features

LABEL = "label: {task: binary, column: ill, levels: ['no', 'yes']}\n"
AGE = "version: 1\ncolumns: {age: {kind: number, low: 0, high: 120}}\n"
PLAN = features.parse(
    "version: 1\ncolumns:\n  age: {kind: number, low: 0, high: 120, missing: 60}\n"
    "  ward: {kind: category, levels: [north, '7']}\n  smokes: {kind: boolean}\n" + LABEL
)
