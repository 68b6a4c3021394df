"""Reports of periods on a real PostgreSQL: what they say, equal bytes, kill points, and one mail with the PDF."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from email import message_from_string
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from include.cli import app
from include.config.loading import load_model, load_project
from include.core import schemas
from include.core.errors import DataError
from include.core.interval import Interval
from include.core.journal import Known
from include.core.names import quarantine_table
from include.core.periods import Reports
from include.core.project import Project
from include.core.records import Alert, PeriodsReported
from include.core.settings import Settings
from include.io import pdf, postgres
from include.io.journal import read_journal
from include.io.outbox import send_due
from include.io.postgres import schema
from include.io.postgres.messages import Outbox
from include.io.postgres.training_summaries import TrainingSummary
from include.io.tables import Scope, Tables
from include.steps import report_period as step
from include.steps.outcomes import outcomes
from include.steps.publish import publish
from include.steps.report_period import report_period
from tests.conftest import Install
from tests.integration import small
from tests.pages import Structure, assert_complete_in_itself
from tests.receiver import receiving
from tests.smtp import mail_server

WEEK = Interval(start=date(2013, 3, 4), end=date(2013, 3, 10))
RUN = date(2013, 3, 11)
BEFORE_GAP, GAP, UNSCORED = date(2013, 3, 5), date(2013, 3, 6), date(2013, 3, 8)
"""The day whose outcomes no run date learned, the day that is not prepared, and the day whose scores are missing."""
DELAYS = [20.0, 0.0, 20.0, None]
"""Outcomes 1, 0, 1, 1 where 0, 0, 1, 1 is predicted: one false negative a day."""


class Killed(BaseException):
    """The end of a process."""


@pytest.fixture(scope="module")
def ferries() -> Project:
    reports = Reports(periods=("week",), to=("managers", "desk"))
    return load_project("ferries").model_copy(update={"reports": reports})


@pytest.fixture(scope="module")
def week(ferries: Project, install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A week with a gap, an incident, drift and a rejected version. Not to be changed."""
    late = load_model("late_ferry")
    with install(tmp_path_factory.mktemp("week")) as settings:
        days = [day for day in [WEEK.start - timedelta(days=1), *WEEK.days, RUN] if day != GAP]
        small.prepare(settings, ferries, *days[:-1])
        scored = [day for day in days if day not in (UNSCORED, RUN)]
        small.promoted(settings, late.name, 1, days[0])
        small.score(settings, ferries, late.name, *scored)
        for days_in_a_row in Interval.covering(scored):
            publish(late, days_in_a_row, settings)
        for day in scored:
            known = small.as_of(day + timedelta(days=1)) - timedelta(hours=1)
            rows = small.logbook_of(day, DELAYS)
            small.deliver(settings, ferries, "logbook", day, rows, available_from=known)
        small.prepare(settings, ferries, RUN)  # knows the deliveries above
        for days_in_a_row in Interval.covering(days):
            outcomes(ferries, days_in_a_row, settings)
        postgres.training_summaries.record_summary(settings, late.name, 1, TrainingSummary(rows=9, constant=0.9))
        observe(settings)
        yield settings


def hold_back(
    settings: Settings, project: Project, day: date, *, places: list[int], broken: dict[str, list[int]]
) -> None:
    """Write what `validate` writes of a delivery with invalid rows: each once, and the rules that they break."""
    table, delivery = quarantine_table(project.name, "sailings"), small.delivery_id("sailings", day)
    columns = schemas.quarantine(project.feeds["sailings"])
    rows = pl.DataFrame([{"day": day, "delivery_id": delivery, "_row": place} for place in places])
    rows = rows.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in columns.items() if name not in rows)
    tables = Tables(settings)
    tables.create(table, columns)
    rows = rows.select(pl.col(name).cast(dtype) for name, dtype in columns.items())
    tables.replace(table, rows, Scope.of_deliveries([day], [delivery]), sort_by=["_row"])
    about = {"project": project.name, "feed": "sailings", "day": day, "delivery_id": delivery, "column": "origin"}
    about |= {"severity": "critical", "success": False, "rows": 4, "observed": None, "examples": []}
    results = [
        {**about, "expectation": name, "unexpected_rows": len(at), "quarantined_rows": len(at)}
        for name, at in broken.items()
    ]
    postgres.audit.record_quality(settings, results)


