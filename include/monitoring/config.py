"""The part of `model.yaml` that says how a model is monitored."""

from datetime import time
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from include.core.base import Config
from include.core.threshold import Threshold


def _quoted(written: Any) -> Any:
    if isinstance(written, int | float):  # YAML reads 10:30 as 630, and pydantic that as half past midnight or so
        raise ValueError('write the time in quotes, "10:30"')
    return written


class Rule(Threshold):
    """Too poor: the metric over all rows breaks its bound on at least `days` of the newest `of` measured days."""

    days: int = Field(ge=1)
    of: int = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.days > self.of:
            raise ValueError(f"{self.days} days of the newest {self.of} can never break it; days is at most `of`")
        return self

    @property
    def name(self) -> str:
        """Tells the rules of a model apart, in `alerts`."""
        side = "at_most" if self.at_least is None else "at_least"
        return f"{self.metric} {side} {self.threshold:g}, {self.days} of {self.of} days"


class Monitor(Config):
    """How a model is watched once its scores are published."""

    slices: tuple[str, ...] = Field(default=(), description="public columns of the entity to measure by")
    min_rows: int = Field(default=30, ge=1, description="a slice, and a day of a rule, with fewer rows is left out")
    publish_by: Annotated[time, BeforeValidator(_quoted)] = Field(
        default=time(6), description="local time on day D by which the scores of D must be published"
    )
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.slices)) < len(self.slices):
            raise ValueError("slices: a column stands twice")
        if len({rule.name for rule in self.rules}) < len(self.rules):
            raise ValueError("rules: two are the same")
        return self
