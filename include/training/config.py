"""The part of `model.yaml` that decides a fit."""

import hashlib
import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from include.core.base import Config, Name
from include.core.code import code_digest
from include.core.errors import nearest
from include.core.feeds import HORIZON
from include.training.declared import declared_digest
from include.training.estimators import TYPES_OF_KINDS, AnyEstimator
from include.training.problem_types import ProblemType, get_problem_type
from include.training.search import Search
from include.training.serialization import Cloudpickle, Serialization, Skops
from include.training.transforms import AnyTransform, wrong_columns

OPTIONAL = ("estimator", "transforms", "search")
"""Keys of a candidate that are not in the digest of a fit unless they are declared."""


class Candidate(Config):
    """One way to fit the model: `transforms` and an `estimator` by kind, or `params` for `build` of estimator.py."""

    name: Name = Field(description="how it is called in MLflow and in messages", examples=["boosted"])
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="without `estimator`: what `build` of estimator.py gets as `params`",
        examples=[{"kind": "boosted", "max_iter": 120}],
    )
    estimator: AnyEstimator | None = Field(
        default=None,
        description="what predicts, by its `kind`; estimator.py is only needed for candidates without it",
        examples=[{"kind": "boosted", "max_iter": 120}],
    )
    transforms: tuple[AnyTransform, ...] = Field(
        default=(),
        description="what happens to the columns before, in this order; what is left for the estimator to prepare, it "
        "prepares itself",
        examples=[[{"kind": "rare_labels", "columns": ["store"]}, {"kind": "target_mean"}]],
    )
    search: Search | None = Field(
        default=None,
        description="settings that are tried before the fit, within ranges",
        examples=[{"trials": 30, "ranges": {"learning_rate": {"low": 0.01, "high": 0.3, "log": True}}}],
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.estimator is not None and self.params:
            raise ValueError("params: are for estimator.py; the settings of a kind stand in `estimator`")
        if self.transforms and self.estimator is None:
            raise ValueError("transforms: need an `estimator` here; in estimator.py they are part of the Pipeline")
        if self.search is not None and self.estimator is not None:
            for name, values in self.search.ranges.items():
                for value in values.ends:
                    try:
                        self.with_settings({name: value})
                    except ValidationError as error:
                        first = error.errors()[0]
                        said = first["msg"].removeprefix("Value error, ")
                        if first["type"] == "extra_forbidden":
                            known = type(self.estimator).model_fields
                            said = f"{self.estimator.kind} has no such setting{nearest(name, known)}"
                        raise ValueError(f"search.ranges.{name}: {value!r}: {said}") from error
        return self

    @property
    def shown(self) -> dict[str, Any]:
        """What MLflow shows as the parameters of a fit."""
        if self.estimator is None:
            return self.params
        settings = self.estimator.model_dump(exclude={"kind"})
        transforms = {"transforms": ", ".join(each.kind for each in self.transforms)} if self.transforms else {}
        return {"estimator": self.estimator.kind, **settings, **transforms}

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return the candidate with other settings of its `estimator` or other `params`, and without a search."""
        if self.estimator is None:
            return self.model_copy(update={"params": {**self.params, **settings}, "search": None})
        estimator = type(self.estimator).model_validate({**self.estimator.model_dump(), **settings})
        return self.model_copy(update={"estimator": estimator, "search": None})


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
        if problems := [*self._wrong_candidates()]:
            raise ValueError("\n".join(problems))
        return self

    def _wrong_candidates(self) -> Iterator[str]:
        for place, candidate in enumerate(self.candidates):
            if candidate.estimator is None:
                continue
            key = f"candidates.{place}"
            try:
                candidate.estimator.require_fit(self.problem_type)
            except ValueError as error:
                yield f"{key}.estimator.kind: {error}"
            wrong = wrong_columns(candidate.transforms, self.numeric, self.categorical, self.problem_type)
            yield from (f"{key}.transforms.{line}" for line in wrong)

    @property
    def needs_python(self) -> bool:
        """Whether a candidate is made by `build` of estimator.py."""
        return any(candidate.estimator is None for candidate in self.candidates)

    @property
    def stored(self) -> Serialization:
        """How a fitted model becomes a file, with the types that the declared estimators need."""
        own = [each.estimator.trusted_types for each in self.candidates if each.estimator]
        if isinstance(self.serialization, Skops) and any(own):
            return Skops(
                types=tuple(dict.fromkeys([*self.serialization.types, *(name for types in own for name in types)]))
            )
        return self.serialization

    @property
    def readable(self) -> Serialization:
        """How files of a recorded fit are loaded: also those of a kind that is declared no more.

        Otherwise the champion could not score the run date after another kind is declared.
        """
        if isinstance(self.serialization, Cloudpickle):
            return self.serialization
        return Skops(types=tuple(dict.fromkeys([*self.serialization.types, *TYPES_OF_KINDS])))

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
        """Digest of what decides a fit: these declarations, estimator.py, and the code of the kinds that are declared.

        What a candidate does not declare is left out, so that a fit stays what it was when the product learns more.
        """
        decides = self.model_dump(mode="json", include=set(Training.model_fields))
        for candidate in decides["candidates"]:
            for key in OPTIONAL:
                if not candidate[key]:
                    del candidate[key]
        code = [code_digest([self.folder / "estimator.py"])] if self.needs_python else []
        code += [declared_digest(each.estimator, each.transforms) for each in self.candidates if each.estimator]
        code += [code_digest([Path(inspect.getfile(Search))])] if any(each.search for each in self.candidates) else []
        return hashlib.sha256(
            b"".join([json.dumps(decides, sort_keys=True).encode(), *map(str.encode, code)])
        ).hexdigest()
