"""What operators need to put a federation on machines may be put here: `plan` says what there is, `write` makes the folder.

The files come from `templates`. Keys are made once and never written over.
"""

from aegis_flower.deploy.plan import Node, Plan
from aegis_flower.deploy.write import write

__all__ = ["Node", "Plan", "write"]
