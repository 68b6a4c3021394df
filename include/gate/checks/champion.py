"""In the worst case, how far is the loss above the champion's on the same later days?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence, HoldoutScores
from include.gate.resampling import Between, between, ratio_draws


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
        measured, ends, sentence = None, None, f"against the champion ({evidence.champion_missing})"
        if evidence.champion is not None:
            measured, ends, sentence = self._compare(evidence, evidence.champion)
        by = evidence.problem_type.chosen_by
        yield self.verdict(by, measured, at_most(self.at_most), sentence, "+.2%", between=ends)

    def _compare(self, evidence: Evidence, champion: HoldoutScores) -> tuple[float | None, Between | None, str]:
        saw, by = evidence.champion_saw, evidence.problem_type.chosen_by
        later = evidence.days > np.datetime64(saw) if saw else np.ones(len(evidence.days), dtype=bool)
        if later.sum() < self.min_rows:
            few = f"{later.sum():,} rows of days that neither saw, {self.min_rows:,} are needed"
            return None, None, f"against {champion.name}: {few}"
        if not evidence.comparable:
            return None, None, f"{by} against {champion.name}"
        truth = evidence.truth[later]
        own = evidence.problem_type.loss_by_row(truth, evidence.challenger.score[later])
        other = evidence.problem_type.loss_by_row(truth, champion.score[later])
        days = evidence.days[later]
        draws = ratio_draws(days, own, other, seed=evidence.seed, resamples=self.resamples)
        worst = float(np.quantile(draws, self.confidence))
        return (
            worst,
            between(draws, days),
            (
                f"{by} {own.mean():.4g} against {other.mean():.4g} of {champion.name} on the same {later.sum():,} rows "
                f"({own.mean() / other.mean() - 1:+.2%}); at worst, by {self.confidence:.0%} of resamples of days,"
            ),
        )
