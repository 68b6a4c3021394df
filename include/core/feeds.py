"""The declaration of a project's feeds, its entity and its outcomes."""

import re
from collections.abc import Iterable
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from include.core.base import Config, LocalTime
from include.core.calendars import WEEKDAYS, Holidays, Weekdays
from include.core.errors import nearest
from include.core.formats import AnyFormat, Layout, Limits
from include.core.formats.csv import Csv
from include.core.interval import Interval
from include.core.paths import has_parts, refuse_path, says_day
from include.core.sources import Sql

ColumnType = Literal["string", "integer", "double", "boolean", "timestamp", "date"]

MAX_FORMED = 2_000
"""The most characters of a text with a declared form."""
RESERVED_COLUMNS = frozenset({
    *("day", "delivery_id", "entity_id", "run_date", "rule", "run_id"),
    *("_row", "_malformed", "_age", "_group", "_values"),
})
"""Columns that the pipeline adds. A feed cannot have such a column, in upper or lower case: Spark ignores case."""


MAX_HORIZON = 366
"""The most days that a run date looks ahead."""

HORIZON, TARGET_DAY = "horizon", "target_day"
"""The columns that rows of a feed with `ahead_days` get: days ahead of the run date, and the day they are about."""

MAX_NAME_BYTES = 63
"""The longest name of a column in PostgreSQL (NAMEDATALEN − 1); it would cut a longer one short without an error."""

POSTGRESQL_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Columns that each table of PostgreSQL has already."""


def refuse_name(name: str) -> None:
    """Raise `ValueError` for the name of a column that PostgreSQL, Delta or Spark cannot have."""
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise ValueError(f"the name has more than {MAX_NAME_BYTES} bytes, which is PostgreSQL's limit; shorten it")
    if not name or name != name.strip() or "," in name or not name.isprintable():
        raise ValueError("a name is printable text without commas, and without spaces at its ends")


DataClass = Literal["public", "identifier", "sensitive"]

CLASSES: dict[DataClass, str] = {
    "public": "kept, and shown in messages",
    "identifier": "kept as a keyed hash; needs a format",
    "sensitive": "dropped before anything is stored",
}
"""What becomes of the values of each class, for a person who chooses one."""


class Column(Config):
    """A column of a feed. A `timestamp` is UTC in tables; the feed's `format` says how it is written in the file."""

    type: ColumnType = Field(description="type of the values in tables", examples=["double"])
    data_class: DataClass = Field(
        alias="class",
        description="public: kept, and shown to people in the declared form; identifier: kept as a keyed hash; "
        "sensitive: dropped before anything is stored",
        examples=["identifier"],
    )
    format: str | None = Field(
        default=None,
        description="regular expression that text of at most 2,000 characters must match in full; needed for an "
        "identifier. A value of another form is quarantined. Values of a public text column are shown in messages only "
        "if it has a format",
        examples=["[A-Z]{2}[0-9]{6}"],
    )
    optional: bool = Field(default=False, description="whether a file may leave the column out; it is null then")
    description: str = Field(default="", description="what the column says, for people", examples=["net of tax, EUR"])

    @model_validator(mode="before")
    @classmethod
    def _has_a_class(cls, written: Any) -> Any:
        if isinstance(written, dict) and "class" not in written:
            lines = "; ".join(f"`class: {name}` ({what})" for name, what in CLASSES.items())
            raise ValueError(f"class: say what the values are. Write one of: {lines}")
        return written

    @model_validator(mode="after")
    def _has_a_form(self) -> Self:
        if self.data_class == "identifier" and self.type != "string":
            raise ValueError("type: an identifier is hashed, so its type must be string")
        if self.data_class == "identifier" and self.format is None:
            raise ValueError(
                "format: say which form the values of this identifier have, so that another value in its place is "
                'noticed. Write a regular expression, such as `format: "[A-Z]{2}[0-9]{6}"` or `format: "[0-9]{8}"`; '
                '`format: ".+"` accepts any text'
            )
        if self.format is None:
            return self
        if self.type != "string":
            raise ValueError(f"format: the values are of type {self.type}, which says their form; remove the key")
        try:
            re.compile(self.format)
        except re.error as error:
            raise ValueError(f"format: {self.format!r} is not a regular expression: {error}") from error
        return self

    def has_form(self, text: str) -> bool:
        """Return whether a text matches the declared format. It is in the syntax of Python; that of polars differs.

        A longer text has no form: some expressions take hours on one that was made for them.
        """
        if self.format is None:
            return True
        return len(text) <= MAX_FORMED and re.fullmatch(self.format, text) is not None

    def without_form(self, texts: Iterable[str]) -> list[str]:
        """Return the texts that do not match the declared format; see `has_form`."""
        if self.format is None:
            return []
        matches = re.compile(self.format).fullmatch
        return [text for text in texts if len(text) > MAX_FORMED or matches(text) is None]


