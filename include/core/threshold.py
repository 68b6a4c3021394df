"""A limit for a measured value."""

from typing import Self

from pydantic import model_validator

from include.core.base import Config


class Threshold(Config):
    """What a metric has to reach, or not to pass: one of the two."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.metric}: exactly one of at_least and at_most is needed")
        return self

    @property
    def threshold(self) -> float:
        """The number, whichever side it holds."""
        found = self.at_most if self.at_least is None else self.at_least
        assert found is not None
        return found

    def holds(self, value: float) -> bool:
        """False for NaN."""
        return value >= self.threshold if self.at_least is not None else value <= self.threshold
