"""What a node's operator allows to run, and what asks to run, may be put here; nothing here imports or runs an app.

The operator approves a Flower App by the hash of its bundle (FAB) and signs the list (`Desk`). A node reads the list
(`Approvals`) before a byte of an app runs, and puts what is not on it into its `Inbox`. `bundle` reads a FAB as data.
"""

from aegis_flower.approval.approvals import Approvals
from aegis_flower.approval.bundle import Bundle, read, unpack
from aegis_flower.approval.desk import Desk
from aegis_flower.approval.entry import MODES, Approval, Entry
from aegis_flower.approval.inbox import Inbox, Waiting

__all__ = ["MODES", "Approval", "Approvals", "Bundle", "Desk", "Entry", "Inbox", "Waiting", "read", "unpack"]
