"""The SQL of outcomes: one engine, names without case, and a trial on probe rows."""

import pickle
import traceback

import cloudpickle
import polars as pl
import pytest

from include.config.loading import load_project
from include.core.errors import ConfigError, DataError
from include.core.feeds import Outcome
from include.core.outcomes import INCLUDED, included_column, outcome_column, outcomes_of, problems, without_values
from include.core.project import Project


def project(sql: str) -> Project:
    outcomes = {"result": Outcome(feed="logbook", sql=sql)}
    return load_project("ferries").model_copy(update={"outcomes": outcomes})


ROWS = pl.LazyFrame(
    {"company": ["UA", "ua", None], "ferry": [7, -7, None], "delay_minutes": [2.5, -2.5, None]},
    schema={"company": pl.String, "ferry": pl.Int64, "delay_minutes": pl.Float64},
)


class TestOutcomeColumn:
    def test_an_error_about_a_value_does_not_show_it(self) -> None:
        rows = ROWS.with_columns(company=pl.lit("Erika Mustermann"))
        made = outcome_column(project("CAST(company AS DOUBLE)"), "result", "value")(rows)
        with pytest.raises(pl.exceptions.InvalidOperationError, match="Mustermann"):
            made.collect()
        with (
            pytest.raises(DataError, match=r"outcome, or entity\.where, cannot be evaluated") as caught,
            without_values(),
        ):
            made.collect()
        assert "Mustermann" not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize(
        ("sql", "values"),
        [
            ("ferry / 2", [3.5, -3.5, None]),
            ("ferry % 4", [3.0, -3.0, None]),
            ("ROUND(delay_minutes)", [2.0, -2.0, None]),
            ("company = 'UA'", [1.0, 0.0, None]),
            ("CASE WHEN delay_minutes > 1.0 THEN 1.0 ELSE 0.0 END", [1.0, 0.0, 0.0]),
            ("1.5", [1.5, 1.5, 1.5]),
        ],
    )
    def test_is_a_double(self, sql: str, values: list[float | None]) -> None:
        made = outcome_column(project(sql), "result", "value")(ROWS).collect()
        assert made.schema["value"] == pl.Float64
        assert made["value"].to_list() == values

    def test_names_of_columns_are_compared_without_case(self) -> None:
        made = outcome_column(project("Delay_MINUTES + ferry"), "result", "value")(ROWS).collect()
        assert made["value"].to_list() == [9.5, -9.5, None]
        assert made.columns == ["company", "ferry", "delay_minutes", "value"]

    def test_a_column_of_the_feed_may_have_the_name_of_the_result(self) -> None:
        made = outcome_column(project("FERRY * 2"), "result", "FERRY")(ROWS).collect()
        assert made["FERRY"].to_list() == [14.0, -14.0, None]

    def test_can_be_sent_to_a_process_that_does_not_have_the_product(self) -> None:
        """Executors of Spark have polars, and not always the wheel."""
        sent = cloudpickle.dumps(outcomes_of(project("Delay_MINUTES"), "logbook")["result"])
        assert pickle.loads(sent)(ROWS).collect()["result"].to_list() == [2.5, -2.5, None]  # noqa: S301
        sent = cloudpickle.dumps(included_column(included("ferry > 0")))
        assert pickle.loads(sent)(ROWS).collect()[INCLUDED].to_list() == [1.0, 0.0, 0.0]  # noqa: S301


