"""The 28 tests of Breck, Cai, Nielsen, Salib and Sculley 2017, and what shows that each is done.

Half a point is for a test that is done by hand and written down (`by_hand`), the other half for one that runs by itself
again and again (`automatic`). The score is that of the weakest section. `needs` says what the missing part needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from include.config.model import Model
from tools.ml_test_score.evidence import DatabaseRows, Declared, Documented, Drilled, Piece, Ran, Sources

SOURCE = "Breck et al. 2017, The ML Test Score: A Rubric for ML Production Readiness and Technical Debt Reduction"
MEANINGS = (
    (0, "more of a research project than a productionised system"),
    (1, "not totally untested, but serious holes in reliability are possible"),
    (2, "a first pass at basic productionisation; more investment may be needed"),
    (3, "reasonably tested; more of the tests could be automated"),
    (5, "strong automated testing and monitoring, fit for critical systems"),
    (7, "exceptional automated testing and monitoring"),
)
"""The highest score of each level, and what the paper says of it."""


@dataclass(frozen=True)
class MlTest:
    """A test of the rubric, with its evidence."""

    section: str
    name: str
    by_hand: tuple[Piece, ...] = ()
    automatic: tuple[Piece, ...] = ()
    needs: str = ""


@dataclass(frozen=True)
class Points:
    """The points of a test, and why they are not more."""

    test: MlTest
    points: float
    why_not: tuple[str, ...]


def evaluate(test: MlTest, found: Sources) -> Points:
    """Return the points of a test: a half for what is done by hand, another one if it also runs by itself."""
    by_hand, automatic = (
        [why for each in evidence if (why := each.why_not(found))] for evidence in (test.by_hand, test.automatic)
    )
    points = 0.0
    if test.by_hand and not by_hand:
        points = 1.0 if test.automatic and not automatic else 0.5
    return Points(test, points, (*by_hand, *automatic, *([test.needs] if test.needs else [])))


def section_scores(evaluated: list[Points]) -> dict[str, float]:
    """Return the sum of points of each section, in the order of the rubric."""
    return {
        section: sum(each.points for each in of_section)
        for section, of_section in groupby(evaluated, key=lambda each: each.test.section)
    }


def meaning(score: float) -> str:
    """Return what the paper says of a score."""
    return next((said for limit, said in MEANINGS if score <= limit), MEANINGS[-1][1])


def _lists(kind: str) -> Callable[[Model], bool]:
    return lambda model: any(check.kind == kind for check in model.gate.checks)


def _measured(check: str) -> DatabaseRows:
    return DatabaseRows(
        f"gate decision with the check {check}",
        f"SELECT count(*) FROM gate_checks WHERE name = '{check}' AND measured IS NOT NULL",  # noqa: S608 a word of ours
    )


DATA, MODEL, INFRASTRUCTURE, MONITORING = "data", "model", "infrastructure", "monitoring"

RUBRIC = (
    MlTest(
        DATA,
        "Feature expectations are captured in a schema",
        by_hand=(
            Documented("docs/concepts.md", "## Quarantine: invalid rows"),
            Ran("tests/integration/test_quarantine.py"),
        ),
        automatic=(
            DatabaseRows(
                "checked expectation of a delivery", "SELECT count(*) FROM data_quality WHERE rows_evaluated > 0"
            ),
        ),
    ),
    MlTest(
        DATA,
        "All features are beneficial",
        by_hand=(
            Documented("docs/training-report.md", "What the version looks at"),
            Ran("tests/unit/report/test_report.py::test_permutation_finds_the_planted_input"),
        ),
        needs="training without each group of inputs (ablation), regularly, with a threshold",
    ),
    MlTest(DATA, "No feature's cost is too much", needs="the cost of each feature, beside its benefit"),
    MlTest(
        DATA,
        "Features adhere to meta-level requirements",
        by_hand=(Documented("docs/concepts.md", "## Personal data"),),
        automatic=(
            Ran("tests/integration/test_planting.py"),
            Ran("tests/integration/test_erase.py"),
        ),
    ),
    MlTest(
        DATA,
        "The data pipeline has appropriate privacy controls",
        by_hand=(Documented("docs/security.md", "## Personal data"),),
        automatic=(Ran("tests/integration/test_roles.py"), Ran("tests/integration/test_erase.py")),
    ),
    MlTest(
        DATA,
        "New features can be added quickly",
        by_hand=(
            Documented("docs/write-features.md", "## Try it"),
            Ran("tests/integration/test_try_features.py::test_features_and_rows_of_one_entity_are_shown"),
        ),
        needs="the days from the idea of a feature to production, measured by a team that uses the product",
    ),
    MlTest(
        DATA,
        "All input feature code is tested",
        by_hand=(Documented("docs/write-features.md", "Tests of a project make a `Feeds` from a few rows"),),
        automatic=(
            Ran("tests/*/unit/test_features.py"),
            Ran("tests/integration/test_features.py"),
        ),
    ),
    MlTest(
        MODEL,
        "Model specs are reviewed and submitted",
        by_hand=(
            Documented("docs/add-a-model.md", "### Say what it is for"),
            Declared(
                "purpose, decision and costs", lambda model: bool(model.purpose and model.decision and model.costs)
            ),
        ),
        automatic=(Ran("tests/unit/test_specifications.py"),),
    ),
    MlTest(
        MODEL,
        "Offline and online metrics correlate",
        needs="the metrics of the holdout days beside those of the published predictions, over many promotions",
    ),
    MlTest(
        MODEL,
        "All hyperparameters have been tuned",
        by_hand=(
            Documented("docs/transforms.md", "## Search"),
            Ran("tests/unit/training/test_search.py"),
            Declared("search for a candidate", lambda model: any(each.search for each in model.candidates)),
        ),
        needs="a search that runs again when its trials are old",
    ),
    MlTest(
        MODEL,
        "The impact of model staleness is known",
        by_hand=(
            Documented("docs/degradation.md", "champion_performance"),
            Ran(
                "tests/integration/test_skew.py"
                "::test_former_champions_and_the_dummy_baseline_score_the_rows_of_the_champion_once"
            ),
        ),
        automatic=(
            DatabaseRows(
                "day on which a former champion was measured beside the champion",
                "SELECT count(*) FROM champion_performance WHERE model_version <> champion_version",
            ),
        ),
    ),
    MlTest(
        MODEL,
        "A simpler model is not better",
        by_hand=(Documented("docs/gate.md", "`linear_baseline`"),),
        automatic=(
            _measured("dummy_baseline"),
            _measured("linear_baseline"),
            Ran("tests/unit/gate/test_checks.py::test_each_check_rejects_a_model_that_is_bad_in_this_way"),
        ),
    ),
    MlTest(
        MODEL,
        "Model quality is sufficient on important data slices",
        by_hand=(Documented("docs/gate.md", "## Many slices"), Declared("check of slices", _lists("slices"))),
        automatic=(_measured("slices"), Ran("tests/unit/gate/test_depth.py::test_a_bad_slice_among_fifty_is_refused")),
    ),
    MlTest(
        MODEL,
        "The model is tested for considerations of inclusion",
        by_hand=(Documented("docs/gate.md", "## Groups"), Declared("check of fairness", _lists("fairness"))),
        automatic=(
            _measured("fairness"),
            Ran("tests/unit/gate/test_depth.py::test_a_group_that_is_treated_otherwise_is_refused"),
        ),
        needs="the groups that matter, which the owner of a model knows: {kind: fairness, by: …}",
    ),
    MlTest(
        INFRASTRUCTURE,
        "Training is reproducible",
        by_hand=(Documented("docs/concepts.md", "reproduce"),),
        automatic=(Ran("tests/integration/test_models.py::test_a_version_is_reproduced_to_the_bit_from_its_rows"),),
    ),
    MlTest(
        INFRASTRUCTURE,
        "Model specs are unit tested",
        by_hand=(Documented("docs/add-a-model.md", "## 2. Try it on a laptop"),),
        automatic=(
            Ran("tests/unit/training/test_estimators.py"),
            Ran("tests/unit/test_frozen_models.py"),
        ),
    ),
    MlTest(
        INFRASTRUCTURE,
        "The ML pipeline is integration tested",
        by_hand=(Documented("README.md", "make test"),),
        automatic=(Ran("tests/*/e2e/test_nightly_run.py"),),
    ),
    MlTest(
        INFRASTRUCTURE,
        "Model quality is validated before serving",
        by_hand=(Documented("docs/gate.md", "# The gate, check by check"),),
        automatic=(
            DatabaseRows(
                "champion with a gate decision that passed",
                "SELECT count(*) FROM promotion_history AS p JOIN gate_decisions AS g USING (gate_id) WHERE g.passed",
            ),
            Ran("tests/unit/gate/test_checks.py"),
            Ran("tests/unit/gate/test_depth.py"),
        ),
    ),
    MlTest(
        INFRASTRUCTURE,
        "The model is debuggable",
        by_hand=(
            Documented("docs/lineage.md", "# "),
            Ran("tests/integration/test_try_features.py::test_features_and_rows_of_one_entity_are_shown"),
            Ran(
                "tests/integration/test_versions.py"
                "::test_lineage_leads_from_deliveries_to_predictions_and_back_also_after_a_correction"
            ),
        ),
        needs="the steps of the pipeline of a version for one entity, down to its score",
    ),
    MlTest(
        INFRASTRUCTURE,
        "Models are canaried before serving",
        by_hand=(
            Documented("docs/shadow.md", "# Try a version beside the champion"),
            Ran("tests/integration/test_shadow.py"),
        ),
        automatic=(Declared("shadow", lambda model: model.shadow is not None),),
        needs="shadow: {days_with_outcomes: 7} in each model.yaml",
    ),
    MlTest(
        INFRASTRUCTURE,
        "Serving models can be rolled back",
        by_hand=(
            Documented("docs/runbooks/rollback.md", "# "),
            Drilled("tests/drills/test_runbooks.py::test_a_bad_model_is_rolled_back_by_one_form"),
        ),
        automatic=(Ran("tests/integration/test_rollback.py"),),
    ),
    MlTest(
        MONITORING,
        "Dependency changes result in notification",
        by_hand=(Documented("docs/pipeline-watch.md", "`changes`"),),
        automatic=(
            Ran(
                "tests/unit/monitoring/test_pipeline.py"
                "::test_a_change_of_libraries_is_announced_for_one_run_date_whichever_monitor_runs"
            ),
            Ran("tests/unit/monitoring/test_pipeline.py::test_a_change_of_columns_is_announced_once"),
        ),
    ),
    MlTest(
        MONITORING,
        "Data invariants hold for inputs",
        by_hand=(Documented("docs/drift.md", "# Drift"),),
        automatic=(
            DatabaseRows("delivery that was checked", "SELECT count(*) FROM data_quality WHERE rows_evaluated > 0"),
            DatabaseRows(
                "input that was compared with earlier days", "SELECT count(*) FROM drift WHERE role = 'input'"
            ),
            Ran("tests/integration/test_validate.py"),
            Ran("tests/integration/test_drift.py"),
        ),
    ),
    MlTest(
        MONITORING,
        "Training and serving are not skewed",
        by_hand=(Documented("docs/runbooks/alert-skew.md", "# "),),
        automatic=(
            DatabaseRows("batch that was built again from raw tables", "SELECT count(*) FROM skew WHERE rows > 0"),
            Ran("tests/integration/test_skew.py"),
        ),
    ),
    MlTest(
        MONITORING,
        "Models are not too stale",
        by_hand=(Documented("docs/runbooks/alert-degradation.md", "# "),),
        automatic=(Ran("tests/unit/monitoring/test_degradation.py::test_a_champion_has_an_age"),),
    ),
    MlTest(
        MONITORING,
        "Models are numerically stable",
        by_hand=(Documented("docs/pipeline-watch.md", "saturated"),),
        automatic=(
            Ran("tests/unit/monitoring/test_pipeline.py::test_scores_that_become_equal_or_saturated_raise_an_alert"),
            Ran("tests/unit/steps/test_score.py"),
        ),
    ),
    MlTest(
        MONITORING,
        "Computing performance has not regressed",
        by_hand=(Documented("docs/pipeline-watch.md", "`steps`"),),
        automatic=(
            DatabaseRows("step whose cost is known", "SELECT count(*) FROM pipeline_cost WHERE core_seconds > 0"),
            Ran(
                "tests/unit/monitoring/test_pipeline.py::test_a_step_that_takes_more_for_three_nights_raises_one_alert"
            ),
        ),
    ),
    MlTest(
        MONITORING,
        "Prediction quality has not regressed",
        by_hand=(Documented("docs/degradation.md", "# "),),
        automatic=(
            DatabaseRows("measured day of published predictions", "SELECT count(*) FROM model_performance"),
            Ran("tests/integration/test_monitor.py::test_a_broken_rule_is_reported_once_per_run_date"),
            Ran("tests/unit/monitoring/test_degradation.py"),
        ),
    ),
)