def observe(settings: Settings) -> None:
    """Write what the steps monitor, gate and promote would write."""
    late = {"model": "late_ferry", "run_id": "r"}
    for day in WEEK.days[:2]:
        alert = Alert(
            subject="late_ferry", rule="scores_late", day=day, sentence=f"late on {day}", tier=1, effect="old"
        )
        postgres.alerts.raise_alerts(settings, "ferries", [alert], scope="monitor", looked=[day])
    postgres.alerts.raise_alerts(settings, "ferries", [], scope="monitor", looked=[WEEK.days[2]])
    # what a later run date knows must not be in the report: that the second incident is over, and a third one
    poor = Alert(subject="late_ferry", rule="roc_auc", day=WEEK.days[5], sentence="poor scores")
    postgres.alerts.raise_alerts(settings, "ferries", [poor], scope="monitor", looked=[poor.day])
    later = Alert(subject="late_ferry", rule="drift", day=RUN + timedelta(days=1), sentence="not known yet")
    postgres.alerts.raise_alerts(settings, "ferries", [later], scope="monitor", looked=[later.day])
    gate_id = str(uuid4())
    both = {"slice": "all", "slice_value": "all"}
    gate = {
        **late,
        "gate_id": gate_id,
        "model_version": 2,
        "day": WEEK.days[3],
        "candidate": "boosted",
        "passed": False,
        "model_digest": "m",
        "rules_digest": "r",
        "checks": 1,
        "rows": 9,
        **{
            f"{part}_{end}": WEEK.start - timedelta(days=9)
            for part in ("validation", "holdout")
            for end in ("start", "end")
        },
    }
    check = {"gate_id": gate_id, "number": 0, "name": "quality", "subject": "roc_auc", "measured": 0.5}
    check |= {"threshold": 0.58, "passed": False, "sentence": "roc_auc 0.500 is under 0.58"}
    compared = [
        {**late, **both, "day": day, "model_version": 1 - (place < 0), "place": place, "champion_version": 1}
        | {"last_day": day, "metric": "log_loss", "rows": 4, "loss": loss, "digest": "d"}
        for day in WEEK.days
        if day not in (BEFORE_GAP, GAP, UNSCORED)
        for place, loss in ((0, 0.4), (-1, 0.5))
    ]
    drift = {
        **late,
        **both,
        "role": "input",
        "reference": "weeks",
        "days": 1,
        "rows": 4,
        "digest": "d",
        "model_version": 1,
    }
    strong = [
        {**drift, "day": WEEK.days[n], "feature": "wind_speed_mph", "strength": 1 + n, "shift": n} for n in (1, 2)
    ]
    weak = [{**drift, "day": WEEK.days[1], "feature": "month", "strength": 0.2, "shift": 0.1}]
    with postgres.connection.engine(settings).begin() as connection:
        connection.execute(sa.insert(schema.gates), gate)
        connection.execute(sa.insert(schema.gate_results), check)
        connection.execute(sa.insert(schema.champion_comparisons), compared)
        connection.execute(sa.insert(schema.drift_daily), [*strong, *weak])


@pytest.fixture
def copy(week: Settings, install: Install, tmp_path: Path) -> Iterator[Settings]:
    """The installation, to change; its files are those of `week`, but for the reports."""
    with install(tmp_path, like=week) as made:
        yield made


def report(settings: Settings, project: Project, **options: Any) -> PeriodsReported:
    return report_period(project, Interval.of(RUN), settings, **options)


