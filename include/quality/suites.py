"""Check typed rows with Great Expectations. Tables and verdicts do not belong here.

Importing this module takes 5 s, so only `include/steps/verdicts.py` does, when there are deliveries to validate.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import great_expectations as gx
import polars as pl
from great_expectations.core.expectation_validation_result import ExpectationValidationResult
from great_expectations.data_context.types.base import ProgressBarsConfig

from include.core import schemas
from include.core.errors import ConfigError
from include.core.project import Project
from include.quality.exact import columns_of, name_of, probes, to_pandas
from include.quality.examples import observed
from include.quality.expectations import (
    ABOUT_NULL,
    BY_ROW,
    ExpectShareOfQuarantinedRowsToBeAtMost,
    OwnExpectation,
    declared_expectations,
    is_by_row,
    place_of,
)

History = Callable[[int, int], Sequence[int]]
"""Maps a number of days and a step to the rows of each such day before a delivery; days without one are left out."""

ONLY_ADDED = "not checked: these rows are added to a day"


@dataclass(frozen=True)
class Finding:
    """What one expectation found in one delivery.

    Attributes:
        rows: number of rows; None if the expectation is not about rows.
        unexpected_rows: number of rows that break it; None if it is not about rows.
        observed: what was observed, if it is not about rows; why values are malformed.
        by_row: whether each unexpected row is wrong by itself.
        at: the places of unexpected rows in the delivery's frame, if the expectation failed.
        config: the expectation as Great Expectations has it, with its arguments.
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
        if self.columns == ("_malformed",):
            return "malformed values"
        return f"{self.expectation} of {self.column}" if self.columns else self.expectation

    @property
    def sentence(self) -> str:
        """How the expectation failed, for people."""
        if self.columns == ("_malformed",):
            why = f": {self.observed}" if self.observed else ""
            return f"{self.rule} in {self.unexpected_rows} of {self.rows} rows{why}"
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

    def __init__(self, project: Project, expectations: dict[str, list[Any]] | None = None) -> None:
        """Take the expectations of the file, or those given."""
        for its_own in ("great_expectations", "great_expectations.data_context.types.base"):
            logging.getLogger(its_own).setLevel(logging.WARNING)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas(project.name).add_dataframe_asset("delivery")
        self._batch = asset.add_batch_definition_whole_dataframe("whole")
        self._project = project
        self._expectations = declared_expectations(project) if expectations is None else expectations

    def findings(
        self, feed: str, deliveries: Sequence[pl.DataFrame], histories: Sequence[History | None] | None = None
    ) -> list[list[Finding]]:
        """Return the findings of each delivery, one for each expectation, in the order of the file.

        Expectations about single rows are checked on all rows. Expectations about a whole delivery are checked on the
        rows that are left without the quarantined ones, but row count and quarantined share on all delivered rows.
        A delivery whose history is None has only some rows of its day: how many they are is not checked.

        Great Expectations takes milliseconds for an expectation on a frame of any size. So expectations about single
        rows are first evaluated on all deliveries together. A delivery is evaluated alone only if that shows that some
        of its rows may break one, and for expectations about a whole delivery.

        Raises:
            ConfigError: an expectation cannot be evaluated.
        """
        expectations = self._expectations[feed]
        everything = range(len(expectations))
        own = [n for n in everything if isinstance(expectations[n], OwnExpectation)]
        counts = [n for n in everything if _is_count(expectations[n])]
        found = []
        for place, (rows, settled) in enumerate(zip(deliveries, self._settled_together(feed, deliveries), strict=True)):
            history = histories[place] if histories else _no_history
            open_ = [n for n in everything if n not in settled and n not in own and n not in counts]
            by_row = [n for n in open_ if is_by_row(expectations[n])]
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
                alone[n] = _hold_count(expectations[n], None if history is None else len(left))
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
        single = [n for n in range(len(expectations)) if name_of(expectations[n]) in BY_ROW]
        together = self._evaluate(feed, whole, range(whole.height), single, name_all=True)
        end = 0
        for rows, of_delivery in zip(deliveries, settled, strict=True):
            start, end = end, end + rows.height
            for n, finding in together.items():
                at = finding.at[bisect_left(finding.at, start) : bisect_left(finding.at, end)]
                if len(at) <= (_spare(expectations[n], rows, finding.columns) if at else 0):
                    of_delivery[n] = replace(finding, success=True, unexpected_rows=len(at), at=())
                elif name_of(expectations[n]) in ABOUT_NULL and finding.severity == "warning":
                    places = tuple(place - start for place in at)
                    of_delivery[n] = replace(finding, success=False, unexpected_rows=len(at), at=places)
        return settled

    def _hold(self, expectation: Any, rows: int, quarantined: int, history: History | None) -> Finding:
        if isinstance(expectation, ExpectShareOfQuarantinedRowsToBeAtMost):
            held, observed = expectation.holds(rows, quarantined)
        elif history is None:
            held, observed = True, ONLY_ADDED
        else:
            held, observed = expectation.holds(rows, history(expectation.days, expectation.step))
        return Finding(
            expectation=name_of(expectation),
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
        found = {}
        for result in self._results(feed, rows, numbers):
            config, measured = result.expectation_config, result.result
            assert config is not None
            name = config.type.removeprefix("expect_")
            columns = columns_of(config.kwargs)
            if _exception(result.exception_info):  # its text may have a value of a row
                problem = "Great Expectations raised an error on these rows"
                raise self._unevaluated(feed, self._expectations[feed][config.meta["number"]], problem)
            counted = "element_count" in measured
            at = measured.get("unexpected_index_list") or []
            found[config.meta["number"]] = Finding(
                expectation=name,
                columns=columns,
                severity=str(config.severity.value),
                success=bool(result.success),
                rows=rows.height if counted else None,
                unexpected_rows=int(measured["unexpected_count"] or 0) if counted else None,
                observed=None if counted else self._observed(feed, columns, measured),
                by_row=is_by_row(self._expectations[feed][config.meta["number"]]),
                at=() if result.success and not name_all else tuple(sorted({places[int(n)] for n in at})),
                config=config,
            )
        if lost := set(numbers) - found.keys():
            raise self._unevaluated(feed, self._expectations[feed][min(lost)], "Great Expectations gave no result")
        return found

    def _unevaluated(self, feed: str, expectation: Any, problem: str) -> ConfigError:
        """Return the error of an expectation without a result, with its place, the columns' types and what to do."""
        kept = self._project.feeds[feed].kept
        columns = [
            f"{name} ({kept[name].type if name in kept else 'string'})" for name in columns_of(expectation.dict())
        ]
        about = " of ".join([name_of(expectation), *([", ".join(columns)] if columns else [])])
        return ConfigError(
            f"{place_of(self._project, feed, expectation)}: {about} cannot be evaluated: {problem}; change the "
            "expectation, or the type of the column in project.yaml"
        )

    def _results(self, feed: str, rows: pl.DataFrame, numbers: Sequence[int]) -> list[ExpectationValidationResult]:
        suite = gx.ExpectationSuite(name=feed, expectations=[self._expectations[feed][n] for n in numbers])
        batch = self._batch.get_batch(batch_parameters={"dataframe": to_pandas(rows)})
        return list(batch.validate(suite, result_format="COMPLETE").results)

    def problems(self) -> list[str]:
        """Return a sentence for each expectation that cannot be evaluated on some delivery of the declared types.

        Each is tried on a delivery without rows and on small ones, so that none is found in a nightly run.
        """
        found = []
        for feed, expectations in self._expectations.items():
            types = {
                **schemas.raw(self._project.feeds[feed]),
                **schemas.clean(self._project, self._project.feeds[feed]),
            }
            given = [n for n, each in enumerate(expectations) if not isinstance(each, OwnExpectation)]
            problems: dict[int, str] = {}
            for rows in probes(types):
                problems |= self._try(feed, rows, [n for n in given if n not in problems])
            found += [str(self._unevaluated(feed, expectations[n], problems[n])) for n in sorted(problems)]
        return found

    def _try(self, feed: str, rows: pl.DataFrame, numbers: Sequence[int]) -> dict[int, str]:
        """Map each expectation that cannot be evaluated on a frame to the reason."""
        found = dict.fromkeys(numbers, "Great Expectations gave no result")
        try:
            results = self._results(feed, rows, numbers) if numbers else []
        except Exception as error:  # noqa: BLE001  it does not catch what some combinations raise
            if len(numbers) == 1:
                return {numbers[0]: str(error)}
            half = len(numbers) // 2
            return self._try(feed, rows, numbers[:half]) | self._try(feed, rows, numbers[half:])
        for result in results:
            assert result.expectation_config is not None
            number = result.expectation_config.meta["number"]
            if problem := _exception(result.exception_info):
                found[number] = problem
            else:
                del found[number]
        return found

    def _observed(self, feed: str, columns: Sequence[str], measured: Mapping[str, Any]) -> str:
        """Return what was observed; it may contain values of rows, so it is checked for personal data."""
        value = measured.get("observed_value")
        if value is None and "unexpected_count" in measured:
            return f"{measured['unexpected_count']} unexpected values"
        if isinstance(value, int | float) or value is None:
            return str(value)
        return observed(self._project, feed, columns, value)


def _is_count(expectation: Any) -> bool:
    return name_of(expectation) == "table_row_count_to_be_between" and all(
        isinstance(threshold, int | float | None) for threshold in (expectation.min_value, expectation.max_value)
    )


def _hold_count(expectation: Any, rows: int | None) -> Finding:
    """Check a row count as Great Expectations does; it would take 20 ms per delivery, half of the whole time.

    It holds if `rows` is None: the delivery has only some rows of its day.
    """
    least, most = expectation.min_value, expectation.max_value
    above = least is None or rows is None or rows > least or (rows == least and not expectation.strict_min)
    below = most is None or rows is None or rows < most or (rows == most and not expectation.strict_max)
    return Finding(
        expectation=name_of(expectation),
        columns=(),
        severity=str(expectation.severity.value),
        success=above and below,
        rows=None,
        unexpected_rows=None,
        observed=ONLY_ADDED if rows is None else str(rows),
        by_row=False,
        config=expectation.configuration,
    )


def _spare(expectation: Any, rows: pl.DataFrame, columns: Sequence[str]) -> float:
    """Return how many rows of a delivery may break an expectation for certain.

    Null counts as a value only for expectations about null.
    """
    mostly = expectation.mostly if is_by_row(expectation) else 1
    asked = rows if name_of(expectation) in ABOUT_NULL else rows.drop_nulls(list(columns))
    return (1 - float(mostly)) * asked.height


def _no_history(days: int, step: int) -> Sequence[int]:
    return []


def _exception(info: dict[str, Any]) -> str | None:
    """Return the message of an exception that Great Expectations caught, for the expectation or below a metric's id."""
    caught = [info] if "raised_exception" in info else [i for i in info.values() if isinstance(i, dict)]
    messages = [str(i.get("exception_message")) for i in caught if i.get("raised_exception")]
    return "; ".join(messages) or None
