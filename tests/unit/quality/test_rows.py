"""The contract of rules that are evaluated by expressions: Great Expectations is the oracle."""

import itertools
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from include.quality.expectations import OwnExpectation, read_expectations
from include.quality.regex import of_polars
from include.quality.rows import RowRules
from include.quality.suites import Suites
from tests.unit.quality.test_exact import BIG, SCHEMA, rule, shop

PATTERNS = [
    "a", "^a$", "a$", "^$", "", r"^a\Z", "[^a]", "a|b$", "(a|b)+$", "(?P<x>a)b?", "a*?b", "a{2,}", "^.$", "(?s)^a.b$",
    "a.b", r"\d", r"^\d+$", r"^\w+\Z", r"\s", r"\S$", r"\D$", r"[\d_]", r"[^\W\d]", "(?x) a  b # c", "[a-c&&b]", "[[a]",
    "[--9]", "٣", "^[A-Z]{3}$", "^(?:[01][0-9]|2[0-4])[0-5][0-9]$", r"\n$", r"[\^\]]", r"\$", "(?:$|a$)", "(?s).*",
]  # fmt: skip
UNTRANSLATABLE = ["(?i)a", "(?m)^a$", "(?a)\\d", "(?=a)", "(?<!a)b", "a$b", "(a$)+", r"\ba", r"(a)\1", "(?>a)", "a++"]
ALPHABET = ["a", "b", "A", "3", "٣", "\U0001d7d8", "_", "\n", " ", "\u00a0", "é", "\u2003", "^", "]", "$", "-"]
TEXTS = ["".join(letters) for size in range(4) for letters in itertools.product(ALPHABET, repeat=size)]


@pytest.mark.filterwarnings("ignore:Possible")  # some patterns are unclear to people
@pytest.mark.parametrize("pattern", PATTERNS)
def test_polars_finds_the_texts_that_python_finds(pattern: str) -> None:
    """A change of Python's parser of patterns, which is not public, fails here too."""
    translated = of_polars(pattern)
    assert translated is not None
    found = pl.Series(TEXTS).str.contains(translated)
    assert found.to_list() == [re.search(pattern, text) is not None for text in TEXTS]


@pytest.mark.parametrize("pattern", UNTRANSLATABLE)
def test_what_polars_finds_otherwise_is_left_to_great_expectations(pattern: str) -> None:
    assert of_polars(pattern) is None


MOST = 10**20
WHOLE = st.sampled_from([
    -3,
    0,
    1,
    BIG - 1,
    BIG,
    BIG + 1,
    MOST,
    -MOST,
    2**63 - 1,
    -(2**63),
    0.5,
    -1.5,
    float(BIG),
    1e300,
])
REAL = st.sampled_from([0, 0.0, -0.0, 0.5, 1, 2, -1, BIG, BIG + 1, 1e300, float("inf"), float("-inf")])
TEXT = st.text(st.sampled_from("abA3٣ \n_é$"), max_size=3)
DAYS = st.sampled_from([date(2026, 1, 1), date(2026, 1, 2), date(1000, 1, 1), date(9999, 12, 31)])
MOMENTS = st.sampled_from([
    *(datetime(2026, 1, 1, hour, microsecond=few, tzinfo=UTC) for hour in (0, 23) for few in (0, 1)),
    datetime(1000, 1, 2, tzinfo=UTC),
    datetime(9999, 12, 30, tzinfo=UTC),
])
INTEGERS = st.integers(-3, 3) | st.integers(-3, 3).map(lambda n: BIG + n) | st.integers(-(2**63), 2**63 - 1)
REALS = st.sampled_from([0.0, -0.0, 0.5, 1.0, float(BIG), float("inf"), float("-inf"), float("nan")]) | st.floats()
VALUES = {
    "s": TEXT, "i": INTEGERS, "x": REALS, "b": st.booleans(), "d": DAYS, "t": MOMENTS, "j": INTEGERS,
    "x2": REALS, "d2": DAYS, "t2": MOMENTS, "entity_id": TEXT, "_malformed": TEXT,
}  # fmt: skip
LIMITS = {"i": WHOLE, "x": REAL, "d": DAYS.map(str), "t": MOMENTS.map(str), "s": TEXT, "b": st.booleans()}
MOSTLY = {"mostly": st.sampled_from([1, 1, 0.9, 0.5, 0])}
FLAG = st.sampled_from([True, False])
IGNORED_PAIRS = st.sampled_from(["both_values_are_missing", "either_value_is_missing", "neither"])
IGNORED_LISTS = st.sampled_from(["all_values_are_missing", "any_value_is_missing", "never"])
SIZE = st.integers(-1, 4)


