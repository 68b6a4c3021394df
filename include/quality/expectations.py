"""Check typed rows against `expectations.yaml` with Great Expectations. Tables and verdicts do not belong here.

Importing this module takes 5 s, so only `include/steps/verdicts.py` does, when there are deliveries to validate.
"""

import logging
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import great_expectations as gx
import great_expectations.expectations as gxe
import polars as pl
from great_expectations.compatibility import pydantic
from great_expectations.core.expectation_validation_result import (
    ExpectationSuiteValidationResult,
    ExpectationValidationResult,
)
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation import (
    BatchExpectation,
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
from great_expectations.render.view.view import DefaultJinjaPageView

from include.config.loading import read_yaml
from include.core import schemas
from include.core.errors import ConfigError, nearest
from include.core.project import Project
from include.quality.examples import shown

DEFAULT_SHARE = 0.05
MIN_HISTORY_DAYS = 7

History = Callable[[int], Sequence[int]]
"""Maps a number of days to the rows of each of that many days before a delivery; days without one are left out."""


class _Own(BatchExpectation):
    """An expectation of ours: declared and shown like the others, but checked against what is not in the frame."""

    def _validate(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} is checked by Suites")


class ExpectShareOfQuarantinedRowsToBeAtMost(_Own):
    """At most this share of a delivery's rows goes to quarantine; with more, the rest would not represent the day."""

    max_value: float = pydantic.Field(ge=0, le=1)

    def holds(self, rows: int, quarantined: int) -> tuple[bool, str]:
        """Return whether the expectation holds, and what was observed."""
        share = quarantined / rows if rows else 0.0
        return share <= self.max_value, f"{share:.4f}: {quarantined} of {rows} rows, at most {self.max_value:g}"


class ExpectRowCountToBeNearHistory(_Own):
    """The number of rows is within these ratios of the median of the days before."""

    days: int = pydantic.Field(ge=MIN_HISTORY_DAYS)
    min_ratio: float = pydantic.Field(ge=0, le=1)
    max_ratio: float = pydantic.Field(ge=1)

    def holds(self, rows: int, history: Sequence[int]) -> tuple[bool, str]:
        """Return whether the expectation holds, and what was observed."""
        if len(history) < MIN_HISTORY_DAYS:
            return True, "no history yet"
        usual = median(history)
        held = self.min_ratio * usual <= rows <= self.max_ratio * usual
        return held, f"{rows} rows, the median of {len(history)} days before is {usual:g}"


BY_ROW = frozenset({
    "column_values_to_be_between",
    "column_values_to_be_in_set",
    "column_values_to_not_be_in_set",
    "column_values_to_be_null",
    "column_values_to_not_be_null",
    "column_values_to_match_regex",
    "column_values_to_not_match_regex",
    "column_value_lengths_to_be_between",
    "column_value_lengths_to_equal",
    "column_pair_values_a_to_be_greater_than_b",
    "column_pair_values_to_be_equal",
    "column_values_to_be_unique",
    "compound_columns_to_be_unique",
})
"""If all rows together meet one of these, each part of them does. Outliers, for example, depend on the other rows."""

ABOUT_NULL = frozenset({"column_values_to_be_null", "column_values_to_not_be_null"})

COMPARING = frozenset({
    "column_values_to_be_unique",
    "compound_columns_to_be_unique",
    "column_values_to_be_increasing",
    "column_values_to_be_decreasing",
    "column_value_z_scores_to_be_less_than",
    "column_values_to_not_be_outliers",
})
"""Great Expectations names rows that break these, but cannot know which of them is wrong.

Therefore no row is quarantined; the delivery is refused."""


@dataclass(frozen=True)
class Finding:
    """What one expectation found in one delivery.

    Attributes:
        rows: number of rows; None if the expectation is not about rows.
        unexpected_rows: number of rows that break it; None if it is not about rows.
        observed: what was observed, if it is not about rows.
        by_row: whether each unexpected row is wrong by itself.
        at: the places of unexpected rows in the delivery's frame, if the expectation failed.
    """

    expectation: str
    columns: tuple[str, ...]
    severity: str
    success: bool
    rows: int | None
    unexpected_rows: int | None
    observed: str | None
    by_row: bool
    at: tuple[int, ...] = ()
    config: Any = field(default=None, compare=False, repr=False)

    @property
    def column(self) -> str:
        """The columns, separated by commas."""
        return ", ".join(self.columns)

    @property
    def rule(self) -> str:
        """The expectation and its columns, for people."""
        return f"{self.expectation} of {self.column}" if self.columns else self.expectation

    @property
    def sentence(self) -> str:
        """How the expectation failed, for people."""
        if self.unexpected_rows:
            return f"{self.rule} failed, {self.unexpected_rows} of {self.rows} rows"
        return f"{self.rule} failed (observed {self.observed})"

    @property
    def critical(self) -> bool:
        """Whether a critical expectation failed."""
        return not self.success and self.severity == "critical"

    @property
    def quarantines(self) -> bool:
        """Whether the unexpected rows go to quarantine."""
        return self.critical and self.by_row and bool(self.at)

    @property
    def refuses(self) -> bool:
        """Whether the delivery is refused, also if the expectation is about rows but did not name them."""
        return self.critical and not self.quarantines


class Suites:
    """`expectations.yaml` as Great Expectations suites, one for each feed."""

    def __init__(self, project: Project) -> None:
        for its_own in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(its_own).setLevel(logging.WARNING)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas(project.name).add_dataframe_asset("delivery")
        self._batch = asset.add_batch_definition_whole_dataframe("whole")
        self._project = project
        self._expectations = declared_expectations(project)

    def findings(
        self, feed: str, deliveries: Sequence[pl.DataFrame], histories: Sequence[History] | None = None
    ) -> list[list[Finding]]:
        """Return the findings of each delivery, one for each expectation, in the order of the file.

        Expectations about single rows are checked on all rows. Expectations about a whole delivery are checked on the
        rows that are left without the quarantined ones, but row count and quarantined share on all delivered rows.

        Great Expectations takes milliseconds for an expectation on a frame of any size. So expectations about single
        rows are first evaluated on all deliveries together. A delivery is evaluated alone only if that shows that some
        of its rows may break one, and for expectations about a whole delivery.

        Raises:
            ConfigError: an expectation cannot be evaluated.
        """
        expectations = self._expectations[feed]
        everything = range(len(expectations))
        own = [n for n in everything if isinstance(expectations[n], _Own)]
        counts = [n for n in everything if _is_count(expectations[n])]
        found = []
        for place, (rows, settled) in enumerate(zip(deliveries, self._settled_together(feed, deliveries), strict=True)):
            history = histories[place] if histories else _no_history
            open_ = [n for n in everything if n not in settled and n not in own and n not in counts]
            by_row = [n for n in open_ if _is_by_row(expectations[n])]
            if not any(expectations[n].severity.value == "critical" for n in by_row):
                by_row = open_  # none of them can quarantine rows, so one call evaluates all
            alone = self._evaluate(feed, rows, range(rows.height), by_row)
            gone = {at for finding in alone.values() if finding.quarantines for at in finding.at}
            left = [at for at in range(rows.height) if at not in gone]
            alone |= self._evaluate(feed, rows[left] if gone else rows, left, [n for n in open_ if n not in alone])
            for n, finding in settled.items():
                alone[n] = replace(finding, rows=rows.height if finding.by_row else len(left))
            for n in own:
                alone[n] = self._hold(expectations[n], rows.height, len(gone), history)
            for n in counts:
                alone[n] = _hold_count(expectations[n], len(left))
            found.append([alone[n] for n in everything])
        return found

    def _settled_together(self, feed: str, deliveries: Sequence[pl.DataFrame]) -> list[dict[int, Finding]]:
        """Return for each delivery the findings that the evaluation of all deliveries together already decides.

        An expectation holds if no row of the delivery breaks it, or so few that it holds however Great Expectations
        counts nulls. A warning about nulls fails if too many rows break it; no other expectation depends on that.
        """
        settled: list[dict[int, Finding]] = [{} for _ in deliveries]
        if len(deliveries) == 1:
            return settled
        whole, expectations = pl.concat(deliveries), self._expectations[feed]
        single = [n for n in range(len(expectations)) if _name(expectations[n]) in BY_ROW]
        together = self._evaluate(feed, whole, range(whole.height), single, name_all=True)
        end = 0
        for rows, of_delivery in zip(deliveries, settled, strict=True):
            start, end = end, end + rows.height
            for n, finding in together.items():
                at = finding.at[bisect_left(finding.at, start) : bisect_left(finding.at, end)]
                if len(at) <= (_spare(expectations[n], rows, finding.columns) if at else 0):
                    of_delivery[n] = replace(finding, success=True, unexpected_rows=len(at), at=())
                elif _name(expectations[n]) in ABOUT_NULL and finding.severity == "warning":
                    places = tuple(place - start for place in at)
                    of_delivery[n] = replace(finding, success=False, unexpected_rows=len(at), at=places)
        return settled

    def page(self, feed: str, findings: Sequence[Finding], run_id: str) -> str:
        """Render Great Expectations' own HTML page of a validation, with counts but without values of rows."""
        results = [
            ExpectationValidationResult(
                success=finding.success,
                expectation_config=finding.config,
                result=_counts(finding),
                exception_info={"raised_exception": False, "exception_message": None, "exception_traceback": None},
                meta={},
            )
            for finding in findings
        ]
        met = sum(finding.success for finding in findings)
        statistics = {
            "evaluated_expectations": len(findings),
            "successful_expectations": met,
            "unsuccessful_expectations": len(findings) - met,
            "success_percent": 100 * met / len(findings),
        }
        validation = ExpectationSuiteValidationResult(
            success=met == len(findings),
            results=results,
            suite_name=feed,
            statistics=statistics,
            meta={"great_expectations_version": gx.__version__, "run_id": {"run_name": run_id, "run_time": ""}},
        )
        document = ValidationResultsPageRenderer(run_info_at_end=True).render(validation)
        return str(DefaultJinjaPageView().render(document))

    def _hold(self, expectation: Any, rows: int, quarantined: int, history: History) -> Finding:
        if isinstance(expectation, ExpectShareOfQuarantinedRowsToBeAtMost):
            held, observed = expectation.holds(rows, quarantined)
        else:
            held, observed = expectation.holds(rows, history(expectation.days))
        return Finding(
            expectation=_name(expectation),
            columns=(),
            severity=str(expectation.severity.value),
            success=held,
            rows=None,
            unexpected_rows=None,
            observed=observed,
            by_row=False,
            config=expectation.configuration,
        )

    def _evaluate(
        self,
        feed: str,
        rows: pl.DataFrame,
        places: Sequence[int],
        numbers: Sequence[int],
        *,
        name_all: bool = False,
    ) -> dict[int, Finding]:
        """Evaluate expectations on a frame; raise if Great Expectations gives no result for one.

        Args:
            feed: the feed.
            rows: the frame.
            places: the places of the frame's rows in the delivery.
            numbers: the numbers of the expectations.
            name_all: name the rows that break an expectation even if it holds.

        Returns:
            The finding of each number.
        """
        if not numbers:
            return {}
        suite = gx.ExpectationSuite(name=feed, expectations=[self._expectations[feed][n] for n in numbers])
        batch = self._batch.get_batch(batch_parameters={"dataframe": rows.to_pandas()})
        found = {}
        for result in batch.validate(suite, result_format="COMPLETE").results:
            config, measured = result.expectation_config, result.result
            assert config is not None
            name = config.type.removeprefix("expect_")
            columns = _columns(config.kwargs)
            if problem := _exception(result.exception_info):
                about = f"{name} of {', '.join(columns)}"
                raise ConfigError(f"expectations.yaml, {feed}: {about} cannot be evaluated: {problem}")
            counted = "element_count" in measured
            at = measured.get("unexpected_index_list") or []
            found[config.meta["number"]] = Finding(
                expectation=name,
                columns=columns,
                severity=str(config.severity.value),
                success=bool(result.success),
                rows=rows.height if counted else None,
                unexpected_rows=int(measured["unexpected_count"] or 0) if counted else None,
                observed=None if counted else self._observed(columns, measured),
                by_row=_is_by_row(self._expectations[feed][config.meta["number"]]),
                at=() if result.success and not name_all else tuple(sorted({places[int(n)] for n in at})),
                config=config,
            )
        if lost := set(numbers) - found.keys():
            entry = self._expectations[feed][min(lost)]
            raise ConfigError(f"expectations.yaml, {feed}: Great Expectations gave no result for {entry}")
        return found

    def _observed(self, columns: Sequence[str], measured: Mapping[str, Any]) -> str:
        """Return what was observed; text may contain values of rows, so it is checked for personal data."""
        value = measured.get("observed_value")
        if value is None and "unexpected_count" in measured:
            return f"{measured['unexpected_count']} unexpected values"
        return str(value) if isinstance(value, int | float) or value is None else shown(self._project, str(value))


def _is_count(expectation: Any) -> bool:
    return _name(expectation) == "table_row_count_to_be_between" and all(
        isinstance(threshold, int | float | None) for threshold in (expectation.min_value, expectation.max_value)
    )


def _hold_count(expectation: Any, rows: int) -> Finding:
    """Check a row count as Great Expectations does; it would take 20 ms per delivery, half of the whole time."""
    least, most = expectation.min_value, expectation.max_value
    above = least is None or rows > least or (rows == least and not expectation.strict_min)
    below = most is None or rows < most or (rows == most and not expectation.strict_max)
    return Finding(
        expectation=_name(expectation),
        columns=(),
        severity=str(expectation.severity.value),
        success=above and below,
        rows=None,
        unexpected_rows=None,
        observed=str(rows),
        by_row=False,
        config=expectation.configuration,
    )


def _spare(expectation: Any, rows: pl.DataFrame, columns: Sequence[str]) -> float:
    """Return how many rows of a delivery may break an expectation for certain.

    Null counts as a value only for expectations about null.
    """
    mostly = expectation.mostly if _is_by_row(expectation) else 1
    asked = rows if _name(expectation) in ABOUT_NULL else rows.drop_nulls(list(columns))
    return (1 - float(mostly)) * asked.height


def _no_history(days: int) -> Sequence[int]:
    return []


def _counts(finding: Finding) -> dict[str, Any]:
    """Return the part of a result that a page may show."""
    if finding.rows is None or finding.unexpected_rows is None:
        return {"observed_value": finding.observed}
    share = 100 * finding.unexpected_rows / finding.rows if finding.rows else 0.0
    return {
        "element_count": finding.rows,
        "unexpected_count": finding.unexpected_rows,
        "unexpected_percent": share,
        "unexpected_percent_total": share,
        "unexpected_percent_nonmissing": share,
        "missing_count": 0,
        "missing_percent": 0.0,
    }


def _columns(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    named = [arguments.get(name) for name in ("column", "column_A", "column_B")]
    return (*(name for name in named if name is not None), *(arguments.get("column_list") or []))


def _is_by_row(expectation: Any) -> bool:
    kinds = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    return isinstance(expectation, kinds) and _name(expectation) not in COMPARING


def _exception(info: dict[str, Any]) -> str | None:
    """Return the message of an exception that Great Expectations caught, for the expectation or below a metric's id."""
    caught = [info] if "raised_exception" in info else [i for i in info.values() if isinstance(i, dict)]
    messages = [str(i.get("exception_message")) for i in caught if i.get("raised_exception")]
    return "; ".join(messages) or None


def known_expectations() -> dict[str, Any]:
    """Return the class of each expectation that a file may name, by that name."""
    known = {_snake(name): getattr(gxe, name) for name in dir(gxe) if re.match("Expect[A-Z]", name)}
    return known | {_snake(kind.__name__): kind for kind in _Own.__subclasses__()}


def declared_expectations(project: Project) -> dict[str, list[Any]]:
    """Return the Great Expectations objects of each feed: the implied ones, then those of the file.

    Each has its number in `meta`.

    Raises:
        ConfigError: an entry is wrong. The message names the feed, the entry and what to do.
    """
    path = project.folder / "expectations.yaml"
    declared = read_yaml(path)
    if unknown := declared.keys() - project.feeds.keys():
        name = min(unknown)
        raise ConfigError(f"{path}: no feed {name!r}{nearest(name, project.feeds)}")
    known = known_expectations()
    found: dict[str, list[Any]] = {}
    for name, feed in project.feeds.items():
        columns = schemas.clean(project, feed).keys() | {"_malformed"}
        found[name] = [
            _expectation(f"{path}: {name}, always", columns, entry, known, number)
            for number, entry in enumerate(_always(project, name))
        ]
        for n, entry in enumerate(declared.get(name) or [], 1):
            where = f"{path}: {name}, entry {n}"
            found[name].append(_expectation(where, columns, entry, known, len(found[name])))
        if not any(isinstance(expectation, ExpectShareOfQuarantinedRowsToBeAtMost) for expectation in found[name]):
            name_of_share = _snake(ExpectShareOfQuarantinedRowsToBeAtMost.__name__)
            share = {"expect": name_of_share, "max_value": DEFAULT_SHARE, "severity": "critical"}
            found[name].append(_expectation(f"{path}: {name}, always", columns, share, known, len(found[name])))
    return found


def _always(project: Project, feed: str) -> Iterator[dict[str, Any]]:
    """Yield the implied expectations: values have their types; each key, and each entity, has one row."""
    critical = {"severity": "critical"}
    key = project.feeds[feed].key
    yield {"expect": "column_values_to_be_null", "column": "_malformed", **critical}
    for column in key:
        yield {"expect": "column_values_to_not_be_null", "column": column, **critical}
    if len(key) > 1:
        yield {"expect": "compound_columns_to_be_unique", "column_list": list(key), **critical}
    else:
        yield {"expect": "column_values_to_be_unique", "column": key[0], **critical}
    if feed == project.entity.feed:
        yield {"expect": "column_values_to_be_unique", "column": "entity_id", **critical}


def _expectation(
    where: str, columns: Collection[str], entry: dict[str, Any], known: Mapping[str, Any], number: int
) -> Any:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: must be a mapping with expect, severity and arguments")
    arguments = {**entry, "meta": {"number": number}}
    name = str(arguments.pop("expect", ""))
    if name not in known:
        raise ConfigError(f"{where}: no expectation {name!r}{nearest(name, known)}")
    if arguments.get("severity") not in ("critical", "warning"):
        raise ConfigError(f"{where}: {name}: severity must be critical or warning")
    for column in _columns(arguments):
        if column not in columns:
            raise ConfigError(f"{where}: {name}: clean has no column {column!r}{nearest(str(column), columns)}")
    known_arguments = known[name].__fields__
    if unknown := sorted(arguments.keys() - known_arguments.keys()):
        raise ConfigError(f"{where}: {name}: no argument {unknown[0]!r}{nearest(unknown[0], known_arguments)}")
    try:
        return known[name](**arguments)
    except ValueError as error:
        raise ConfigError(f"{where}: {name}: {error}") from error


def _name(expectation: Any) -> str:
    return _snake(type(expectation).__name__)


def _snake(name: str) -> str:
    """Convert `ExpectColumnValuesToNotBeNull` to `column_values_to_not_be_null`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).removeprefix("_expect_")