def files(settings: Settings) -> dict[str, bytes]:
    folder = Path(settings.tables) / "_reports" / "ferries" / "week"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def messages(settings: Settings) -> list[tuple[Any, ...]]:
    with postgres.connection.engine(settings).connect() as connection:
        statement = (
            "SELECT key, destination, payload::text, state FROM outbox WHERE kind = 'report' ORDER BY destination"
        )
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def test_a_week_says_what_happened_and_what_is_missing(copy: Settings, ferries: Project) -> None:
    broken = {"in_set": [0, 2], "not_null": [2], "regex": [0]}
    hold_back(copy, ferries, WEEK.days[3], places=[0, 2], broken=broken)
    [made] = report(copy, ferries).reports
    assert made.summary[0] == (
        "Incomplete: no data were prepared for 2013-03-06 and no predictions of late_ferry for 2013-03-08. "
        "1 model made 20 predictions on 5 of 7 days."
    )
    assert "late_ferry was 0.4 on 16 known outcomes, 20% better than the dummy baseline" in made.summary[1]
    # each day: one false negative at 7 EUR; a late ferry for everybody: one false positive at 3 EUR
    assert made.summary[2] == ("Errors cost 28.00 EUR, 16.00 EUR more than the best constant would have cost.")
    assert made.summary[3] == (
        "There were 2 incidents, 1 of them critical; the longest (scores_late of late_ferry) lasted 2 days, and 1 is "
        "still open; 1 feature drifted."
    )
    assert "0 versions became champion and the gate rejected 1" in made.summary[4]
    page = files(copy)["2013-W10.html"].decode()
    assert_complete_in_itself(page, draws=True)
    text = Structure(page).text
    for found in ("roc_auc 0.500 is under 0.58", "wind_speed_mph", "late on 2013-03-05", "logbook"):
        assert found in text
    assert "2 (50.0%)" in text, "two rows are in quarantine, although three rules count four"
    assert "None of the 5 published days was compared with the raw tables" in text
    for absent in ("not known yet", "month input", "test_"):
        assert absent not in text, "the report knows nothing that its run date does not, and no name of a person"
    assert files(copy)["2013-W10.pdf"].startswith(b"%PDF-")


def test_a_day_of_which_two_batches_were_compared_is_one_day(copy: Settings, ferries: Project) -> None:
    about = {"model": "late_ferry", "model_version": 1, "state": "compared", "why": "", "rows": 4, "exact": True}
    empty = {"missing": 0, "features": {}, "scores": {}, "signature": [], "unseen": {}, "outside": {}, "far": {}}
    checks = [{**about, **empty, "day": WEEK.start, "batch_id": uuid4(), "run_id": "r"} for _ in range(5)]
    with postgres.connection.engine(copy).begin() as connection:
        connection.execute(sa.insert(schema.skew_checks), checks)
    report(copy, ferries)
    text = Structure(files(copy)["2013-W10.html"].decode()).text
    assert "Only 1 of 5 published days were compared" in text


def test_errors_of_numbers_are_added_up_where_the_rows_are(week: Settings) -> None:
    """Predicted are 0, 0, 1 and 1 where 20, 0 and 20 came true, and nothing for the fourth; the baseline says 5."""
    delay = replace(load_model("late_ferry").monitored, problem_type="regression", outcome="ferry_delay")
    day = Interval.of(WEEK.start)
    [known] = postgres.periods.read_errors(week, "ferries", delay, day, {1: 5.0})
    assert (known.version, known.rows, known.pairs) == (1, 3, None)
    assert (known.under, known.over, known.baseline_under, known.baseline_over) == (39.0, 0.0, 30.0, 5.0)
    [unknown] = postgres.periods.read_errors(week, "ferries", delay, day, {1: None})
    assert (unknown.under, unknown.baseline_under, unknown.baseline_over) == (39.0, None, None)


