"""score on small tables, with models that need no MLflow: counts agree, and invalid scores are never written."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from include.config.explanations import Explanations
from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core import schemas
from include.core.errors import ActionRequiredError, DataError
from include.core.interval import Interval
from include.core.records import DataView, Scored, ScoredDay, StepResult, TableRef
from include.core.settings import NO_DATABASE, Settings
from include.io.registry import LoadedModel, Version
from include.io.registry.models import CALL_ROWS
from include.io.tables import Scope, Tables
from include.steps import score as step
from include.steps import score_places

PROJECT = load_project("ferries")
MODEL = load_model("late_ferry")
FIRST = date(2013, 3, 1)
DAYS = Interval(start=FIRST, end=date(2013, 3, 4))
ROWS = {day: n + 2 for n, day in enumerate(DAYS.days)}


class Estimator:
    """A fake estimator: P(1) is hour / 24 + `plus`. It keeps the frames that it was called with."""

    def __init__(self, plus: float = 0.0) -> None:
        self.plus, self.asked = plus, []

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        self.asked.append(X)
        p = X["hour"].to_numpy() / 24 + self.plus
        return np.column_stack([1 - p, p])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return X["hour"].to_numpy() * 10


class Versions:
    """A fake registry with a few versions. Maps each version to the model that it loads."""

    def __init__(self, loaded: Mapping[int, LoadedModel]) -> None:
        self.loaded, self.loads = loaded, []

    def __call__(self, settings: Settings) -> "Versions":
        return self

    def get_version(self, model: str, version: int) -> Version:
        if version not in self.loaded:
            raise ActionRequiredError(f"{model} has no version {version}")
        return Version(model=model, version=version, run_id="of a test", tags={})

    def verified(self, source: Version, digest: str, model: Model) -> "Files":
        assert (digest, model.name) == (f"digest {source.version}", MODEL.name)
        return Files(self, source.version)


@dataclass(frozen=True)
class Files:
    """The fake files of a version."""

    registry: Versions
    version: int

    def load(self) -> LoadedModel:
        self.registry.loads.append(self.version)
        return self.registry.loaded[self.version]


def loaded(estimator: Any = None, **changed: Any) -> LoadedModel:
    about = {"numeric": ("hour",), "categorical": ("company",), "problem_type": "binary", "decision_threshold": 0.5}
    return LoadedModel(**{"estimator": estimator or Estimator(), **about, **changed})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        landing=str(tmp_path / "landing"),
        tables=str(tmp_path / "tables"),
        artifacts=str(tmp_path / "artifacts"),
        journal=str(tmp_path / "journal"),
        database_url=NO_DATABASE,
        mlflow_tracking_uri="sqlite:////nowhere",
        hash_key="the hash key of the tests, which is long",
    )


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Versions:
    versions = Versions({1: loaded(), 2: loaded(Estimator(plus=0.1))})
    monkeypatch.setattr(step, "Registry", versions)
    return versions


def features(rows: Mapping[date, int] = ROWS) -> pl.DataFrame:
    given = [
        (day, f"ferry-{n}", 24.0 * n / count, ("UA", None)[n % 2], PROJECT.cutoff_at(day), "point_in_time")
        for day, count in rows.items()
        for n in range(count)
    ]
    schema = {"day": pl.Date, "entity_id": pl.String, "hour": pl.Float64, "company": pl.String}
    schema |= {"as_of": pl.Datetime("us", "UTC"), "data_view": pl.String}
    return pl.DataFrame(given, schema=schema, orient="row")


@pytest.fixture
def tables(settings: Settings, registry: Versions) -> Tables:
    """Return tables with the features of DAYS. One day has other rows in the data view `latest`."""
    tables = Tables(settings)
    write(tables, pl.concat([features(), features({FIRST: 9}).with_columns(data_view=pl.lit("latest"))]))
    return tables


def write(tables: Tables, rows: pl.DataFrame) -> None:
    whole = Scope(Interval(start=date(2013, 1, 1), end=date(2013, 12, 31)))
    tables.replace("features_ferries", rows, whole, sort_by=["day", "entity_id"])


def prepared(settings: Settings, data_view: DataView = "point_in_time") -> dict[date, TableRef]:
    """Return the features of the days that have any, as their prepared days name them."""
    tables = Tables(settings)
    version = tables.version("features_ferries")
    counted = tables.scan("features_ferries").filter(pl.col("data_view") == data_view).group_by("day").len().collect()
    return {
        day: TableRef(table="features_ferries", version=version, interval=Interval.of(day), rows=rows)
        for day, rows in counted.iter_rows()
    }


def score(model: Model, interval: Interval, settings: Settings, **options: Any) -> Scored:
    if "features" not in options:
        options["features"] = prepared(settings, options.get("data_view", "point_in_time"))
    digests = {version: f"digest {version}" for version in options["versions"].values()}
    return step.score(model, interval, settings, digests=digests, **options)


def stored(tables: Tables) -> pl.DataFrame:
    return tables.scan("scores_late_ferry").sort("day", "model_version", "entity_id").collect()


def test_a_model_with_explanations_stores_the_reasons_of_each_row(
    settings: Settings, tables: Tables, registry: Versions
) -> None:
    typical = pl.DataFrame({"hour": [12.0], "company": ["UA"]})
    registry.loaded = {1: replace(registry.loaded[1], typical=typical)}
    explained = MODEL.model_copy(update={"explanations": Explanations(top=1)})
    score(explained, Interval.of(FIRST), settings, versions={FIRST: 1})
    found = stored(tables)
    told = [json.loads(each)["top"] for each in found["reasons"]]
    assert [[name for name, _ in each] for each in told] == [["hour"], []], "the second row has the typical hour"
    score(MODEL, Interval.of(FIRST), settings, versions={FIRST: 1})
    assert stored(tables)["reasons"].null_count() == found.height
    assert stored(tables).drop("reasons").equals(found.drop("reasons")), "scores are the same with reasons and without"


def test_each_row_of_features_gets_a_score(settings: Settings, tables: Tables) -> None:
    scored = score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1))
    assert scored.days == tuple(ScoredDay(day=day, model_version=1, rows=n) for day, n in ROWS.items())
    assert (scored.rows, scored.unscored, scored.skipped) == (sum(ROWS.values()), (), None)
    found = stored(tables)
    assert dict(found.schema) == schemas.SCORES
    expected = features()
    assert found["entity_id"].to_list() == expected["entity_id"].to_list()
    assert found["score"].to_list() == (expected["hour"] / 24).to_list()
    assert found["prediction"].to_list() == (expected["hour"] >= 12).cast(pl.Float64).to_list()
    assert found["as_of"].to_list() == expected["as_of"].to_list()
    assert found["features_version"].unique().to_list() == [tables.version("features_ferries")]
    assert scored.table is not None
    assert (scored.table.table, scored.table.interval, scored.table.rows) == ("scores_late_ferry", DAYS, scored.rows)
    assert scored.table.version == scored.table_version == tables.version("scores_late_ferry")


def test_the_threshold_of_the_version_is_used(settings: Settings, tables: Tables, registry: Versions) -> None:
    registry.loaded = {1: loaded(decision_threshold=0.25)}
    score(MODEL.model_copy(update={"decision_threshold": 0.9}), DAYS, settings, versions={FIRST: 1})
    assert stored(tables).select("score", "prediction").rows() == [(0.0, 0.0), (0.5, 1.0)]


def test_a_score_at_the_threshold_predicts_1(settings: Settings, tables: Tables) -> None:
    score(MODEL, DAYS, settings, versions={FIRST: 1})
    assert stored(tables).select("score", "prediction").rows() == [(0.0, 0.0), (0.5, 1.0)]


def test_a_regression_predicts_its_score(settings: Settings, tables: Tables, registry: Versions) -> None:
    registry.loaded = {1: loaded(problem_type="regression")}
    score(MODEL, DAYS, settings, versions={FIRST: 1})
    assert stored(tables).select("score", "prediction").rows() == [(0.0, 0.0), (120.0, 120.0)]


def test_days_without_a_champion_are_left_out(settings: Settings, tables: Tables) -> None:
    scored = score(MODEL, DAYS, settings, versions={DAYS.days[1]: 1, DAYS.days[3]: 2})
    assert scored.unscored == (DAYS.days[0], DAYS.days[2])
    assert [(d.day, d.model_version) for d in scored.days] == [(DAYS.days[1], 1), (DAYS.days[3], 2)]
    assert set(stored(tables)["day"]) == {DAYS.days[1], DAYS.days[3]}


def test_without_any_champion_nothing_is_written(settings: Settings, tables: Tables) -> None:
    scored = score(MODEL, DAYS, settings, versions={FIRST - timedelta(days=1): 1})
    assert (scored.rows, scored.days, scored.table, scored.unscored) == (0, (), None, tuple(DAYS.days))
    assert "no champion" in (scored.skipped or "")
    assert not tables.exists("scores_late_ferry")


def test_the_record_is_equal_after_json(settings: Settings, tables: Tables) -> None:
    scored: StepResult = score(MODEL, DAYS, settings, versions={FIRST: 1})
    assert Scored.model_validate_json(scored.model_dump_json()) == scored


def test_each_version_is_loaded_once(settings: Settings, tables: Tables, registry: Versions) -> None:
    versions = dict(zip(DAYS.days, (1, 2, 1, 2), strict=True))
    scored = score(MODEL, DAYS, settings, versions=versions)
    assert registry.loads == [1, 2]
    assert {d.day: d.model_version for d in scored.days} == versions
    assert dict(stored(tables).select("day", "model_version").unique().iter_rows()) == versions


def test_a_second_run_changes_nothing(settings: Settings, tables: Tables) -> None:
    versions = dict.fromkeys(DAYS.days, 1)
    score(MODEL, DAYS, settings, versions=versions)
    before = stored(tables)
    score(MODEL, DAYS, settings, versions=versions)
    assert stored(tables).equals(before)


def test_scores_of_other_versions_and_days_are_kept(settings: Settings, tables: Tables) -> None:
    score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1))
    before = stored(tables)
    middle = Interval.of(DAYS.days[1])
    score(MODEL, middle, settings, versions={middle.start: 2})
    assert stored(tables).filter(pl.col("model_version") == 1).equals(before)
    # version 2 is scored on the outer days only; its rows of the days between are kept
    outer = score(MODEL, DAYS, settings, versions={DAYS.days[0]: 2, DAYS.days[2]: 2})
    assert [d.day for d in outer.days] == [DAYS.days[0], DAYS.days[2]]
    assert sorted(stored(tables).filter(pl.col("model_version") == 2)["day"].unique()) == DAYS.days[:3]


def test_an_estimator_always_gets_the_same_number_of_rows(
    settings: Settings, tables: Tables, registry: Versions
) -> None:
    """Linear algebra on another number of rows differs in the last bits."""
    estimator = Estimator()
    registry.loaded = {1: loaded(estimator)}
    score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1))
    score(MODEL, Interval.of(FIRST), settings, versions={FIRST: 1})
    assert {len(X) for X in estimator.asked} == {CALL_ROWS}


@pytest.mark.parametrize("values", [1, 15])
def test_scores_do_not_depend_on_the_size_of_blocks(
    settings: Settings, tables: Tables, monkeypatch: pytest.MonkeyPatch, values: int
) -> None:
    score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1))
    before = stored(tables)
    monkeypatch.setattr(score_places, "BLOCK_VALUES", values)
    monkeypatch.setattr(score_places, "COUNTED_ROWS", values)
    score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1))
    assert stored(tables).equals(before)


def test_a_long_range_is_written_in_parts(settings: Settings, tables: Tables) -> None:
    days = Interval(start=FIRST, end=FIRST + timedelta(days=69))
    write(tables, features(dict.fromkeys(days.days, 1)))
    scored = score(MODEL, days, settings, versions=dict.fromkeys(days.days, 1))
    assert [d.day for d in scored.days] == days.days
    assert stored(tables)["day"].to_list() == days.days
    assert tables.version("scores_late_ferry") == 3  # create the table, then 31 + 31 + 8 days


def test_a_day_that_is_not_prepared_is_refused(settings: Settings, tables: Tables) -> None:
    gone = DAYS.days[2]
    there = {day: each for day, each in prepared(settings).items() if day != gone}
    with pytest.raises(DataError, match=f"ferries has no features of {gone}.*prepare the day first") as caught:
        score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1), features=there)
    assert caught.value.by_day.keys() == {gone}
    assert not tables.exists("scores_late_ferry")


def test_features_with_other_rows_than_the_prepared_day_are_refused(settings: Settings, tables: Tables) -> None:
    there = prepared(settings)
    short = {**there, FIRST: there[FIRST].model_copy(update={"rows": 3})}
    with pytest.raises(DataError, match=f"features_ferries has 2 rows of {FIRST}, and the prepared day has 3"):
        score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1), features=short)
    assert not tables.exists("scores_late_ferry")


def test_each_day_is_read_at_the_version_that_it_names(settings: Settings, tables: Tables) -> None:
    before = prepared(settings)
    write(tables, features(dict.fromkeys(DAYS.days, 7)))
    by_day = {**prepared(settings), FIRST: before[FIRST]}
    scored = score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1), features=by_day)
    assert [d.rows for d in scored.days] == [ROWS[FIRST], 7, 7, 7]
    found = stored(tables).group_by("day").agg(pl.col("features_version").unique()).sort("day")
    assert found["features_version"].to_list() == [[by_day[day].version] for day in DAYS.days]
    assert tables.version("scores_late_ferry") == 1  # one commit all the same


def test_days_are_counted_without_opening_the_versions_of_other_days(
    settings: Settings, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepared(settings)
    write(tables, features())
    write(tables, features())
    there = {**prepared(settings), FIRST: before[FIRST]}
    scorer: Any = SimpleNamespace(loaded=loaded(), version=1)
    part = score_places.ScorePart("ferries", "scores_late_ferry", there, "point_in_time", scorer)
    opened, scan = [], Tables.scan

    def scanned(self: Tables, table: str, version: int) -> pl.LazyFrame:
        opened.append(version)
        return scan(self, table, version)

    monkeypatch.setattr(Tables, "scan", scanned)
    monkeypatch.setattr(score_places, "COUNTED_ROWS", 1)
    counted = score_places.WorkerPlace(tables).count(part)
    assert {day: each.rows for day, each in counted.items()} == ROWS
    assert opened == [there[day].version for day in DAYS.days]


def test_features_whose_files_are_gone_are_named(settings: Settings, tables: Tables) -> None:
    there = prepared(settings)
    for file in Path(settings.tables).glob(f"features_ferries/day={FIRST}/*.parquet"):
        file.unlink()
    with pytest.raises(DataError, match=f"files of the features of ferries .* are gone.*{FIRST}"):
        score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1), features=there)


def test_a_prepared_day_without_rows_is_an_empty_batch(settings: Settings, tables: Tables) -> None:
    """A day without entities, or without a file of them by the calendar."""
    empty = DAYS.days[2]
    write(tables, features({day: n for day, n in ROWS.items() if day != empty}))
    there = prepared(settings)
    there[empty] = there[FIRST].model_copy(update={"rows": 0})
    scored = score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1), features=there)
    assert {d.day: d.rows for d in scored.days} == {**ROWS, empty: 0}
    alone = score(MODEL, Interval.of(empty), settings, versions={empty: 1}, features=there)
    assert alone.days == (ScoredDay(day=empty, model_version=1, rows=0),)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused(
    settings: Settings, tables: Tables, registry: Versions, wrong: float
) -> None:
    registry.loaded = {1: loaded(Estimator(plus=wrong))}
    with pytest.raises(DataError, match="version 1 gives 2 of 2 rows a score that is NaN or infinite"):
        score(MODEL, DAYS, settings, versions={FIRST: 1})
    assert stored(tables).is_empty()


def test_a_repeated_entity_is_refused(settings: Settings, tables: Tables) -> None:
    write(tables, pl.concat([features(), features({FIRST: 1})]))
    with pytest.raises(DataError, match="twice"):
        score(MODEL, DAYS, settings, versions={FIRST: 1})


def test_the_error_names_a_missing_column(settings: Settings, tables: Tables, registry: Versions) -> None:
    registry.loaded = {3: loaded(numeric=("hour", "gust"))}
    with pytest.raises(DataError, match="late_ferry, version 3, needs gust, which the features of ferries"):
        score(MODEL, DAYS, settings, versions={FIRST: 3})


def test_columns_are_those_of_the_version_and_not_of_model_yaml(
    settings: Settings, tables: Tables, registry: Versions
) -> None:
    estimator = Estimator()
    registry.loaded = {1: loaded(estimator)}
    assert "leaving_hour" in MODEL.numeric
    score(MODEL, DAYS, settings, versions={FIRST: 1})
    assert list(estimator.asked[0].columns) == ["hour", "company"]


def test_an_unknown_version_is_refused(settings: Settings, tables: Tables) -> None:
    with pytest.raises(ActionRequiredError, match="no version 7"):
        score(MODEL, DAYS, settings, versions={FIRST: 7})


def test_scores_whose_rows_differ_from_the_features_are_refused(
    settings: Settings, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Tables.write_blocks

    def loses_a_row(
        self: Tables, table: str, blocks: Callable[[], Iterator[pl.DataFrame]], *arguments: Any, **named: Any
    ) -> Any:
        return whole(self, table, lambda: (block.head(block.height - 1) for block in blocks()), *arguments, **named)

    monkeypatch.setattr(Tables, "write_blocks", loses_a_row)
    with pytest.raises(DataError, match="2013-03-04: scores_late_ferry has 4 rows of version 1, the features have 5"):
        score(MODEL, DAYS, settings, versions=dict.fromkeys(DAYS.days, 1))
