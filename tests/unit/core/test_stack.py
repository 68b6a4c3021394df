"""The state of a feed and day: which deliveries are in it, in which order, and which rows they make."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.config.loading import load_project
from include.core import schemas
from include.core.errors import DataError
from include.core.feeds import CorrectLateRows, Feed
from include.core.interval import Interval
from include.core.journal import Known
from include.core.point_in_time import as_of, counting_rows, current_as_of, known_deliveries, rows_before
from include.core.records import DayRecord
from include.core.stack import deliveries_in, rows_of, stacked, state_id

DAY = date(2013, 3, 4)
HOUR = timedelta(hours=1)
START = datetime(2013, 3, 4, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Made:
    """A delivery of one day that a test makes up: hours from START, what it is, and its rows by key."""

    hour: int
    correction: str = "replace"
    verdict: str = "accepted"
    rows: tuple[tuple[str, int], ...] = ()
    feed: str = "winds"
    day: date = DAY


def frame(*made: Made) -> pl.DataFrame:
    """Return deliveries named d0, d1, …, landed in this order."""
    rows = [
        {
            "sequence": n + 1,
            "feed": each.feed,
            "day": each.day,
            "delivery_id": f"d{n}",
            "rows": len(each.rows),
            "available_from": START + each.hour * HOUR,
            "correction": each.correction,
            "verdict": each.verdict,
        }
        for n, each in enumerate(made)
    ]
    return pl.DataFrame(rows, schema=schemas.DELIVERIES)


def stack(*made: Made, hour: int = 99) -> list[str]:
    """Return the deliveries that are current at an hour, oldest first."""
    found = current_as_of(frame(*made), "winds", Interval.of(DAY), START + hour * HOUR)
    return deliveries_in(found[DAY]) if found else []


BASE, UPSERT, LATE = "replace", "upsert", "late_rows"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([Made(1)], ["d0"]),
        ([Made(1), Made(2)], ["d1"]),
        ([Made(1), Made(2, UPSERT), Made(3, UPSERT)], ["d0", "d1", "d2"]),
        ([Made(2, UPSERT), Made(1), Made(3, UPSERT)], ["d1", "d0", "d2"]),
        ([Made(1), Made(2, UPSERT), Made(3), Made(4, UPSERT)], ["d2", "d3"]),
        ([Made(1, UPSERT), Made(2)], ["d1"]),
        ([Made(1, UPSERT), Made(2, UPSERT)], ["d0", "d1"]),
        ([Made(1, verdict="withdrawn"), Made(2, UPSERT)], ["d1"]),
        ([Made(1), Made(2), Made(3, UPSERT)], ["d1", "d2"]),
        ([Made(1), Made(2, verdict="withdrawn"), Made(3, UPSERT)], ["d0", "d2"]),
        ([Made(1), Made(2, UPSERT, "withdrawn"), Made(3, UPSERT)], ["d0", "d2"]),
        ([Made(1), Made(2, LATE)], ["d0", "d1"]),
        ([Made(1), Made(2, LATE), Made(3)], ["d2"]),
    ],
)
def test_a_stack_is_the_newest_whole_file_and_what_was_added_since(made: list[Made], expected: list[str]) -> None:
    assert stack(*made) == expected


def test_a_moment_knows_no_delivery_that_counts_later() -> None:
    made = [Made(1), Made(2, UPSERT), Made(3)]
    assert [stack(*made, hour=hour) for hour in range(4)] == [[], ["d0"], ["d0", "d1"], ["d2"]]


def test_of_the_same_moment_the_one_landed_later_is_newer_and_late_rows_are_newer_than_files() -> None:
    assert stack(Made(1, UPSERT), Made(1, UPSERT)) == ["d0", "d1"]
    assert stack(Made(1, LATE), Made(1)) == ["d1", "d0"]


def test_late_rows_wait_for_a_file_of_their_day() -> None:
    """Without one they would make a day of a few rows; the first file does not replace what waited for it."""
    assert stack(Made(1, LATE)) == []
    assert stack(Made(1, LATE), Made(2)) == ["d0", "d1"]
    assert stack(Made(1, LATE), Made(2, verdict="withdrawn")) == []
    assert stack(Made(1, LATE), Made(2), Made(3)) == ["d2"]


def test_late_rows_make_no_required_file_complete() -> None:
    project = load_project("ferries")
    files = [Made(1, feed=feed, day=day) for feed, day in project.required(DAY).items()]
    late = Made(2, LATE, feed="sailings")
    without = frame(*(each for each in files if each.feed != "sailings"), late)
    with pytest.raises(DataError, match=f"no accepted delivery of sailings of {DAY}"):
        as_of(project, Known(9, without, {}), DAY)
    assert as_of(project, Known(9, frame(*files, late), {}), DAY) == project.cutoff_at(DAY)


def test_a_record_names_all_deliveries_of_a_stack_and_the_journal_gives_back_their_order() -> None:
    project = load_project("ferries")
    files = [Made(1, feed=feed, day=day) for feed, day in project.required(DAY).items()]
    deliveries = frame(Made(3, UPSERT, feed="sailings"), Made(2, UPSERT, feed="sailings"), *files)
    before = known_deliveries(project, Known(9, deliveries, {}), Interval.of(DAY))
    of_sailings = before.filter(pl.col("feed") == "sailings").sort("rank")["delivery_id"]
    record = DayRecord(
        day=DAY,
        number=1,
        as_of=project.cutoff_at(DAY),
        watermark=9,
        deliveries=tuple(before["delivery_id"].sort()),
        reconstructed=False,
    )
    withdrawn = deliveries.with_columns(verdict=pl.lit("withdrawn"))
    assert of_sailings.to_list()[1:] == ["d1", "d0"]
    assert known_deliveries(project, Known(9, withdrawn, {DAY: record}), Interval.of(DAY)).equals(before)


def test_only_whole_files_and_first_files_say_how_many_rows_a_day_has() -> None:
    rows = tuple((str(n), n) for n in range(3))
    before = DAY - timedelta(days=1)
    listed = frame(
        Made(1, UPSERT, rows=rows, day=before), Made(2, UPSERT, day=before), Made(3, LATE, day=before), Made(4, UPSERT)
    )
    assert counting_rows(listed)["delivery_id"].to_list() == ["d0", "d3"]
    assert rows_before(listed, "winds")(DAY, START + 9 * HOUR, 1) == [3]


ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=3, unique_by=lambda row: row[0])
MADE = st.lists(
    st.builds(
        Made,
        hour=st.integers(0, 4),
        correction=st.sampled_from((BASE, UPSERT, LATE)),
        verdict=st.sampled_from(("accepted", "accepted", "withdrawn", "landed")),
        rows=ROWS.map(tuple),
    ),
    max_size=7,
)


def model(made: list[Made], hour: int) -> dict[str, int]:
    """Return the rows by key that count at an hour, in plain Python."""
    counting = [(each.hour, each.correction == LATE, n, each) for n, each in enumerate(made)]
    counting = sorted(each for each in counting if each[3].verdict == "accepted" and each[0] <= hour)
    ordered = [each for *_, each in counting]
    whole = [n for n, each in enumerate(ordered) if each.correction == BASE]
    if all(each.correction == LATE for each in ordered):
        return {}
    state: dict[str, int] = {}
    for n, each in enumerate(ordered):
        replaced = bool(whole) and n < whole[-1]
        if not replaced or (len(whole) == 1 and each.correction == LATE):
            state |= dict(each.rows)
    return state


@given(MADE, st.integers(0, 4))
def test_the_rows_are_those_of_a_plain_model(made: list[Made], hour: int) -> None:
    found = current_as_of(frame(*made), "winds", Interval.of(DAY), START + hour * HOUR)
    clean = pl.DataFrame(
        [(DAY, f"d{n}", key, value) for n, each in enumerate(made) for key, value in each.rows],
        schema={"day": pl.Date, "delivery_id": pl.String, "key": pl.String, "value": pl.Int64},
        orient="row",
    )
    wanted = pl.DataFrame([*found.items()], schema={"day": pl.Date, "delivery_id": pl.String}, orient="row")
    rows = rows_of(clean.lazy(), wanted, ["key"]).select("key", "value").collect().rows()
    assert sorted(rows) == sorted(model(made, hour).items())


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1), min_size=1, unique=True))
def test_the_id_of_a_state_names_its_deliveries(ids: list[str]) -> None:
    assert deliveries_in(state_id(ids)) == ids


def test_nothing_is_stacked_where_each_file_is_whole() -> None:
    project = load_project("ferries")
    deliveries = frame(*(Made(n, feed=feed, day=day) for n in (0, 1) for feed, day in project.required(DAY).items()))
    assert not stacked(known_deliveries(project, Known(9, deliveries, {}), Interval.of(DAY)))


class TestDeclaration:
    def test_a_snapshot_has_no_upserts(self) -> None:
        with pytest.raises(ValidationError, match="correction: a snapshot cannot have it"):
            Feed.model_validate({
                "kind": "snapshot",
                "path": "stores/stores.csv",
                "key": ["store"],
                "columns": {"store": {"type": "string", "class": "public"}},
                "correction": "upsert",
            })

    @pytest.mark.parametrize(("ago", "taken"), [(0, False), (-1, False), (1, True), (7, True), (8, False), (2, False)])
    def test_late_rows_are_taken_of_earlier_days_with_a_file(self, ago: int, *, taken: bool) -> None:
        """DAY is a Monday, and there is no file of the Saturday before."""
        sailings = load_project("ferries").feeds["sailings"]
        feed = sailings.model_copy(
            update={
                "late_rows": CorrectLateRows(kind="correct", at_most=0.1),
                "days": ("mon", "tue", "wed", "thu", "fri", "sun"),
            }
        )
        assert feed.takes_late_rows(DAY, DAY - timedelta(days=ago)) is taken
