"""Expected metrics of published batches, computed in the database, against their definition by hand."""

from itertools import product

import numpy as np
import pytest

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.postgres.estimates import estimate
from include.steps.publish import publish
from tests.integration import small
from tests.integration.small import DAY


def test_estimates_are_what_calibrated_scores_expect(settings: Settings) -> None:
    model, project, days = load_model("late_ferry"), load_project("ferries"), Interval.of(DAY)
    small.prepare(settings, project, DAY)
    small.promoted(settings, model.name, 1, DAY)
    small.score(settings, project, model.name, DAY)
    publish(model, days, settings)
    [found] = estimate(settings, model.monitored, days, "roc_auc")
    p = np.array([row["score"] for row in small.select(settings, "SELECT score FROM current_predictions")])
    pairs = list(product(p, p))
    above = sum(one * (1 - other) * (0.5 if one == other else float(one > other)) for one, other in pairs)
    assert (found.day, found.model_version, found.rows) == (DAY, 1, len(p))
    assert found.value == pytest.approx(above / (p.sum() * (1 - p).sum()))
    stored = small.select(settings, "SELECT metric, estimated, came_true, error FROM estimated_performance ORDER BY 1")
    assert [row["metric"] for row in stored] == ["brier", "log_loss", "roc_auc"]
    assert stored[0]["estimated"] == pytest.approx((p * (1 - p)).mean())
    assert stored[1]["estimated"] == pytest.approx((-p * np.log(p) - (1 - p) * np.log(1 - p)).mean())
    assert {row["error"] for row in stored} == {None}, "no outcome is known"
    marks = small.select(settings, "SELECT xmin::text FROM performance_estimates")
    assert estimate(settings, model.monitored, days, "brier")[0].value == stored[0]["estimated"]
    assert small.select(settings, "SELECT xmin::text FROM performance_estimates") == marks, (
        "each batch is measured once"
    )
    assert estimate(settings, model.monitored, days.shifted(start=1, end=1), "roc_auc") == []
