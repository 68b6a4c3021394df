"""The training set: only what its run date knew, with the newest labelled days kept as holdout days."""

import dataclasses
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.project import Project
from include.core.records import DataView, DayRecord
from include.training import labelled_rows, training_set
from include.training.problem_types import PROBLEM_TYPES, get_problem_type
from include.training.training_set import LABEL, TrainingSet
from tests.deliveries import known as journal_of

PROJECT = load_project("ferries")
FIRST = date(2013, 2, 1)
DAY = date(2013, 2, 21)  # the run date, after 20 labelled ones
DAYS = Interval(start=FIRST, end=DAY)
MODEL = load_model("late_ferry").model_copy(
    update={
        "numeric": ("hour",),
        "categorical": ("company",),
        "train_days": 15,
        "validation_days": 2,
        "holdout_days": 4,
        "min_fit_days": 6,
    }
)


def prepared_day(day: date, hours_late: int = 0) -> datetime:
    return PROJECT.cutoff_at(day) + timedelta(hours=hours_late)


def deliveries(*corrections: tuple[date, datetime]) -> pl.DataFrame:
    """Return a delivery of each required feed before each cutoff, then these corrections of the logbook."""
    rows = [
        (feed, needed, f"{feed}/{needed}", "accepted", prepared_day(day) - timedelta(minutes=30))
        for day in DAYS.days
        for feed, needed in PROJECT.required(day).items()
    ]
    rows += [("logbook", day, f"logbook/{day}/again", "accepted", at) for day, at in corrections]
    kinds = {"feed": pl.String, "day": pl.Date, "delivery_id": pl.String, "verdict": pl.String}
    listed = pl.DataFrame(rows, schema={**kinds, "available_from": pl.Datetime("us", "UTC")}, orient="row")
    return listed.with_columns(sequence=pl.int_range(pl.len()), correction=pl.lit("replace"))