class LateRowsVariant(Config):
    """What becomes of rows of another date than their file's. With a greater share of them, a file is refused."""

    kind: str
    at_most: float = Field(
        gt=0, lt=1, strict=True, description="share of the rows of a file; one with more is refused", examples=[0.01]
    )

    def takes(self, corrections_days: int, file_day: date, day: date) -> bool:
        """Return whether rows of `day` in the file of `file_day` are taken."""
        raise NotImplementedError


class QuarantineLateRows(LateRowsVariant):
    """Rows of another date than their file's are quarantined."""

    kind: Literal["quarantine"] = Field(description="quarantine: such rows are held back, and the others are used")

    def takes(self, corrections_days: int, file_day: date, day: date) -> bool:
        """Return False: nothing of another date is taken."""
        return False


class CorrectLateRows(LateRowsVariant):
    """Rows of earlier days correct those days, up to `corrections_days` back. All others are quarantined."""

    kind: Literal["correct"] = Field(
        description="correct: rows of an earlier day are added to that day, in place of its rows with the same key"
    )

    def takes(self, corrections_days: int, file_day: date, day: date) -> bool:
        """Return whether the day is before that of the file, and not too long before."""
        return 0 < (file_day - day).days <= corrections_days


LateRows = Annotated[QuarantineLateRows | CorrectLateRows, Field(discriminator="kind")]


class Parts(Config):
    """When the several files of a day are complete: by their number, or once a file says so."""

    expect: Annotated[int, Field(ge=1, strict=True)] | Literal["hours"] | None = Field(
        default=None,
        description="so many parts are complete; more are refused. hours: a part for each {hour} that the day has in "
        "the project's timezone, 23 of them when clocks are put forward; the hour that comes twice is one part",
        examples=[24, "hours"],
    )
    marker: str | None = Field(
        default=None,
        description="name of the file, in the folder of the parts, that is written after all of them. A new one "
        "replaces all parts of the day",
        examples=["_SUCCESS"],
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.expect is None) == (self.marker is None):
            raise ValueError("one of expect and marker is needed")
        name = self.marker
        if name is not None and (not name.isprintable() or set(name) & set("/*{}?[]\\") or name in ("", ".", "..")):
            raise ValueError(f"{name!r} is not the name of a file")
        return self


DAILY_ONLY = (
    "path_day",
    "parts",
    "delay_days",
    "ahead_days",
    "lookback_days",
    "days",
    "holidays",
    "required",
    "arrives",
    "day_column",
    "late_rows",
    "correction",
    "max_unknown_share",
)
"""The keys of a feed that a snapshot cannot have: it has no days, and a run never waits for it."""


