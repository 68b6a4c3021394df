"""Read `expectations.yaml` as expectations of Great Expectations. Checking rows by them is in `suites.py`.

Importing this module takes 5 s, so only what validates deliveries does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Literal

import great_expectations.expectations as gxe
import polars as pl
from great_expectations.compatibility import pydantic
from great_expectations.expectations.expectation import (
    BatchExpectation,
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    MulticolumnMapExpectation,
)
from great_expectations.expectations.metadata_types import FailureSeverity

from include.core import schemas
from include.core.errors import ConfigError, nearest
from include.core.feeds import Feed
from include.core.project import Project
from include.core.yaml_file import place, read_yaml
from include.quality.exact import columns_of, comparable, name_of, snake, with_whole_numbers

DEFAULT_SHARE = 0.05
MIN_HISTORY_DAYS = 7
MIN_SAME_WEEKDAYS = 3


class OwnExpectation(BatchExpectation):
    """An expectation of ours: declared and shown like the others, but checked against what is not in the frame."""

    def _validate(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} is checked by Suites")


class ExpectShareOfQuarantinedRowsToBeAtMost(OwnExpectation):
    """At most this share of a delivery's rows goes to quarantine; with more, the rest would not represent the day."""

    max_value: float = pydantic.Field(ge=0, le=1)

    def holds(self, rows: int, quarantined: int) -> tuple[bool, str]:
        """Return whether the expectation holds, and what was observed."""
        share = quarantined / rows if rows else 0.0
        return share <= self.max_value, f"{share:.4f}: {quarantined} of {rows} rows, at most {self.max_value:g}"


class ExpectRowCountToBeNearHistory(OwnExpectation):
    """The number of rows is within these ratios of the median of the days before.

    By weekday, a Sunday is compared with Sundays only; that is the default of a feed that declares `days`.
    """

    days: int = pydantic.Field(ge=MIN_HISTORY_DAYS)
    min_ratio: float = pydantic.Field(ge=0, le=1)
    max_ratio: float = pydantic.Field(ge=1)
    by: Literal["day", "weekday"] | None = None

    @property
    def step(self) -> int:
        """The days from one day that is compared to the next."""
        return 7 if self.by == "weekday" else 1

    def settled(self, by: Literal["day", "weekday"]) -> "ExpectRowCountToBeNearHistory":
        """Return this expectation with `by`, unless it says it itself.

        Raises:
            ValueError: so few days have too few of each weekday, so that the expectation would never be evaluated.
        """
        found = self.copy(update={"by": self.by or by})
        if found.by == "weekday" and self.days // 7 < MIN_SAME_WEEKDAYS:
            raise ValueError(
                f"days: {self.days} days have fewer than {MIN_SAME_WEEKDAYS} of each weekday, by which the feed is "
                f"compared; write {4 * 7}, or by: day"
            )
        return found

    def holds(self, rows: int, history: Sequence[int]) -> tuple[bool, str]:
        """Return whether the expectation holds, and what was observed."""
        if len(history) < (MIN_SAME_WEEKDAYS if self.by == "weekday" else MIN_HISTORY_DAYS):
            return True, "no history yet"
        usual = median(history)
        held = self.min_ratio * usual <= rows <= self.max_ratio * usual
        compared = "days of the same weekday" if self.by == "weekday" else "days"
        return held, f"{rows} rows, the median of {len(history)} {compared} before is {usual:g}"


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


def known_expectations() -> dict[str, Any]:
    """Return the class of each expectation that a file may name, by that name."""
    known = {snake(name): getattr(gxe, name) for name in dir(gxe) if re.match("Expect[A-Z]", name)}
    return known | {snake(kind.__name__): kind for kind in OwnExpectation.__subclasses__()}


def declared_expectations(project: Project) -> dict[str, list[Any]]:
    """Return the Great Expectations objects of each feed: the implied ones, then those of the file.

    Each has its number in `meta`.

    Raises:
        ConfigError: names for each wrong entry the line, the feed, the entry and what to do.
    """
    found, problems = read_expectations(project)
    if problems:
        raise ConfigError(problems)
    return found


