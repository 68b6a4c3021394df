"""outdated: which days and scores are out of date after a later delivery, until they are rebuilt and published."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

import polars as pl
import pytest
from typer.testing import CliRunner

from include import cli
from include.config.loading import load_model, load_project
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.names import clean_table, features_table, scores_table
from include.core.point_in_time import as_of_days, known_deliveries
from include.core.project import Project
from include.core.records import DataView, PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.journal import read_journal
from include.io.tables import Scope, Tables
from include.operations.decide import withdraw
from include.operations.outdated import OutOfDate, find_out_of_date, rerun_commands
from include.operations.repair import repair
from include.steps import publish as step
from include.steps.build_features import build_features
from include.steps.land import land
from tests.integration import small
from tests.landing import deliver_one, spoil

DAY = small.DAY
DAYS = Interval(start=DAY, end=DAY + timedelta(days=3))
MUCH_LATER = small.as_of(DAY) + timedelta(days=40)
MODEL = "late_ferry"


@pytest.fixture
def project() -> Project:
    return load_project("ferries").model_copy(update={"first_day": DAY})


@pytest.fixture
def prepared(settings: Settings, project: Project) -> Settings:
    """Four days with all required deliveries, scored and published with version 1."""
    small.prepare(settings, project, *DAYS.days, recorded=False)
    for day in DAYS.days:
        moment = small.as_of(day) - timedelta(hours=1)
        small.deliver(settings, project, "winds", day, pl.DataFrame(), available_from=moment)
        small.deliver(settings, project, "logbook", day, small.logbook_of(day, [1.0]), available_from=next_day(day))
    record(settings, project, DAYS, "point_in_time")
    small.promoted(settings, MODEL, 1, DAY)
    score_and_publish(settings, project)
    return settings


def next_day(day: date) -> datetime:
    return small.as_of(day + timedelta(days=1)) - timedelta(hours=1)


def record(
    settings: Settings,
    project: Project,
    interval: Interval,
    data_view: DataView,
    versions: Mapping[str, int] | None = None,
) -> None:
    """Nights as `build_features` leaves them."""
    journal = read_journal(settings, project)
    known = known_deliveries(project, journal, interval, data_view)
    features = features_table(project.name)
    prepared_days = [
        PreparedDay(
            project=project.name,
            day=day,
            data_view=data_view,
            as_of=moment,
            watermark=journal.watermark,
            deliveries=tuple(known.filter(pl.col("run_date") == day)["delivery_id"].sort()),
            table_versions={features: Tables(settings).version(features), **(versions or {})},
            rows=4,
        )
        for day, moment in as_of_days(project, journal, interval, data_view).items()
    ]
    postgres.days.record_prepared_days(settings, project.name, prepared_days)


def score_and_publish(settings: Settings, project: Project) -> None:
    small.score(settings, project, MODEL, *DAYS.days)
    step.publish(load_model(MODEL), DAYS, settings)


def found(settings: Settings, project: Project) -> list[tuple[int, str, DataView]]:
    return [((each.day - DAY).days, each.what, each.data_view) for each in find_out_of_date(project, DAYS, settings)]


def test_days_without_later_deliveries_are_not_out_of_date(prepared: Settings, project: Project) -> None:
    assert found(prepared, project) == []


def test_days_that_read_a_correction_are_out_of_date_until_they_are_rebuilt(
    prepared: Settings, project: Project
) -> None:
    """The correction is for the logbook of the second day, which days from the third on read."""
    corrected = DAY + timedelta(days=1)
    rows = small.logbook_of(corrected, [7.0])
    small.deliver(prepared, project, "logbook", corrected, rows, available_from=MUCH_LATER, name="again")
    expected = [(n, what, "latest") for n in (2, 3) for what in ("features", f"scores of {MODEL}")]
    assert found(prepared, project) == expected
    assert "logbook/2013-03-02/again" in find_out_of_date(project, DAYS, prepared)[0].why
    conf = """'{"start": "2013-03-03", "end": "2013-03-04", "data": "latest", "publish": "replace"}'"""
    assert rerun_commands(project, find_out_of_date(project, DAYS, prepared)) == [
        f"airflow dags trigger ferries_backfill_range --conf {conf}"
    ]

    late = Interval(start=DAY + timedelta(days=2), end=DAYS.end)
    record(prepared, project, late, "latest")
    assert found(prepared, project) == [(n, f"scores of {MODEL}", "latest") for n in (2, 3)]

    tables = Tables(prepared)
    again = tables.scan(scores_table(MODEL)).filter(pl.col("day") >= late.start).collect()
    again = again.with_columns(score=pl.col("score") / 2, as_of=pl.lit(MUCH_LATER, pl.Datetime("us", "UTC")))
    scope = Scope(late, {"model_version": [1]})
    tables.replace(scores_table(MODEL, "latest"), again, scope, sort_by=["day", "entity_id"])
    features = tables.scan(features_table(project.name)).filter(pl.col("day") >= late.start).collect()
    both = pl.concat([features, features.with_columns(data_view=pl.lit("latest"))])
    tables.replace(features_table(project.name), both, Scope(late), sort_by=["day", "entity_id"])
    kept = step.publish(load_model(MODEL), late, prepared, mode="missing", data_view="latest")
    assert [(day.state, day.differing) for day in kept.days] == [("kept", 4), ("kept", 4)]
    assert len(found(prepared, project)) == 2
    assert [day.state for day in step.publish(load_model(MODEL), late, prepared, data_view="latest").days] == [
        "published"
    ] * 2
    assert found(prepared, project) == []


def told(settings: Settings, project: Project) -> list[tuple[int, str, bool]]:
    """Return what is out of date with the features of point in time."""
    listed = [each for each in find_out_of_date(project, DAYS, settings) if each.what == "features"]
    return [((e.day - DAY).days, e.why, e.needs_repair) for e in listed if e.data_view == "point_in_time"]


def test_a_delivery_that_was_withdrawn_is_named_until_the_days_are_repaired_and_built(
    prepared: Settings, project: Project
) -> None:
    """The logbook of the first day, which the other days read, has a second delivery that is withdrawn."""
    gone = small.deliver(
        prepared,
        project,
        "logbook",
        DAYS.end,
        small.logbook_of(DAY, [7.0]),
        available_from=next_day(DAYS.end),
        name="wrong",
    )
    assert told(prepared, project) == []  # nobody has read it
    used = small.delivery_id("logbook", DAY, "a")
    withdraw(project, used, prepared, by="Ada", why="a test file")
    withdraw(project, gone, prepared, by="Ada", why="a test file")
    why = f"{used}, which the day used, was withdrawn since: a test file"
    assert told(prepared, project) == [(n, why, True) for n in (2, 3)], "the second day needs a logbook"
    commands = rerun_commands(project, find_out_of_date(project, DAYS, prepared))
    assert commands[0] == (
        "python -m include.cli repair --project ferries --start 2013-03-03 --end 2013-03-04 --by NAME --why REASON"
    )
    assert "ferries_backfill_range" in commands[1] and '"data": "point_in_time"' in commands[1]
    with pytest.raises(DataError, match=r"2013-03-02 .* have no accepted delivery of logbook of 2013-03-01"):
        repair(project, DAYS, prepared, by="Ada", why="without the test file")

    again = small.deliver(
        prepared,
        project,
        "logbook",
        DAY,
        small.logbook_of(DAY, [2.0]),
        available_from=next_day(DAY) - timedelta(hours=1),
        name="right",
    )
    assert repair(project, DAYS, prepared, by="Ada", why="without the test file").days == tuple(DAYS.days[1:])
    assert repair(project, DAYS, prepared, by="Ada", why="without the test file").days == ()
    late = read_journal(prepared, project).records[DAY + timedelta(days=1)]
    assert (late.number, late.as_of) == (2, small.as_of(DAY + timedelta(days=1)))
    assert again in late.deliveries and used not in late.deliveries
    why = "record 2 of the day is a repair, and its features are not built again"
    assert told(prepared, project) == [(n, why, False) for n in (1, 2, 3)]
    record(prepared, project, DAYS, "point_in_time")
    assert told(prepared, project) == []
    actions = [
        (row["action"], row["by"], row["why"])
        for row in small.select(prepared, "SELECT * FROM human_actions ORDER BY decided_at")
        if row["model"] is None
    ]
    assert actions == [("withdraw", "Ada", "a test file")] * 2 + [("repair", "Ada", "without the test file")] * 3


def test_a_day_whose_only_file_was_refused_since_is_not_built_without_it(prepared: Settings, project: Project) -> None:
    """`revalidate` with a stricter rule has removed the rows of the file."""
    used = small.delivery_id("sailings", DAY, "a")
    with postgres.journal.write_journal(prepared, project.name) as journal:
        journal.add([Entry.verdict(used, "sailings", DAY, "a stricter rule")])
    scope = Scope.of_deliveries([DAY], [used])
    Tables(prepared).replace(clean_table(project.name, "sailings"), lambda rows: rows.clear(), scope, sort_by=["day"])
    found = [each for each in find_out_of_date(project, Interval.of(DAY), prepared) if each.what == "features"]
    assert [(each.why.split(";")[0], each.data_view) for each in found] == [
        (f"{used}, which the day used, was refused since: a stricter rule", None)
    ]
    assert rerun_commands(project, found) == []
    with pytest.raises(DataError, match=f"the record of {DAY} names {used}, which was refused since .a stricter rule"):
        build_features(project, Interval.of(DAY), prepared)


def test_a_day_whose_only_file_was_withdrawn_is_repaired_once_the_right_one_came(
    prepared: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right file comes long after the day's `as_of`, and is admitted as one that was late."""
    used = small.delivery_id("sailings", DAY, "a")
    withdraw(project, used, prepared, by="Ada", why="a test file")

    def of_features() -> list[OutOfDate]:
        return [each for each in find_out_of_date(project, Interval.of(DAY), prepared) if each.what == "features"]

    [nothing] = of_features()
    cause = f"{used}, which the day used, was withdrawn since: a test file"
    lacking = "there is no accepted delivery of sailings of 2013-03-01: accept one, or let one be delivered"
    assert (nothing.why, nothing.data_view) == (f"{cause}; {lacking}", None)
    with pytest.raises(DataError, match=r"2013-03-01 would have no accepted delivery of sailings of 2013-03-01"):
        repair(project, Interval.of(DAY), prepared, by="Ada", why="without the test file")
    monkeypatch.setattr(cli, "_settings", lambda: prepared)
    monkeypatch.setattr(cli, "load_project", lambda name: project)
    listed = CliRunner().invoke(cli.app, ["outdated", "--project", "ferries", "--start", str(DAY)])
    assert listed.exit_code == 1
    assert nothing.why in listed.output and "run:" not in listed.output

    later = {"available_from": MUCH_LATER, "name": "right"}
    right = small.deliver(prepared, project, "sailings", DAY, small.ferries_of(DAY), **later)
    [late] = of_features()
    assert (late.why, late.data_view, late.needs_repair) == (cause, "point_in_time", True)
    assert rerun_commands(project, [late])[0].startswith("python -m include.cli repair --project ferries --start 2013-")
    assert repair(project, Interval.of(DAY), prepared, by="Ada", why="without the test file").days == (DAY,)
    assert right in read_journal(prepared, project).records[DAY].deliveries
    record(prepared, project, Interval.of(DAY), "point_in_time")
    assert of_features() == []