class Feed(Config):
    """Files of one kind, or the rows of a query.

    A feed of `days` has one or more files for each day of its calendar; run date D needs the file of D - delay_days. A
    `snapshot` is a file that says how things are, until a newer one comes; run date D needs the newest one that it can
    know, whatever its day, and goes on without one.
    """

    kind: Literal["days", "snapshot"] = Field(
        default="days",
        description="days: a file has the rows of one day; snapshot: a file has the state of everything, until a newer "
        "one replaces it",
        examples=["snapshot"],
    )
    path: str = Field(
        default="",
        description="pattern of its files below landing/<project>/: * stands for any text without a slash, {day} for "
        "the day; {day:…} is the day in another form, with %Y, %m, %d and %j. {part} (any text without a slash) and "
        "{hour} (00 to 23) name one of several files of a day. A snapshot that is overwritten in place has no {day}. "
        "Every feed has this key or `source`",
        examples=["sales/{day}/*.csv.gz", "sales/{day:%Y/%m/%d}.csv"],
    )
    path_day: int = Field(
        default=0,
        ge=-MAX_HORIZON,
        le=MAX_HORIZON,
        description="the day in the path is so many days after the day of the rows: -1 for a plan that is named by the "
        "evening before, 1 for results that are named by the morning after",
        examples=[-1],
    )
    parts: Literal["at_cutoff"] | Parts | None = Field(
        default=None,
        description="when the several files of a day, which together are one delivery, are complete; needed if the "
        "path has {part} or {hour}. at_cutoff: what has come by `arrives`, or by the cutoff, of the first run date "
        "that needs it; a part that comes later is a correction",
        examples=[{"expect": 24}, {"marker": "_SUCCESS"}, "at_cutoff"],
    )
    source: Sql | None = Field(
        default=None,
        description="the database that the rows are extracted from, in place of `path`",
        examples=[
            {"kind": "sql", "connection": "shop_db", "query": "SELECT … FROM prices WHERE valid_on = :day"},
        ],
    )
    max_age_days: int | None = Field(
        default=None,
        ge=0,
        description="age of a snapshot above which a run warns that there is no newer one",
        examples=[60],
    )
    delay_days: int = Field(
        default=0, ge=0, description="days between a run date and the newest file it can have", examples=[1]
    )
    ahead_days: int = Field(
        default=0,
        ge=0,
        le=MAX_HORIZON,
        description="days after a run date whose files it has, too: those of a plan or a calendar, which are known "
        "before their day. Run date D needs the files of D to D + ahead_days",
        examples=[6],
    )
    lookback_days: int = Field(
        default=0, ge=0, description="how many further days back the features of a day read", examples=[27]
    )
    live_from: date | None = Field(
        default=None,
        description="the first run date that was run live; what earlier run dates need is history, which may be copied "
        "in any order and at any time. Needed for a feed whose files have no sidecars",
        examples=["2026-09-01"],
    )
    corrections_days: int = Field(
        default=7,
        ge=0,
        description="days after it was due (of a plan, after the day that it is about) during which an overwritten "
        "object is a correction; later, it waits for a decision (cli accept)",
        examples=[30],
    )
    correction: Literal["replace", "upsert"] = Field(
        default="replace",
        description="what a further file of a day is: replace: the whole day again; upsert: its new and changed rows "
        "only, which are added by key",
        examples=["upsert"],
    )
    versions: Literal["by_name"] | None = Field(
        default=None,
        description="by_name: of two files of a day with the same time, the one with the greater name is newer. By "
        "default they are refused",
        examples=["by_name"],
    )
    sidecar: Literal["optional", "required"] = Field(
        default="optional",
        description="required: a file waits for its sidecar, <file>.json beside it, in which the supplier says what it "
        "has. By default a file is landed without one, and compared with one that comes later",
        examples=["required"],
    )
    days: Weekdays | None = Field(
        default=None,
        description="the weekdays that have a file, as a range or list; every day by default",
        examples=["mon-sat", ["mon", "wed", "fri"]],
    )
    holidays: Holidays | None = Field(
        default=None,
        description="days that have no file although their weekday has",
        examples=[{"country": "DE", "subdivision": "BE"}],
    )
    supplier: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="who delivers it, for reports of late files by supplier; by default the feed is its own supplier",
        examples=["Harbour authority"],
    )
    required: bool = Field(
        default=True,
        description="whether a run waits for its file; without, it goes on with the files that came by its cutoff",
    )
    arrives: LocalTime | None = Field(
        default=None,
        description="local time by which the file of a run date comes, when that is after the cutoff",
        examples=["09:00"],
    )
    max_unknown_share: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        strict=True,
        description="share of the days of the window whose files may have come too late for a run date; with more, it "
        "is not prepared. By default the log only warns",
        examples=[0.2],
    )
    key: tuple[str, ...] = Field(
        min_length=1, description="columns that identify a row within a delivery", examples=[["store", "product"]]
    )
    day_column: str | None = Field(
        default=None,
        description="the timestamp (or date) whose local date must be the file's day; a snapshot has none",
        examples=["sold_at"],
    )
    columns: dict[str, Column] = Field(
        description="each column of the files by its name, in any order",
        examples=[
            {"store": {"type": "string", "class": "public"}, "sold_at": {"type": "timestamp", "class": "public"}}
        ],
    )
    format: AnyFormat = Field(
        default_factory=Csv,
        description="how the files are written; without it CSV with commas, in UTF-8, with times in ISO 8601",
        examples=[{"kind": "csv", "delimiter": ";", "decimal": ",", "encoding": "latin-1"}],
    )
    extra_columns: Literal["refuse", "ignore", "warn"] = Field(
        default="refuse", description="what happens to a file with columns that are not declared"
    )
    late_rows: LateRows | None = Field(
        default=None,
        description="what becomes of rows of another date than their file's; by default such a file is refused",
        examples=[{"kind": "quarantine", "at_most": 0.01}, {"kind": "correct", "at_most": 0.05}],
    )
    limits: Limits = Field(default_factory=Limits, description="the largest file that is read")

    @field_validator("parts", mode="before")
    @classmethod
    def _parts_are_known(cls, written: Any) -> Any:
        if written is None or written == "at_cutoff" or isinstance(written, Parts):
            return written
        try:
            return Parts.model_validate(written)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = str(*wrong["loc"][:1])
            said = wrong["msg"].removeprefix("Value error, ")
            raise ValueError(
                f"{f'{where}: ' if where else ''}{said}; write {{expect: 24}}, {{marker: _SUCCESS}} or at_cutoff"
            ) from error

    @model_validator(mode="before")
    @classmethod
    def _rows_of_a_query_have_a_format(cls, given: Any) -> Any:
        """Give a feed with a source the format of its raw rows: the text that says exactly what a typed value is."""
        if not isinstance(given, dict) or not isinstance(given.get("source"), dict | Sql):
            return given
        for name in ("path", "path_day", "format", "versions", "sidecar"):
            if name in given:
                raise ValueError(f"{name}: a feed with a source is not read from files; remove the key")
        source = given["source"]
        timezone = source.timezone if isinstance(source, Sql) else source.get("timezone")
        return {**given, "format": {"kind": "parquet", "timezone": timezone}}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._require_kind()
        if self.source is not None:
            self._require_days_of(self.source)
        elif not self.path:
            raise ValueError("path: a feed needs the pattern of its files, or a `source`")
        else:
            try:
                refuse_path(self.path, dated=not self.is_snapshot)
            except ValueError as error:
                raise ValueError(f"path: {error}") from error
        self._require_parts()
        self._require_whole_days()
        for name in self.columns:
            try:
                refuse_name(name)
            except ValueError as error:
                raise ValueError(f"columns.{name}: {error}") from error
        if self.ahead_days and self.delay_days:
            raise ValueError("ahead_days: what is known ahead has no delay; remove delay_days")
        added = {HORIZON, TARGET_DAY} if self.ahead_days else set()
        if taken := sorted(name for name in self.columns if name.lower() in RESERVED_COLUMNS | added):
            raise ValueError(f"columns.{taken[0]}: the pipeline adds a column of that name; rename it in the feed")
        if alike := [
            names for names in pairwise(sorted(self.columns, key=str.lower)) if names[0].lower() == names[1].lower()
        ]:
            raise ValueError(
                f"columns.{alike[0][1]}: differs from {alike[0][0]} by upper and lower case only, which Spark ignores; "
                "rename one"
            )
        of_day = [] if self.day_column is None else [("day_column", self.day_column)]
        for where, name in (*(("key", name) for name in self.key), *of_day):
            if name not in self.columns:
                raise ValueError(f"{where}: {name!r} is not in columns{nearest(name, self.columns)}")
            if self.columns[name].data_class == "sensitive":
                raise ValueError(f"{where}: {name!r} is sensitive, and sensitive columns are dropped")
            if self.columns[name].optional:
                raise ValueError(f"{where}: {name!r} is optional, and every row needs it")
        if self.day_column is not None and self.columns[self.day_column].type not in ("timestamp", "date"):
            raise ValueError(f"day_column: {self.day_column!r} is neither a timestamp nor a date")
        return self

    def _require_kind(self) -> None:
        """Raise `ValueError` for a key that the kind needs, or cannot have."""
        if not self.is_snapshot:
            if self.day_column is None:
                raise ValueError("day_column: a feed of days needs one; a feed without days is a snapshot")
            if self.max_age_days is not None:
                raise ValueError("max_age_days: only a snapshot has one")
            return
        if wrong := [name for name in DAILY_ONLY if name in self.model_fields_set]:
            raise ValueError(f"{wrong[0]}: a snapshot cannot have it; a run takes the newest file and waits for none")
        if self.live_from is not None and not self.dated:
            raise ValueError(
                "live_from: a snapshot whose path has no {day} counts from the time of its object, or from the claim "
                "of its sidecar, and one whose query binds nothing from its extraction; remove the key"
            )

    def _require_days_of(self, source: Sql) -> None:
        """Raise `ValueError` if the query does not fit the kind of the feed, or nothing says when its rows count."""
        if not self.is_snapshot and "day" not in source.binds:
            raise ValueError(
                "source.query: it does not bind :day, so it gives the same rows for each day; add it, such as WHERE "
                f"{self.day_column} = :day, or declare kind: snapshot"
            )
        if source.immutable and not source.says_day:
            raise ValueError(
                "source.immutable: the query binds neither :day nor :as_of, so its rows are the state of now"
            )
        if source.says_day and not source.claims and self.live_from is None:
            raise ValueError(
                "live_from: nothing says from when rows of past days count; declare the first run date that is run "
                "live, or bind :as_of in the query, or declare source.immutable: true"
            )
        if source.claims and self.live_from is not None:
            raise ValueError(
                "live_from: a query that binds :as_of or is immutable counts from its cutoff; remove the key"
            )

    def _require_parts(self) -> None:
        """Raise `ValueError` if the path and `parts` do not say the same, or a marker has no folder of its own."""
        if has_parts(self.path) and self.is_snapshot:
            raise ValueError("path: a snapshot is one file, so its path has no {part} and no {hour}")
        if has_parts(self.path) and self.parts is None:
            raise ValueError(
                "parts: the path has {part} or {hour}, so say when the files of a day are complete: "
                "`parts: {expect: 24}`, `parts: {marker: _SUCCESS}` or `parts: at_cutoff`"
            )
        if self.parts is not None and not has_parts(self.path):
            raise ValueError(
                "parts: the path names no parts; write {part} where names differ, as in `path: x/{day}/{part}.csv`"
            )
        if isinstance(self.parts, Parts) and self.parts.expect == "hours" and "{part}" in self.path:
            raise ValueError("parts.expect: hours are one file each; write {hour} into the path, and no {part}")
        folder = self.path.rpartition("/")[0]
        if self.marker is not None and (has_parts(folder) or "*" in folder or not says_day(folder)):
            raise ValueError(
                "parts.marker: the files of a day need a folder of their own, so that it has one marker; write the day "
                "into the folder, and {part} into the name only, as in `path: x/{day}/{part}.csv`"
            )

    def _require_whole_days(self) -> None:
        """Raise `ValueError` if a day is always whole, as that of a query or of a set, but rows are to be added."""
        whole = "a query gives" if self.source else "all parts of a day are" if self.parts else None
        adds = isinstance(self.late_rows, CorrectLateRows)
        if whole and (self.correction == "upsert" or adds):
            key = "late_rows: kind correct" if adds else "correction: upsert"
            raise ValueError(f"{key}: {whole} the whole day each time, so nothing is added to it; remove the key")

    @property
    def marker(self) -> str | None:
        """Return the name of the file that says that the parts of a day are complete."""
        return self.parts.marker if isinstance(self.parts, Parts) else None

    @property
    def marker_path(self) -> str | None:
        """Return the path of that file, with the day as in the path of the parts."""
        return self.marker and f"{self.path.rpartition('/')[0]}/{self.marker}"

    def day_in_path(self, day: date) -> date:
        """Return the day that the path of the file of a day has."""
        return day + timedelta(days=self.path_day)

    @property
    def is_snapshot(self) -> bool:
        """Return whether a file has the state of everything, and not the rows of one day."""
        return self.kind == "snapshot"

    @property
    def dated(self) -> bool:
        """Return whether path or query says the day of a delivery. Otherwise it is the day of the object's own time."""
        return says_day(self.path) if self.source is None else self.source.says_day

    def run_dates(self, day: date, last: date) -> list[date]:
        """Return the run dates, up to `last`, whose features may read a file of a day."""
        first = self.first_run_date(day)
        end = last if self.is_snapshot else min(last, first + timedelta(days=self.ahead_days + self.lookback_days))
        return Interval(start=first, end=end).days if first <= end else []

    @property
    def layout(self) -> Layout:
        """Return what the feed declares of the columns of its files."""
        optional = frozenset(name for name, column in self.columns.items() if column.optional)
        return Layout(tuple(self.columns), optional, self.extra_columns, self.limits)

    @property
    def kept(self) -> dict[str, Column]:
        """Return the columns that tables keep: all but the sensitive ones."""
        return {name: column for name, column in self.columns.items() if column.data_class != "sensitive"}

    def needed_day(self, run_date: date) -> date:
        """Return the newest day of the files that a run date needs; without `ahead_days`, it needs no other."""
        return run_date - timedelta(days=self.delay_days - self.ahead_days)

    def needed_days(self, run_date: date) -> list[date]:
        """Return the days of the files that a run date needs: of a plan, those of the next days too."""
        newest = self.needed_day(run_date)
        return Interval(start=newest - timedelta(days=self.ahead_days), end=newest).days

    def first_run_date(self, day: date) -> date:
        """Return the first run date that needs the file of a day."""
        return day + timedelta(days=self.delay_days - self.ahead_days)

    def has_file_on(self, day: date) -> bool:
        """Return whether a file of a day is expected: the day is one of the calendar, and the feed is no snapshot."""
        if self.is_snapshot:
            return False
        if self.days is not None and WEEKDAYS[day.weekday()] not in self.days:
            return False
        return self.holidays is None or not self.holidays.include(day)

    def takes_late_rows(self, file_day: date, day: date) -> bool:
        """Return whether rows of `day` in the file of `file_day` correct that day. A day without a file has none."""
        return (
            self.late_rows is not None
            and self.has_file_on(day)
            and self.late_rows.takes(self.corrections_days, file_day, day)
        )

    def window(self, run_date: date) -> Interval:
        """Return the days of this feed that the features of a run date may read. Those of a snapshot have no limit."""
        needed = self.needed_days(run_date)
        return Interval(start=needed[0] - timedelta(days=self.lookback_days), end=needed[-1])


