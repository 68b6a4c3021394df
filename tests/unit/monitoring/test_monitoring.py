"""Monitoring of a model: metrics against values computed by hand, rules, and late scores."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
import pytest
from pydantic import Field

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.records import Alert, Freshness
from include.monitoring import AnyMonitor, Monitor
from include.monitoring.base import Watch
from include.monitoring.degradation import Ages, ComparedDay, Comparison, DegradationMonitor
from include.monitoring.freshness import FreshnessMonitor, is_live, late_alert
from include.monitoring.performance import PerformanceMonitor, Rule
from include.monitoring.records import DayValue, Findings, Preparation, Punctuality
from include.monitoring.skew import SkewCheck
from include.monitoring.tables import table_freshness
from include.training.calibration import expected_calibration_error
from include.training.problem_types import PROBLEM_TYPES
from tools.reference import file_schema, keys

DAY = date(2013, 3, 1)
RUN = DAY + timedelta(days=1)
PROJECT = load_project("ferries")
LATE = load_model("late_ferry").monitored


def measure_day(rows: pl.DataFrame, problem_type: str = "binary") -> pl.DataFrame:
    monitor = PerformanceMonitor(min_rows=2, slices=("origin",))
    return monitor.measure_day(dataclasses.replace(LATE, problem_type=problem_type), rows)


def day_of(*rows: tuple[float, float, float | None, str | None]) -> pl.DataFrame:
    """Return rows of one day; each is given as score, prediction, outcome, origin."""
    schema = {"score": pl.Float64, "prediction": pl.Float64, "outcome": pl.Float64, "origin": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def figures(measured: pl.DataFrame, column: str = "all", value: str = "all") -> dict[str, float | None]:
    part = measured.filter((pl.col("slice") == column) & (pl.col("slice_value") == value))
    return dict(part.select("metric", "value").iter_rows())


class TestMeasureDay:
    ROWS = day_of(
        (0.9, 1.0, 1.0, "BAT"),
        (0.6, 1.0, 0.0, "BAT"),
        (0.4, 1.0, 1.0, "PAU"),
        (0.1, 0.0, 0.0, "PAU"),
        (0.5, 1.0, None, "PAU"),  # outcome not known yet
        (0.2, 0.0, 0.0, "STG"),  # the only row of its origin: too few for a slice
    )

    def test_a_classification_has_the_values_computed_by_hand(self) -> None:
        of_all = figures(measure_day(self.ROWS))
        assert of_all["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.4, 0.9, 0.8]).mean())
        assert of_all["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.01 + 0.04) / 5)
        assert of_all["roc_auc"] == pytest.approx(5 / 6)  # one pair of late and punctual is in the wrong order
        assert of_all["base_rate"] == pytest.approx(0.4)
        assert of_all["mean_score"] == pytest.approx(0.44)
        assert of_all["calibration_gap"] == pytest.approx(0.04)
        assert of_all["accuracy"] == pytest.approx(4 / 5)
        assert of_all["ece"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.1 + 0.2) / 5)  # fewer rows than bins: a bin per row

    def test_only_slices_with_enough_rows_are_measured(self) -> None:
        measured = measure_day(self.ROWS)
        seen = measured.select("slice", "slice_value", "rows").unique(maintain_order=True).rows()
        assert seen == [("all", "all", 5), ("origin", "BAT", 2), ("origin", "PAU", 2)]
        assert figures(measured, "origin", "BAT")["calibration_gap"] == pytest.approx(0.25)
        assert figures(measured, "origin", "PAU")["calibration_gap"] == pytest.approx(-0.25)

    def test_an_undefined_metric_is_null(self) -> None:
        of_all = figures(measure_day(day_of((0.2, 0.0, 0.0, "BAT"))))
        assert of_all["roc_auc"] is None
        assert of_all["brier"] == pytest.approx(0.04)
        assert set(of_all) == set(PROBLEM_TYPES["binary"].performance_metrics)

    @pytest.mark.parametrize("rows", [day_of(), day_of((0.2, 0.0, None, "BAT"))], ids=["no row", "nothing known"])
    def test_a_day_without_outcomes_has_rows_with_null_metrics(self, rows: pl.DataFrame) -> None:
        measured = measure_day(rows)
        assert set(measured["metric"]) == set(PROBLEM_TYPES["binary"].performance_metrics)
        assert measured["value"].null_count() == measured.height
        assert measured["rows"].to_list() == [0] * measured.height

    def test_rows_without_a_value_form_one_slice(self) -> None:
        rows = day_of((0.2, 0.0, 0.0, None), (0.4, 1.0, 1.0, None))
        assert figures(measure_day(rows), "origin", "(none)")["base_rate"] == 0.5

    def test_a_regression_has_the_values_computed_by_hand(self) -> None:
        rows = day_of(
            (10.0, 10.0, 20.0, "BAT"), (0.0, 0.0, -4.0, "BAT"), (5.0, 5.0, 5.0, "BAT"), (7.0, 7.0, None, "BAT")
        )
        of_all = figures(measure_day(rows, "regression"))
        assert set(of_all) == set(PROBLEM_TYPES["regression"].performance_metrics)
        assert of_all["mae"] == pytest.approx(14 / 3)
        assert of_all["rmse"] == pytest.approx(np.sqrt(116 / 3))
        assert of_all["mean_error"] == pytest.approx(-2.0)
        assert of_all["r2"] == pytest.approx(1 - 116 / (13**2 + 11**2 + 2**2))

    def test_a_classification_refuses_an_outcome_other_than_0_and_1(self) -> None:
        with pytest.raises(DataError, match="1 of 2 values of outcome late_ferry are other than 0 and 1"):
            measure_day(day_of((0.2, 0.0, 0.0, "BAT"), (0.2, 0.0, 2.0, "BAT")))


class TestCalibrationError:
    def test_bins_have_equal_counts(self) -> None:
        score = np.array([0.1, 0.2, 0.3, 0.8])
        truth = np.array([0.0, 1.0, 0.0, 1.0])
        # two bins: (0.1, 0.2) against 0 and 1, (0.3, 0.8) against 0 and 1
        assert expected_calibration_error(truth, score, bins=2) == pytest.approx((0.7 + 0.1) / 4)

    def test_the_order_of_equal_scores_does_not_matter(self) -> None:
        truth = np.array([1.0] * 5 + [0.0] * 15)
        score = np.full(20, 0.25)
        for seed in range(5):
            mixed = np.random.default_rng(seed).permutation(truth)
            assert expected_calibration_error(mixed, score) == pytest.approx(0.0, abs=1e-12)


def days(*values: float) -> list[DayValue]:
    """Return one measured day per value, the newest first."""
    return [DayValue(DAY - timedelta(days=n), 2, value) for n, value in enumerate(values)]


AUC = Rule(metric="roc_auc", at_least=0.55, days=2, of=3)


class TestBreach:
    @pytest.mark.parametrize(
        ("values", "broken"),
        [
            ((0.5, 0.5, 0.6), True),
            ((0.5, 0.6, 0.5), True),
            ((0.5, 0.6, 0.6, 0.5), False),  # the second low value is outside the window
            ((0.55, 0.5, 0.6), False),  # a value at the threshold is not under it
            ((0.5,), False),  # fewer measured days than the rule needs
            ((0.5, 0.5), True),
            ((), False),
        ],
    )
    def test_a_rule_is_broken_by_k_of_the_newest_n_days(self, values: tuple[float, ...], broken: bool) -> None:
        assert (AUC.breach(LATE, days(*values), RUN) is not None) == broken

    def test_a_rule_can_have_an_upper_threshold(self) -> None:
        loss = Rule(metric="log_loss", at_most=0.6, days=1, of=1)
        assert loss.breach(LATE, days(0.6), RUN) is None
        found = loss.breach(LATE, days(0.61), RUN)
        assert found is not None and "over 0.6" in found.sentence

    def test_the_alert_has_values_command_owner_and_runbook(self) -> None:
        found = AUC.breach(LATE, days(0.5, 0.6, 0.512), RUN)
        assert found is not None
        assert (found.subject, found.rule, found.day) == ("late_ferry", "roc_auc at_least 0.55, 2 of 3 days", RUN)
        for part in (
            "late_ferry: roc_auc is under 0.55 on 2 of the newest 3 days",
            "2013-03-01: 0.500 (version 2), 2013-02-27: 0.512 (version 2)",
            "model_performance",
            "python -m include.cli promote --model late_ferry --version VERSION --from-day 2013-03-03",
            "--by YOU --why WHY",
            "Owner: data-science",
            "Runbook: docs/runbooks/alert-rule-broken.md",
        ):
            assert part in found.sentence


def at(day: date, hour: int, minute: int = 0) -> datetime:
    return PROJECT.at(day, time(hour, minute))


def state(published: datetime | None, champion: int | None = 1, newest: date | None = DAY) -> Punctuality:
    return Punctuality(DAY, champion, published, newest)


def freshness(run_date: date, found: Punctuality, *, prepared: bool) -> Freshness:
    return FreshnessMonitor().freshness(PROJECT, LATE, run_date, found, prepared=prepared)


class TestScores:
    @pytest.mark.parametrize(
        ("found", "late", "says"),
        [
            (state(at(DAY, 4)), False, "published at 04:00 on 2013-03-01; they were due by 06:00 on 2013-03-01"),
            (state(at(DAY, 6)), False, "published at 06:00"),
            (state(at(DAY, 6, 1)), True, "published late, at 06:01 on 2013-03-01"),
            (state(at(RUN, 9)), True, "published late, at 09:00 on 2013-03-02"),
            (state(None, newest=None), True, "no scores of 2013-03-01 are published"),
            (state(None, champion=None, newest=None), False, "no champion for 2013-03-01"),
            (state(at(RUN, 9), champion=None), False, "nothing was due"),
        ],
    )
    def test_scores_are_late_after_publish_by_if_there_was_a_champion(
        self, found: Punctuality, late: bool, says: str
    ) -> None:
        fresh = freshness(RUN, found, prepared=True)
        assert (fresh.late, fresh.subject, fresh.day) == (late, "late_ferry", RUN)
        assert says in fresh.sentence

    def test_nothing_is_due_before_the_first_day(self) -> None:
        before = PROJECT.first_day - timedelta(days=1)
        fresh = freshness(PROJECT.first_day, Punctuality(before, 1, None, None), prepared=False)
        assert not fresh.late

    def test_the_alert_gives_days_behind_and_the_reason(self) -> None:
        found = state(None, newest=DAY - timedelta(days=3))
        fresh = freshness(RUN, found, prepared=False)
        assert (fresh.behind_days, fresh.newest_day) == (3, DAY - timedelta(days=3))
        assert "the day is not prepared: see ferries_prepare" in fresh.sentence
        alert = late_alert(LATE, fresh)
        assert (alert.rule, alert.day) == ("scores_late", RUN)
        assert "late_ferry_score" in alert.sentence and "Owner: data-science" in alert.sentence
        assert "Runbook: docs/runbooks/alert-scores-late.md" in alert.sentence

    def test_a_run_date_is_live_until_the_cutoff_of_the_next(self) -> None:
        assert is_live(PROJECT, RUN, at(RUN, 3, 10))
        assert is_live(PROJECT, RUN, at(RUN + timedelta(days=1), 2, 59))
        assert not is_live(PROJECT, RUN, at(RUN + timedelta(days=1), 3))
        assert not is_live(PROJECT, RUN, datetime(2026, 1, 1, tzinfo=UTC))


class TestTables:
    HAS = (DAY - timedelta(days=2), DAY, RUN + timedelta(days=9))

    @pytest.mark.parametrize(
        ("needed", "newest", "behind", "late"),
        [
            (DAY, DAY, 0, False),
            (RUN, DAY, 1, True),  # a later day does not count
            (DAY - timedelta(days=1), DAY - timedelta(days=2), 1, True),
            (DAY - timedelta(days=9), None, None, True),
            (None, DAY, None, False),
        ],
    )
    def test_a_table_is_compared_with_the_day_that_the_run_date_needs(
        self, needed: date | None, newest: date | None, behind: int | None, late: bool
    ) -> None:
        fresh = table_freshness("raw_ferries__sailings", RUN, needed, self.HAS)
        assert (fresh.newest_day, fresh.behind_days, fresh.late) == (newest, behind, late)
        assert "raw_ferries__sailings" in fresh.sentence

    def test_an_optional_file_is_expected_and_its_lateness_recorded(self) -> None:
        needed = self.HAS[-1] + timedelta(days=30)
        fresh = table_freshness("raw_ferries__winds", needed, needed, self.HAS, required=False)
        assert fresh.late
        assert fresh.sentence.endswith(f"before {needed}, which run date {needed} expects")


# --- a new monitor ----------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Recorded(Watch):
    """A `Watch` with fixed values in the place of the shared database."""

    values: Sequence[DayValue] = ()
    published: Punctuality | None = None
    compared_since: list[date] = dataclasses.field(default_factory=list)

    def measure(self, slices: Sequence[str], min_rows: int, measure_day: Callable[..., Any]) -> tuple[int, int]:
        return len(self.values), 0

    def measured_days(self, metric: str, min_rows: int) -> list[DayValue]:
        return list(self.values)

    def punctuality(self, deadlines: Mapping[date, datetime]) -> dict[date, Punctuality]:
        return {self.published.day: self.published} if self.published else {}

    def skew_checks(self, days: Interval) -> list[SkewCheck]:
        return []

    def compare(self, declared: Comparison, since: date) -> None:
        self.compared_since.append(since)

    def compared_days(self, *, since: date) -> list[ComparedDay]:
        return []

    def champions(self, days: Sequence[date]) -> Ages:
        return {}


def recorded(**known: Any) -> Recorded:
    return Recorded(**{"project": PROJECT, "model": LATE, "interval": Interval.of(RUN), "prepared_days": {}, **known})


@pytest.mark.parametrize(
    ("prepared_at", "alerts"),
    [({}, 0), ({RUN: at(RUN, 3, 10)}, 1), ({RUN: at(RUN + timedelta(days=9), 3)}, 0)],
    ids=["not prepared", "prepared live", "prepared by a backfill"],
)
def test_late_scores_are_recorded_and_reported_for_live_days_only(
    prepared_at: dict[date, datetime], alerts: int
) -> None:
    prepared = {day: Preparation(day, 1, moment) for day, moment in prepared_at.items()}
    found = FreshnessMonitor().run(recorded(published=state(None), prepared_days=prepared))
    assert [fresh.late for fresh in found.freshness] == [True]
    assert len(found.alerts) == alerts


@pytest.mark.parametrize(("weeks", "days"), [(12, 84), (6, 60)])
def test_only_days_that_a_rule_looks_at_are_compared_with_former_champions(weeks: int, days: int) -> None:
    """The first run of an installation with years of published days must not load a version for each of them."""
    asked: list[date] = []
    watch = recorded(compared_since=asked)
    DegradationMonitor(window_days=60, trend_weeks=weeks).run(watch)
    newest = watch.outcome_feed.needed_day(RUN)
    assert asked == [newest - timedelta(days=days - 1)]


class LevelMonitor(Monitor):
    """A throw-away monitor: an alert when the mean score of the newest day is too high."""

    kind: Literal["level"] = "level"
    at_most: float = Field(default=0.5, description="mean score of a day")

    def run(self, watch: Watch) -> Findings:
        """Look at the newest measured day."""
        high = [found for found in watch.measured_days("mean_score", 1)[:1] if found.value > self.at_most]
        sentence = f"{watch.model.name}: the mean score is over {self.at_most}"
        return Findings(
            alerts=tuple(Alert(subject=watch.model.name, rule="level", day=RUN, sentence=sentence) for _ in high)
        )


class ModelWithLevel(Model):
    monitors: tuple[Annotated[AnyMonitor | LevelMonitor, Field(discriminator="kind")], ...] = ()


def test_a_new_monitor_is_one_class_and_one_entry() -> None:
    product = load_model("late_ferry")
    declared = {**product.model_dump(), "folder": product.folder}
    by_default = ModelWithLevel.model_validate(declared)
    assert by_default.all_monitors == (*product.all_monitors, LevelMonitor())
    assert by_default.digest == product.digest, "monitors must not change the digest of a fit"
    strict = ModelWithLevel.model_validate({**declared, "monitors": [{"kind": "level", "at_most": 0.3}]})
    watch = recorded(values=days(0.4))
    assert [alert.rule for each in strict.all_monitors for alert in each.run(watch).alerts] == ["level"]
    reference = "\n".join(keys(file_schema(ModelWithLevel, "model.yaml")))
    assert "| `at_most` | number | `0.5` | mean score of a day |" in reference
