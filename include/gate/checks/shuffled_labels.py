"""Does the version's estimator know outcomes that it was not shown?"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence
from include.gate.resampling import sample_of
from include.training.problem_types import ProblemType

REPEATS = 5


class ShuffledLabels(GateCheck):
    """The skill that is left after a fit on shuffled outcomes. It keeps out a pipeline that knew outcomes before.

    Whoever learns from shuffled outcomes knows nothing (Ojala and Garriga 2010). A pipeline that still explains the
    holdout days has a table, a file or an encoding that was made from outcomes, perhaps from those of the holdout days.
    """

    needs_refit: ClassVar[bool] = True
    expensive: ClassVar[bool] = True

    kind: Literal["shuffled_labels"] = "shuffled_labels"
    at_most: float = Field(
        default=0.05, gt=0, lt=1, description="share by which the loss may be below that of the best constant there"
    )
    rows: int = Field(default=5000, ge=100, description="rows that are fitted on, and as many that are scored, at most")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Fit on shuffled outcomes. A skill that luck explains is not there after another shuffle, so the least counts.

        There are up to 5 shuffles, with as many fits; one is enough for most models.
        """
        measured, why, fits = None, "", 0
        for seed in range(evidence.seed, evidence.seed + REPEATS):
            try:
                skill = self._skill(evidence, seed)
            except Exception as error:  # noqa: BLE001 — an estimator may raise anything, and then nothing was measured
                skill, why = None, f" ({type(error).__name__}: {str(error)[:200]})"
            fits += 1
            if skill is None:
                measured = None
                break
            measured = skill if measured is None else min(measured, skill)
            if measured <= self.at_most:
                break
        by = evidence.problem_type.chosen_by
        sentence = f"{by} below that of the best constant after a fit on shuffled outcomes ({fits} fits){why}:"
        yield self.verdict(by, measured, at_most(self.at_most), sentence, ".2%")

    def _skill(self, evidence: Evidence, seed: int) -> float | None:
        if evidence.refit is None:
            return None
        problem = evidence.problem_type
        learn, test = (_sample(problem, truth, self.rows, seed) for truth in (evidence.fitted_truth, evidence.truth))
        if not len(learn) or not len(test):
            return None
        shuffled = np.random.default_rng(seed).permutation(evidence.fitted_truth[learn])
        score, truth = evidence.refit(learn, shuffled, test), evidence.truth[test]
        return evidence.problem_type.explained(truth, score).get("d2") if np.isfinite(score).all() else None


def _sample(problem: ProblemType, truth: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return the numbers of at most `most` rows, and of one row of each outcome that an estimator refuses to lack.

    A classifier needs each class. A count needs two numbers only: a row of each would give rare, large ones too much
    weight.
    """
    rows = sample_of(len(truth), most, seed)
    values, first = np.unique(truth, return_index=True)
    there = np.isin(values, truth[rows])
    if not problem.needs_different_outcomes or (problem.predicts_numbers and there.sum() > 1):
        return rows
    return np.union1d(rows, first[~there])
