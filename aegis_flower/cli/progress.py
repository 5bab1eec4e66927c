"""Progress of a run: one bar over the rounds on a terminal, one line per round elsewhere."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console

    from aegis_flower.configs import Config
    from aegis_flower.strategies import RoundRecord


PATIENCE = 1.0  # seconds of silence that need no word


def escape(text: str) -> str:
    """A name from outside for Rich, which would read brackets as markup."""
    from rich.markup import escape as escaped

    return escaped(text)


class Progress:
    """One bar over the rounds on a terminal, one line a round elsewhere."""

    def __init__(self, cfg: Config, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._cfg, self._console = cfg, console
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (cfg.tracking.progress and console.is_terminal),
        )
        self._task = self._bar.add_task("starting", total=cfg.strategy.rounds, note="")
        self._waiting: threading.Timer | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._no_longer()
        self._bar.stop()

    def phase(self, what: str) -> None:
        """Says what the run does before its first round: at once in the bar; in lines, only if it lasts longer than a second."""
        with contextlib.suppress(Exception):
            self._no_longer()
            self._bar.update(self._task, description=what)
            if self._bar.disable and self._cfg.tracking.progress:
                self._waiting = threading.Timer(PATIENCE, self._line, (f"{what} …",))
                self._waiting.daemon = True
                self._waiting.start()

    def _no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _line(self, text: str) -> None:
        with contextlib.suppress(Exception):  # output that fails costs nothing but itself
            self._console.print(text, highlight=False, markup=False)

    def __call__(self, record: RoundRecord) -> None:
        """Takes note of a finished round; output that fails costs nothing but itself."""
        with contextlib.suppress(Exception):
            self._no_longer()
            self._show(record)

    def _show(self, record: RoundRecord) -> None:
        from aegis_flower import gate

        before = "" if record.task == "evaluate" else "before it "
        found = gate.declared(self._cfg).read(record.metrics)
        share = found.get("accuracy")
        note = f"{before}accuracy {share:.3f}" if share is not None else ""
        first = next((name for name in found if name != "test-rows"), None)
        if first is not None and share is None:  # such as where a number is predicted
            note = f"{before}{first} {found[first]:.3f}"
        if share is not None and self._cfg.privacy.on:
            from aegis_flower.report.measured import accuracy_sd

            sd = accuracy_sd(self._cfg, record, [])
            note += f" ± {sd:.3f}" if sd else ""
        lost = f", lost {len({x.node for x in record.lost})}" if record.lost else ""
        state = record.failed or f"{len(record.participants)} in the sum{lost}"
        done = record.round if record.task == "train" else self._cfg.strategy.rounds
        self._bar.update(self._task, completed=done, description="training", note=f"{state}  {note}")
        if self._bar.disable and self._cfg.tracking.progress:
            name = "final evaluation" if record.task == "evaluate" else f"round {record.round:>3}"
            self._line(f"{name}: {state}  {note}".rstrip())