def of(name: str, optional: dict[str, Any] | None = None, **arguments: Any) -> st.SearchStrategy[dict[str, Any]]:
    given_ = {key: each if isinstance(each, st.SearchStrategy) else st.just(each) for key, each in arguments.items()}
    kinds = st.sampled_from(["critical", "warning"])
    required = {"expect": st.just(name), "severity": kinds, **given_}
    return st.fixed_dictionaries(required, optional={**MOSTLY, **(optional or {})})


LIMITED = ("min_value", "max_value", "strict_min", "strict_max")
RULES = st.one_of(
    *(
        strategy
        for column in "sixbdt"
        for strategy in (
            of("column_values_to_be_null", column=column),
            of("column_values_to_not_be_null", column=column),
            of("column_values_to_be_unique", column=column),
            of("column_values_to_be_in_set", column=column, value_set=st.lists(LIMITS[column], max_size=3)),
            of("column_values_to_not_be_in_set", column=column, value_set=st.lists(LIMITS[column], max_size=3)),
        )
    ),
    *(
        of(
            "column_values_to_be_between",
            dict(zip(LIMITED[1:], (LIMITS[column], FLAG, FLAG), strict=True)),
            column=column,
            min_value=LIMITS[column],
        )
        for column in "ixdt"
    ),
    of("column_value_lengths_to_be_between", {"max_value": SIZE, "strict_min": FLAG}, column="s", min_value=SIZE),
    of("column_value_lengths_to_equal", column="s", value=st.sampled_from([0, 1, 2, 1.5, -1])),
    of("column_values_to_match_regex", column="s", regex=st.sampled_from(PATTERNS)),
    of("column_values_to_not_match_regex", column="s", regex=st.sampled_from(PATTERNS)),
    *(
        of(name, {"ignore_row_if": IGNORED_PAIRS, **more}, column_A=one, column_B=other)
        for one, other in (("i", "j"), ("s", "entity_id"), ("x", "x2"), ("d", "d2"), ("t", "t2"))
        for name, more in (
            ("column_pair_values_a_to_be_greater_than_b", {"or_equal": FLAG}),
            ("column_pair_values_to_be_equal", {}),
        )
    ),
    of(
        "compound_columns_to_be_unique",
        {"ignore_row_if": IGNORED_LISTS},
        column_list=st.lists(st.sampled_from("sixdtbj"), min_size=2, max_size=3, unique=True),
    ),
)

ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, values in VALUES.items()}), max_size=8)


def frame_of(values: list[dict[str, Any]]) -> pl.DataFrame:
    about = {"day": date(2026, 1, 1), "delivery_id": "x"}
    return pl.DataFrame([{**about, "_row": n, **row} for n, row in enumerate(values)], schema=SCHEMA)


def compare(folder: Path, entries: list[dict[str, Any]], values: list[dict[str, Any]], size: int) -> int:
    """Compare the findings of expressions with those of Great Expectations; return how many rules were translated.

    Entries that are refused, or that are not translated, are left out. Rows are also cut into blocks of a size.
    """
    project, frame = shop(folder, *entries), frame_of(values)
    declared = read_expectations(project)[0]["orders"]
    rules = RowRules(declared, SCHEMA).rules
    chosen = [each for n, each in enumerate(declared) if n in rules or isinstance(each, OwnExpectation)]
    expectations = [each.copy(update={"meta": {**each.meta, "number": n}}) for n, each in enumerate(chosen)]
    suites, oracle = Suites(project, {"orders": expectations}), Suites(project, {"orders": expectations})
    oracle.rules = {"orders": RowRules([], SCHEMA)}
    [found], [wanted] = suites.findings("orders", [frame]), oracle.findings("orders", [frame])
    for finding, other in zip(found, wanted, strict=True):
        assert finding == other, finding.config
        assert finding.config.kwargs == {k: v for k, v in other.config.kwargs.items() if k != "batch_id"}
    blocks = [*frame.iter_slices(size)] or [frame]
    assert suites.findings("orders", [lambda: blocks]) == [found]
    return len(rules)