class TestProblems:
    @pytest.mark.parametrize(
        "sql",
        [
            "delay_minutes",
            "CASE WHEN delay_minutes IS NULL OR delay_minutes > 15 THEN 1.0 ELSE 0.0 END",
            "ferry % 5",
            "delay_minutes / 0",
            "GREATEST(delay_minutes, 0)",
            "company = 'a'",
            "1",
            "NULL",
        ],
    )
    def test_there_are_none(self, sql: str) -> None:
        assert problems(project(sql)) == []

    @pytest.mark.parametrize(
        ("sql", "message"),
        [
            ("delay_minute", "feed logbook keeps no column 'delay_minute'; did you mean 'delay_minutes'?"),
            ("delay_minutes >", "unable to parse"),
            ("company", "is of type String; write a number or a boolean"),
            ("departs_at", "is of type Datetime"),
            ("company > 3", "cannot be evaluated without rows: cannot compare string with numeric type"),
            ("CAST(company AS INT)", "cannot be evaluated for all probe rows: conversion from `str` to `i32` failed"),
            (
                "SUM(delay_minutes)",
                "for the row 0, {'delay_minutes': None}, is None if the row is alone, and 0.0 among others",
            ),
            (
                "LAG(delay_minutes) OVER (ORDER BY ferry)",
                "if the row is alone, and",
            ),
            ("COUNT(*)", "for the row 0 is 1.0 if the row is alone, and 24.0 among others"),
        ],
    )
    def test_name_file_outcome_and_cause(self, sql: str, message: str) -> None:
        declared = project(sql)
        [problem] = problems(declared)
        assert problem.startswith(f"{declared.folder / 'project.yaml'}: outcomes.result.sql: ")
        assert message in problem

    def test_an_unknown_column_is_refused_when_it_is_evaluated_too(self) -> None:
        with pytest.raises(ConfigError, match="feed logbook keeps no column 'Minutes'"):
            outcome_column(project("Minutes"), "result", "value")


def included(where: str | None) -> Project:
    declared = load_project("ferries")
    return declared.model_copy(update={"entity": declared.entity.model_copy(update={"where": where})})


class TestEntityWhere:
    @pytest.mark.parametrize(
        ("where", "values"),
        [
            ("company = 'UA'", [1.0, 0.0, 0.0]),
            ("Company IN ('UA', 'ua')", [1.0, 1.0, 0.0]),
            ("company IS NULL OR ferry < 0", [0.0, 1.0, 1.0]),
            (None, [1.0, 1.0, 1.0]),
        ],
    )
    def test_a_row_is_included_where_it_is_true(self, where: str | None, values: list[float]) -> None:
        assert included_column(included(where))(ROWS).collect()[INCLUDED].to_list() == values

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ("compani = 'UA'", "feed sailings keeps no column 'compani'; did you mean 'company'?"),
            ("contact_email LIKE '%x'", "feed sailings keeps no column 'contact_email'"),
            ("ferry", "is of type Int64; write a boolean"),
            ("ferry = MAX(ferry)", "among others; use values of the row itself only"),
        ],
    )
    def test_problems_name_file_and_key(self, where: str, message: str) -> None:
        declared = included(where)
        [problem] = problems(declared)
        assert problem.startswith(f"{declared.folder / 'project.yaml'}: entity.where: ")
        assert message in problem

    def test_there_are_none(self) -> None:
        assert problems(included("company <> 'UA' AND distance_miles < 1000")) == []


class TestLabels:
    SQL = "CASE WHEN ferry > 0 THEN 'out' WHEN ferry < 0 THEN 'back' END"

    def of(self, sql: str, *labels: str) -> Project:
        outcomes = {"result": Outcome(feed="logbook", sql=sql, labels=labels)}
        return load_project("ferries").model_copy(update={"outcomes": outcomes})

    def test_an_outcome_is_the_number_of_its_label(self) -> None:
        made = outcome_column(self.of(self.SQL, "back", "out"), "result", "value")(ROWS).collect()
        assert made["value"].to_list() == [1.0, 0.0, None]

    def test_a_label_that_is_not_declared_is_no_number_of_one(self) -> None:
        made = outcome_column(self.of(self.SQL, "out", "away"), "result", "value")(ROWS).collect()
        assert made["value"].to_list() == [0.0, -1.0, None]

    def test_labels_are_text_and_text_needs_labels(self) -> None:
        assert problems(self.of(self.SQL, "back", "out")) == []
        assert "an outcome with labels is text" in problems(self.of("ferry", "back", "out"))[0]
        assert "has `labels`" in problems(self.of(self.SQL))[0]