def test_a_delivery_that_counts_by_now_is_named_with_its_cause(prepared: Settings, project: Project) -> None:
    early = {"available_from": next_day(DAY) - timedelta(minutes=-1), "name": "again"}
    came = small.deliver(prepared, project, "logbook", DAY, small.logbook_of(DAY, [7.0]), **early)
    moment = f"{early['available_from']:%Y-%m-%d %H:%M} UTC"
    why = f"{came} was landed after the day was prepared, and counts from {moment}"
    assert told(prepared, project) == [(n, why, True) for n in (1, 2, 3)]
    repair(project, DAYS, prepared, by="Ada", why="a backdated correction")
    record(prepared, project, DAYS, "point_in_time")
    assert told(prepared, project) == []
    longer = project.feeds["winds"].model_copy(update={"lookback_days": 1})
    wider = project.model_copy(update={"feeds": {**project.feeds, "winds": longer}})
    read = small.delivery_id("winds", DAY, "a")
    why = f"{read} is read since project.yaml was changed"
    assert told(prepared, wider)[0] == (1, why, True)


def test_days_that_read_rows_released_from_quarantine_are_out_of_date(prepared: Settings, project: Project) -> None:
    tables, table = Tables(prepared), clean_table(project.name, "logbook")
    record(prepared, project, DAYS, "point_in_time", {table: tables.version(table)})
    again = {"available_from": next_day(DAY), "name": "a"}
    small.deliver(prepared, project, "logbook", DAY, small.logbook_of(DAY, [1.0]), **again)
    assert found(prepared, project) == []  # written again with the same rows
    small.deliver(prepared, project, "logbook", DAY, small.logbook_of(DAY, [1.0, 2.0]), **again)
    listed = find_out_of_date(project, DAYS, prepared)
    assert {(each.day - DAY).days for each in listed} == {1, 2, 3}
    assert listed[0].why == "logbook/2013-03-01/a.csv.gz@0123456789abcdef has other rows now"
    assert {each.data_view for each in listed} == {"point_in_time"}


