"""`retrain` in model.yaml: which alerts ask for a training, and of which models."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from include.config.loading import load_model
from include.config.model import Model
from include.config.retrain import Retrain
from include.core.records import Alert

DAY = date(2013, 3, 1)
POOR = "roc_auc at_least 0.55, 3 of 7 days"
RULES = ("drift: inputs", "degradation: slices", "degradation: age", POOR, "scores_late", "skew")


def declared(**keys: Any) -> Model:
    product = load_model("late_ferry")
    return Model.model_validate({**product.model_dump(), "folder": product.folder, **keys})


@pytest.mark.parametrize(
    ("retrain", "asking"),
    [
        ("on_drift", ["drift: inputs"]),
        ("on_degradation", ["degradation: slices", "degradation: age", POOR]),
        (["on_drift", "on_degradation"], ["drift: inputs", "degradation: slices", "degradation: age", POOR]),
        ({"on": ["on_drift"], "cool_down_days": 3}, ["drift: inputs"]),
    ],
)
def test_alerts_ask_by_the_names_of_their_rules(retrain: Any, asking: list[str]) -> None:
    found = declared(train_schedule="0 4 1 * *", retrain=retrain).retrained
    assert isinstance(found, Retrain)
    assert found.cool_down_days == (3 if isinstance(retrain, dict) else 7)
    alerts = [Alert(subject="late_ferry", rule=rule, day=DAY, sentence="…") for rule in RULES]
    assert [alert.rule for alert in found.reasons(alerts, [POOR])] == asking


def test_a_model_that_trains_nightly_cannot_ask() -> None:
    with pytest.raises(ValidationError, match="retrain: the model trains each night"):
        declared(retrain="on_drift")
    assert declared().retrained is None


def test_retrain_does_not_decide_a_fit() -> None:
    assert declared(train_schedule="0 4 1 * *", retrain="on_drift").digest == declared().digest
