"""Does the version treat declared groups alike?"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal, Self

import numpy as np
from pydantic import Field

from include.core.base import Name
from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most, show
from include.gate.checks.slices import Group, labels_of
from include.gate.evidence import Evidence
from include.training.problem_types import ProblemType

LEAST_ROWS = 30
"""Of one outcome in one group; of fewer, the share of errors says nothing."""


class Fairness(GateCheck):
    """The largest difference between groups, of rates and of errors. It keeps out a model that treats some otherwise.

    Rates: the share of each decision (demographic parity); where predictions are numbers, by how much they are over the
    outcomes on the mean, as a share of the mean outcome. Errors: the share of wrong decisions among rows of the same
    outcome (equalised odds; Hardt, Price and Srebro 2016); where predictions are numbers, the loss as a share of the
    loss of all. Who must be treated alike is the owner's decision: the check runs only if it is listed.
    """

    kind: Literal["fairness"] = "fairness"
    by: str = Field(
        description="column of the features, also one that is no input of the model, or a name of `groups`",
        examples=["region"],
    )
    groups: dict[Name, Group] = Field(default_factory=dict, description="columns that are made for this check")
    rates_at_most: float = Field(gt=0, description="largest difference of rates", examples=[0.1])
    errors_at_most: float = Field(gt=0, description="largest difference of errors", examples=[0.1])
    min_rows: int = Field(default=300, ge=1, description="a group with fewer rows is left out")

    @property
    def subject(self) -> str:
        """The column."""
        return self.by

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that the groups are made of."""
        return (self.groups[self.by].of if self.by in self.groups else self.by,)

    @classmethod
    def defaults(cls, problem_type: str) -> Sequence[Self]:
        """Return nothing: groups have to be declared."""
        return ()

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Yield a verdict on rates and one on errors."""
        group, why = self._groups(evidence)
        measures = (("rates", self.rates_at_most, _rates), ("errors", self.errors_at_most, _errors))
        for what, limit, measure in measures:
            subject, gap, ends, most, least = f"{self.by}: {what}", None, None, "", ""
            if group is not None and evidence.finite:
                by_group = measure(evidence, group, np.arange(len(group)))
                gap, most, least = _gap(by_group)
                ends = evidence.interval(partial(_gap_of, measure, evidence, group))
            sentence = f"largest difference of {what} between groups of {self.by}{why}"
            if most:
                sentence += f", {most} and {least}"
            yield self.verdict(subject, gap, at_most(limit), f"{sentence}:", between=ends)

    def _groups(self, evidence: Evidence) -> tuple[np.ndarray | None, str]:
        """Return the group of each row, empty for one that is too small; None if there are not two."""
        [column] = self.columns
        if column not in evidence.labels.columns:
            return None, f" (the features have no column {column})"
        group = labels_of(evidence.labels, self.by, self.groups).fill_null("").to_numpy().astype(str)
        names, count = np.unique(group, return_counts=True)
        kept = [name for name, rows in zip(names, count, strict=True) if name and rows >= self.min_rows]
        if len(kept) < 2:
            return None, f" (fewer than two groups have {self.min_rows} rows)"
        return np.where(np.isin(group, kept), group, ""), f" ({len(kept)} groups)"


def _rates(evidence: Evidence, group: np.ndarray, rows: np.ndarray) -> dict[str, dict[str, float]]:
    """Return for each group the share of each decision or, of numbers, how far their level is off."""
    problem, score, truth, of, names = _part(evidence, group, rows)
    if problem.predicts_numbers:
        over = problem.point(score) - truth
        scale = float(np.abs(truth).mean()) or 1.0
        return {"mean": {name: float(over[of == name].mean()) / scale for name in names}}
    decision = problem.decide(score, evidence.challenger.decision_threshold)
    return {
        f"{value:g}": {name: float((decision[of == name] == value).mean()) for name in names}
        for value in np.unique(decision)
    }


def _errors(evidence: Evidence, group: np.ndarray, rows: np.ndarray) -> dict[str, dict[str, float]]:
    """Return for each group the share of wrong decisions of each outcome or, of numbers, the loss."""
    problem, score, truth, of, names = _part(evidence, group, rows)
    if problem.predicts_numbers:
        loss = problem.loss_by_row(truth, score)
        scale = float(loss.mean()) or 1.0
        return {"loss": {name: float(loss[of == name].mean()) / scale for name in names}}
    wrong = problem.decide(score, evidence.challenger.decision_threshold) != truth
    found = {}
    for value in np.unique(truth):
        inside = {name: (of == name) & (truth == value) for name in names}
        found[f"{value:g}"] = {
            name: float(wrong[mask].mean()) for name, mask in inside.items() if mask.sum() >= LEAST_ROWS
        }
    return found


def _part(
    evidence: Evidence, group: np.ndarray, rows: np.ndarray
) -> tuple[ProblemType, np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return the problem type, scores, outcomes and groups of some rows, and the names of these groups."""
    of = group[rows]
    names = [name for name in np.unique(of) if name]
    return evidence.problem_type, evidence.challenger.score[rows], evidence.truth[rows], of, names


def _gap_of(
    measure: Callable[[Evidence, np.ndarray, np.ndarray], dict[str, dict[str, float]]],
    evidence: Evidence,
    group: np.ndarray,
    rows: np.ndarray,
) -> float:
    return _gap(measure(evidence, group, rows))[0]


def _gap(by_group: dict[str, dict[str, float]]) -> tuple[float, str, str]:
    """Return the largest difference between two groups, and both in words; NaN if there are not two."""
    found = []
    for each in by_group.values():
        if len(each) > 1:
            most, least = max(each, key=lambda name: each[name]), min(each, key=lambda name: each[name])
            found.append((each[most] - each[least], f"{most} {show(each[most])}", f"{least} {show(each[least])}"))
    return max(found, default=(float("nan"), "", ""))
