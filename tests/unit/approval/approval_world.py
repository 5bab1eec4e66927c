"""An operator, a node, and a folder between them."""

from __future__ import annotations

from pathlib import Path

from aegis_engine import Identity
from aegis_flower.approval import Approvals, Desk

NOW = 1_800_000_000


class World:
    """Folder of approvals, the operator's key elsewhere, the node's memory elsewhere again."""

    def __init__(self, root: Path) -> None:
        self.folder, self.key, self.newest = root / "approvals", root / "operator.key", root / "node/approvals.newest"
        self.public = Identity.create(str(self.key)).public
        self.desk = Desk(self.folder, self.key)
        self.list = self.folder / "approvals"

    def node(self) -> Approvals:
        """A node's process that has just started."""
        return Approvals(self.folder, self.public, self.newest)

    def approve(self, fab: bytes, **said: object) -> str:
        """Approves by default for research on any data set for 10 days, as of `NOW`."""
        whole: dict[str, object] = {"mode": "any", "purpose": "research", "days": 10, "now": NOW, **said}
        return self.desk.approve(fab, **whole).fab_hash  # type: ignore[arg-type]
