"""The part of `model.yaml` that decides a fit."""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from include.core.base import Config, Name
from include.core.code import code_digest
from include.core.feeds import HORIZON
from include.training.problem_types import ProblemType, get_problem_type
from include.training.serialization import Serialization, Skops


class Candidate(Config):
    """One way to fit the model: `params` go to `estimator.build`."""

    name: Name = Field(description="how it is called in MLflow and in messages", examples=["boosted"])
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="what `build` of estimator.py gets as `params`",
        examples=[{"kind": "boosted", "max_iter": 120}],
    )


class Training(Config):
    """What a model learns, from which rows, and how. Nothing else of `model.yaml` decides a fit."""

    name: Name
    project: Name
    folder: Path = Field(exclude=True, description="where model.yaml is")
    outcome: str = Field(description="what it predicts: an outcome of project.yaml", examples=["revenue"])
    problem_type: str = Field(
        description="a kind of `include/training/problem_types`: binary, multiclass, regression, count or quantile",
        examples=["regression"],
    )
    numeric: tuple[str, ...] = Field(
        description="feature columns that are numbers or booleans", examples=[["day_of_week", "revenue_7d"]]
    )
    categorical: tuple[str, ...] = Field(
        default=(), description="feature columns that are labels", examples=[["store", "region"]]
    )
    candidates: tuple[Candidate, ...] = Field(
        min_length=1,
        description="the configurations that are fitted; the best on the validation days becomes a version",
        examples=[
            [{"name": "linear", "params": {"kind": "linear"}}, {"name": "boosted", "params": {"kind": "boosted"}}]
        ],
    )
    horizon_days: int = Field(
        default=0,
        ge=0,
        description="days ahead of a run date that it predicts, too: D to D + horizon_days. At most the "
        "entity.horizon_days of project.yaml",
        examples=[6],
    )
    train_days: int = Field(ge=2, description="labelled days before the run date that a training reads", examples=[60])
    validation_days: int = Field(
        default=7, ge=1, description="of them, the days before the holdout days: candidates are compared on them"
    )
    holdout_days: int = Field(
        default=14, ge=1, description="the newest of them: the gate decides on them, and nothing is chosen on them"
    )
    min_fit_days: int = Field(
        default=1, ge=1, description="with fewer labelled days to fit on, training is refused", examples=[28]
    )
    decision_threshold: float = Field(default=0.5, description="binary: predicted 1 from this score on", examples=[0.3])
    quantiles: tuple[float, float, float] = Field(
        default=(0.1, 0.5, 0.9),
        description="quantile: the lower limit, the prediction and the upper limit that are predicted",
        examples=[[0.05, 0.5, 0.95]],
    )
    classes: tuple[str, ...] = Field(default=(), description="multiclass: the labels of the outcome")
    seed: int = Field(default=1, description="of all random numbers of a fit", examples=[7])
    serialization: Serialization = Field(
        default=Skops(),
        description="how a fitted model becomes a file: skops by default",
        examples=[{"kind": "cloudpickle", "reason": "the estimator has a lambda of a library"}],
    )

    @field_validator("problem_type")
    @classmethod
    def _known(cls, kind: str) -> str:
        return get_problem_type(kind).kind

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.held_back_days >= self.train_days:
            raise ValueError(
                f"validation_days ({self.validation_days}) and holdout_days ({self.holdout_days}) must together be "
                "less than train_days, or nothing is left to fit on"
            )
        if not 0 < self.quantiles[0] < self.quantiles[1] < self.quantiles[2] < 1:
            raise ValueError("quantiles must be three numbers between 0 and 1, in ascending order")
        if HORIZON in self.categorical:
            raise ValueError(f"categorical: {HORIZON} is a number; list it in numeric")
        if len({c.name for c in self.candidates}) < len(self.candidates):
            raise ValueError("two candidates have the same name")
        return self

    @property
    def problem(self) -> ProblemType:
        """The problem type."""
        return get_problem_type(self.problem_type).of(quantiles=self.quantiles, classes=self.classes)

    @property
    def held_back_days(self) -> int:
        """The validation days and the holdout days, on which nothing is fitted."""
        return self.validation_days + self.holdout_days

    @property
    def features(self) -> tuple[str, ...]:
        """The model's input columns, in the order of its signature."""
        return (*self.numeric, *self.categorical)

    @property
    def digest(self) -> str:
        """Digest of what decides a fit: these declarations and the estimator."""
        decides = self.model_dump(mode="json", include=set(Training.model_fields))
        declared = json.dumps(decides, sort_keys=True).encode()
        return hashlib.sha256(declared + code_digest([self.folder / "estimator.py"]).encode()).hexdigest()
