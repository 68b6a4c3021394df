"""A person is erased from every place, everybody else stays as they were, and the person never comes back."""

import gzip
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

import polars as pl
import pytest
import sqlalchemy as sa
import yaml
from deltalake import DeltaTable
from pydantic import SecretStr
from typer.testing import CliRunner

from include import cli
from include.core.actions import TopK
from include.core.errors import ActionRequiredError, LockTimeoutError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.outbox import Message
from include.core.periods import Period
from include.core.personal import HashKey
from include.core.project import Project
from include.core.public_page import PublicPage
from include.core.records import Alert, ScoredDay
from include.core.settings import BY_HAND, Settings
from include.io import exports, postgres
from include.io.journal import export, read_journal, restore
from include.io.postgres import connection as product
from include.io.postgres.journal import ENTRIES_OF_A_BLOCK
from include.io.postgres.messages import Outbox
from include.io.postgres.predictions import batch_digest
from include.io.postgres.training_summaries import TrainingSummary
from include.io.report_files import report_path, write_report
from include.io.tables import Scope, Tables
from include.monitoring.skew import SkewCheck, label_digest
from include.operations import erase as erasing
from include.operations.check import check
from include.operations.simulate import maker
from include.runner.run import run
from include.steps.public_page import public_page
from include.steps.publish import publish_scores
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.processes import processes
from tests.integration.test_planting import small_model
from tests.landing import deliver_one
from tests.marks import mostly_drills
from tests.planting import Told, shared_database, stored

pytestmark = pytest.mark.timeout(900)

PERSON, OTHER = "N7ZQX", "N8ABC"
"""The identifiers of the person who is erased, and of another one who stays."""

DAY = date(2013, 1, 14)
SCORED = Interval.of(DAY + timedelta(days=1))
NIGHTS = Interval(start=date(2013, 1, 1), end=SCORED.end)
NEXT = Interval.of(SCORED.end + timedelta(days=1))
FERRY, OTHERS_FERRY = 103, 104


def vessel_in_sailings(in_key: bool) -> Callable[[dict[str, Any]], None]:
    """Return the change that gives a sailing the identifier of its vessel, in the entity's key or beside it."""

    def change(declared: dict[str, Any]) -> None:
        vessel = declared["feeds"]["logbook"]["columns"]["vessel"]
        declared["feeds"]["sailings"]["columns"]["vessel"] = vessel
        if in_key:
            declared["entity"]["key"].append("vessel")
            for feed in ("sailings", "logbook"):
                declared["feeds"][feed]["key"].append("vessel")

    return change


def frame(project: Project, feed: str, day: date) -> pl.DataFrame:
    """Return the rows of a file; one of them is the person's, and one the other person's."""
    rows: pl.DataFrame = maker(project).FEEDS[feed](project.timezone, day)
    if "ferry" in rows.columns:
        is_own, is_others = pl.col("ferry") == FERRY, pl.col("ferry") == OTHERS_FERRY
        named = pl.when(is_own).then(pl.lit(PERSON)).when(is_others).then(pl.lit(OTHER))
        rows = rows.with_columns(vessel=named.otherwise(pl.format("N{}ZX", "ferry")))
    return rows.select([*project.feeds[feed].columns])


def deliver(project: Project, settings: Settings, nights: Interval) -> None:
    for night in nights.days:
        for feed, day in project.required(night).items():
            deliver_one(project, settings, feed, day, frame(project, feed, day))


def swapped(project: Project, settings: Settings) -> None:
    """Deliver a correction in which the person's identifier is in a public column: it is sealed and quarantined."""
    rows = frame(project, "sailings", DAY)
    person = pl.col("ferry") == FERRY + 1000
    more = rows.filter(pl.col("ferry") == FERRY).with_columns(ferry=pl.lit(FERRY + 1000, pl.Int64))
    rows = pl.concat([rows, more]).with_columns(
        origin=pl.when(person).then(pl.lit(PERSON)).otherwise("origin"),
        vessel=pl.when(person).then(pl.lit("N1AAA")).otherwise("vessel"),
    )
    deliver_one(project, settings, "sailings", DAY, rows, name="again")