def test_a_report_is_the_same_to_the_byte_whatever_ran_before_it(copy: Settings, ferries: Project) -> None:
    report(copy, ferries)
    first, sent = files(copy), messages(copy)
    for name in first:
        (Path(copy.tables) / "_reports" / "ferries" / "week" / name).unlink()
    report(copy.model_copy(update={"run_id": "another"}), ferries)
    assert files(copy) == first
    assert messages(copy) == sent and len(sent) == 2


@pytest.mark.parametrize(
    ("at", "left"),
    [("make_pdf", ["2013-W10.html"]), ("messages_of", ["2013-W10.html", "2013-W10.pdf"])],
)
def test_a_killed_report_is_completed_by_the_next(
    copy: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch, at: str, left: list[str]
) -> None:
    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(step, at, kill)
        report(copy, ferries)
    assert sorted(files(copy)) == left and messages(copy) == []
    report(copy, ferries)
    assert sorted(files(copy)) == ["2013-W10.html", "2013-W10.pdf"] and len(messages(copy)) == 2


def test_subscribers_get_one_mail_with_the_pdf_and_programs_the_sentences(copy: Settings, ferries: Project) -> None:
    for _ in range(2):
        report(copy, ferries)
    with mail_server() as mail, receiving() as desk:
        to = f"mailto://127.0.0.1:{mail.port}/?from=nightly@example.org&to=manager@example.org"
        addresses = {
            "managers": json.dumps({"channel": "apprise", "url": to}),
            "desk": json.dumps({"channel": "webhook", "url": desk.url, "secret": "a secret of the desk"}),
        }
        for _ in range(2):
            send_due(Outbox(copy.database_url), addresses.get, seconds=60)
        [text] = mail.accepted
        [asked] = desk.asked
    parts = list(message_from_string(text).walk())
    [attached] = [part for part in parts if part.get_filename()]
    assert attached.get_filename() == "ferries-2013-W10.pdf"
    assert attached.get_payload(decode=True) == files(copy)["2013-W10.pdf"]
    got = asked.body
    assert got["text"].count("\n") == 4 and got["period"] == "2013-W10" and "attachment" not in got
    assert all('"attachment": "ferries-2013-W10.pdf"' in payload for _, _, payload, _ in messages(copy))


def test_a_backfill_sends_nothing_unless_it_is_asked_to(
    copy: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reconstructed(*args: Any) -> Known:
        known = read_journal(*args)
        late = known.records[RUN].model_copy(update={"reconstructed": True})
        return replace(known, records={**known.records, RUN: late})

    monkeypatch.setattr(step, "read_journal", reconstructed)
    assert report(copy, ferries).reports[0].subscribers == 0 and messages(copy) == []
    assert files(copy)
    assert report(copy, ferries, send=True).reports[0].subscribers == 2 and len(messages(copy)) == 2


def test_without_pango_the_page_is_written_and_says_what_to_install(
    copy: Settings, ferries: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise pdf.NoPdfError("install it")

    monkeypatch.setattr(pdf, "require_pdf", missing)
    [made] = report(copy, ferries).reports
    assert (made.pdf, made.why_no_pdf) == (None, "install it")
    assert sorted(files(copy)) == ["2013-W10.html"] and len(messages(copy)) == 2


def test_a_week_that_no_run_date_knows_yet_is_refused(copy: Settings, ferries: Project) -> None:
    with pytest.raises(DataError, match="2013-03-18 is not prepared, and its run makes the report of 2013-W11"):
        report_period(ferries, Interval.of(date(2013, 3, 18)), copy)
    assert report_period(ferries, Interval.of(date(2013, 3, 12)), copy).skipped


def test_the_command_writes_the_report_of_a_day(copy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in copy.variables().items():
        monkeypatch.setenv(name, value)
    arguments = ["report", "--project", "ferries", "--period", "week", "--date", "2013-03-07"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert sorted(files(copy)) == ["2013-W10.html", "2013-W10.pdf"] and messages(copy) == []