def features(days: Interval = DAYS, late: dict[date, int] | None = None) -> pl.DataFrame:
    rows = [
        (
            day,
            f"ferry-{n}",
            float(n),
            ("UA", "B6")[n % 2],
            prepared_day(day, (late or {}).get(day, 0)),
            "point_in_time",
        )
        for day in days.days
        for n in range(4)
    ]
    schema = {"day": pl.Date, "entity_id": pl.String, "hour": pl.Float64, "company": pl.String}
    schema |= {"as_of": pl.Datetime("us", "UTC"), "data_view": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


def logbook(days: Interval = DAYS, *, again: date | None = None) -> pl.DataFrame:
    rows = [(day, f"logbook/{day}", f"ferry-{n}", 30.0 if n % 2 else 0.0) for day in days.days for n in range(4)]
    if again:
        rows += [(again, f"logbook/{again}/again", f"ferry-{n}", 99.0) for n in range(4)]
    schema = {"day": pl.Date, "delivery_id": pl.String, "entity_id": pl.String, "delay_minutes": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def take(
    *,
    day: date = DAY,
    model: Model = MODEL,
    project: Project = PROJECT,
    known: pl.DataFrame | None = None,
    rows: pl.DataFrame | None = None,
    clean: pl.DataFrame | None = None,
    data_view: DataView = "point_in_time",
) -> TrainingSet:
    return training_set.build_training_set(
        project,
        model,
        day,
        journal=journal_of(deliveries() if known is None else known),
        features=(features() if rows is None else rows).lazy(),
        clean=(logbook() if clean is None else clean).lazy(),
        data_view=data_view,
    )


def test_fit_validation_and_holdout_days_follow_each_other_and_end_before_the_run_date() -> None:
    training_set = take()
    assert training_set.fit == Interval(start=date(2013, 2, 6), end=date(2013, 2, 14))
    assert training_set.validation == Interval(start=date(2013, 2, 15), end=date(2013, 2, 16))
    assert training_set.holdout == Interval(start=date(2013, 2, 17), end=date(2013, 2, 20))
    parts = (training_set.fitted_rows, training_set.validation_rows, training_set.holdout_rows)
    assert pl.concat(parts).equals(training_set.rows), "each labelled row must be in exactly one part"
    assert training_set.rows["day"].max() == DAY - timedelta(days=1)
    assert training_set.rows.height == 15 * 4
    assert training_set.as_of == prepared_day(DAY)


def test_rows_are_sorted_and_have_only_features_and_label() -> None:
    shuffled = [frame.sample(fraction=1, shuffle=True, seed=1) for frame in (features(), logbook())]
    rows = take(rows=shuffled[0], clean=shuffled[1]).rows
    assert rows.columns == ["day", "horizon", "entity_id", "hour", "company", LABEL]
    assert rows.equals(rows.sort("day", "entity_id"))
    assert rows.filter(pl.col("hour") % 2 == 1)[LABEL].unique().to_list() == [1.0]


def test_the_outcome_of_the_run_date_is_not_read() -> None:
    changed = logbook().with_columns(
        delay_minutes=pl.when(pl.col("day") >= DAY).then(1000.0).otherwise("delay_minutes")
    )
    assert take(clean=changed).digest == take().digest


@pytest.mark.parametrize("in_time", [True, False])
def test_a_correction_counts_if_the_run_date_knew_it(in_time: bool) -> None:
    corrected = DAY - timedelta(days=3)
    at = prepared_day(DAY) - timedelta(minutes=1) if in_time else prepared_day(DAY) + timedelta(minutes=1)
    training_set = take(known=deliveries((corrected, at)), clean=logbook(again=corrected))
    assert (training_set.digest != take().digest) == in_time
    assert training_set.rows.height == take().rows.height
    of_day = training_set.rows.filter(pl.col("day") == corrected)
    assert (of_day[LABEL].min() == 1.0) == in_time


def test_features_of_a_day_that_was_prepared_later_are_not_read() -> None:
    """The files of that day came after this run date. A backfill finds its features, but the live run did not."""
    late = DAY - timedelta(days=2)
    training_set = take(rows=features(late={late: 24 * 5}))
    assert training_set.missing == (late,)
    assert late not in training_set.rows["day"].to_list()


def test_features_of_a_day_that_admitted_a_file_which_came_later_are_not_read() -> None:
    """The day's `as_of` is its cutoff all the same."""
    late = DAY - timedelta(days=3)
    for hours, read in ((-5, True), (5, False)):
        at = prepared_day(DAY) + timedelta(hours=hours)
        known = journal_of(deliveries((late, at)))
        [came] = known.deliveries.filter(pl.col("available_from") == at)["delivery_id"]
        record = DayRecord(
            day=late, number=1, as_of=prepared_day(late), watermark=1, deliveries=(came,), reconstructed=True
        )
        found = training_set.build_training_set(
            PROJECT,
            MODEL,
            DAY,
            journal=dataclasses.replace(known, records={late: record}),
            features=features().lazy(),
            clean=logbook(again=late).lazy(),
        )
        assert (late in found.rows["day"].to_list()) == read


def test_point_in_time_does_not_read_features_of_latest() -> None:
    both = pl.concat([features(), features().with_columns(data_view=pl.lit("latest"), hour=-pl.col("hour"))])
    assert take(rows=both).digest == take().digest


def test_latest_reads_corrections_of_outcomes_and_features() -> None:
    """Only for days before the run date. Days that were not rebuilt keep their original features."""
    corrected, much_later = DAY - timedelta(days=3), prepared_day(DAY) + timedelta(days=30)
    again = features(Interval.of(corrected)).with_columns(
        data_view=pl.lit("latest"), hour=-pl.col("hour"), as_of=pl.lit(much_later, pl.Datetime("us", "UTC"))
    )
    made = {
        "known": deliveries((corrected, much_later), (DAY, much_later)),
        "clean": logbook(again=corrected),
        "rows": pl.concat([features(), again]),
    }
    training_set = take(**made, data_view="latest")
    assert (training_set.data_view, training_set.as_of) == ("latest", much_later)
    of_day = pl.col("day") == corrected
    assert training_set.rows.filter(of_day)[LABEL].unique().to_list() == [1.0]
    assert training_set.rows.filter(of_day)["hour"].to_list() == [-0.0, -1.0, -2.0, -3.0]
    assert training_set.rows.filter(~of_day).equals(take().rows.filter(~of_day))
    assert training_set.rows["day"].max() == DAY - timedelta(days=1)
    assert take(**made).digest == take().digest  # point in time does not read the corrections


def test_missing_days_are_listed_and_the_newest_labelled_days_are_holdout_days() -> None:
    gone = [DAY - timedelta(days=2), DAY - timedelta(days=7)]
    training_set = take(rows=features().filter(~pl.col("day").is_in(gone)))
    assert set(training_set.missing) == set(gone)
    assert training_set.holdout_rows["day"].n_unique() == 4
    assert training_set.holdout == Interval(start=date(2013, 2, 16), end=date(2013, 2, 20))
    assert training_set.validation == Interval(start=date(2013, 2, 13), end=date(2013, 2, 15))
    assert training_set.validation_rows["day"].n_unique() == 2


def test_a_day_that_has_no_file_by_the_calendar_is_not_missing() -> None:
    sunday, monday = date(2013, 2, 10), date(2013, 2, 11)
    of_calendar = PROJECT.feeds["logbook"].model_copy(update={"days": ("mon", "tue", "wed", "thu", "fri", "sat")})
    project = PROJECT.model_copy(update={"feeds": {**PROJECT.feeds, "logbook": of_calendar}})
    gone = pl.col("day").is_in([sunday, monday])
    training_set = take(project=project, clean=logbook().filter(~gone))
    assert training_set.missing == (monday,)


def test_days_before_the_first_labelled_one_are_not_missing() -> None:
    model = MODEL.model_copy(update={"train_days": 60})
    assert take(model=model).missing == ()
    assert take(model=model).fit.start == FIRST


def test_too_few_labelled_days_are_refused_with_the_days_to_prepare() -> None:
    few = features(Interval(start=date(2013, 2, 14), end=DAY))
    with pytest.raises(
        ActionRequiredError, match=r"7 labelled days are known on 2013-02-21, and 12 are needed"
    ) as refused:
        take(rows=few)
    assert "2013-02-06" in str(refused.value)
    assert "Prepare" in str(refused.value)


def test_a_run_date_without_any_known_outcome_is_refused() -> None:
    with pytest.raises(ActionRequiredError, match="no outcome is known on 2013-01-01"):
        take(day=PROJECT.first_day)


def test_a_repeated_entity_is_refused() -> None:
    with pytest.raises(DataError, match="twice"):
        take(rows=pl.concat([features(), features().head(1).with_columns(hour=9.0), features().tail(9)]))


def test_the_error_names_a_missing_feature() -> None:
    with pytest.raises(DataError, match=r"late_ferry needs hour, which the features of ferries do not have"):
        take(rows=features().drop("hour"))


def test_a_classification_refuses_an_outcome_other_than_0_and_1() -> None:
    with pytest.raises(DataError, match="other than 0 and 1"):
        take(model=MODEL.model_copy(update={"outcome": "ferry_delay"}))


def test_rows_without_a_value_are_dropped_for_regression() -> None:
    model = MODEL.model_copy(update={"outcome": "ferry_delay", "problem_type": "regression"})
    cancelled = pl.when(pl.col("entity_id") == "ferry-0").then(None).otherwise("delay_minutes")
    training_set = take(model=model, clean=logbook().with_columns(delay_minutes=cancelled))
    assert training_set.rows.height == 15 * 3
    assert training_set.rows[LABEL].null_count() == 0


def test_a_ferry_without_a_row_in_the_logbook_is_left_out() -> None:
    training_set = take(clean=logbook().filter(pl.col("entity_id") != "ferry-3"))
    assert "ferry-3" not in training_set.rows["entity_id"].to_list()


def test_the_digest_depends_on_content_only() -> None:
    frame = pl.DataFrame({"a": [1.0, None, 3.0], "b": ["x", "yz", None], "d": [DAY, DAY, FIRST]})
    digest = labelled_rows.rows_digest(frame)
    assert digest == labelled_rows.rows_digest(pl.concat([frame.head(1), frame.tail(2)], rechunk=False))
    different = [
        frame.with_columns(a=pl.col("a").fill_null(0.0)),
        frame.with_columns(b=pl.col("b").fill_null("")),
        frame.with_columns(b=pl.Series(["xy", "z", None])),
        frame.with_columns(d=pl.lit(DAY)),
        frame.rename({"a": "c"}),
        frame.reverse(),
        frame.head(2),
        frame.with_columns(a=pl.col("a").cast(pl.Int64)),
    ]
    assert len({labelled_rows.rows_digest(other) for other in different} | {digest}) == len(different) + 1


def test_a_day_written_later_does_not_change_the_digest() -> None:
    more = pl.concat([features(), features(Interval.of(DAY + timedelta(days=1)))])
    assert take(rows=more).digest == take().digest


def test_rows_do_not_depend_on_the_blocks_in_which_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"hour": pl.Float64, "company": pl.String}
    rows = features().with_columns(
        pl.when(pl.col("entity_id") == "ferry-2").then(None).otherwise(pl.col(name)).cast(kind).alias(name)
        for name, kind in missing.items()
    )
    whole = take(rows=rows)
    monkeypatch.setattr(labelled_rows, "BLOCK_BYTES", 1)
    in_days = take(rows=rows)
    assert (len(whole.labelled.blocks), len(in_days.labelled.blocks)) == (1, 15)
    assert in_days.digest == whole.digest
    for of_both in ("rows", "fitted_rows", "validation_rows", "holdout_rows"):
        assert getattr(in_days, of_both).equals(getattr(whole, of_both))
    numbers = np.array([0, 3, 4, 17, 35])
    assert in_days.fitted_at(numbers, ["hour"]).equals(whole.fitted_rows.select("hour")[numbers])
    expected = training_set.estimator_inputs(whole.fitted_rows, ["hour"], ["company"])
    for each in (whole, in_days):
        inputs, labels = each.fit_inputs(["hour"], ["company"])
        pd.testing.assert_frame_equal(inputs, expected)
        assert (labels == whole.fitted_rows[LABEL].to_numpy()).all()


def test_metrics_of_a_classification_have_the_values_computed_by_hand() -> None:
    truth, score = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])
    measured = get_problem_type("binary").metrics(truth, score)
    assert measured["roc_auc"] == pytest.approx(0.75)
    assert measured["brier"] == pytest.approx(np.mean((truth - score) ** 2))
    assert measured["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.35, 0.8])))
    assert (measured["base_rate"], measured["rows"]) == (0.5, 4)


@pytest.mark.parametrize(("seed", "digits"), [(1, 17), (2, 2), (3, 1), (4, 0)])  # the fewer digits, the more ties
def test_metrics_of_a_classification_are_those_of_scikit_learn_to_the_bit(seed: int, digits: int) -> None:
    generator = np.random.default_rng(seed)
    truth = (generator.random(1000) < 0.3).astype(np.float64)
    score = np.clip(np.round(generator.random(1000) * 1.2 - 0.1 + 0.1 * truth, digits), 0.0, 1.0)
    assert get_problem_type("binary").quality(truth, score) == {
        "log_loss": log_loss(truth, score, labels=[0.0, 1.0]),
        "brier": brier_score_loss(truth, score),
        "base_rate": truth.mean(),
        "roc_auc": roc_auc_score(truth, score),
    }


def test_a_score_that_is_no_probability_has_no_metrics() -> None:
    with pytest.raises(ValueError, match="no probability"):
        get_problem_type("binary").metrics(np.array([0.0, 1.0]), np.array([0.2, np.nan]))


@pytest.mark.parametrize("truth", [[0.0, np.nan], [0.0, 2.0], []])
def test_outcomes_that_are_not_0_or_1_have_no_metrics(truth: list[float]) -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        get_problem_type("binary").quality(np.array(truth), np.full(len(truth), 0.2))


def test_metrics_of_a_regression_have_the_values_computed_by_hand() -> None:
    measured = get_problem_type("regression").metrics(np.array([0.0, 10.0, 20.0]), np.array([1.0, 10.0, 16.0]))
    assert measured == pytest.approx({
        "rows": 3,
        "mae": 5 / 3,
        "rmse": np.sqrt(17 / 3),
        "r2": 1 - 17 / 200,
        "wape": 5 / 30,
    })


def test_undefined_metrics_are_left_out_so_that_the_gate_rejects() -> None:
    assert "roc_auc" not in get_problem_type("binary").metrics(np.zeros(3), np.full(3, 0.2))
    assert "r2" not in get_problem_type("regression").metrics(np.zeros(3), np.ones(3))
    assert get_problem_type("binary").metrics(np.zeros(0), np.zeros(0)) == {"rows": 0.0}


def test_the_metric_that_chooses_the_candidate_is_measured() -> None:
    truth = np.array([0.0, 1.0])
    of_several = {"quantile": np.array([[0.0, 0.2, 0.5], [0.3, 0.7, 1.0]]), "multiclass": np.full((2, 3), 1 / 3)}
    for kind, problem_type in PROBLEM_TYPES.items():
        metrics = problem_type.metrics(truth, of_several.get(kind, np.array([0.2, 0.7])))
        assert problem_type.chosen_by in metrics
        assert {*problem_type.gate_metrics, problem_type.leakage.metric} - metrics.keys() <= {"mape"}


def test_estimators_get_floats_and_text_with_missing_values() -> None:
    frame = pl.DataFrame({"c": ["UA", None], "n": [1, None], "flag": [True, False], "other": [1, 2]})
    given = training_set.estimator_inputs(frame, ["n", "flag"], ["c"])
    assert list(given.columns) == ["n", "flag", "c"]
    assert given["n"].dtype == given["flag"].dtype == np.float64
    assert np.isnan(given["n"][1])
    assert given["c"].to_list() == ["UA", None]


def test_available_from_is_utc() -> None:
    assert take().as_of.tzinfo == UTC


def test_the_seasonal_naive_is_the_outcome_of_the_same_entity_a_week_earlier() -> None:
    rows = pl.DataFrame({
        "day": [date(2013, 2, 1), date(2013, 2, 1), date(2013, 2, 8), date(2013, 2, 15), date(2013, 2, 15)],
        "horizon": 0,
        "entity_id": ["a", "b", "a", "a", "b"],
        LABEL: [1.0, 2.0, 3.0, 4.0, 5.0],
    })
    assert training_set.seasonal_naive(PROJECT, MODEL, rows, lambda _: rows).to_list() == [None, None, 1.0, 3.0, None]
    slow = PROJECT.feeds["logbook"].model_copy(update={"delay_days": 8})
    project = PROJECT.model_copy(update={"feeds": {**PROJECT.feeds, "logbook": slow}})
    naive = training_set.seasonal_naive(project, MODEL, rows, lambda _: rows)
    assert naive.to_list() == [None, None, None, 1.0, 2.0], "an outcome must be known before the run date"
