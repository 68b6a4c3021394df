"""The part of `model.yaml` that says what a version must show before it may become champion."""

from pydantic import Field

from include.core.base import Config, Name
from include.core.threshold import Threshold


class Group(Config):
    """A slice column that the features do not have: a few labels of one that they do, the others together."""

    of: str = Field(description="feature column")
    values: dict[str, tuple[str, ...]] = Field(min_length=1, description="name of a group -> labels in it")
    otherwise: str = Field(description="name of the group of all other labels")


class Slices(Config):
    """Parts of the holdout rows, each by itself: feature columns, or names of `groups`."""

    by: tuple[str, ...] = Field(min_length=1)
    groups: dict[Name, Group] = Field(default_factory=dict)
    min_rows: int = Field(ge=1, description="a smaller slice is not checked by itself")
    not_worse_by: float = Field(description="share by which its loss may be over that of the dummy baseline there")


class Gate(Config):
    """What a version must show on the holdout days before it may become champion.

    Every number is a decision of the model's owner; `docs/concepts.md` says what each check is for. Shares are of 1:
    0.02 is 2 %.
    """

    min_rows: int = Field(ge=1, description="holdout rows; with fewer nothing is promoted")
    quality: tuple[Threshold, ...] = Field(min_length=1, description="absolute, on all holdout rows")
    calibration_gap: float = Field(gt=0, description="|mean score - mean outcome| at most; regression: |median error|")
    calibration_error: float | None = Field(
        default=None, gt=0, description="binary: expected calibration error at most, in 10 equal bins"
    )
    better_than_dummy: float = Field(ge=0, description="share by which the loss must be under a constant's")
    linear: str = Field(description="the candidate that is the linear baseline")
    not_worse_than_linear: float = Field(ge=0, description="share by which the loss may be over the linear one's")
    not_worse_than_champion: float = Field(ge=0, description="share that its loss may be over the champion's at worst")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="how sure `at worst` is")
    resamples: int = Field(default=1000, ge=100)
    slices: Slices
    changed_decisions: float = Field(gt=0, le=1, description="share of decisions other than the champion's, at most")
    decision_change: float | None = Field(
        default=None, gt=0, description="regression: a difference from the champion over this counts as changed"
    )
    score_shift: float = Field(gt=0, description="mean |difference| of scores from the champion's, at most")
    leakage: Threshold = Field(description="what no honest model reaches: beyond it, an input gives the outcome away")
    microseconds_per_row: float = Field(default=200, gt=0, description="to score, at most")
    megabytes: float = Field(default=50, gt=0, description="size of the logged model, at most")
    inputs_may_change: bool = Field(default=False, description="set it in the change that gives the model other inputs")