def test_a_file_that_is_not_landed_yet_is_listed(prepared: Settings, project: Project) -> None:
    deliver_one(project, prepared, "winds", DAY, at=MUCH_LATER, name="again")
    listed = find_out_of_date(project, DAYS, prepared)
    assert [((each.day - DAY).days, each.what, each.data_view) for each in listed] == [
        (0, "features", "latest"),
        (0, f"scores of {MODEL}", "latest"),
    ]
    assert listed[0].why.endswith("is not landed yet")


def test_a_file_that_was_refused_is_listed_with_the_reason(prepared: Settings, project: Project) -> None:
    path = deliver_one(project, prepared, "winds", DAY, at=MUCH_LATER, name="again")
    spoil(path, b"")
    [refusal] = land(project, Interval.of(DAY), prepared).refused
    assert find_out_of_date(project, DAYS, prepared)[0].why == f"refused, so correct it first: {refusal.why}"
    path.write_bytes(b"x")
    assert find_out_of_date(project, DAYS, prepared)[0].why.endswith("is not landed yet")


def test_scores_of_features_that_changed_since_are_listed(prepared: Settings, project: Project) -> None:
    tables, table = Tables(prepared), features_table(project.name)
    before = tables.scan(table).filter(pl.col("day") == DAY).collect()
    same = tables.replace(table, before, Scope(Interval.of(DAY)), sort_by=["entity_id"])
    small.score(prepared, project, MODEL, DAY)
    rescored = tables.scan(scores_table(MODEL)).filter(pl.col("day") == DAY).collect()
    rescored = rescored.with_columns(features_version=pl.lit(same.version, pl.Int64))
    tables.replace(
        scores_table(MODEL), rescored, Scope(Interval.of(DAY), {"model_version": [1]}), sort_by=["entity_id"]
    )
    again = tables.replace(table, before, Scope(Interval.of(DAY)), sort_by=["entity_id"])
    record(prepared, project, Interval.of(DAY), "point_in_time", {table: again.version})
    assert found(prepared, project) == []  # another version of the same rows
    changed = tables.replace(
        table, before.with_columns(entity_id=pl.col("entity_id") + "x"), Scope(Interval.of(DAY)), sort_by=["entity_id"]
    )
    record(prepared, project, Interval.of(DAY), "point_in_time", {table: changed.version})
    assert found(prepared, project) == [(0, f"scores of {MODEL}", "point_in_time")]


def test_the_command_exits_with_1_if_anything_is_out_of_date(
    prepared: Settings, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_settings", lambda: prepared)
    monkeypatch.setattr(cli, "load_project", lambda name: project)
    arguments = ["outdated", "--project", "ferries", "--start", str(DAYS.start), "--end", str(DAYS.end)]
    clean = CliRunner().invoke(cli.app, arguments)
    assert (clean.exit_code, clean.output) == (
        0,
        f"✓ ferries {DAYS}: none of 4 prepared days is out of date (4 days checked)\n",
    )
    deliver_one(project, prepared, "winds", DAY, at=MUCH_LATER, name="again")
    listed = CliRunner().invoke(cli.app, arguments)
    assert listed.exit_code == 1
    assert "airflow dags trigger ferries_backfill_range" in listed.output
