"""SECURITY.md names all that leaves a node without noise: the statistics that a run declares by default."""

from __future__ import annotations

import re
from pathlib import Path

from aegis_flower.metrics import DEFAULT

SECURITY = Path(__file__).parents[2] / "SECURITY.md"


def test_security_names_every_count_that_may_leave_and_no_other() -> None:
    section = SECURITY.read_text(encoding="utf-8").split("**What leaves without noise**")[1].split("\n**")[0]
    (counts,) = re.findall(r"The counts are ([^.]*)\.", " ".join(section.split()))
    assert set(re.findall(r"`(\w+)`", counts)) == {s.name for s in DEFAULT.statistics}