def loosen(project: Project) -> None:
    """Let a few wrong rows be quarantined."""
    share = {"expect": "share_of_quarantined_rows_to_be_at_most", "max_value": 0.5, "severity": "critical"}
    rules = {feed: [share] for feed in project.feeds}
    (project.folder / "expectations.yaml").write_text(yaml.safe_dump(rules), encoding="utf-8")


def prepare(told: Told, project: Project, nights: Interval, settings: Settings) -> None:
    for step in ("land", "validate", "build_features"):
        told.run(step, project, nights, settings)


def train_and_publish(told: Told, project: Project, settings: Settings) -> int:
    model, train = small_model("late_ferry"), Interval.of(DAY)
    fitted = [told.run("fit", model, train, settings, candidate="linear")]
    evaluated = told.run("evaluate", model, train, settings, fitted=fitted)
    decision = told.run("gate", model, train, settings, evaluated=evaluated, fitted=fitted)
    version = int(decision.model_version)
    told.run("promote", model, SCORED, settings, version=version, by="ana", why="a test", force=True)
    publish(told, SCORED, settings, version)
    told.run("outcomes", project, NIGHTS, settings)
    told.run("monitor", project, SCORED, settings)
    return version


def publish(told: Told, day: Interval, settings: Settings, version: int) -> None:
    model = small_model("late_ferry")
    told.run("score", model, day, settings, versions={day.start: version})
    told.run("publish", model, day, settings, versions={day.start: version})


def hashed(settings: Settings, identifier: str = PERSON) -> str:
    return HashKey.of(settings.hash_key.get_secret_value()).hashed(identifier)


def found(settings: Settings, *needles: str) -> list[str]:
    """Return the places, besides landing, that have one of these texts."""
    databases = (shared_database(settings), settings.mlflow_tracking_uri.get_secret_value())
    texts = [*stored(settings, *databases)]
    assert {"table predictions", "table journal"} <= {where for where, _ in texts}
    return [where for where, text in texts if any(needle in text for needle in needles)]


def in_landing(settings: Settings) -> list[Path]:
    def text(path: Path) -> bytes:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content

    return [p for p in Path(settings.landing).rglob("*") if p.is_file() and PERSON.encode() in text(p)]


def is_proof(settings: Settings, where: str) -> bool:
    return where == "table journal" or where.startswith(settings.journal)


def every_version(settings: Settings) -> dict[tuple[str, int], pl.DataFrame]:
    tables, read = Tables(settings), {}
    for folder in sorted(Path(settings.tables).glob("*/_delta_log")):
        name = folder.parent.name
        for version in range(tables.version(name) + 1):
            rows = tables.scan(name, version).collect()
            read[name, version] = rows.sort(rows.columns)
    return read


def table(settings: Settings, name: str) -> pl.DataFrame:
    with postgres.connection.engine(settings).connect() as connection:
        rows = connection.execute(sa.text(f"SELECT t::text AS row FROM {name} t ORDER BY 1")).scalars()
        return pl.DataFrame({"row": [*rows]}, schema={"row": pl.String})


