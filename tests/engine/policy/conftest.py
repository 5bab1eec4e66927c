"""Governed vaults."""

from governed_vaults import govern, governed

__all__ = ["govern", "governed"]
