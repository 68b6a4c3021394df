"""One class for each problem type, and the lookup from the word in `model.yaml`. To add one: its file and one entry."""

from include.core.errors import nearest
from include.training.problem_types.base import ProblemType as ProblemType
from include.training.problem_types.binary import Binary
from include.training.problem_types.count import Count
from include.training.problem_types.multiclass import Multiclass
from include.training.problem_types.quantile import Quantile
from include.training.problem_types.regression import Regression

PROBLEM_TYPES: dict[str, ProblemType] = {
    each.kind: each for each in (Binary(), Multiclass(), Regression(), Count(), Quantile())
}


def get_problem_type(kind: str) -> ProblemType:
    """Return the problem type of a kind.

    Raises:
        ValueError: there is none; the message names the nearest right one.
    """
    if kind not in PROBLEM_TYPES:
        raise ValueError(f"no problem type {kind!r}{nearest(kind, PROBLEM_TYPES)}")
    return PROBLEM_TYPES[kind]
