"""What a night knew: from `available_from` and verdicts alone."""

import dataclasses
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from include.config.loading import load_project
from include.core import schemas
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.point_in_time import as_of, as_of_days, current_as_of, known_deliveries, rows_before
from include.core.project import Project
from include.core.records import DayRecord
from include.core.sources import Sql
from tests.landing import local

DAY = date(2013, 3, 4)
BEFORE = DAY - timedelta(days=1)
CUTOFF = datetime(2013, 3, 4, 8, tzinfo=UTC)


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


class Listing:
    """A table of deliveries that a test writes row by row."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def add(self, feed: str, day: date, at: datetime, name: str = "a", verdict: str = "accepted") -> "Listing":
        delivery = f"{feed}/{day}/{name}"
        about = {"sequence": len(self.rows) + 1, "feed": feed, "day": day, "available_from": at, "verdict": verdict}
        self.rows.append({**about, "delivery_id": delivery})
        return self

    def prepared_day(self, day: date, **times: datetime) -> "Listing":
        """Add the files that a run date needs, at 02:00 unless a time is given."""
        for feed, needed in (("sailings", day), ("winds", day), ("logbook", day - timedelta(days=1))):
            self.add(feed, needed, times.get(feed, local(day, 2)))
        return self

    @property
    def frame(self) -> pl.DataFrame:
        return pl.DataFrame(self.rows, schema=schemas.DELIVERIES)

    @property
    def known(self) -> Known:
        return Known(len(self.rows), self.frame, {})


class TestAsOf:
    def test_is_the_cutoff_if_nothing_is_late(self, project: Project) -> None:
        assert as_of(project, Listing().prepared_day(DAY).known, DAY) == CUTOFF

    @pytest.mark.parametrize("feed", ["sailings", "winds", "logbook"])
    def test_is_the_time_of_a_late_required_file(self, project: Project, feed: str) -> None:
        late = CUTOFF + timedelta(hours=3)
        assert as_of(project, Listing().prepared_day(DAY, **{feed: late}).known, DAY) == late

    @pytest.mark.parametrize("hours", [24, 26, 24 * 3])
    def test_is_the_cutoff_again_if_a_required_file_came_after_the_next_cutoff(
        self, project: Project, hours: int
    ) -> None:
        """The moments of two run dates keep their order; a minute before the next cutoff is still in time."""
        listing = Listing().prepared_day(
            DAY, winds=CUTOFF + timedelta(hours=hours), sailings=CUTOFF + timedelta(hours=1)
        )
        assert as_of(project, listing.known, DAY) == CUTOFF
        in_time = Listing().prepared_day(DAY, winds=CUTOFF + timedelta(hours=23, minutes=59))
        assert as_of(project, in_time.known, DAY) == CUTOFF + timedelta(hours=23, minutes=59)

    def test_is_the_time_of_the_latest_feed(self, project: Project) -> None:
        late = {"winds": CUTOFF + timedelta(hours=3), "sailings": CUTOFF + timedelta(hours=1)}
        assert as_of(project, Listing().prepared_day(DAY, **late).known, DAY) == late["winds"]

    def test_a_microsecond_before_or_after_the_cutoff_counts(self, project: Project) -> None:
        step = timedelta(microseconds=1)
        assert as_of(project, Listing().prepared_day(DAY, winds=CUTOFF - step).known, DAY) == CUTOFF
        assert as_of(project, Listing().prepared_day(DAY, winds=CUTOFF + step).known, DAY) == CUTOFF + step

    def test_is_the_time_of_the_earliest_delivery_of_a_feed(self, project: Project) -> None:
        """A later correction does not move it, in whatever order the deliveries were landed."""
        at = [CUTOFF + timedelta(hours=n) for n in (5, 1, 3)]
        listing = Listing().prepared_day(DAY)
        listing.rows = [row for row in listing.rows if row["feed"] != "winds"]
        for n, moment in enumerate(at):
            listing.add("winds", DAY, moment, name=str(n))
        assert as_of(project, listing.known, DAY) == at[1]

    @pytest.mark.parametrize("verdict", ["refused", "landed", "held", "withdrawn"])
    def test_only_accepted_ones_count(self, project: Project, verdict: str) -> None:
        late = CUTOFF + timedelta(hours=2)
        listing = Listing().prepared_day(DAY, sailings=late).add("sailings", DAY, local(DAY, 1), "wrong", verdict)
        assert as_of(project, listing.known, DAY) == late

    def test_a_delivery_without_a_time_is_ignored(self, project: Project) -> None:
        """An unreadable delivery has no time."""
        listing = Listing().prepared_day(DAY)
        listing.rows.append({"feed": "winds", "day": DAY, "delivery_id": "held:x", "verdict": "held"})
        assert as_of(project, listing.known, DAY) == CUTOFF

    def test_a_missing_required_file_is_an_error(self, project: Project) -> None:
        listing = Listing().add("sailings", DAY, local(DAY, 1)).add("winds", DAY, local(DAY, 1), verdict="refused")
        with pytest.raises(DataError) as caught:
            as_of(project, listing.known, DAY)
        assert str(caught.value) == (
            "ferries: 2013-03-04 has no accepted delivery of winds of 2013-03-04, logbook of "
            "2013-03-03; run land and validate for 2013-03-04, and look in the view data_quality for refused deliveries"
        )

    @pytest.mark.parametrize("verdict", ["withdrawn", "held"])
    def test_a_delivery_that_only_a_person_can_bring_back_is_named(self, project: Project, verdict: str) -> None:
        listing = Listing().prepared_day(DAY)
        listing.rows = [row for row in listing.rows if row["feed"] != "winds"]
        listing.add("winds", DAY, local(DAY, 1), "wrong", verdict)
        listing.add("winds", DAY - timedelta(days=1), local(DAY, 1), "other", verdict)
        with pytest.raises(DataError, match=rf"refused deliveries; winds/{DAY}/wrong\S* is {verdict} \(") as caught:
            as_of(project, listing.known, DAY)
        assert str(caught.value).count(verdict) == 1

    def test_the_step_that_extracts_a_missing_delivery_is_named(self, project: Project) -> None:
        source = Sql(kind="sql", connection="db", query="SELECT * FROM winds WHERE day = :day", immutable=True)
        winds = project.feeds["winds"].model_copy(update={"source": source, "path": ""})
        project = project.model_copy(update={"feeds": {**project.feeds, "winds": winds}})
        listing = Listing().prepared_day(DAY)
        for rows, steps in ((("winds",), "extract"), (("winds", "sailings"), "extract, land")):
            lacking = Listing()
            lacking.rows += [row for row in listing.rows if row["feed"] not in rows]
            with pytest.raises(DataError, match=f"; run {steps} and validate for 2013-03-04"):
                as_of(project, lacking.known, DAY)

    def test_no_file_is_required_before_the_first_day(self, project: Project) -> None:
        first = project.first_day
        listing = Listing().add("sailings", first, local(first, 1)).add("winds", first, local(first, 1))
        assert as_of(project, listing.known, first) == project.cutoff_at(first)
        assert as_of(project, Listing().known, date(2012, 12, 31)) == datetime(2012, 12, 31, 8, tzinfo=UTC)

    @pytest.mark.parametrize(("day", "hour"), [(date(2013, 3, 9), 8), (date(2013, 3, 10), 7), (date(2013, 11, 3), 8)])
    def test_follows_the_local_time_over_a_clock_change(self, project: Project, day: date, hour: int) -> None:
        expected = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
        assert as_of(project, Listing().prepared_day(day).known, day) == expected

    def test_many_days_give_the_same_as_each_day(self, project: Project) -> None:
        listing, interval = Listing(), Interval(start=DAY, end=DAY + timedelta(days=3))
        for n, day in enumerate(interval.days):
            listing.prepared_day(day, winds=local(day, 2) + timedelta(hours=7 * n))
        every = as_of_days(project, listing.known, interval)
        assert every == {day: as_of(project, listing.known, day) for day in interval.days}
        assert len(set(every.values())) == 4

    def test_the_error_lists_ten_days_that_lack_a_file(self, project: Project) -> None:
        interval = Interval(start=DAY, end=DAY + timedelta(days=11))
        with pytest.raises(DataError) as caught:
            as_of_days(project, Listing().known, interval)
        lines = str(caught.value).splitlines()
        assert (len(lines), lines[-1]) == (11, "… and 2 more days")


class TestCurrentAsOf:
    @pytest.mark.parametrize(
        ("moment", "name"),
        [(local(DAY, 1), None), (local(DAY, 2), "a"), (local(DAY, 4), "a"), (local(DAY, 5), "b"), (local(DAY, 9), "b")],
    )
    def test_is_the_newest_delivery_known_at_the_moment(self, moment: datetime, name: str | None) -> None:
        listing = Listing().add("winds", DAY, local(DAY, 5), "b").add("winds", DAY, local(DAY, 2), "a")
        expected = {} if name is None else {DAY: f"winds/{DAY}/{name}"}
        assert current_as_of(listing.frame, "winds", Interval.of(DAY), moment) == expected

    def test_the_moment_may_be_in_any_timezone(self) -> None:
        listing = Listing().add("winds", DAY, local(DAY, 2))
        moment = local(DAY, 2).astimezone(ZoneInfo("Asia/Tokyo"))
        assert current_as_of(listing.frame, "winds", Interval.of(DAY), moment)

    def test_other_feeds_days_and_verdicts_do_not_count(self) -> None:
        at = local(DAY, 2)
        listing = Listing().add("sailings", DAY, at).add("winds", BEFORE, at).add("winds", DAY, at, "c", "refused")
        assert current_as_of(listing.frame, "winds", Interval.of(DAY), at) == {}

    def test_a_refused_correction_leaves_the_former_delivery_current(self) -> None:
        listing = Listing().add("winds", DAY, local(DAY, 1)).add("winds", DAY, local(DAY, 2), "b", "refused")
        assert current_as_of(listing.frame, "winds", Interval.of(DAY), local(DAY, 3)) == {DAY: f"winds/{DAY}/a"}

    @pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
    def test_of_two_deliveries_at_one_moment_the_one_landed_later_is_current(self, order: tuple[str, str]) -> None:
        listing = Listing()
        for name in order:
            listing.add("winds", DAY, local(DAY, 1), name)
        assert current_as_of(listing.frame, "winds", Interval.of(DAY), local(DAY, 2)) == {
            DAY: f"winds/{DAY}/{order[-1]}"
        }


class TestKnownDeliveries:
    def test_are_those_that_are_current_as_of_each_run_date(self, project: Project) -> None:
        """Each knows what was available up to its own `as_of`, the earlier one also the file for which it waited."""
        interval = Interval(start=DAY, end=DAY + timedelta(days=1))
        after = interval.end
        late = local(after, 12)  # the file of DAY comes after the next run date's cutoff
        listing = Listing().prepared_day(DAY, sailings=late).prepared_day(after)
        listing.add("logbook", BEFORE, local(after, 4), "correction")  # before `late`
        moments = as_of_days(project, listing.known, interval)
        assert moments == {DAY: project.cutoff_at(DAY), after: project.cutoff_at(after)}
        known = known_deliveries(project, listing.known, interval)
        assert known.drop("rank").rows() == [
            (DAY, "logbook", BEFORE, f"logbook/{BEFORE}/a"),
            (DAY, "sailings", DAY, f"sailings/{DAY}/a"),
            (DAY, "winds", DAY, f"winds/{DAY}/a"),
            (after, "logbook", BEFORE, f"logbook/{BEFORE}/a"),
            (after, "logbook", DAY, f"logbook/{DAY}/a"),
            (after, "sailings", after, f"sailings/{after}/a"),
            (after, "winds", after, f"winds/{after}/a"),
        ]
        assert known.columns == ["run_date", "feed", "day", "delivery_id", "rank"]

    def test_a_late_run_date_knows_no_outcome_of_its_own_day(self, project: Project) -> None:
        late = local(DAY + timedelta(days=2), 12)
        listing = Listing().prepared_day(DAY, winds=late).prepared_day(DAY + timedelta(days=1))
        known = known_deliveries(project, listing.known, Interval.of(DAY))
        assert known.filter(pl.col("feed") == "logbook")["day"].to_list() == [BEFORE]
        assert known.filter(pl.col("feed") != "logbook")["day"].unique().to_list() == [DAY]

    def test_a_file_after_the_next_cutoff_is_admitted_and_its_corrections_are_not(self, project: Project) -> None:
        """Whatever was late by more than the next cutoff; the other feeds are those of the cutoff."""
        late = {"winds": CUTOFF + timedelta(days=3), "sailings": CUTOFF + timedelta(hours=1)}
        listing = Listing().prepared_day(DAY, **late)
        listing.add("winds", DAY, late["winds"] + timedelta(hours=1), name="correction")
        listing.add("sailings", DAY, late["sailings"] + timedelta(hours=1), name="correction")
        listing.add("logbook", BEFORE, CUTOFF + timedelta(minutes=1), name="correction")
        known = known_deliveries(project, listing.known, Interval.of(DAY))
        assert known["delivery_id"].to_list() == [f"logbook/{BEFORE}/a", f"sailings/{DAY}/a", f"winds/{DAY}/a"]

    def test_a_late_file_is_admitted_by_its_own_run_date_only(self, project: Project) -> None:
        after = DAY + timedelta(days=1)
        listing = Listing().prepared_day(DAY, winds=local(after, 5)).prepared_day(after)
        known = known_deliveries(project, listing.known, Interval(start=DAY, end=after))
        winds = known.filter(pl.col("feed") == "winds", pl.col("day") == DAY)
        assert winds["run_date"].to_list() == [DAY]

    def test_reach_back_over_the_lookback_days(self, project: Project) -> None:
        listing, days = Listing(), Interval(start=DAY - timedelta(days=40), end=DAY)
        for day in days.days:
            listing.prepared_day(day)
        known = known_deliveries(project, listing.known, Interval.of(DAY))
        logbook = known.filter(pl.col("feed") == "logbook")
        assert (logbook["day"].min(), logbook["day"].max(), logbook.height) == (DAY - timedelta(days=28), BEFORE, 28)

    def test_agree_with_current_as_of(self, project: Project) -> None:
        """Both functions give the same on a history with corrections and late files."""
        listing, interval = Listing(), Interval(start=DAY, end=DAY + timedelta(days=20))
        for n, day in enumerate(interval.days):
            listing.prepared_day(day, winds=local(day, 2) + timedelta(hours=n % 5))
            listing.add("logbook", day - timedelta(days=n % 7), local(day, 1 + n % 4), f"correction{n}")
        known = known_deliveries(project, listing.known, interval)
        for day, moment in as_of_days(project, listing.known, interval).items():
            for name, feed in project.feeds.items():
                of_day = known.filter(pl.col("run_date") == day, pl.col("feed") == name).select("day", "delivery_id")
                assert dict(of_day.iter_rows()) == current_as_of(listing.frame, name, feed.window(day), moment)

    def test_latest_has_the_newest_deliveries_of_the_same_days(self, project: Project) -> None:
        """A correction of a day that features read counts; one of a later day does not, nor does a refused one."""
        listing = Listing().prepared_day(DAY).prepared_day(BEFORE)
        much_later = CUTOFF + timedelta(days=90)
        listing.add("logbook", BEFORE - timedelta(days=1), much_later, name="corrected")
        listing.add("sailings", DAY, much_later, name="refused", verdict="refused")
        listing.add("logbook", DAY, much_later + timedelta(days=1), name="of-the-day-itself")
        prepared_day, latest = (
            known_deliveries(project, listing.known, Interval.of(DAY), k) for k in ("point_in_time", "latest")
        )
        corrected = f"logbook/{BEFORE - timedelta(days=1)}/corrected"
        assert set(latest["delivery_id"]) - set(prepared_day["delivery_id"]) == {corrected}
        assert as_of(project, listing.known, DAY, "latest") == much_later
        assert as_of(project, listing.known, DAY) == CUTOFF

    def test_latest_without_corrections_equals_point_in_time(self, project: Project) -> None:
        journal = Listing().prepared_day(DAY).known
        assert as_of(project, journal, DAY, "latest") == CUTOFF
        assert known_deliveries(project, journal, Interval.of(DAY), "latest").equals(
            known_deliveries(project, journal, Interval.of(DAY))
        )

    def test_a_prepared_day_keeps_what_its_record_says(self, project: Project) -> None:
        """Whatever is landed, accepted or withdrawn later, and whatever project.yaml says then."""
        listing = Listing().prepared_day(DAY)
        then = known_deliveries(project, listing.known, Interval.of(DAY))
        record = DayRecord(
            day=DAY,
            number=1,
            as_of=CUTOFF,
            watermark=3,
            deliveries=tuple(then["delivery_id"].sort()),
            reconstructed=False,
        )
        listing.add("sailings", DAY, local(DAY, 2, 30), "backdated").add("winds", BEFORE, local(BEFORE, 2))
        listing.rows[0]["verdict"] = "withdrawn"
        journal = dataclasses.replace(listing.known, records={DAY: record})
        assert known_deliveries(project, journal, Interval.of(DAY)).equals(then)
        assert as_of(project, journal, DAY) == CUTOFF
        later = Interval(start=DAY, end=DAY + timedelta(days=1))
        listing.prepared_day(later.end)
        both = known_deliveries(project, dataclasses.replace(listing.known, records={DAY: record}), later)
        assert both.filter(pl.col("run_date") == DAY).equals(then)
        assert (
            f"sailings/{DAY}/backdated" in known_deliveries(project, journal, Interval.of(DAY), "latest")["delivery_id"]
        )

    def test_a_missing_file_is_the_same_error_as_for_as_of(self, project: Project) -> None:
        with pytest.raises(DataError, match="no accepted delivery"):
            known_deliveries(project, Listing().known, Interval.of(DAY))


class TestRowsBefore:
    """The history of row counts depends on landing alone."""

    def listing(self) -> pl.DataFrame:
        rows = [
            (
                DAY - timedelta(days=back),
                name,
                rows,
                verdict,
                local(DAY - timedelta(days=back), 0) + timedelta(hours=hour),
            )
            for back, name, rows, verdict, hour in [
                (0, "of the day itself", 999, "landed", 2),
                (1, "first", 100, "accepted", 2),
                (1, "corrected in time", 101, "refused", 5),
                (1, "corrected too late", 102, "accepted", 60),
                (2, "only", 90, "landed", 2),
                (3, "held", None, "held", 2),
                (4, "last of the window", 80, "accepted", 2),
                (5, "before the window", 1, "accepted", 2),
            ]
        ]
        named = [
            {
                "day": day,
                "feed": "sailings",
                "delivery_id": name,
                "rows": n,
                "verdict": verdict,
                "available_from": moment,
            }
            for day, name, n, verdict, moment in rows
        ]
        listed = pl.DataFrame([*named, {**named[4], "feed": "winds", "rows": 7}], schema=schemas.DELIVERIES)
        return listed.with_columns(sequence=pl.int_range(pl.len()))

    def test_counts_are_those_of_the_newest_known_delivery_of_each_day(self) -> None:
        moment = local(DAY, 2)
        assert rows_before(self.listing(), "sailings")(DAY, moment, 4) == [80, 90, 101]
        assert rows_before(self.listing(), "winds")(DAY, moment, 4) == [7]
        assert rows_before(self.listing(), "sailings")(DAY, local(DAY, 2) + timedelta(hours=60), 4) == [80, 90, 102]

    def test_verdicts_and_order_do_not_matter(self) -> None:
        listing = self.listing().with_columns(
            verdict=pl.when(pl.col("verdict") != "held").then(pl.lit("refused")).otherwise("verdict")
        )
        assert rows_before(listing.reverse(), "sailings")(DAY, local(DAY, 2), 4) == [80, 90, 101]
