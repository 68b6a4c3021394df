"""check: find disagreements between prepared days, features, batches, pointers, promotion history and public page.

It only reads; `cli check` prints the findings. It does not rely on the records of steps: it counts rows and computes
digests again from what is stored.
"""

import logging
from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime

import polars as pl

from include.config.loading import model_names
from include.core.errors import ActionRequiredError, PageGoneError
from include.core.interval import BLOCK_DAYS, Interval
from include.core.names import features_table
from include.core.project import Project
from include.core.records import PreparedDay
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.connection import engine
from include.io.postgres.predictions import batch_digest
from include.io.postgres.public_pages import read_newest, read_place
from include.io.registry import Registry
from include.io.tables import Tables
from include.report.public_page import publications_of
from include.steps.public_page import find_folder, models_shown
from include.steps.publish import batch_id

log = logging.getLogger(__name__)


def check(project: Project, interval: Interval, settings: Settings) -> list[str]:
    """Return a sentence for each disagreement in the interval, naming what is wrong and where."""
    prepared_days = [*postgres.days.read_prepared_days(settings, project.name, interval)]
    latest = postgres.days.read_prepared_days(settings, project.name, interval, "latest")
    findings = [
        f"{project.name} {day} is not prepared. "
        f"Run: python -m include.cli prepare --project {project.name} --start {day}"
        for day in sorted(set(interval.days) - {n.day for n in prepared_days})
    ]
    findings += _features(project, interval, [*prepared_days, *latest], Tables(settings))
    as_of = {(n.day, n.as_of): n for n in (*latest, *prepared_days)}
    dropped = postgres.months.read_dropped(settings, project.name)
    for model in model_names(project.name):
        for chunk in interval.chunks(BLOCK_DAYS):
            pointers = postgres.predictions.read_pointers(settings, model, chunk)
            findings += _batches(model, chunk, settings, dropped, {*pointers["batch_id"]})
            findings += _pointers(project, model, chunk, settings, pointers, as_of, dropped)
        findings += _versions(model, interval, settings)
    return [*findings, *_page(project, settings)]


def _features(project: Project, interval: Interval, prepared_days: list[PreparedDay], tables: Tables) -> Iterator[str]:
    """Compare the rows of each prepared day with those in the features table."""
    table = features_table(project.name)
    counted: dict[tuple[date, str], int] = {}
    if tables.exists(table):
        within = pl.col("day").is_between(interval.start, interval.end)
        rows = tables.scan(table).filter(within).group_by("day", "data_view").len().collect()
        counted = {(day, data_view): count for day, data_view, count in rows.iter_rows()}
    for prepared_day in prepared_days:
        found = counted.pop((prepared_day.day, prepared_day.data_view), 0)
        if found != prepared_day.rows:
            yield (
                f"{project.name} {prepared_day.day}: the prepared day ({prepared_day.data_view}) has "
                f"{prepared_day.rows} rows, {table} has {found}; run build_features for the day"
            )
    for (day, data_view), found in sorted(counted.items()):
        yield f"{project.name} {day}: {table} has {found} rows ({data_view}), but the day is not prepared"


def _batches(
    model: str,
    interval: Interval,
    settings: Settings,
    dropped: Collection[date] = (),
    published: Collection[str] = (),
) -> Iterator[str]:
    """Check each batch, published or not: count its rows and compute its digest again.

    A batch of a month that left the database (`retention`) has no rows, or all of them if it was published again.
    """
    predictions = postgres.predictions.read_predictions(settings, model, interval)
    of_batch = {batch: rows for (batch,), rows in predictions.partition_by("batch_id", as_dict=True).items()}
    for batch in postgres.predictions.read_batches(settings, model, interval).iter_rows(named=True):
        rows = of_batch.get(batch["batch_id"], predictions.clear())
        left = batch["day"].replace(day=1) in dropped and batch["batch_id"] not in published
        if rows.is_empty() and left:
            continue
        where = f"{model} {batch['day']}: batch {batch['batch_id']} (version {batch['model_version']})"
        if rows.height != batch["rows"]:
            yield f"{where} says {batch['rows']} rows, predictions has {rows.height}"
        if strays := rows.filter((pl.col("model") != model) | (pl.col("day") != batch["day"])).height:
            yield f"{where} has {strays} rows in predictions that say another model or day"
        if batch_digest(rows) != batch["digest"]:
            yield f"{where}: its predictions changed after they were published (the digest differs); restore them"
        derived = batch_id(model, batch["day"], batch["model_version"], batch["digest"])
        if not batch["erased"] and derived != batch["batch_id"]:
            yield f"{where}: its id does not follow from model, day, version and digest; one of them was changed"


