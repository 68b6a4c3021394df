"""The limit of a measured value."""

from typing import Self

from pydantic import Field, model_validator

from include.core.base import Config


class Threshold(Config):
    """The lower or the upper limit of a metric: exactly one of the two is set."""

    metric: str = Field(description="of the problem type")
    at_least: float | None = Field(default=None, description="lower limit; either this or `at_most`")
    at_most: float | None = Field(default=None, description="upper limit")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"{self.metric}: exactly one of at_least and at_most is needed")
        return self

    @property
    def threshold(self) -> float:
        """The limit, whether it is the lower or the upper one."""
        found = self.at_most if self.at_least is None else self.at_least
        assert found is not None
        return found

    def holds(self, value: float) -> bool:
        """Return whether a value is within the limit; False for NaN."""
        return value >= self.threshold if self.at_least is not None else value <= self.threshold
