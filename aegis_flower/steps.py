"""Steps: the messages of a round. A step's name, Flower message type and place in the round are written here and nowhere else."""

from __future__ import annotations

import enum


class Step(enum.StrEnum):
    """One request and reply of a round, by the name that logs, errors and ``runtime.lose`` use."""

    ADVERTISE = "advertise"
    SHARE = "share"
    MASKED = "masked"
    COMMIT = "commit"
    UNMASK = "unmask"
    TRAIN = "train"
    EVALUATE = "evaluate"

    @property
    def message_type(self) -> str:
        """Flower's message type; `train` and `evaluate` are Flower's own, for clients without secure aggregation."""
        if not self.protocol:
            return self.value
        return f"{'train' if self is Step.MASKED else 'query'}.aegis_{self.value}"

    @property
    def protocol(self) -> bool:
        """Whether it is a step of secure aggregation."""
        return self not in (Step.TRAIN, Step.EVALUATE)

    @property
    def order(self) -> int:
        """Place in a round; a client trains in the masked step or in Flower's own."""
        return {"advertise": 0, "share": 1, "masked": 2, "train": 2, "commit": 3, "unmask": 4, "evaluate": 5}[self]

    @classmethod
    def of(cls, message_type: str) -> Step | None:
        """The step of a message type; None where it is an app's own."""
        return _BY_TYPE.get(message_type)

    @classmethod
    def named(cls, name: str) -> Step | None:
        """The step of that name, if there is one."""
        return _BY_NAME.get(name)


_BY_TYPE = {step.message_type: step for step in Step}
_BY_NAME = {step.value: step for step in Step}
