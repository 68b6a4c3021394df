"""Expectations compare values as they are, and one that cannot be evaluated is found before a delivery comes."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.core.errors import ConfigError
from include.core.project import Project
from include.operations.check_config import check_config
from include.quality.exact import probes
from include.quality.expectations import declared_expectations, known_expectations
from include.quality.suites import Finding, Suites

BIG = 2**53
TYPES = {"s": "string", "i": "integer", "x": "double", "b": "boolean", "d": "date", "t": "timestamp"}
OTHERS = {"j": "integer", "x2": "double", "d2": "date", "t2": "timestamp"}
"""Second columns of a type, for pairs."""
SCHEMA = {
    "day": pl.Date(),
    "delivery_id": pl.String(),
    "_row": pl.Int64(),
    "_malformed": pl.String(),
    **dict(
        zip(
            TYPES,
            (
                dtype
                for dtype in (pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), pl.Datetime("us", "UTC"))
            ),
            strict=True,
        )
    ),
    "j": pl.Int64(),
    "x2": pl.Float64(),
    "d2": pl.Date(),
    "t2": pl.Datetime("us", "UTC"),
    "entity_id": pl.String(),
}


@pytest.fixture
def suites(tmp_path: Path) -> Callable[..., Suites]:
    """Make the suites of a feed with a column of each type."""
    return lambda *entries: Suites(shop(tmp_path, *entries))


def shop(folder: Path, *entries: dict[str, Any] | str) -> Project:
    """Write the expectations of a feed with a column of each type, one a line; return its project."""
    feed = {
        "path": "orders/{day}/*.csv",
        "key": ["s"],
        "day_column": "t",
        "columns": {name: {"type": kind, "class": "public"} for name, kind in (TYPES | OTHERS).items()},
    }
    project = Project.model_validate({
        "name": "shop",
        "folder": folder,
        "title": "Shop",
        "owner": "team",
        "timezone": "Europe/Berlin",
        "first_day": date(2026, 1, 1),
        "feeds": {"orders": feed},
        "entity": {"feed": "orders", "key": ["s"]},
        "outcomes": {},
    })
    text = "\n".join(
        each if isinstance(each, str) else f"- {yaml.safe_dump(each, default_flow_style=True, width=9999).strip()}"
        for each in entries
    )
    (folder / "expectations.yaml").write_text(f"orders:\n{text}\n", encoding="utf-8")
    return project


def rows(**columns: list[Any]) -> pl.DataFrame:
    """A delivery with these values; the others are null, but for the key."""
    count = len(next(iter(columns.values())))
    key = [f"k{n}" for n in range(count)]
    values = {name: [None] * count for name in SCHEMA} | {"s": key, "entity_id": key} | columns
    return pl.DataFrame(values, schema=SCHEMA)


def found(suites: Suites, frame: pl.DataFrame) -> list[Finding]:
    """What the expectations of the file found, without those that every feed has."""
    return suites.findings("orders", [frame])[0][4:-1]


def rule(name: str, **arguments: Any) -> dict[str, Any]:
    return {"expect": name, "severity": "warning", **arguments}


BROKEN = [
    (rule("column_values_to_be_unique", column="i"), [BIG, BIG + 1, None], ()),
    (rule("column_values_to_be_unique", column="i"), [BIG + 1, BIG + 1, None], (0, 1)),
    (rule("compound_columns_to_be_unique", column_list=["i", "j"]), [BIG, BIG + 1, None], ()),
    (rule("column_values_to_be_in_set", column="i", value_set=[BIG]), [BIG, BIG + 1, None], (1,)),
    (rule("column_values_to_be_in_set", column="i", value_set=[BIG, 1.5]), [BIG, BIG + 1, None], (1,)),
    (rule("column_values_to_not_be_in_set", column="i", value_set=[BIG]), [BIG, BIG + 1, None], (0,)),
    (rule("column_values_to_be_between", column="i", min_value=BIG + 1), [BIG, BIG + 1, None], (0,)),
    (rule("column_values_to_be_between", column="i", min_value=BIG + 1), [BIG, BIG + 1, BIG + 2], (0,)),
    (rule("column_values_to_be_between", column="i", max_value=float(BIG)), [BIG, BIG + 1, None], (1,)),
    (rule("column_values_to_be_between", column="i", max_value=10**20), [2**63 - 1, None, -(2**63)], ()),
    (rule("column_values_to_be_between", column="i", min_value=BIG, strict_min=True), [BIG, BIG + 1, None], (0,)),
    (rule("column_values_to_be_increasing", column="i", strictly=True), [BIG, BIG + 1, None], ()),
    (rule("column_pair_values_to_be_equal", column_A="i", column_B="j"), [BIG + 1, BIG, None], (0, 2)),
    (rule("column_pair_values_a_to_be_greater_than_b", column_A="i", column_B="j"), [BIG + 1, BIG, None], (1, 2)),
    (rule("column_pair_values_to_be_in_set", column_A="i", column_B="j", value_pairs_set=[[BIG, BIG]]),
     [BIG + 1, BIG, None], (0, 2)),
    (rule("select_column_values_to_be_unique_within_record", column_list=["i", "j"]), [BIG + 1, BIG, None], (1,)),
    (rule("multicolumn_sum_to_equal", column_list=["i", "j"], sum_total=2 * BIG), [BIG + 1, BIG, None], (0, 2)),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "values", "at"), BROKEN)
def test_neighbours_beyond_the_floats_are_different(
    suites: Callable[..., Suites], entry: dict[str, Any], values: list[int | None], at: tuple[int, ...]
) -> None:
    [finding] = found(suites(entry), rows(i=values, j=[BIG] * 3))
    assert tuple(finding.at) == at


@pytest.mark.parametrize(
    ("entry", "holds"),
    [
        (rule("column_min_to_be_between", column="i", min_value=BIG + 1), False),
        (rule("column_max_to_be_between", column="i", max_value=BIG), False),
        (rule("column_max_to_be_between", column="i", max_value=BIG + 1), True),
        (rule("column_sum_to_be_between", column="i", min_value=2 * BIG + 1, max_value=2 * BIG + 1), True),
        (rule("column_sum_to_be_between", column="i", max_value=2 * BIG), False),
        (rule("column_distinct_values_to_be_in_set", column="i", value_set=[BIG]), False),
        (rule("column_distinct_values_to_equal_set", column="i", value_set=[BIG, BIG + 1]), True),
        (rule("column_distinct_values_to_contain_set", column="i", value_set=[BIG + 2]), False),
        (rule("column_unique_value_count_to_be_between", column="i", min_value=2), True),
        (rule("column_proportion_of_unique_values_to_be_between", column="i", min_value=1), True),
    ],
)
def test_what_is_about_a_whole_delivery_is_exact(
    suites: Callable[..., Suites], entry: dict[str, Any], holds: bool
) -> None:
    [finding] = found(suites(entry), rows(i=[BIG, BIG + 1, None]))
    assert finding.success == holds


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.integers(-3, 3).map(lambda n: BIG + n) | st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_limits_unique_and_sets_agree_with_python(suites: Callable[..., Suites], values: list[int | None]) -> None:
    """Of integers with nulls, whatever their size."""
    entries = [
        rule("column_values_to_be_unique", column="i"),
        rule("column_values_to_be_between", column="i", min_value=BIG - 1, max_value=BIG + 1),
        rule("column_values_to_be_in_set", column="i", value_set=[BIG, BIG + 1]),
    ]
    unique, between, in_set = found(suites(*entries), rows(i=values))
    given_ = [(n, value) for n, value in enumerate(values) if value is not None]
    assert tuple(unique.at) == tuple(n for n, value in given_ if values.count(value) > 1)
    assert tuple(between.at) == tuple(n for n, value in given_ if not BIG - 1 <= value <= BIG + 1)
    assert tuple(in_set.at) == tuple(n for n, value in given_ if value not in (BIG, BIG + 1))


class TestDates:
    @pytest.mark.parametrize(
        ("entry", "at"),
        [
            ("- {expect: column_values_to_be_between, column: d, min_value: 1900-01-01, severity: warning}", (0,)),
            ('- {expect: column_values_to_be_between, column: d, min_value: "1900-01-01", severity: warning}', (0,)),
            ("- {expect: column_values_to_be_between, column: d, max_value: 1900-01-01, severity: warning}", (2,)),
            ("- {expect: column_values_to_be_in_set, column: d, value_set: [1899-12-31], severity: warning}", (2,)),
            ("- {expect: column_values_to_be_between, column: t, min_value: 1900-01-01, severity: warning}", (0,)),
            ("- {expect: column_values_to_be_between, severity: warning, column: t, min_value: 1899-12-31T22:30Z}",
                (0,),
           ),
            ("- {expect: column_values_to_be_in_set, column: t, value_set: [1900-01-01], severity: warning}", (0,)),
        ],
    )  # fmt: skip
    def test_limits_and_sets(self, suites: Callable[..., Suites], entry: str, at: tuple[int, ...]) -> None:
        """A day begins at midnight in Berlin, which was an hour before that of UTC."""
        days = [date(1899, 12, 31), None, date(2026, 3, 4)]
        times = [datetime(1899, 12, 31, 22, tzinfo=UTC), None, datetime(1899, 12, 31, 23, tzinfo=UTC)]
        [finding] = found(suites(entry), rows(d=days, t=times))
        assert tuple(finding.at) == at

    @pytest.mark.parametrize("name", ["column_max_to_be_between", "column_min_to_be_between"])
    @pytest.mark.parametrize("column", ["d", "t"])
    def test_of_a_whole_delivery(self, suites: Callable[..., Suites], name: str, column: str) -> None:
        entry = (
            f"- {{expect: {name}, column: {column}, min_value: 1900-01-01, max_value: 2026-03-05, severity: warning}}"
        )
        made = suites(entry)
        assert made.problems() == []
        inside = {"d": [date(1900, 1, 1), None], "t": [datetime(1900, 1, 1, tzinfo=UTC), None]}
        outside = {"d": [date(1899, 1, 1), None], "t": [datetime(1899, 1, 1, tzinfo=UTC), None]}
        assert found(made, rows(**inside))[0].success
        assert not found(made, rows(**outside))[0].success

    @pytest.mark.parametrize(
        ("entry", "said"),
        [
            ("{column: d, min_value: soon}", "min_value: 'soon' is not a date; write it as 2026-03-04"),
            ("{column: d, min_value: 19000101}", "min_value: 19000101 is not a date; write it as 2026-03-04"),
            (
                "{column: d, min_value: 1900-01-01T10:00:00Z}",
                "is a time, and the column has dates; write it as 1900-01-01",
            ),
            ("{column: t, min_value: 1900-01-01T10:00:00}", "has no offset; write it as 1900-01-01T10:00:00Z"),
        ],
    )
    def test_what_is_no_limit_is_refused_with_its_line(
        self, suites: Callable[..., Suites], entry: str, said: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            suites(f"- {{expect: column_values_to_be_between, severity: warning, {entry[1:]}")
        assert "expectations.yaml, line 2: orders, entry 1: column_values_to_be_between: " in str(caught.value)
        assert said in str(caught.value)


VALUES = {
    "s": ["a", "b"],
    "i": [1, 5],
    "x": [0.5, 5.5],
    "b": [True],
    "d": ["2026-01-01"],
    "t": ["2026-01-01T00:00:00Z"],
}
ARGUMENTS: dict[str, Any] = {
    "min_value": 0, "max_value": 1, "value": 1, "regex": "a", "regex_list": ["a"], "like_pattern": "a%",
    "like_pattern_list": ["a%"], "strftime_format": "%Y", "json_schema": {"type": "object"}, "threshold": 3,
    "double_sided": True, "type_": "int64", "type_list": ["int64"], "method": "iqr", "multiplier": 1.5, "sum_total": 1,
    "other_table_name": "other", "base_query": "SELECT 1", "comparison_query": "SELECT 1",
    "comparison_data_source_name": "other", "column_set": ["s"], "days": 7, "min_ratio": 0, "max_ratio": 2,
    "partition_object": {"values": [1, 2], "weights": [0.5, 0.5]},
}  # fmt: skip


def every_rule() -> Iterator[dict[str, Any]]:
    """Each kind of expectation, about a column of each type where it is about one."""
    for name, kind in sorted(known_expectations().items()):
        fields = [field for field in kind.__fields__ if field in ARGUMENTS]
        arguments = {field: ARGUMENTS[field] for field in fields}
        of_columns = {"column", "column_A", "column_list"} & kind.__fields__.keys()
        for column in TYPES if of_columns else [""]:
            entry = rule(name, **arguments)
            if (
                column
                and column in "dt"
                and {"min_value", "max_value"} <= entry.keys()
                and name.endswith("to_be_between")
            ):
                entry |= {"min_value": VALUES[column][0], "max_value": VALUES[column][0]}
            if "value_set" in kind.__fields__:
                entry["value_set"] = VALUES[column]
            if "value_pairs_set" in kind.__fields__:
                entry["value_pairs_set"] = [[VALUES[column][0], VALUES[column][0]]]
            if "quantile_ranges" in kind.__fields__:
                entry["quantile_ranges"] = {"quantiles": [0.5], "value_ranges": [[0, 1]]}
            if "column_A" in kind.__fields__:
                entry |= {"column_A": column, "column_B": column}
            if "column" in kind.__fields__:
                entry["column"] = column
            if "column_list" in kind.__fields__:
                entry["column_list"] = [column or "s", "j"]
            yield entry


@pytest.mark.timeout(600)
@pytest.mark.drill
def test_each_kind_of_rule_works_on_every_delivery_or_is_named_before(
    suites: Callable[..., Suites], tmp_path: Path
) -> None:
    declared, refused = [], []
    for entry in every_rule():
        try:
            declared_expectations(shop(tmp_path, entry))
        except ConfigError as error:
            refused.append(str(error))
        else:
            declared.append(entry)
    assert all("expectations.yaml, line 2: orders, entry 1: " in problem for problem in refused)
    problems = suites(*declared).problems()
    named = {int(problem.split("entry ")[1].split(":")[0]) - 1 for problem in problems}
    assert all(f"expectations.yaml, line {n + 2}: orders, entry {n + 1}: " in "\n".join(problems) for n in named)
    working = [entry for n, entry in enumerate(declared) if n not in named]
    assert {entry["expect"] for entry in working} >= known_expectations().keys() - NEVER
    made = suites(*working)
    moment = datetime(1000, 1, 2, tzinfo=UTC)
    other = rows(
        s=["", "{}", None, "é"], i=[-BIG - 3, None, 0, 7], x=[None, -1e300, 0.0, 1e300], b=[None, None, True, False],
        d=[None, date(1000, 1, 1), date(9999, 12, 31), None],
        t=[moment, None, moment + timedelta(days=3_000_000), moment],
    )  # fmt: skip
    for frame in (other, other.head(1), other.head(2), *(probe.select(list(SCHEMA)) for probe in probes(SCHEMA))):
        assert len(made.findings("orders", [frame])[0][4:]) == len(working)


NEVER = {
    "column_values_to_match_json_schema",  # raises for a text that is not JSON
    "multicolumn_values_to_be_unique",  # Great Expectations exports it, but does not register it
    "column_values_to_match_like_pattern",
    "column_values_to_match_like_pattern_list",
    "column_values_to_not_match_like_pattern",
    "column_values_to_not_match_like_pattern_list",
    "query_results_to_match_comparison",
    "table_row_count_to_equal_other_table",
}
"""Those that Great Expectations evaluates in a database only, and those that some delivery stops."""


def of_expectations(project: str) -> list[str]:
    """Return what is wrong with `expectations.yaml`; the projects of these tests have no code."""
    return [problem.text() for problem in check_config(project) if problem.file.endswith("expectations.yaml")]


class TestCheckConfig:
    def test_a_project_that_is_right(self, declare: Callable[[object], Project]) -> None:
        declare({"winds": [rule("column_values_to_be_between", column="temperature_f", min_value=-40)]})
        assert of_expectations("ferries") == []

    def test_a_rule_that_cannot_be_evaluated_is_named_with_its_line(self, declare: Callable[[object], Project]) -> None:
        project = declare(
            "sailings:\n- {expect: column_mean_to_be_between, column: dest, max_value: 1, severity: warning}\n"
        )
        [problem] = of_expectations("ferries")
        where = f"{project.folder / 'expectations.yaml'}:2: sailings, entry 1: "
        assert problem.startswith(f"{where}column_mean_to_be_between of dest (string) cannot be evaluated: ")
        assert problem.endswith("; change the expectation, or the type of the column in project.yaml")

    def test_a_wrong_file(self, declare: Callable[[object], Project]) -> None:
        declare({"wind": []})
        [problem] = of_expectations("ferries")
        assert problem.endswith("wind: no feed 'wind'; did you mean 'winds'?")