class Entity(Config):
    """What a row of features is about."""

    feed: str = Field(description="the feed whose rows are the entities", examples=["sales"])
    key: tuple[str, ...] = Field(
        min_length=1, description="the columns from which `entity_id` is made", examples=[["store", "product"]]
    )
    where: str | None = Field(
        default=None,
        description="SQL condition over one row of the feed: rows for which it is not true get no features and no "
        "scores, but features of others count them",
        examples=["status = 'open'"],
    )
    horizon_days: int = Field(
        default=0,
        ge=0,
        le=MAX_HORIZON,
        description="days ahead of a run date that have features, too: run date D has those of the entities of D to D "
        "+ horizon_days. At most the `ahead_days` of the feed",
        examples=[6],
    )
    public: tuple[str, ...] = Field(
        default=(),
        description="public columns that analysts see beside predictions: of the feed, or of a snapshot whose key the "
        "feed has",
        examples=[["store", "region"]],
    )


class Outcome(Config):
    """The true result: an SQL expression over one row of a clean feed, evaluated by polars."""

    feed: str = Field(
        description="the feed that knows the true result; its delay_days is at least 1", examples=["sales"]
    )
    sql: str = Field(
        description="SQL expression over the feed's columns; null where there is no result", examples=["units * price"]
    )
    labels: tuple[str, ...] = Field(
        default=(),
        description="if the result is text: all labels that it can have, for models with `problem_type: multiclass`. "
        "Inside, an outcome is the number of its label, counted from 0: to add a label, add it at the end",
        examples=[["low", "normal", "high"]],
    )
    description: str = Field(default="", description="what the value says, for people", examples=["revenue, EUR"])
