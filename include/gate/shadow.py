"""The section `shadow` of `model.yaml`, and the rules of a shadow: is it complete, is it not worse, does it go on?

A shadow is a pending version that scores each run date beside the champion, unpublished. `steps/end_shadow.py` collects
what is measured here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Self

import numpy as np
from pydantic import Field, model_validator

from include.core.base import Config
from include.core.records import Check
from include.gate.checks.base import at_most
from include.gate.checks.champion import Champion
from include.gate.evidence import Evidence
from include.gate.resampling import between, ratio_draws


class Shadow(Config):
    """How long a version that passed the gate scores beside the champion before it is decided.

    It is decided as the check `champion` of the gate decides, with that check's settings, on the predictions of both
    for the same entities.
    """

    days_with_outcomes: int = Field(default=7, ge=1, description="run dates whose outcomes must be known", examples=[7])
    better_by: float = Field(
        default=0.02,
        gt=0,
        lt=1,
        description="share by which the loss of a newer version must be below that of the running shadow on the "
        "holdout days, at worst, to take its place",
    )
    wait_days: int = Field(
        default=30, ge=2, description="run dates after which a shadow expires that still has too few days or rows"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.wait_days <= self.days_with_outcomes:
            raise ValueError(
                f"wait_days ({self.wait_days}) must be more than days_with_outcomes ({self.days_with_outcomes}), or "
                "every shadow expires"
            )
        return self


@dataclass(frozen=True)
class ShadowDay:
    """The mean loss of a shadow and of the champion on one run date, over the rows that both predicted.

    Attributes:
        day: the run date.
        rows: the rows that both predicted and whose outcome is known.
        loss: of the shadow.
        champion_loss: of the champion.
    """

    day: date
    rows: int
    loss: float
    champion_loss: float


@dataclass(frozen=True)
class ShadowSoFar:
    """A running shadow: its measured days with at least one row, and the rule by which it is decided."""

    declared: Shadow
    check: Champion
    first_day: date
    days: Sequence[ShadowDay]

    @property
    def rows(self) -> int:
        """The rows of all days."""
        return sum(day.rows for day in self.days)

    @property
    def complete(self) -> bool:
        """Whether there are enough days, and enough rows for the comparison."""
        return len(self.days) >= self.declared.days_with_outcomes and self.rows >= self.check.min_rows

    @property
    def last_run_date(self) -> date:
        """The last run date that can complete the shadow."""
        return self.first_day + timedelta(days=self.declared.wait_days)

    def describe_progress(self) -> str:
        """Return how far the shadow is, in words."""
        return (
            f"outcomes of {len(self.days)} of {self.declared.days_with_outcomes} days and {self.rows:,} of "
            f"{self.check.min_rows:,} rows are known"
        )

    def compare(self, champion: str, metric: str, seed: int) -> Check:
        """Return the verdict on a complete shadow: whether its loss is, at worst, not too far over the champion's.

        Args:
            champion: the name of the champion, for the sentence.
            metric: the name of the loss.
            seed: for the resampling of days.
        """
        rows = np.array([day.rows for day in self.days])
        own = rows * np.array([day.loss for day in self.days])
        other = rows * np.array([day.champion_loss for day in self.days])
        # the sums of days are all that resampling of whole days needs
        days = np.array([day.day for day in self.days], dtype="datetime64[D]")
        draws = ratio_draws(days, own, other, seed=seed, resamples=self.check.resamples)
        worst = float(np.quantile(draws, self.check.confidence))
        mean, champion_mean = own.sum() / self.rows, other.sum() / self.rows
        difference = f" ({mean / champion_mean - 1:+.2%})" if champion_mean else ""
        sentence = (
            f"{metric} {mean:.4g} against {champion_mean:.4g} of {champion} on the same {self.rows:,} rows of "
            f"{len(self.days)} days{difference}; at worst, by {self.check.confidence:.0%} of resamples of days,"
        )
        verdict = self.check.verdict(
            metric, worst, at_most(self.check.at_most), sentence, "+.2%", between=between(draws, days)
        )
        return verdict.model_copy(update={"name": "shadow"})


def compare_with_shadow(declared: Shadow, check: Champion, evidence: Evidence, shadow: int) -> Check:
    """Return whether a newer version is clearly better than the running shadow, which goes on otherwise.

    Args:
        declared: the section of `model.yaml`.
        check: the check of the gate against the champion, whose settings are used.
        evidence: of the newer version, in which the running shadow is the champion.
        shadow: the version that is the running shadow.
    """
    if evidence.champion is not None:
        named = replace(evidence.champion, name=f"version {shadow}, the running shadow,")
        evidence = replace(evidence, champion=named)
    clearly = check.model_copy(update={"at_most": -declared.better_by})  # a share that YAML cannot declare
    [verdict] = clearly.run(evidence)
    return verdict.model_copy(update={"name": "shadow"})
