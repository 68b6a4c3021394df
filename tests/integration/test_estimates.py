"""Expected metrics of published batches, computed in the database, against their definition by hand."""

from datetime import date, timedelta
from itertools import product

import numpy as np
import pytest

from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.records import Alert
from include.core.settings import Settings
from include.io.postgres.estimates import estimate
from include.monitoring.estimate import RULE, EstimateMonitor
from include.monitoring.performance import PerformanceMonitor
from include.steps import monitor as step
from include.steps.outcomes import outcomes
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


def test_the_step_monitor_alerts_when_scores_expect_to_be_worse_than_what_came_true(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Estimates of two days came true (0.73 and 0.75); on the two days after them, scores tell nothing apart."""
    days = [DAY + timedelta(days=n) for n in range(5)]
    monitors = (PerformanceMonitor(min_rows=1), EstimateMonitor(min_rows=1, min_days=2, days=2, of=3))
    model, project = load_model("late_ferry").model_copy(update={"monitors": monitors}), load_project("ferries")
    monkeypatch.setattr(step, "model_names", lambda _: [model.name])
    monkeypatch.setattr(step, "load_model", lambda _: model)
    small.promoted(settings, model.name, 1, DAY)
    for rows, some in ((4, days[:2]), (1, days[2:])):
        small.prepare(settings, project, *some, count=rows)
        small.score(settings, project, model.name, *some, count=rows)
    publish(model, Interval(start=DAY, end=days[-1]), settings)
    for day in days[:2]:
        known_at = small.as_of(day + timedelta(days=1)) - timedelta(hours=1)
        late = small.logbook_of(day, [0.0, 20.0, 0.0, 20.0])
        small.deliver(settings, project, "logbook", day, late, available_from=known_at)

    outcomes(project, Interval(start=days[1], end=days[4]), settings)

    def raised(day: date) -> list[Alert]:
        return [each for each in step.monitor(project, Interval.of(day), settings).alerts if each.rule == RULE]

    assert raised(days[3]) == [], "one day is too few"
    [alert] = raised(days[4])
    assert "roc_auc is expected to be under 0.750, what came true on 2 days, by more than 0.05" in alert.sentence
    assert f"{days[2]}: 0.500, {days[3]}: 0.500. Such estimates were off by 0.01" in alert.sentence
    assert raised(days[4]) == [], "once a run date"
    [incident] = small.select(settings, f"SELECT subject, effect, state FROM incidents WHERE rule = '{RULE}'")
    assert (incident["subject"], incident["state"]) == (model.name, "open")
    assert incident["effect"] == "scores are published, but are probably poorer than usual"
