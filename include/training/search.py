"""Search for the best settings of a candidate within declared ranges, on the days to fit on alone. Pure.

A trial is decided by the seed, its number and the losses of the trials before it. So the same search gives the same
trials, and one that was killed goes on where it was: stored trials are compared with what the search asks for.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from include.core.base import Config
from include.core.interval import Interval

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FIRST_RANDOM = 10
"""Trials before the search begins to learn from losses."""


class Range(Config):
    """The values of a setting to try: `low` and `high`, whole numbers if both are, or `values`."""

    low: int | float | None = Field(default=None, description="the lowest", examples=[0.001])
    high: int | float | None = Field(default=None, description="the highest", examples=[1.0])
    log: bool = Field(default=False, description="whether steps are factors: for a range over several powers of ten")
    values: tuple[bool | int | float | str, ...] = Field(
        default=(), description="instead: the values to choose from", examples=[["pearson", "spearman"]]
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.values:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("has `values`, so it cannot have `low`, `high` or `log`")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs `low` and `high`, or `values`")
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError("a range with `log: true` begins above 0")
        return self

    @property
    def ends(self) -> tuple[Any, ...]:
        """The values that must be possible, so that all between are."""
        return self.values or (self.low, self.high)

    @property
    def distribution(self) -> "BaseDistribution":
        """What Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.low is None or self.high is None:
            return CategoricalDistribution(self.values)
        if isinstance(self.low, int) and isinstance(self.high, int):
            return IntDistribution(self.low, self.high, log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


class Search(Config):
    """Try settings before the fit, on the days to fit on alone: each trial predicts later days from earlier ones.

    The same seed and rows give the same trials, unless `minutes` ends them; then the fit says after which.
    """

    ranges: dict[str, Range] = Field(
        min_length=1,
        description="settings of `estimator`, or keys of `params`, with the values to try",
        examples=[{"learning_rate": {"low": 0.01, "high": 0.3, "log": True}}],
    )
    trials: int = Field(ge=1, le=1000, description="how many are tried", examples=[30])
    minutes: float | None = Field(
        default=None,
        gt=0,
        description="no trial begins after so many minutes of trials; none by default",
        examples=[30],
    )
    seed: int = Field(default=1, ge=0, le=2**31, description="of the search")
    folds: int = Field(default=3, ge=1, description="times that later days are predicted from all days before them")


@dataclass(frozen=True)
class Trial:
    """One try.

    Attributes:
        number: from 0.
        params: the settings.
        loss: mean loss of the folds; infinite if the settings could not be fitted.
        seconds: how long it took.
        why: why the settings could not be fitted.
    """

    number: int
    params: Mapping[str, Any]
    loss: float
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class Searched:
    """What a search found."""

    best: Trial
    trials: int
    of: int
    minutes: float | None

    @property
    def cut(self) -> bool:
        """Whether the minutes ended it, so that another machine may find something else."""
        return self.trials < self.of

    @property
    def words(self) -> str:
        """How far it went."""
        why = f" (cut by minutes: {self.minutes:g}; another machine may find other settings)" if self.cut else ""
        return f"{self.trials} of {self.of} trials{why}"


def search(
    declared: Search,
    try_out: Callable[[int, Mapping[str, Any]], Trial],
    stored: Mapping[int, Trial],
    keep: Callable[[Trial], None],
) -> Searched:
    """Return the best trial: the first of those with the least loss.

    Args:
        declared: the ranges and how long to search.
        try_out: fits and measures settings.
        stored: trials of a search that was killed, by number; one with other settings than asked for is tried again.
        keep: stores a trial that was tried.

    Raises:
        ValueError: no trial could be fitted.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ranges = {name: declared.ranges[name].distribution for name in sorted(declared.ranges)}
    study, done = optuna.create_study(), list[Trial]()
    for number in range(declared.trials):
        if declared.minutes is not None and sum(each.seconds for each in done) >= declared.minutes * 60 and done:
            break
        # A sampler for each trial: what it draws does not depend on how many were drawn in this process.
        study.sampler = optuna.samplers.TPESampler(
            seed=(declared.seed * 10_007 + number) % 2**32, n_startup_trials=FIRST_RANDOM
        )
        asked = study.ask(ranges)
        trial = stored.get(number)
        if trial is None or _text(trial.params) != _text(asked.params):
            trial = try_out(number, asked.params)
            keep(trial)
        done.append(trial)
        if math.isfinite(trial.loss):
            study.tell(asked, trial.loss)
        else:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
    fitted = [each for each in done if math.isfinite(each.loss)]
    if not fitted:
        raise ValueError(f"search: none of {len(done)} trials could be fitted, the last one because: {done[-1].why}")
    best = min(fitted, key=lambda each: (each.loss, each.number))
    return Searched(best, len(done), declared.trials, declared.minutes)


def folds(days: Sequence[date], count: int, longest: int) -> list[tuple[Interval, Interval]]:
    """Return the days to fit on and the days to predict of each fold, the newest last.

    The newest days are cut into blocks of equal length; each is predicted from all days before it.

    Args:
        days: the labelled days to fit on, in ascending order.
        count: how many folds.
        longest: the most days of a block, which is how many validation days there are.

    Raises:
        ValueError: there are too few days.
    """
    length = min(longest, len(days) // (count + 1))
    if length < 1:
        raise ValueError(f"search: {count} folds need {count + 1} labelled days to fit on, and there are {len(days)}")
    begins = [len(days) - length * left for left in range(count, 0, -1)]
    return [
        (Interval(start=days[0], end=days[at - 1]), Interval(start=days[at], end=days[at + length - 1]))
        for at in begins
    ]


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True)
