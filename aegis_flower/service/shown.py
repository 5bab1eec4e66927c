"""What a running node shows of itself: its status, and the same as metrics: counts, codes and times."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from aegis_flower.service.health import metric


@dataclass(frozen=True)
class Shown:
    """A running node at one moment.

    Attributes:
        name, vault: what the operator calls it, and the vault's id.
        address: of the SuperNode.
        since: when it was started.
        reached: when the SuperNode answered last; None where it does not.
        working: step and run of the task in hand, and since when.
        seconds: spent on tasks.
        paused: whether use is halted.
        waiting: runs in the inbox.
        counts: of the journal.
    """

    name: str
    vault: str
    address: str
    since: float
    reached: float | None
    working: tuple[str, str, float] | None
    seconds: float
    paused: bool
    waiting: int
    counts: Counter[tuple[str, str]]


def status_of(shown: Shown) -> dict[str, Any]:
    """The status as JSON has it."""
    counts, working = Counter(shown.counts), shown.working

    def of(kind: str) -> dict[str, int]:
        return {what: n for (found, what), n in sorted(counts.items()) if found == kind}

    return {
        "node": shown.name,
        "pid": os.getpid(),
        "at": time.time(),
        "since": shown.since,
        "vault": shown.vault,
        "paused": shown.paused,
        "supernode": {"address": shown.address, "reached": shown.reached},
        "task": None if working is None else {"step": working[0], "run": working[1], "since": working[2]},
        "tasks": counts["event", "tasks"],
        "answers": of("answer"),
        "permits": of("permit"),
        "releases": of("release"),
        "refusals": of("refusal"),
        "waiting": shown.waiting,
    }


def metrics_text(shown: Shown) -> str:
    """The status in Prometheus' text format."""
    said = status_of(shown)

    def by(label: str, counts: dict[str, int]) -> list[tuple[dict[str, str], float]]:
        return [({label: name}, float(n)) for name, n in counts.items()]

    reached = said["supernode"]["reached"]
    return "".join(
        (
            metric("aegis_node_start_time_seconds", "gauge", "When the node was started.", [({}, said["since"])]),
            metric(
                "aegis_node_paused", "gauge", "Whether the operator has halted all use.", [({}, float(said["paused"]))]
            ),
            metric(
                "aegis_node_supernode_up",
                "gauge",
                "Whether the SuperNode answered last.",
                [({}, float(reached is not None))],
            ),
            metric(
                "aegis_node_working", "gauge", "Whether a task is in hand.", [({}, float(said["task"] is not None))]
            ),
            metric("aegis_node_tasks_total", "counter", "Tasks that were taken.", [({}, float(said["tasks"]))]),
            metric("aegis_node_task_seconds_total", "counter", "Time spent on tasks.", [({}, shown.seconds)]),
            metric("aegis_node_answers_total", "counter", "Messages answered, by step.", by("step", said["answers"])),
            metric("aegis_node_permits_total", "counter", "Decisions on permits.", by("decision", said["permits"])),
            metric("aegis_node_releases_total", "counter", "Decisions on releases.", by("decision", said["releases"])),
            metric("aegis_node_refusals_total", "counter", "Messages refused, by code.", by("code", said["refusals"])),
            metric("aegis_node_waiting_runs", "gauge", "Runs that wait for approval.", [({}, float(said["waiting"]))]),
        )
    )