def _pointers(
    project: Project,
    model: str,
    interval: Interval,
    settings: Settings,
    pointers: pl.DataFrame,
    as_of: Mapping[tuple[date, datetime], PreparedDay],
    dropped: Collection[date],
) -> Iterator[str]:
    """Check that readers see the right batch, with the right version and all rows of the prepared day."""
    for pointer in pointers.iter_rows(named=True):
        day, batch = pointer["day"], pointer["batch_id"]
        where = f"{model} {day}: published batch {batch}"
        if pointer["of_model"] is None:
            yield f"{where} does not exist; publish the day again"
            continue
        if (pointer["of_model"], pointer["of_day"]) != (model, day):
            yield f"{where} belongs to {pointer['of_model']} {pointer['of_day']}; publish the day again"
        prepared_day = as_of.get((day, pointer["as_of"]))
        expected = prepared_day.rows_up_to(pointer["horizon_days"]) if prepared_day else None
        if expected is None:
            yield f"{where} is as of {pointer['as_of']:%Y-%m-%d %H:%M:%S} UTC, but no prepared day has that time"
        elif expected != pointer["rows"]:
            yield f"{where} has {pointer['rows']} rows, the prepared day has {expected}; score and publish it again"
        if pointer["champion"] != pointer["model_version"]:
            champion = pointer["champion"]
            had = "had no champion" if champion is None else f"had version {champion} as champion"
            yield (
                f"{where} has version {pointer['model_version']}, but when run {pointer['run_id']} published it, on "
                f"{pointer['published_at']:%Y-%m-%d %H:%M:%S} UTC, the promotion history {had} of that day; if nobody "
                "chose that version for the run, score and publish the day again"
            )
    prepared = {day for day, _ in as_of}
    published = set(pointers["day"])
    for day, version in postgres.promotions.read_champions(settings, model, interval).items():
        if day in prepared and day not in published and day.replace(day=1) not in dropped:
            yield (
                f"{model} {day}: version {version} is champion by the promotion history, but nothing is published; "
                "score and publish the day"
            )
    for day, count in sorted(postgres.predictions.count_undescribed(settings, project, model, interval).items()):
        yield f"{model} {day}: {count} published predictions have no row of entities; publish the day again"


def _versions(model: str, interval: Interval, settings: Settings) -> Iterator[str]:
    """Check that each champion of a day of the interval is in the registry, and is what people decided about."""
    for subject, version in postgres.promotions.read_renumbered(settings, model):
        yield (
            f"{subject}: a person decided so about other files than version {version} of {model} has here, because "
            "trainings gave other numbers after a restore. Promote or roll back again, to the version that has them"
        )
    first_day: dict[int, date] = {}
    for day, version in postgres.promotions.read_champions(settings, model, interval).items():
        first_day.setdefault(version, day)
    for version, day in first_day.items():
        try:
            Registry(settings).get_version(model, version)
        except ActionRequiredError as error:
            yield f"{model} {day}: the promotion history names version {version} as champion, but {error}"


def _page(project: Project, settings: Settings) -> Iterator[str]:
    """Check that the page for everybody shows the newest publication of each model.

    A page that cannot be looked at from here is said in the log and is no finding; one that is gone is a finding.
    """
    if project.shown_page is None:
        return
    try:
        folder = find_folder(settings, project)
    except PageGoneError as error:
        yield " ".join(error.lines)
        return
    except ActionRequiredError as error:
        log.warning("The page for everybody was not checked. %s", " ".join(error.lines))
        return
    page = folder.read_page()
    if not page and read_place(settings, project.name):
        yield f"{folder.page} is not there. Type: python -m include.cli public_page --project {project.name}"
        return
    shown = publications_of(page)
    with engine(settings).connect() as connection:
        newest_of = {model: read_newest(connection, model) for model in models_shown(project, project.shown_page)}
    for model, newest in newest_of.items():
        if newest is not None and shown.get(model) != newest.publication:
            yield (
                f"{folder.page} does not show what readers see of {model}: {newest.day}, published "
                f"{newest.published_at:%Y-%m-%d %H:%M:%S} UTC. Unless a task public_page runs, type: "
                f"python -m include.cli public_page --project {project.name}"
            )
        elif newest is None and shown.get(model) is not None:
            yield (
                f"{folder.page} shows predictions of {model}, and readers see none. Type: "
                f"python -m include.cli public_page --project {project.name}"
            )
