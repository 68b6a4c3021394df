"""Each problem type from training to the view that analysts read: real MLflow files, real PostgreSQL."""

import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.feeds import Outcome
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.gate.config import Gate
from include.io import postgres
from include.io.tables import Scope, Tables
from include.monitoring.performance import PerformanceMonitor
from include.steps import monitor as monitor_step
from include.steps.monitor import monitor
from include.steps.outcomes import outcomes
from include.steps.promote import promote
from include.steps.publish import publish
from include.steps.score import score
from include.training.config import Candidate
from tests.integration import small
from tests.integration.small import DAY as FIRST
from tests.integration.training import FERRIES, MODEL, after, train, train_and_gate

pytestmark = pytest.mark.timeout(600)

NEXT = Interval.of(FIRST + timedelta(days=1))
LABELS = ("early", "on time", "late")
NULL = "CASE WHEN delay_minutes IS NULL THEN NULL "
OUTCOMES = {
    "lateness": Outcome(
        feed="logbook",
        sql=NULL + "WHEN delay_minutes < 0 THEN 'early' WHEN delay_minutes < 15 THEN 'on time' ELSE 'late' END",
        labels=LABELS,
    ),
    "calls": Outcome(feed="logbook", sql=NULL + "WHEN delay_minutes < 0 THEN 0 ELSE FLOOR(delay_minutes / 10) END"),
}

ESTIMATOR = """
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, VotingRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor, QuantileRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler


def of_quantiles(make):
    return VotingRegressor([(f"q{n}", make(q)) for n, q in enumerate((0.1, 0.5, 0.9))])


def scaled(q):
    return TransformedTargetRegressor(QuantileRegressor(quantile=q, alpha=0.001), transformer=StandardScaler())


def build(params, numeric, categorical, seed):
    numbers = ColumnTransformer([("numbers", StandardScaler(), list(numeric))])
    trees = {"max_iter": 20, "random_state": seed}
    made = {
        "count linear": lambda: PoissonRegressor(),
        "count trees": lambda: HistGradientBoostingRegressor(loss="poisson", **trees),
        "quantile linear": lambda: of_quantiles(scaled),
        "quantile trees": lambda: of_quantiles(
            lambda q: HistGradientBoostingRegressor(loss="quantile", quantile=q, **trees)
        ),
        "multiclass linear": lambda: LogisticRegression(),
        "multiclass trees": lambda: HistGradientBoostingClassifier(**trees),
    }[params["kind"]]()
    return Pipeline([("prepare", numbers), ("fit", made)])
"""

CHECKS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "count": (
        "calls",
        [{"kind": "quality", "metric": "d2", "at_least": 0.05}, {"kind": "changed_decisions", "over": 2}],
    ),
    "quantile": (
        "ferry_delay",
        [
            {"kind": "quality", "metric": "d2", "at_least": 0.02},
            {"kind": "changed_decisions", "over": 15},
            {"kind": "score_shift", "at_most": 10},
        ],
    ),
    "multiclass": ("lateness", [{"kind": "quality", "metric": "accuracy", "at_least": 0.4}]),
}
"""The outcome of each problem type, and the checks of its gate."""


