"""In the worst case, how far is the loss above the champion's on the same later days?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence, HoldoutScores


class Champion(GateCheck):
    """The loss against the champion's, on days later than both were fitted on, at worst.

    It keeps out a step back that luck could hide: whole days are drawn again and again, since rows of a day have causes
    in common, such as its weather.
    """

    needs_champion: ClassVar[bool] = True

    kind: Literal["champion"] = "champion"
    at_most: float = Field(
        default=0.01, ge=0, description="share by which the loss may be over the champion's, at worst"
    )
    min_rows: int = Field(default=1000, ge=1, description="rows of days that neither saw; fewer are no comparison")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="how sure `at worst` is")
    resamples: int = Field(default=1000, ge=100, description="how often the days are drawn")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Resample the later days, if there are enough rows of them."""
        measured, sentence = None, f"against the champion ({evidence.champion_missing})"
        if evidence.champion is not None:
            measured, sentence = self._compare(evidence, evidence.champion)
        yield self.verdict(evidence.problem_type.chosen_by, measured, at_most(self.at_most), sentence, "+.2%")

    def _compare(self, evidence: Evidence, champion: HoldoutScores) -> tuple[float | None, str]:
        saw, by = evidence.champion_saw, evidence.problem_type.chosen_by
        later = evidence.days > np.datetime64(saw) if saw else np.ones(len(evidence.days), dtype=bool)
        if later.sum() < self.min_rows:
            few = f"{later.sum():,} rows of days that neither saw, {self.min_rows:,} are needed"
            return None, f"against {champion.name}: {few}"
        if not evidence.comparable:
            return None, f"{by} against {champion.name}"
        truth = evidence.truth[later]
        own = evidence.problem_type.loss_by_row(truth, evidence.challenger.score[later])
        other = evidence.problem_type.loss_by_row(truth, champion.score[later])
        worst = worst_difference(
            evidence.days[later],
            own,
            other,
            confidence=self.confidence,
            resamples=self.resamples,
            seed=evidence.seed,
        )
        return worst, (
            f"{by} {own.mean():.4g} against {other.mean():.4g} of {champion.name} on the same {later.sum():,} rows "
            f"({own.mean() / other.mean() - 1:+.2%}); at worst, by {self.confidence:.0%} of resamples of days,"
        )


def worst_difference(
    days: np.ndarray, loss: np.ndarray, against: np.ndarray, *, confidence: float, resamples: int, seed: int
) -> float:
    """Return the share by which the mean of `loss` exceeds that of `against` in the worst case.

    This is the upper end of a one-sided percentile interval of a paired bootstrap (Efron and Tibshirani 1993, ch. 13).
    Whole days are drawn, not rows: rows of a day have causes in common, such as its weather, and rows drawn singly
    would give too narrow an interval (cluster bootstrap, Field and Welsh 2007).

    Raises:
        ValueError: there is no row.
    """
    if not len(days):
        raise ValueError("no rows to compare")
    _, number = np.unique(days, return_inverse=True)
    count = int(number.max()) + 1
    sums, sums_against = (np.bincount(number, weights=values, minlength=count) for values in (loss, against))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return float(np.quantile(drawn @ sums / (drawn @ sums_against), confidence) - 1.0)