@pytest.mark.spark
def test_a_person_in_the_key_is_erased_everywhere_and_stays_out(
    load_changed: Callable[..., Project], with_mlflow: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    project, settings, told = load_changed("ferries", vessel_in_sailings(in_key=True)), with_mlflow, Told(caplog)
    loosen(project)
    deliver(project, settings, NIGHTS)
    swapped(project, settings)
    migrate_entities(settings, project)
    prepare(told, project, NIGHTS, settings)
    version = train_and_publish(told, project, settings)
    DeltaTable(str(Path(settings.tables) / "raw_ferries__sailings")).create_checkpoint()

    person, other = hashed(settings), hashed(settings, OTHER)
    sealed = HashKey.of(settings.hash_key.get_secret_value()).seal(PERSON)
    places = found(settings, person, sealed)
    for place in ("predictions", "entities_ferries", "outcomes", "raw_ferries__sailings", "clean_ferries__logbook"):
        assert any(place in where for where in places), place
    for place in ("quarantine_ferries__sailings", "features_ferries", "scores_late_ferry", "checkpoint.parquet"):
        assert any(place in where for where in places), place
    before, published, said = every_version(settings), table(settings, "predictions"), check_text(project, settings)

    looked = erasing.look(project, settings, [PERSON])
    assert not looked.is_clean
    assert every_version(settings).keys() == before.keys()
    done = erasing.erase(project, settings, [PERSON], by="ana", why="ticket 7", remove_originals=True)
    assert done.rows["predictions"] == looked.rows["predictions"] == 1
    assert done.rows["raw_ferries__sailings"] >= len(NIGHTS.days)
    assert done.left == []
    assert erasing.look(project, settings, [PERSON]).is_clean

    assert [where for where in found(settings, person) if not is_proof(settings, where)] == []
    assert found(settings, PERSON, sealed) == []
    assert in_landing(settings) == []
    after = every_version(settings)
    for name, rows in before.items():
        assert after[name].equals(without(rows, person, sealed)), name
    assert table(settings, "predictions").equals(published.filter(~pl.col("row").str.contains(person)))
    assert published.filter(pl.col("row").str.contains(other)).height == 1
    assert check_text(project, settings) == said

    again = erasing.erase(project, settings, [PERSON], by="ana", why="ticket 7")
    assert (again.sequences, +again.rows) == (done.sequences, {})

    deliver(project, settings, NEXT)
    prepare(told, project, NEXT, settings)
    publish(told, NEXT, settings, version)
    told.run("outcomes", project, NEXT, settings)
    assert [where for where in found(settings, person) if not is_proof(settings, where)] == []
    assert found(settings, PERSON) == []
    assert any(other in row for row in table(settings, "predictions")["row"].to_list())
    left_out = table(settings, "data_quality").filter(pl.col("row").str.contains("no_rows_of_erased_persons"))
    assert left_out.height == 2  # sailings of the day, and the logbook of the day before
    assert all(PERSON not in text and person not in text for _, text in told.texts())


def without(rows: pl.DataFrame, *needles: str) -> pl.DataFrame:
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    theirs = pl.any_horizontal(pl.col(name).str.contains_any([*needles]).fill_null(value=False) for name in texts)
    return rows.filter(~theirs)


def check_text(project: Project, settings: Settings) -> list[str]:
    return check(project, NIGHTS, settings)


def migrate_entities(settings: Settings, project: Project) -> None:
    with postgres.connection.engine(settings).begin() as connection:
        postgres.migrations.entity_tables.extend(connection, project)


# --- without training: interruptions, restores, steps at the same time ------------------------------------------------

FEW = Interval(start=date(2013, 1, 1), end=date(2013, 1, 2))
PLACES = [
    ("include.operations.erase_places:ErasureJob.enter", "after", 1),
    ("include.io.postgres.erasures:erase", "after", 1),
    ("include.io.erased_files:TableFiles._correct_log", "after", 1),
    ("include.io.erased_files:TableFiles._shrink", "after", 1),
    ("include.io.erased_files:TableFiles.erase", "after", 1),
    ("include.io.erased_files:TableFiles.erase", "after", 3),
    ("include.io.erased_files:TableFiles.erase", "after", 5),
    ("include.io.postgres.erasures:finish", "before", 1),
]
"""Where an erasure is killed: between each two places, and within a table."""
IN_CI = (PLACES[5],)
"""The one that is not left to the drill: within a table."""


@pytest.fixture
def landed(load_changed: Callable[..., Project], with_mlflow: Settings) -> tuple[Project, Settings]:
    """Return a project whose entity has the identifier beside its key, with two days in clean, and features."""
    project, settings = load_changed("ferries", vessel_in_sailings(in_key=False)), with_mlflow
    loosen(project)
    deliver(project, settings, FEW)
    for step in ("land", "validate"):
        run(step, project, FEW, settings)
    make_features(project, settings)
    return project, settings


def make_features(project: Project, settings: Settings) -> None:
    """Write features of each sailing, which do not have the identifier, twice, so that there is an older version."""
    tables, whole = Tables(settings), Scope(FEW)
    rows = tables.scan("clean_ferries__sailings").select("day", "entity_id", "ferry", data_view=pl.lit("point_in_time"))
    for more in (1, 2):
        now = rows.collect().with_columns(pl.col("ferry") + more)
        tables.replace("features_ferries", now, whole, sort_by=["day", "entity_id"])


def entity(settings: Settings, ferry: int) -> pl.DataFrame:
    """Return day and `entity_id` of a ferry."""
    rows = Tables(settings).scan("clean_ferries__sailings").filter(pl.col("ferry") == ferry)
    return rows.select("day", "entity_id").collect()


def features(settings: Settings, version: int | None = None) -> pl.DataFrame:
    return Tables(settings).scan("features_ferries", version).collect()


def type_command(settings: Settings, *arguments: str, given: str = "") -> tuple[int, str]:
    """Run the command line in a process of its own, with identifiers on standard input."""
    with processes(settings, 1) as started:
        code, printed = started.all([{"do": "command_line", "arguments": arguments, "given": given}])[0]
    return code, printed


def test_an_entity_is_the_persons_by_its_row_and_features_of_others_stay(landed: tuple[Project, Settings]) -> None:
    project, settings = landed
    own, others = entity(settings, FERRY), entity(settings, OTHERS_FERRY)
    assert own.height == len(FEW.days)
    before = {version: features(settings, version) for version in range(3)}
    done = erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    assert done.rows["features_ferries"] == 2 * len(FEW.days), "both versions have the rows"
    for version, rows in before.items():
        left = rows.join(own, on=["day", "entity_id"], how="anti")
        assert features(settings, version).sort(left.columns).equals(left.sort(left.columns))
    assert features(settings).join(others, on=["day", "entity_id"], how="semi").height == len(FEW.days)
    assert {uri.rpartition("/")[2] for uri in done.originals} == {"sailings.csv.gz", "logbook.csv.gz"}
    assert in_landing(settings), "without being asked to, it leaves suppliers' files alone"


def publish_labels(project: Project, settings: Settings) -> None:
    """Publish predictions with labels and probabilities, as a multiclass model makes them."""
    rows = Tables(settings).scan("clean_ferries__sailings").collect().sort("day", "entity_id")
    scores = rows.select(
        "day",
        "entity_id",
        model_version=pl.lit(1, pl.Int64),
        score=pl.lit(0.75),
        prediction=pl.lit(1.0),
        label=pl.lit("late"),
        probabilities=pl.lit('{"early": 0.05, "late": 0.75, "on time": 2e-1}'),
        reasons=pl.lit('{"base": -1.5, "rest": 1e-7, "top": [["wind", 0.25]]}'),
    )
    lists = (TopK(to="crm", k=1000, max_age_days=100_000),)
    publish_scores(
        project,
        small_model("late_ferry").model_copy(update={"actions": lists}),
        scores.lazy(),
        rows.select("day", "entity_id", *project.entity.public).lazy(),
        settings,
        days=[ScoredDay(day=day, model_version=1, rows=n) for day, n in rows.group_by("day").len().iter_rows()],
        as_of={day: project.cutoff_at(day) for day in FEW.days},
    )


def lists_of_actions(settings: Settings) -> list[dict[str, Any]]:
    with postgres.connection.engine(settings).connect() as connection:
        return [*connection.scalars(sa.text("SELECT payload FROM messages WHERE kind = 'action' ORDER BY id"))]


def test_predictions_with_labels_are_erased(landed: tuple[Project, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    project, settings = landed
    settings = settings.model_copy(update={"exports": f"{settings.tables}/exports"})
    project = project.model_copy(update={"public_page": PublicPage(models=("late_ferry",))})
    exported = small_model("late_ferry").model_copy(update={"exports": "parquet"})
    monkeypatch.setattr(exports, "load_model", lambda _: exported)
    publish_labels(project, settings)
    period, person = Period.containing("week", DAY), hashed(settings)
    page, pdf, others = (
        write_report(settings, report_path(project.name, each, ending), text.encode())
        for each, ending, text in (
            (period, "html", f"<p>vessel={person}</p>"), (period, "pdf", "packed"), (period.before, "html", "nobody")
        )
    )  # fmt: skip
    content = {"text": "a week", "page": page, "attachment": {"name": "a.pdf", "content": "packed"}}
    report = Message(key="report-1", kind="report", payload=content, subject="a week", run_id="r")
    Outbox(settings.database_url).put(report)
    before = postgres.predictions.read_predictions(settings, "late_ferry", FEW)
    theirs, lists = entity(settings, FERRY)["entity_id"].to_list(), lists_of_actions(settings)
    assert {row["entity_id"] for each in lists for row in each["top"]} > {*theirs}
    public_page(project, FEW, settings)
    shown = public_rows(settings)
    done = erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    assert done.rows["predictions"] == done.rows["lists of actions"] == len(FEW.days)
    assert len(public_rows(settings)) == len(shown) - 1, "the page is written again"
    for had, has in zip(lists, lists_of_actions(settings), strict=True):
        assert has["top"] == [row for row in had["top"] if row["entity_id"] not in theirs]
        assert len(has["top"]) == len(had["top"]) - 1
        assert f"The {len(has['top'])} highest scores" in has["text"]
        assert {**has, "top": had["top"], "text": had["text"]} == had
    assert done.rows["reports of periods"] == 1
    assert [Path(url2pathname(urlsplit(each).path)).exists() for each in (page, pdf, others)] == [False, False, True]
    with postgres.connection.engine(settings).connect() as connection:
        sent = connection.scalar(sa.text("SELECT payload FROM messages WHERE kind = 'report'"))
    assert sent == {"text": "a week", "page": page}
    after = postgres.predictions.read_predictions(settings, "late_ferry", FEW)
    assert after.height == before.height - len(FEW.days)
    parts = after.partition_by("batch_id", as_dict=True).items()
    digests = {batch: batch_digest(rows) for (batch,), rows in parts}
    stored_batches = postgres.predictions.read_batches(settings, "late_ferry", FEW)
    assert dict(stored_batches.select("batch_id", "digest").iter_rows()) == digests
    assert stored_batches["erased"].to_list() == [1] * len(FEW.days)
    with postgres.connection.engine(settings).connect() as connection:
        explained = connection.scalar(sa.text("SELECT count(*) FROM prediction_reasons"))
    assert explained == after.height, "reasons go with their predictions"
    files = [pl.read_parquet(path) for path in Path(str(settings.exports)).glob("*/*/*/*.parquet")]
    assert sum(rows.height for rows in files) == after.height, "the files are written again"


def test_the_public_page_is_erased_where_tasks_write_it_or_nothing_is(landed: tuple[Project, Settings]) -> None:
    project, settings = landed
    project = project.model_copy(update={"public_page": PublicPage(models=("late_ferry",))})
    publish_labels(project, settings)
    place, away = Path(f"{settings.tables}-pages"), Path(f"{settings.tables}-pages-of-another-machine")
    public_page(project, FEW, settings.model_copy(update={"public_pages": str(place), "run_id": "scheduled__1"}))
    before, shell = public_rows(settings, place), settings.model_copy(update={"run_id": BY_HAND})

    place.rename(away)
    with pytest.raises(ActionRequiredError, match=r"(?s)Nothing was changed\..*is not there as seen from here"):
        erasing.erase(project, shell, [PERSON], by="ana", why="ticket")
    assert not read_journal(settings, project).erased.hashes and not place.exists()
    away.rename(place)
    erasing.erase(project, shell, [PERSON], by="ana", why="ticket")
    assert len(public_rows(settings, place)) == len(before) - 1
    assert not Path(f"{settings.tables}/_public").exists()


def test_an_unfinished_erasure_and_a_page_that_is_gone_do_not_block_each_other(
    landed: tuple[Project, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    project, settings = landed
    project = project.model_copy(update={"public_page": PublicPage(models=("late_ferry",))})
    publish_labels(project, settings)
    place, shell = Path(f"{settings.tables}-pages"), settings.model_copy(update={"run_id": BY_HAND})
    public_page(project, FEW, settings.model_copy(update={"public_pages": str(place), "run_id": "scheduled__1"}))
    before = public_rows(settings, place)
    with monkeypatch.context() as patch:
        patch.setattr(erasing, "public_page", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erasing.erase(project, shell, [PERSON], by="ana", why="ticket")
    place.rename(f"{place}-away")
    with pytest.raises(ActionRequiredError, match=r"not finished.*erase --project ferries --again"):
        run("public_page", project, FEW, shell, move=True)
    with pytest.raises(ActionRequiredError, match=rf"type: the same with --move and NIGHTLY_PUBLIC_PAGES=\S+{place}\."):
        erasing.erase(project, shell, [], by="", why="")
    monkeypatch.setattr(cli, "load_project", lambda _: project)
    again = ["erase", "--project", "ferries", "--again", "--move"]
    variables = shell.model_copy(update={"public_pages": str(place)}).variables()
    done = CliRunner().invoke(cli.app, again, env=variables)
    assert done.exit_code == 0, done.output
    assert len(public_rows(settings, place)) == len(before) - 1
    run("public_page", project, FEW, shell)


def public_rows(settings: Settings, place: Path | None = None) -> list[str]:
    """Return the rows of the one file with predictions beside the page for everybody."""
    [file] = ((place or Path(f"{settings.tables}/_public")) / "ferries").glob("late_ferry-20*.csv")
    assert file.name in (file.parent / "index.html").read_text()
    return file.read_text().splitlines()


@pytest.mark.parametrize("place", mostly_drills(PLACES, IN_CI))
def test_killed_anywhere_it_is_completed_by_the_next_run(
    landed: tuple[Project, Settings], place: tuple[str, str, int]
) -> None:
    project, settings = landed
    at, when, call = place
    asked = ["erase", "--project", "ferries", "--identifier", "-", "--by", "ana", "--why", "ticket"]
    with processes(settings, 1) as started:
        started.all([{"do": "kill", "at": at, "call": call, "when": when}])
        erased = {"do": "command_line", "arguments": [*asked, "--remove-originals"], "given": PERSON}
        assert started.all([erased]) == [None], "it was not killed"
    for version in range(3):
        assert features(settings, version).height in {2 * 60, 2 * 60 - 2, 2 * 60 - 1, 0}, "each version is readable"
    with pytest.raises(ActionRequiredError, match=r"not finished.*erase --project ferries --again"):
        run("land", project, FEW, settings)
    code, printed = type_command(settings, "erase", "--project", "ferries", "--again", "--remove-originals")
    assert code == 0, printed
    look = ("erase", "--project", "ferries", "--identifier", "-", "--check")
    code, printed = type_command(settings, *look, given=PERSON)
    assert (code, PERSON in printed) == (0, False), printed
    person = hashed(settings)
    texts = [*stored(settings, shared_database(settings))]
    assert [where for where, text in texts if person in text and not is_proof(settings, where)] == []
    assert not any(PERSON in text for _, text in texts)
    run("land", project, FEW, settings)
    assert validate(project, FEW, settings).refused == ()


def test_the_proof_stays_in_a_block_of_the_journal(landed: tuple[Project, Settings]) -> None:
    project, settings = landed
    done = erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    entries = [Entry.verdict(f"sailings/{n}", "sailings", DAY, None) for n in range(ENTRIES_OF_A_BLOCK)]
    postgres.journal.add_entries(settings, project.name, entries)
    export(settings, project.name)
    again = erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    assert (again.sequences, again.left) == (done.sequences, [])


def test_older_raw_tables_bring_nobody_back(landed: tuple[Project, Settings], install: Install, tmp_path: Path) -> None:
    """The backup of raw tables is older than the erasure, that of the journal is newer."""
    project, settings = landed
    backup = tmp_path / "backup"
    for table_folder in Path(settings.tables).glob("raw_*"):
        shutil.copytree(table_folder, backup / table_folder.name)
    erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    with install(tmp_path / "new") as empty:
        restored = empty.model_copy(update={"journal": settings.journal, "landing": settings.landing})
        migrate_entities(restored, project)
        shutil.copytree(backup, restored.tables)
        restore(restored, project.name)
        with pytest.raises(ActionRequiredError, match="--again"):
            run("validate", project, FEW, restored)
        person = hashed(settings)
        assert any(person in text for where, text in stored(restored) if "raw_" in where)
        done = erasing.erase(project, restored, [], by="", why="")
        assert done.rows["raw_ferries__sailings"] == len(FEW.days)
        run("land", project, FEW, restored)
        assert validate(project, FEW, restored).accepted > 0
        places = [where for where, text in stored(restored, shared_database(restored)) if person in text]
        assert all(is_proof(restored, where) for where in places)


def test_a_step_and_an_erasure_wait_for_each_other(landed: tuple[Project, Settings], monkeypatch: Any) -> None:
    project, settings = landed
    monkeypatch.setattr(product, "LOCK_TIMEOUT_SECONDS", 1)
    with postgres.running.running(settings, project.name):
        with postgres.running.running(settings, project.name):
            pass  # steps do not wait for each other
        with pytest.raises(LockTimeoutError, match=r"nothing was removed yet. .* pid \d+"):
            erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    with postgres.erasures.alone(settings, project.name), pytest.raises(LockTimeoutError):
        run("land", project, FEW, settings)
    assert run("land", project, FEW, settings).rows == 0


def test_predictions_can_be_removed_only_with_a_record_of_it(landed: tuple[Project, Settings]) -> None:
    project, settings = landed
    with postgres.connection.engine(settings).begin() as connection, pytest.raises(sa.exc.InternalError):
        connection.execute(sa.text("DELETE FROM predictions"))
    erasing.erase(project, settings, [PERSON], by="ana", why="ticket")
    for statement in ("DELETE FROM erasures", "UPDATE journal SET why = 'x'", "DELETE FROM predictions"):
        with postgres.connection.engine(settings).begin() as connection, pytest.raises(sa.exc.InternalError):
            connection.execute(sa.text(statement))


def test_messages_about_the_person_are_scrubbed_with_the_owners_login(
    landed: tuple[Project, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks change no content of a message, sent or not: their login erases nothing."""
    project, settings = landed
    person, url = hashed(settings), sa.make_url(settings.database_url.get_secret_value())
    alert = Alert(subject=f"slice vessel={person}", rule="late", day=FEW.end, sentence=f'vessel "{person}" is late')
    postgres.alerts.raise_alerts(settings, project.name, [alert])
    failed = SkewCheck(FEW.end, str(uuid4()), 1, state="failed", why=f"no category {person!r}")
    postgres.skew.record_checks(settings, "late_ferry", [failed])
    postgres.retrainings.request(settings, project.name, "late_ferry", FEW.end, reasons=[alert], cool_down_days=7)
    labels = {"vessel": {"labels": [label_digest(person), label_digest("N1")]}, "hour": {"low": 1.0, "high": 2.0}}
    postgres.training_summaries.record_summary(settings, "late_ferry", 1, TrainingSummary(inputs=labels))
    before = table(settings, "messages")["row"].to_list()
    owner = postgres.connection.engine(settings)
    with owner.begin() as connection:
        connection.execute(sa.text("CREATE ROLE an_erasing_task LOGIN IN ROLE writer"))
    try:
        login = url.set(username="an_erasing_task").render_as_string(hide_password=False)
        tasks = settings.model_copy(update={"database_url": SecretStr(login)})
        with pytest.raises(ActionRequiredError, match="only the owner of the shared database can remove"):
            erasing.erase(project, tasks, [PERSON], by="ana", why="ticket")
        assert table(settings, "messages")["row"].to_list() == before
        monkeypatch.setenv("NIGHTLY_DATABASE_OWNER_URL", url.render_as_string(hide_password=False))
        done = erasing.erase(project, tasks, [PERSON], by="ana", why="ticket")
    finally:
        with owner.begin() as connection:
            connection.execute(sa.text("DROP ROLE an_erasing_task"))
    assert (done.rows["messages"], done.rows["alerts"], done.left) == (1, 1, [])
    assert table(settings, "messages")["row"].to_list() == [row.replace(person, "(erased)") for row in before]
    assert [done.rows[name] for name in ("skew_checks", "retrainings", "training_summaries")] == [1, 1, 1]
    assert all("(erased)" in table(settings, name)["row"].item() for name in ("skew_checks", "retrainings"))
    left = postgres.training_summaries.read_summary(settings, "late_ferry", 1)
    assert left and left.inputs == {**labels, "vessel": {"labels": [label_digest("N1")]}}
    with owner.begin() as connection, pytest.raises(sa.exc.InternalError):
        connection.execute(sa.text("DELETE FROM retrainings"))


def test_the_identifier_is_never_repeated(settings: Settings) -> None:
    """Somebody types it in the command; the message does not have it."""
    asked = ("erase", "--project", "ferries", "--identifier", PERSON, "--by", "ana", "--why", "ticket")
    code, printed = type_command(settings, *asked)
    assert code == 2
    assert "history" in printed
    assert PERSON not in printed


def test_before_the_first_erasure_a_search_for_all_who_were_erased_finds_nothing(with_mlflow: Settings) -> None:
    code, printed = type_command(with_mlflow, "erase", "--project", "ferries", "--again", "--check")
    assert code == 0, printed
    assert "Traceback" not in printed