@pytest.mark.filterwarnings("ignore")  # of patterns with groups, and of pandas
@pytest.mark.parametrize(
    "examples",
    [pytest.param(4, id="few"), pytest.param(200, id="many", marks=[pytest.mark.drill, pytest.mark.timeout(1800)])],
)
def test_expressions_find_what_great_expectations_finds(tmp_path: Path, examples: int) -> None:
    translated = []

    @hypothesis_settings(max_examples=examples, deadline=None, suppress_health_check=[*HealthCheck])
    @given(st.lists(RULES, min_size=25, max_size=40), ROWS, st.integers(1, 4))
    def run(entries: list[dict[str, Any]], values: list[dict[str, Any]], size: int) -> None:
        translated.append(compare(tmp_path, entries, values, size))

    run()
    assert max(translated) > 20


EMPTY: dict[str, Any] = dict.fromkeys(VALUES)
TABLE: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    # nothing, null, NaN, infinity
    (rule("column_values_to_not_be_null", column="x"), [{"x": float("nan")}, {"x": None}, {"x": float("inf")}]),
    (rule("column_values_to_be_null", column="x", mostly=0.5), [{"x": float("nan")}, {"x": 1.0}]),
    (rule("column_values_to_be_between", column="x", min_value=0), [{"x": float("nan")}, {"x": float("-inf")}]),
    (rule("column_values_to_be_unique", column="x"), [{"x": 0.0}, {"x": -0.0}, {"x": None}, {"x": float("nan")}]),
    # whole numbers beyond 2^53, with a null beside them or not
    (rule("column_values_to_be_between", column="i", max_value=BIG), [{"i": BIG}, {"i": BIG + 1}, {"i": None}]),
    (rule("column_values_to_be_between", column="i", min_value=0.5, strict_min=True), [{"i": 0}, {"i": 1}]),
    (rule("column_values_to_be_in_set", column="i", value_set=[BIG + 1, 0.5]), [{"i": BIG}, {"i": BIG + 1}]),
    # $ and a final newline; digits of every script; characters, not bytes
    (rule("column_values_to_match_regex", column="s", regex="^a$"), [{"s": "a"}, {"s": "a\n"}, {"s": "a\n\n"}]),
    (rule("column_values_to_match_regex", column="s", regex=r"^\d$"), [{"s": "3"}, {"s": "٣"}, {"s": "x"}]),
    (rule("column_value_lengths_to_equal", column="s", value=1), [{"s": "é"}, {"s": "\U0001d7d8"}, {"s": "ab"}, {}]),
    # null on one side of a pair, on both; equal keys with a null
    (rule("column_pair_values_a_to_be_greater_than_b", column_A="i", column_B="j"), [{"i": 1}, {"j": 1}, {}]),
    (rule("column_pair_values_to_be_equal", column_A="t", column_B="t2", ignore_row_if="neither"), [{}, {"x": 1.0}]),
    (rule("compound_columns_to_be_unique", column_list=["i", "s"]), [{"i": 1}, {"i": 1}, {}, {}]),
    (rule("compound_columns_to_be_unique", column_list=["i", "s"], ignore_row_if="never"), [{}, {}]),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_the_table_of_the_contract(tmp_path: Path) -> None:
    for entry, values in TABLE:
        assert compare(tmp_path, [entry], [EMPTY | row for row in values], 2) == 5
        assert compare(tmp_path, [entry], [], 2) == 5
