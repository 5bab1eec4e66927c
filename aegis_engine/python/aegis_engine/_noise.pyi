"""Noise and clipping."""

from typing import Self, final

from aegis_engine._data import Buffer

@final
class Rng:
    """A generator keyed by the operating system; rekeys itself after a fork."""

    def __new__(cls) -> Self:
        """A generator with a fresh key."""

    @staticmethod
    def insecure_test(seed: int) -> Rng:
        """A seeded generator for tests; protects nobody."""

    def add_gaussian(self, values: Buffer, sigma: float) -> None:
        """Adds noise of standard deviation `sigma` to float32 values in place; results lie on a grid of 2^-20 sigma."""

    def poisson_rows(self, rows: int, rate: float) -> bytes:
        """Row numbers below `rows`, each independently with probability `rate`; little-endian u32."""

def clip_l2(values: Buffer, maximum: float) -> float:
    """Scales float32 values in place to an L2 norm of at most `maximum`; gives the norm before."""