def read_expectations(project: Project) -> tuple[dict[str, list[Any]], list[str]]:
    """Return the expectations of each feed as `declared_expectations` does, and a sentence for each wrong entry.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    path = project.folder / "expectations.yaml"
    declared = read_yaml(path)
    problems = [
        f"{place(path, name)}: {name}: no feed {name!r}{nearest(name, project.feeds)}"
        for name in map(str, declared)
        if name not in project.feeds
    ]
    known = known_expectations()
    found: dict[str, list[Any]] = {}
    for name, feed in project.feeds.items():
        columns = schemas.clean(project, feed) | {"_malformed": pl.String()}
        of_feed = [
            _expectation(project, columns, entry, known, {"number": number})
            for number, entry in enumerate(_always(project, name))
        ]
        entries = declared.get(name) or []
        if not isinstance(entries, list):
            problems.append(f"{place(path, name)}: {name}: must be a list of expectations, each after a dash")
            entries = []
        for position, entry in enumerate(entries):
            try:
                meta = {"number": len(of_feed), "entry": position}
                of_feed.append(_settled(_expectation(project, columns, entry, known, meta), feed))
            except ValueError as error:
                problems.append(f"{place(path, name, str(position))}: {name}, entry {position + 1}: {error}")
        if not any(isinstance(expectation, ExpectShareOfQuarantinedRowsToBeAtMost) for expectation in of_feed):
            of_feed.append(
                ExpectShareOfQuarantinedRowsToBeAtMost(
                    max_value=DEFAULT_SHARE, severity=FailureSeverity.CRITICAL, meta={"number": len(of_feed)}
                )
            )
        found[name] = of_feed
    return found, problems


def _settled(expectation: Any, feed: Feed) -> Any:
    """Return an expectation with the defaults that depend on the feed."""
    if isinstance(expectation, ExpectRowCountToBeNearHistory):
        return expectation.settled("weekday" if feed.days else "day")
    return expectation


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


def place_of(project: Project, feed: str, expectation: Any) -> str:
    """Return the file, line and entry of an expectation, for a message; an implied one has no line."""
    path, entry = project.folder / "expectations.yaml", expectation.meta.get("entry")
    return f"{path}: {feed}" if entry is None else f"{place(path, feed, str(entry))}: {feed}, entry {entry + 1}"


def _expectation(
    project: Project, columns: Mapping[str, pl.DataType], entry: Any, known: Mapping[str, Any], meta: Mapping[str, int]
) -> Any:
    """Return the object of an entry. Raises `ValueError` with a sentence about what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError("must be a mapping with expect, severity and arguments")
    arguments = {**entry, "meta": dict(meta)}
    name = str(arguments.pop("expect", ""))
    if name not in known:
        raise ValueError(f"no expectation {name!r}{nearest(name, known)}")
    if arguments.get("severity") not in ("critical", "warning"):
        raise ValueError(f"{name}: severity must be critical or warning")
    for column in columns_of(arguments):
        if column not in columns:
            raise ValueError(f"{name}: clean has no column {column!r}{nearest(str(column), columns)}")
    known_arguments = known[name].__fields__
    if unknown := sorted(arguments.keys() - known_arguments.keys()):
        raise ValueError(f"{name}: no argument {unknown[0]!r}{nearest(unknown[0], known_arguments)}")
    try:
        arguments = comparable(name, arguments, columns, project.zone)
        return with_whole_numbers(known[name](**arguments), arguments)
    except ValueError as error:
        raise ValueError(f"{name}: {' '.join(str(error).split())}") from error


def is_by_row(expectation: Any) -> bool:
    """Return whether each row that breaks an expectation is wrong by itself."""
    kinds = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    return isinstance(expectation, kinds) and name_of(expectation) not in COMPARING
