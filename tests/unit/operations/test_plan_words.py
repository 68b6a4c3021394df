"""What a plan says of models."""

import pytest

from include.config.loading import load_model, load_project
from include.core.changes import Change, Effect
from include.io.postgres.recorded import Installation
from include.operations.plan_words import ChangePlan, effects


@pytest.mark.parametrize(
    ("champions", "said"),
    [
        ({}, "It has no champion until a version passes the gate."),
        ({"late_ferry": (3, None)}, "Its champion is version 3."),
    ],
)
def test_a_model_that_is_new_in_the_comparison_may_have_a_champion(
    champions: dict[str, tuple[int, None]], said: str
) -> None:
    """Its folder is in no commit yet, and somebody has published its scores from the working tree."""
    plan = ChangePlan(
        project=load_project("ferries"),
        models={"late_ferry": load_model("late_ferry")},
        against="main",
        base="0123456",
        changes=[Change("models/late_ferry/model.yaml", "the model is new", Effect.FIT, "late_ferry")],
        features_digest="digest",
        installation=Installation(revision="0001", days={}, costs={}, champions=champions),
        costs={},
        newest_migration="0001",
    )
    [line] = [line for line in effects(plan) if line.startswith("late_ferry: ")]
    assert line == f"late_ferry: the model is new in this comparison. {said}"