@pytest.fixture
def ferries(monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return the project with an outcome of labels and one that counts."""
    project = load_project("ferries")
    more = project.model_copy(update={"outcomes": {**project.outcomes, **OUTCOMES}})
    for step in ("fit", "evaluate", "gate", "score", "publish"):
        monkeypatch.setattr(f"include.steps.{step}.load_project", lambda _: more)
    return more


def model_of(problem_type: str, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Return a small model of a problem type, with a linear candidate and one of trees."""
    outcome, checks = CHECKS[problem_type]
    name = "include.projects.ferries.models.other.estimator"
    module = ModuleType(name)
    exec(ESTIMATOR, module.__dict__)  # noqa: S102  # a module that is not below `include`
    monkeypatch.setitem(sys.modules, name, module)
    shared = [
        {"kind": "enough_rows", "at_least": 400},
        {"kind": "calibration", "at_most": 0.2},
        {"kind": "slices", "by": ["origin"], "min_rows": 100, "at_most": 0.1},
        {"kind": "linear_baseline", "at_most": 0.5},
        {"kind": "champion", "at_most": 0.5, "min_rows": 400},
        {"kind": "scoring_time", "at_most": 5000},
    ]
    return MODEL.model_copy(
        update={
            "name": "other",
            "outcome": outcome,
            "problem_type": problem_type,
            "classes": LABELS if problem_type == "multiclass" else (),
            "numeric": ("leaving_hour", "precipitation_inches"),
            "categorical": ("origin",),
            "candidates": tuple(Candidate(name=n, params={"kind": f"{problem_type} {n}"}) for n in ("linear", "trees")),
            "gate": Gate.model_validate({"checks": [*shared, *checks]}),
        }
    )


@pytest.mark.parametrize("problem_type", ["count", "quantile", "multiclass"])
def test_a_model_is_trained_gated_promoted_and_scores(
    prepared: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch, problem_type: str
) -> None:
    model = model_of(problem_type, monkeypatch)
    evaluated = train(prepared, model)
    assert evaluated.validation_metrics[model.problem.chosen_by] > 0
    decision = train_and_gate(prepared, model)
    assert decision.passed, decision.why_not
    promote(model, after(1), prepared, version=evaluated.model_version or 0)
    assert score(model, after(1), prepared, versions={after(1).start: 1}).rows == FERRIES
    rows = Tables(prepared).scan("scores_other").collect()
    used = {"count": [], "quantile": ["lower", "upper"], "multiclass": ["label", "probabilities"]}[problem_type]
    for column in ("lower", "upper", "label", "probabilities"):
        assert rows[column].null_count() == (0 if column in used else FERRIES)
    if problem_type == "quantile":
        assert (rows["lower"] <= rows["prediction"]).all()
        assert (rows["prediction"] <= rows["upper"]).all()
        width = (rows["upper"] - rows["lower"]).to_numpy().mean()
        assert width > 20, "the noise alone has 51 minutes from 10 % to 90 %"
        wider = train_and_gate(prepared, model.model_copy(update={"quantiles": (0.05, 0.5, 0.95)}), after(1))
        assert "champion 1 has another problem_type, other quantiles" in (wider.why_not or "")
    elif problem_type == "multiclass":
        assert {"early", "late"} <= set(rows["label"]) <= set(LABELS)
        assert rows["score"].is_between(1 / 3, 1).all()
        more = train_and_gate(prepared, model.model_copy(update={"classes": (*LABELS, "cancelled")}), after(1))
        assert more.champion == 1
        assert more.passed, more.why_not
    else:
        assert (rows["score"] > 0).all()


def published_and_measured(
    settings: Settings,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    model: Model,
    columns: dict[str, list[Any]],
    delays: list[float | None],
) -> list[dict[str, Any]]:
    """Publish predictions of FIRST, record its outcomes, measure them; return what analysts read, by entity."""
    small.prepare(settings, project, FIRST, NEXT.start)
    moment = small.as_of(NEXT.start) - timedelta(hours=1)
    small.deliver(settings, project, "logbook", FIRST, small.logbook_of(FIRST, delays), available_from=moment)
    small.promoted(settings, model.name, 1, FIRST)
    small.score(settings, project, model.name, FIRST)
    tables = Tables(settings)
    rows = tables.scan(f"scores_{model.name}").collect().sort("entity_id")
    rows = rows.with_columns(pl.Series(name, values) for name, values in columns.items())
    tables.replace("scores_of_a_type", rows, Scope(Interval.of(FIRST)), sort_by=["entity_id"])
    monkeypatch.setattr("include.steps.publish.scores_table", lambda *_: "scores_of_a_type")
    for _ in ("once", "again"):
        done = publish(model, Interval.of(FIRST), settings)
    assert done.days[0].state == "unchanged", "equal content must be the same batch"
    monkeypatch.setattr(monitor_step, "model_names", lambda _: [model.name])
    monkeypatch.setattr(monitor_step, "load_model", lambda _: model)
    outcomes(project, NEXT, settings)
    monitor(project, NEXT, settings)
    return small.select(settings, "SELECT * FROM predictions_with_outcomes ORDER BY entity_id")


def measured(settings: Settings) -> dict[str, float]:
    rows = small.select(settings, "SELECT metric, value FROM performance_daily WHERE slice = 'all'")
    return {row["metric"]: row["value"] for row in rows}


def watched(problem_type: str, outcome: str, **more: Any) -> Model:
    declared = {"problem_type": problem_type, "outcome": outcome, "monitors": (PerformanceMonitor(min_rows=2),), **more}
    return load_model("late_ferry").model_copy(update={"name": "other", **declared})


def test_limits_are_published_and_measured(
    settings: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = watched("quantile", "ferry_delay")
    columns: dict[str, list[Any]] = {
        "score": [5.0, 5.0, 5.0, 5.0],
        "prediction": [5.0, 5.0, 5.0, 5.0],
        "lower": [-5.0, -5.0, 0.0, 0.0],
        "upper": [10.0, 20.0, 10.0, 10.0],
    }
    rows = published_and_measured(settings, ferries, monkeypatch, model, columns, [0.0, 16.0, 30.0, None])
    assert [row["within_limits"] for row in rows] == [True, True, False, None]
    assert [row["error"] for row in rows] == [5.0, -11.0, -25.0, None]
    assert [(row["lower"], row["upper"]) for row in rows] == [(-5.0, 10.0), (-5.0, 20.0), (0.0, 10.0), (0.0, 10.0)]
    assert {row["label"] for row in rows} == {row["correct"] for row in rows} == {None}
    found = measured(settings)
    assert (found["coverage"], found["above"], found["width"]) == pytest.approx((2 / 3, 1 / 3, 50 / 3))
    assert found.keys() == model.problem.performance_metrics.keys()


def test_labels_are_published_and_measured(
    settings: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = watched("multiclass", "lateness", classes=LABELS)
    early, rare = '{"early": 0.7, "on time": 0.2, "late": 0.1}', '{"late": 1e-05, "early": 0.3, "on time": 0.69999}'
    columns: dict[str, list[Any]] = {
        "score": [0.7, 0.69999, 0.7, 0.7],
        "prediction": [0.0, 1.0, 0.0, 0.0],
        "label": ["early", "on time", "early", "early"],
        "probabilities": [early, rare, early, early],
    }
    rows = published_and_measured(settings, ferries, monkeypatch, model, columns, [-3.0, 3.0, 30.0, None])
    assert [row["label"] for row in rows] == ["early", "on time", "early", "early"]
    assert [row["outcome_label"] for row in rows] == ["early", "on time", "late", None]
    assert [row["outcome_value"] for row in rows] == [0.0, 1.0, 2.0, None]
    assert [row["correct"] for row in rows] == [True, True, False, None]
    assert rows[0]["probabilities"] == {"early": 0.7, "on time": 0.2, "late": 0.1}
    found = measured(settings)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found.keys() == model.problem.performance_metrics.keys()
    stored = postgres.predictions.read_predictions(settings, "other", Interval.of(FIRST))
    [digest] = postgres.predictions.read_batches(settings, "other", Interval.of(FIRST))["digest"]
    assert postgres.predictions.batch_digest(stored) == digest, "what is read back must have the digest of the batch"
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.text("SET session_replication_role = replica"))
        connection.execute(sa.text("UPDATE predictions SET probabilities = '{\"late\": 1}' WHERE score < 0.7"))
    changed = postgres.predictions.read_predictions(settings, "other", Interval.of(FIRST))
    assert postgres.predictions.batch_digest(changed) != digest, "the digest must cover the probabilities"


def test_a_label_that_nobody_declared_is_refused(settings: Settings, ferries: Project) -> None:
    fewer = ferries.outcomes["lateness"].model_copy(update={"labels": ("early", "on time")})
    project = ferries.model_copy(update={"outcomes": {"lateness": fewer}})
    small.prepare(settings, project, FIRST, NEXT.start)
    moment = small.as_of(NEXT.start) - timedelta(hours=1)
    small.deliver(settings, project, "logbook", FIRST, small.logbook_of(FIRST, [0.0, 99.0]), available_from=moment)
    with pytest.raises(DataError, match="1 of 2 outcomes have a label other than early, on time"):
        outcomes(project, NEXT, settings)
