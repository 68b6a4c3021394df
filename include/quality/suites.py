"""Check typed rows with Great Expectations. Tables and verdicts do not belong here.

Importing this module takes 5 s, so only `include/steps/verdicts.py` does, when there are deliveries to validate.
"""

import logging
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
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
    ExpectShareOfQuarantinedRowsToBeAtMost,
    OwnExpectation,
    declared_expectations,
    is_by_row,
    place_of,
)
from include.quality.marks import BlockMarks, Blocks, Marks
from include.quality.rows import RowRules

History = Callable[[int, int], Sequence[int]]
"""Maps a number of days and a step to the rows of each such day before a delivery; days without one are left out."""

NOWHERE: "array[int]" = array("I")

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
    at: "array[int]" = field(default_factory=lambda: array("I"))
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
        self._project = project
        self._expectations = declared_expectations(project) if expectations is None else expectations
        self._configurations = {
            feed: [expectation.configuration for expectation in each] for feed, each in self._expectations.items()
        }
        self.rules = {feed: RowRules(each, self._types(feed)) for feed, each in self._expectations.items()}

    def _types(self, feed: str) -> dict[str, pl.DataType]:
        declared = self._project.feeds[feed]
        return {**schemas.raw(declared), **schemas.clean(self._project, declared)}

    @cached_property
    def _batch(self) -> Any:
        """What Great Expectations needs to evaluate a frame."""
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas(self._project.name).add_dataframe_asset("delivery")
        return asset.add_batch_definition_whole_dataframe("whole")

    def findings(
        self,
        feed: str,
        deliveries: Sequence[pl.DataFrame | Blocks | Marks],
        histories: Sequence[History | None] | None = None,
    ) -> list[list[Finding]]:
        """Return the findings of each delivery, one for each expectation, in the order of the file.

        Expectations about single rows are checked on all rows. Expectations about a whole delivery are checked on the
        rows that are left without the quarantined ones, but row count and quarantined share on all delivered rows.
        A delivery whose history is None has only some rows of its day: how many they are is not checked.

        Rules about rows and keys are evaluated by expressions (`rows.py`), the others by Great Expectations.

        Args:
            feed: the feed.
            deliveries: the typed rows of each: a frame, or blocks of rows, which are made again when they are needed;
                or the marks of its rows.
            histories: of each delivery.

        Raises:
            ConfigError: an expectation cannot be evaluated.
        """
        found = []
        for place, marks in enumerate(self._marks(feed, deliveries)):
            found.append(self._of_delivery(feed, marks, histories[place] if histories else _no_history))
        return found

    def _marks(self, feed: str, deliveries: Sequence[pl.DataFrame | Blocks | Marks]) -> list[Marks]:
        """Return the marks of each delivery's rows; those of whole frames are made together, which is faster."""
        rules = self.rules[feed]
        frames = [delivery for delivery in deliveries if isinstance(delivery, pl.DataFrame)]
        together, end = rules.marks(pl.concat(frames)) if frames else pl.DataFrame(), 0
        found: list[Marks] = []
        for delivery in deliveries:
            if isinstance(delivery, Marks):
                found.append(delivery)
            elif isinstance(delivery, pl.DataFrame):
                marks = together[end : end + delivery.height]
                found.append(BlockMarks(rules, partial(list, [delivery]), marks))
                end += delivery.height
            else:
                found.append(BlockMarks(rules, delivery, pl.concat([rules.marks(block) for block in delivery()])))
        return found

    def _of_delivery(self, feed: str, marks: Marks, history: History | None) -> list[Finding]:
        expectations, rules = self._expectations[feed], self.rules[feed].rules
        everything, height = range(len(expectations)), marks.height
        own = [n for n in everything if isinstance(expectations[n], OwnExpectation)]
        counts = [n for n in everything if _is_count(expectations[n])]
        others = [n for n in everything if n not in rules and n not in own and n not in counts]
        by_row = [n for n in everything if is_by_row(expectations[n])]
        found = {n: self._found(feed, n, marks.broken(n), height) for n in by_row if n in rules}
        left = pl.repeat(True, height, eager=True)
        found |= self._evaluate(feed, marks, left, [n for n in by_row if n in others])
        for finding in found.values():
            if finding.quarantines:
                left = left & ~_mask(finding.at, height)
        kept = int(left.sum())
        for n in rules.keys() - found.keys():
            found[n] = self._found(feed, n, marks.repeated(n, left), kept)
        found |= self._evaluate(feed, marks, left, [n for n in others if n not in found])
        for n in own:
            found[n] = _hold(expectations[n], self._configurations[feed][n], height, height - kept, history)
        for n in counts:
            found[n] = _hold_count(expectations[n], self._configurations[feed][n], None if history is None else kept)
        return [found[n] for n in everything]

    def _found(self, feed: str, number: int, broken: "tuple[int, array[int]]", rows: int) -> Finding:
        """Return the finding of a translated rule.

        Args:
            feed: the feed.
            number: of the expectation.
            broken: how many rows it asks, and the places of those that break it.
            rows: of how many rows the expectation is about.
        """
        (asked, at), config = broken, self._configurations[feed][number]
        success = self.rules[feed].rules[number].holds(asked, len(at))
        return Finding(
            expectation=config.type.removeprefix("expect_"),
            columns=columns_of(config.kwargs),
            severity=str(config.severity.value),
            success=success,
            rows=rows,
            unexpected_rows=len(at),
            observed=None,
            by_row=is_by_row(self._expectations[feed][number]),
            at=NOWHERE if success else at,
            config=config,
        )

    def _evaluate(self, feed: str, marks: Marks, left: pl.Series, numbers: Sequence[int]) -> dict[int, Finding]:
        """Let Great Expectations evaluate expectations; raise if it gives no result for one.

        It needs all values of the columns that they are about, of one delivery, in memory.

        Args:
            feed: the feed.
            marks: of the delivery, which give its values.
            left: which of them are evaluated.
            numbers: the numbers of the expectations.

        Returns:
            The finding of each number.
        """
        if not numbers:
            return {}
        found = {}
        rows = marks.values(self._columns(feed, numbers), left)
        places = left.arg_true()
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
                at=NOWHERE if result.success else array("I", sorted({places[int(n)] for n in at})),
                config=config,
            )
        if lost := set(numbers) - found.keys():
            raise self._unevaluated(feed, self._expectations[feed][min(lost)], "Great Expectations gave no result")
        return found

    def _columns(self, feed: str, numbers: Sequence[int]) -> list[pl.Expr]:
        """Return the columns that expectations are about; all, if one of them may look at others."""
        expectations = [self._expectations[feed][n] for n in numbers]
        columns = [columns_of(expectation.dict()) for expectation in expectations]
        conditions = [getattr(expectation, "row_condition", None) for expectation in expectations]
        if not all(columns) or any(condition is not None for condition in conditions):
            return [pl.all()]
        return [pl.col(name) for name in dict.fromkeys(name for names in columns for name in names)]

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
            given = [n for n, each in enumerate(expectations) if not isinstance(each, OwnExpectation)]
            problems: dict[int, str] = {}
            for rows in probes(self._types(feed)):
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


def _hold(expectation: Any, config: Any, rows: int, quarantined: int, history: History | None) -> Finding:
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
        config=config,
    )


def _is_count(expectation: Any) -> bool:
    return name_of(expectation) == "table_row_count_to_be_between" and all(
        isinstance(threshold, int | float | None) for threshold in (expectation.min_value, expectation.max_value)
    )


def _hold_count(expectation: Any, config: Any, rows: int | None) -> Finding:
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
        config=config,
    )


def _mask(places: "array[int]", height: int) -> pl.Series:
    """Return which of so many rows are at these places."""
    mask = pl.repeat(value=False, n=height, eager=True)
    mask[pl.Series(places, dtype=pl.UInt32)] = True
    return mask


def _no_history(days: int, step: int) -> Sequence[int]:
    return []


def _exception(info: dict[str, Any]) -> str | None:
    """Return the message of an exception that Great Expectations caught, for the expectation or below a metric's id."""
    caught = [info] if "raised_exception" in info else [i for i in info.values() if isinstance(i, dict)]
    messages = [str(i.get("exception_message")) for i in caught if i.get("raised_exception")]
    return "; ".join(messages) or None
