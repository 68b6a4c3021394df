"""What a plan knows of the product's code."""

from pathlib import Path

import pytest

from include.config.loading import load_model
from include.core.changes import PRODUCT, Effect
from include.gate.rules import COMMON
from include.operations.plan import OF_KINDS, OF_SEARCH, PRODUCT_CODE, _uses
from include.training.config import Candidate
from tests.own_projects import use_own_projects


@pytest.mark.parametrize("code", COMMON, ids=str)
def test_a_plan_names_the_gate_for_each_file_that_is_in_the_digest_of_its_rules(code: object) -> None:
    """Otherwise it says that nothing changes, and all versions that wait go through the gate again."""
    file = code if isinstance(code, Path) else Path(str(getattr(code, "__file__", "")))
    of_gate = [pattern for _, patterns, effect in PRODUCT_CODE if effect is Effect.GATE for pattern in patterns]
    assert any(file.resolve() in map(Path.resolve, PRODUCT.glob(pattern)) for pattern in of_gate), file


def test_code_of_a_search_fits_models_with_a_search_again_whoever_wrote_their_estimator() -> None:
    use_own_projects()
    search = {"ranges": {"C": {"low": 0.1, "high": 1.0}}, "trials": 2}
    kind = {"kind": "linear"}
    for about, of_kinds, of_search in (
        ({"params": {"C": 1.0}}, False, False),
        ({"params": {"C": 1.0}, "search": search}, False, True),
        ({"estimator": kind}, True, False),
    ):
        candidate = Candidate.model_validate({"name": "it", **about})
        model = load_model("late_ferry").model_copy(update={"candidates": (candidate,)})
        assert (_uses(model, OF_KINDS), _uses(model, OF_SEARCH)) == (of_kinds, of_search)
