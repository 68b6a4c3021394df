"""Records between steps: intervals of days, and records that are equal after XCom."""

from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from include.core.interval import Interval
from include.core.records import Featured, Landed, PreparedDay, Refusal, Revalidated, Scored, ScoredDay, TableRef

MARCH = Interval(start=date(2013, 3, 1), end=date(2013, 3, 31))


class TestInterval:
    def test_both_ends_are_included(self) -> None:
        assert MARCH.days == [date(2013, 3, n) for n in range(1, 32)]
        assert Interval.of(date(2013, 3, 1)).days == [date(2013, 3, 1)]

    def test_a_leap_year_has_366_days(self) -> None:
        assert len(Interval(start=date(2016, 2, 28), end=date(2016, 3, 1)).days) == 3

    def test_an_end_before_the_start_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="the interval ends on 2013-03-01, before it starts on 2013-03-02"):
            Interval(start=date(2013, 3, 2), end=date(2013, 3, 1))

    def test_shifted_moves_both_ends(self) -> None:
        moved = MARCH.shifted(start=-27, end=-1)
        assert (moved.start, moved.end) == (date(2013, 2, 2), date(2013, 3, 30))

    def test_shifted_past_itself_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="before it starts"):
            Interval.of(date(2013, 3, 1)).shifted(start=1)

    @pytest.mark.parametrize("size", [1, 7, 10, 30, 31, 32])
    def test_chunks_contain_the_same_days_in_order(self, size: int) -> None:
        chunks = [*MARCH.chunks(size)]
        assert [day for chunk in chunks for day in chunk.days] == MARCH.days
        assert {len(chunk.days) for chunk in chunks[:-1]} <= {size}
        assert len(chunks[-1].days) <= size

    def test_an_interval_prints_its_first_and_last_day(self) -> None:
        assert str(MARCH) == "2013-03-01 to 2013-03-31"
        assert str(Interval.of(MARCH.start)) == "2013-03-01"


class TestRecords:
    @pytest.mark.parametrize(
        "record",
        [
            Landed(
                interval=MARCH,
                rows=1,
                table_version=None,
                new=1,
                known=0,
                refused=(Refusal(feed="winds", day=MARCH.start, uri="s3://x", why="because"),),
            ),
            Revalidated(interval=MARCH, rows=2, table_version=3, revalidated=1, stay=0, out_of_date=(MARCH,)),
            Featured(
                interval=MARCH,
                rows=1,
                table_version=3,
                table=TableRef(table="t", version=3, interval=MARCH, rows=1),
                prepared_days=(
                    PreparedDay(
                        project="ferries",
                        day=MARCH.start,
                        data_view="point_in_time",
                        as_of=datetime(2013, 3, 1, 8, 0, 0, 123, tzinfo=UTC),
                        watermark=7,
                        deliveries=("a", "b"),
                        table_versions={"clean_ferries__winds": 2},
                        rows=1,
                    ),
                ),
            ),
        ],
    )
    def test_records_are_equal_after_json(self, record: Landed | Featured) -> None:
        assert type(record).model_validate_json(record.model_dump_json()) == record

    def test_records_are_frozen_and_refuse_unknown_fields(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            MARCH.start = date(2014, 1, 1)  # type: ignore[misc]
        with pytest.raises(ValidationError, match="forbidden"):
            Interval.model_validate({"start": "2013-03-01", "end": "2013-03-01", "ends": "2013-03-01"})

    def test_scores_without_days_are_skipped(self) -> None:
        nothing = Scored(interval=MARCH, rows=0, model="m", table=None, days=(), unscored=tuple(MARCH.days))
        assert nothing.skipped == "m has no champion for 2013-03-01 to 2013-03-31; nothing to score"
        some = nothing.model_copy(update={"days": (ScoredDay(day=MARCH.start, model_version=1, rows=0),)})
        assert some.skipped is None
