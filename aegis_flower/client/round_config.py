"""Round config: what the server's strategy tells a client beside the model, read-only, and what of it nobody read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from aegis_flower.errors import OutsideTerms, RequestInvalid
from aegis_flower.features import CHOSEN
from aegis_flower.weights import BASE
from aegis_flower.wire import Setting

MU = "proximal-mu"
RATE = "lr"
# What strategies send of their own accord; the node itself reads what it needs of them.
KNOWN = {"server-round", "round", "noise-multiplier", MU, CHOSEN, BASE}
_ENTRIES, _KEY, _TEXT = 256, 256, 2**16
_MU_MAX, _RATE_MAX = 1e3, 1e3


class RoundConfig(Mapping[str, Setting]):
    """The settings of one message, such as Flower's ``train_config``: ``self.round_config["lr"]`` in a `VaultClient`.

    Raises:
        RequestInvalid: too many, too long, or numbers that are not finite.
    """

    def __init__(self, given: Mapping[str, Setting] | None = None) -> None:
        self._given = dict(given or {})
        self._read: set[str] = set()
        if len(self._given) > _ENTRIES:
            raise RequestInvalid(f"the message has more than {_ENTRIES} settings")
        for key, value in self._given.items():
            parts = value if isinstance(value, list) else [value]
            numbers = [p for p in parts if isinstance(p, float)]
            if len(key) > _KEY or len(parts) > _TEXT or not all(math.isfinite(n) for n in numbers):
                raise RequestInvalid("a setting of the message is too long, or a number of it is not finite")
            if any(isinstance(p, str | bytes) and len(p) > _TEXT for p in parts):
                raise RequestInvalid("a setting of the message is too long")

    def __getitem__(self, key: str) -> Setting:
        self._read.add(key)
        return self._given[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def __contains__(self, key: object) -> bool:
        return key in self._given

    def number(self, key: str, most: float) -> float | None:
        """A setting that must be a number from 0 to `most`; None where there is none.

        Raises:
            RequestInvalid: it is something else.
        """
        if key not in self:
            return None
        value = self[key]
        if type(value) not in (int, float) or not 0 <= value <= most:  # type: ignore[operator]
            raise RequestInvalid(f"the setting {key} of the message must be a number from 0 to {most:g}")
        return float(value)  # type: ignore[arg-type]

    @property
    def proximal_mu(self) -> float | None:
        """FedProx's μ, as Flower's strategy sends it."""
        return self.number(MU, _MU_MAX)

    @property
    def learning_rate(self) -> float | None:
        """A learning rate of the server's ``train_config``."""
        return self.number(RATE, _RATE_MAX)

    @property
    def custom(self) -> bool:
        """Whether the server sent more than its strategy does of its own accord."""
        return bool(self._given.keys() - KNOWN)

    def refuse_unread(self) -> None:
        """For after the client was built: a setting that it did not read would change nothing without a word.

        Raises:
            OutsideTerms: names the settings.
        """
        if unread := sorted(self._given.keys() - self._read - KNOWN):
            raise OutsideTerms(
                f"the server's train_config has {', '.join(unread)}, which this client does not read, so it would change "
                "nothing; read self.round_config in model(), loss() or optimizer(), or leave it out at the server"
            )
