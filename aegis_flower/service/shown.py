"""What a running node shows of itself: its status, and the same as metrics: counts, codes and times."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from aegis_flower.service.health import metric

if TYPE_CHECKING:
    from aegis_flower.service.loop import Service


def status_of(service: Service) -> dict[str, Any]:
    """The status as JSON has it."""
    counts, working = service.journal.counts, service.working

    def of(kind: str) -> dict[str, int]:
        return {what: n for (found, what), n in sorted(counts.items()) if found == kind}

    return {
        "node": service.settings.name,
        "pid": os.getpid(),
        "at": time.time(),
        "since": service.since,
        "vault": service.node.vault.id,
        "paused": service.control.paused,
        "supernode": {"address": service.supernode.address, "reached": service.reached},
        "task": None if working is None else {"step": working[0], "run": working[1], "since": working[2]},
        "tasks": counts["event", "tasks"],
        "answers": of("answer"),
        "permits": of("permit"),
        "releases": of("release"),
        "refusals": of("refusal"),
        "waiting": service.answers.waiting,
    }


def metrics_text(service: Service) -> str:
    """The status in Prometheus' text format."""
    said = status_of(service)

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
            metric("aegis_node_task_seconds_total", "counter", "Time spent on tasks.", [({}, service.seconds)]),
            metric("aegis_node_answers_total", "counter", "Messages answered, by step.", by("step", said["answers"])),
            metric("aegis_node_permits_total", "counter", "Decisions on permits.", by("decision", said["permits"])),
            metric("aegis_node_releases_total", "counter", "Decisions on releases.", by("decision", said["releases"])),
            metric("aegis_node_refusals_total", "counter", "Messages refused, by code.", by("code", said["refusals"])),
            metric("aegis_node_waiting_runs", "gauge", "Runs that wait for approval.", [({}, float(said["waiting"]))]),
        )
    )
