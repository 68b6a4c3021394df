"""publish: make the scores of each day a batch, which readers see completely or not at all.

This step decides what a batch is and whether it may be published. `include/io/postgres` stores it.
"""

import logging
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

import polars as pl

from include.config.loading import load_project
from include.config.model import Model
from include.core import schemas
from include.core.errors import DataError
from include.core.feeds import HORIZON
from include.core.horizons import KEY, with_horizon, with_horizon_of_day
from include.core.interval import Interval
from include.core.names import clean_table, features_table, scores_table
from include.core.point_in_time import recorded_deliveries
from include.core.project import Project
from include.core.records import DataView, PreparedDay, Published, PublishedDay, PublishMode, ScoredDay
from include.core.schemas import EVERY_PREDICTION, STORED_PREDICTION
from include.core.settings import Settings
from include.core.stack import rows_of, states
from include.io import postgres
from include.io.ahead import one_ahead
from include.io.exports import export_published
from include.io.journal import read_journal
from include.io.key_blocks import find_limits, is_first, read_blocks, split
from include.io.postgres.model_files import RecordedFit
from include.io.postgres.predictions import Batch, begin_batch_digest
from include.io.postgres.readers_news import announce_publication
from include.io.tables import Scope, Tables

log = logging.getLogger(__name__)

CHUNK_ROWS = 100_000  # rows of a transaction, always whole days: this limits locks
BLOCK_ROWS = 500_000  # rows that are held at once: this limits memory

BATCHES = uuid.UUID("7c1ee8a6-5d2c-5e0a-9b56-5f2f3c1d8f2b")  # namespace of batch ids: never change it


def publish(
    model: Model,
    interval: Interval,
    settings: Settings,
    *,
    mode: PublishMode = "replace",
    days: Sequence[ScoredDay] | None = None,
    versions: Mapping[date, int] | None = None,
    data_view: DataView = "point_in_time",
) -> Published:
    """Publish the scores of days. Publishing equal content again changes nothing.

    The batch, the pointer and the history of a day are written in one transaction. Days without a champion are left
    out.

    Args:
        model: the model.
        interval: the days.
        settings: where tables and database are.
        mode: `replace`, or `missing` to keep what readers see and store a batch that differs beside it.
        days: what `score` returned; by default the days of `versions`.
        versions: the model version of each day; by default each day's champion.
        data_view: which scores to publish.

    Raises:
        DataError: a day is not prepared, or its features were built again after it was scored; prepared day, scores
            and entities do not agree; or a score is null or not finite. Nothing is written then.
        ConfigError: the project has an entity fraction.
    """
    project = load_project(model.project)
    project.refuse_entity_fraction("publish")
    prepared_days = {n.day: n for n in postgres.days.read_prepared_days(settings, project.name, interval, data_view)}
    if days is None:
        versions = postgres.promotions.read_champions(settings, model.name, interval) if versions is None else versions
        fits = postgres.model_files.read_versions(settings, model.name)
        days = [
            _expected_scores(day, version, prepared_days.get(day), fits.get(version))
            for day, version in versions.items()
            if interval.start <= day <= interval.end
        ]
    if not days:
        return Published(interval=interval, rows=0, model=model.name, days=())
    tables = Tables(settings)
    scores = _scores(model, tables, interval, days, data_view)
    _agree(project, model, tables, scores, days, prepared_days, data_view)
    published = publish_scores(
        project,
        model,
        scores,
        _entities(project, tables, _used(project, prepared_days, days, settings)),
        settings,
        days=days,
        as_of={day: prepared_day.as_of for day, prepared_day in prepared_days.items()},
        mode=mode,
    )
    announce_publication(settings, project, model.name)
    export_published(settings, project, model, [day.day for day in days])
    return Published(
        interval=interval,
        rows=sum(day.rows for day in published),
        model=model.name,
        days=tuple(published),
    )


def _expected_scores(
    day: date, version: int, prepared_day: PreparedDay | None, recorded: RecordedFit | None
) -> ScoredDay:
    """Return the scores that a day must have: those of all rows of features, of the horizons of the version."""
    horizon_days = recorded.horizon_days if recorded else 0
    rows = prepared_day.rows_up_to(horizon_days) if prepared_day else 0
    return ScoredDay(day=day, model_version=version, rows=rows, horizon_days=horizon_days)


def publish_scores(
    project: Project,
    model: Model,
    scores: pl.LazyFrame,
    entities: pl.LazyFrame,
    settings: Settings,
    *,
    days: Sequence[ScoredDay],
    as_of: Mapping[date, datetime],
    mode: PublishMode = "replace",
) -> list[PublishedDay]:
    """Publish a frame of scores.

    Args:
        project: the project.
        model: the model.
        scores: day (date), entity_id (str), model_version (int), and the columns of predictions that the problem type
            has, for `days` only; `horizon` (int), unless it is 0.
        entities: day, entity_id and the project's public columns, for `days` only; `horizon`, unless it is 0.
        settings: where the database is.
        days: the expected days, with version and number of rows.
        as_of: the `as_of` of each day.
        mode: see `publish`.

    Raises:
        DataError: names each day that differs from `days`. Nothing is written then.
    """
    published: list[PublishedDay] = []
    with TemporaryDirectory(prefix="nightly-publish-") as folder:
        chunks = _verify(model, scores, entities, sorted(days, key=lambda d: d.day), Path(folder))
        for chunk in one_ahead(map(_Chunk.held, chunks)):  # the next one is read while PostgreSQL stores this one
            batches = [_batch(model, found, as_of[found.scored.day]) for found in chunk.found]
            published += postgres.predictions.publish_batches(
                settings, project, model, batches, chunk.scores, chunk.entities, mode
            )
    for state, count in Counter(day.state for day in published).items():
        log.info("%s: %d days %s", model.name, count, state)
    for day in published:
        if day.state == "kept":
            log.info("%s %s: %d rows differ from what stays published", model.name, day.day, day.differing)
    return published


def store_unpublished(
    model: Model, interval: Interval, settings: Settings, *, days: Sequence[ScoredDay], data_view: DataView
) -> None:
    """Store the scores of days as batches that readers do not see. Storing equal content again changes nothing.

    Raises:
        DataError: as `publish` does. Nothing is written then.
    """
    project = load_project(model.project)
    prepared_days = {n.day: n for n in postgres.days.read_prepared_days(settings, project.name, interval, data_view)}
    tables, days = Tables(settings), sorted(days, key=lambda d: d.day)
    scores = _scores(model, tables, interval, days, data_view)
    _agree(project, model, tables, scores, days, prepared_days, data_view)
    with TemporaryDirectory(prefix="nightly-publish-") as folder:
        for chunk in _verify(model, scores, None, days, Path(folder)):
            batches = [_batch(model, found, prepared_days[found.scored.day].as_of) for found in chunk.found]
            postgres.predictions.store_batches(settings, model, batches, chunk.scores)


def batch_id(model: str, day: date, model_version: int, digest: str) -> str:
    """Derive the id of a batch from its content, so that equal content is the same batch."""
    return str(uuid.uuid5(BATCHES, f"{model}/{day}/{model_version}/{digest}"))


def _batch(model: Model, found: "_FoundDay", as_of: datetime) -> Batch:
    scored, digest = found.scored, found.digest
    return Batch(
        batch_id=batch_id(model.name, scored.day, scored.model_version, digest),
        day=scored.day,
        model_version=scored.model_version,
        rows=found.rows,
        digest=digest,
        as_of=as_of,
        horizon_days=scored.horizon_days,
        repeats_entities=found.repeats_entities,
    )


@dataclass
class _FoundDay:
    """What was found of an expected day, block by block."""

    scored: ScoredDay
    rows: int = 0
    entities: int = 0
    ahead: int = 0
    finite: int = 0
    described: int = 0
    versions: set[int] = field(default_factory=set)
    predicted: set[str] = field(default_factory=set)
    repeats_entities: bool = False
    digest: str = ""

    def __post_init__(self) -> None:
        self._digest = begin_batch_digest(self.scored.rows)

    def add(self, rows: pl.DataFrame, keys: pl.DataFrame | None) -> None:
        """Add a block of the day: its scores, and the keys of its entities, both sorted by KEY."""
        self.rows += rows.height
        counted = rows.select(
            is_first().sum().alias("entities"),
            pl.col(HORIZON).max().alias("ahead"),
            pl.all_horizontal(pl.col(*EVERY_PREDICTION).is_finite()).sum().alias("finite"),  # null: not counted
        ).row(0, named=True)
        self.entities += counted["entities"]
        self.ahead = max(self.ahead, counted["ahead"] or 0)
        self.finite += counted["finite"]
        self.versions |= {*rows["model_version"].unique()}
        self.predicted |= {name for name in STORED_PREDICTION if rows[name].null_count() < rows.height}
        if keys is None:
            self.described += rows.height
        elif rows.select(KEY).equals(keys):
            self.described += rows["entity_id"].count()
            self.repeats_entities |= counted["entities"] < rows.height
        else:
            unique = keys.unique(KEY)
            self.described += rows.join(unique, on=KEY, how="semi").height
            self.repeats_entities |= unique.height < keys.height
        self._digest.add(rows)

    def finish(self) -> None:
        """Make the digest, which holds columns until then: many days are examined before the first is written."""
        self.digest = self._digest.hexdigest()

    def wrong(self) -> Iterator[str]:
        """Yield what is wrong. The sentences contain days and counts, but no values."""
        d = self.scored
        if self.rows != d.rows:
            yield f"{d.day}: {self.rows} scores, expected {d.rows}"
        if self.entities != self.rows:
            yield f"{d.day}: {self.rows} scores of {self.entities} entities; one row for each is needed"
        if self.ahead > d.horizon_days:
            yield f"{d.day}: scores of horizon {self.ahead}, but the version predicts {d.horizon_days} days"
        if bad := self.rows - self.finite:
            yield f"{d.day}: {bad} of {self.rows} rows have a score or prediction that is null, NaN or infinite"
        if self.rows and self.versions != {d.model_version}:
            yield f"{d.day}: scores of version {sorted(self.versions)}, expected version {d.model_version}"
        if undescribed := self.rows - self.described:
            yield f"{d.day}: {undescribed} of {self.rows} scored entities are not in the feed of entities"


@dataclass(frozen=True)
class _Chunk:
    """Whole days that are stored in one transaction, with blocks of their rows: see `key_blocks`."""

    found: Sequence[_FoundDay]
    of_scores: Sequence[pl.LazyFrame]
    of_entities: Sequence[pl.LazyFrame] | None

    def scores(self, days: Collection[date]) -> Iterator[pl.DataFrame]:
        """Yield the scores of these days, without columns that have no value."""
        names = [*KEY, *(name for name in STORED_PREDICTION if any(name in found.predicted for found in self.found))]
        return read_blocks(block.filter(pl.col("day").is_in([*days])).select(names) for block in self.of_scores)

    def entities(self, days: Collection[date]) -> Iterator[pl.DataFrame]:
        """Yield the entities of these days."""
        return read_blocks(block.filter(pl.col("day").is_in([*days])) for block in self.of_entities or ())

    def held(self) -> "_Chunk":
        """Return the chunk with its rows in memory, unless there are more than CHUNK_ROWS."""
        if sum(found.scored.rows for found in self.found) > CHUNK_ROWS:
            return self
        of_entities = None if self.of_entities is None else _hold(self.of_entities)
        return replace(self, of_scores=_hold(self.of_scores), of_entities=of_entities)

    def examine(self) -> None:
        """Read all rows, and count and digest them."""
        days = {found.scored.day: found for found in self.found}
        nothing = pl.LazyFrame(schema={"day": pl.Date, HORIZON: pl.Int32, "entity_id": pl.String})
        keys = [block.select(KEY) for block in self.of_entities or [nothing] * len(self.of_scores)]
        for rows, described in zip(read_blocks(self.of_scores), read_blocks(keys), strict=True):
            of_scores, of_entities = _by_day(rows), _by_day(described)
            for day in {**of_scores, **of_entities}:
                entities = None if self.of_entities is None else of_entities.get(day, described.clear())
                days[day].add(of_scores.get(day, rows.clear()), entities)
        for found in self.found:
            found.finish()


def _hold(blocks: Sequence[pl.LazyFrame]) -> list[pl.LazyFrame]:
    return [rows.lazy() for rows in read_blocks(blocks)]


def _by_day(rows: pl.DataFrame) -> dict[date, pl.DataFrame]:
    """Return the rows of each day that has any, in their order."""
    if rows["day"].min() == rows["day"].max():
        return {rows["day"][0]: rows} if rows.height else {}
    return {day: part for (day,), part in rows.partition_by("day", as_dict=True).items()}


def _chunks(days: Sequence[ScoredDay]) -> Iterator[list[ScoredDay]]:
    """Yield whole days in order, about CHUNK_ROWS rows at a time."""
    chunk: list[ScoredDay] = []
    for day in days:
        if chunk and sum(d.rows for d in chunk) + day.rows > CHUNK_ROWS:
            yield chunk
            chunk = []
        chunk.append(day)
    yield chunk


def _verify(
    model: Model, scores: pl.LazyFrame, entities: pl.LazyFrame | None, days: Sequence[ScoredDay], folder: Path
) -> list[_Chunk]:
    """Check all rows before the first is written, and return them in chunks of whole days.

    The folder is for the blocks of large days, for as long as the chunks are used.
    """
    if len({d.day for d in days}) < len(days):
        raise DataError(f"{model.name}: a day is to be published twice: {', '.join(str(d.day) for d in days)}")
    scores = with_horizon(schemas.with_prediction_columns(scores)).select(*KEY, "model_version", *STORED_PREDICTION)
    entities = None if entities is None else with_horizon(entities)
    if sum(d.rows for d in days) <= CHUNK_ROWS:  # then they are read once, and held
        scores = scores.collect().lazy()
        entities = None if entities is None else entities.collect().lazy()
    there = scores.select(pl.col("day").unique()).collect()["day"]
    unexpected = sorted({*there} - {d.day for d in days})
    wrong = [f"{day}: there are scores, but this day is not to be published" for day in unexpected]
    chunks = []
    for of_chunk in _chunks(days):
        of_days = pl.col("day").is_in([d.day for d in of_chunk])
        blocks = [None if each is None else [each.filter(of_days)] for each in (scores, entities)]
        if (count := sum(d.rows for d in of_chunk)) > BLOCK_ROWS:
            limits = find_limits(scores.filter(of_days), count, BLOCK_ROWS)
            place = folder / str(of_chunk[0].day)
            blocks = [each and split(each[0], limits, place / str(n)) for n, each in enumerate(blocks)]
        chunk = _Chunk([_FoundDay(d) for d in of_chunk], blocks[0] or [], blocks[1])
        chunk.examine()
        wrong += [sentence for found in chunk.found for sentence in found.wrong()]
        chunks.append(chunk)
    if wrong:
        _refuse(model, wrong)
    return chunks


def _agree(
    project: Project,
    model: Model,
    tables: Tables,
    scores: pl.LazyFrame,
    days: Sequence[ScoredDay],
    prepared_days: Mapping[date, PreparedDay],
    data_view: DataView,
) -> None:
    """Check that the scores of each day are those of the features of the prepared day."""
    found = {
        day: (moments, read)
        for day, moments, read in scores
        .select("day", "as_of", "features_version")
        .unique()
        .collect(engine="streaming")
        .group_by("day")
        .agg(pl.col("as_of").unique(), pl.col("features_version").unique())
        .iter_rows()
    }
    wrong = []
    for d in days:
        prepared_day = prepared_days.get(d.day)
        if prepared_day is None:
            wrong.append(
                f"{d.day}: {project.name} is not prepared (data: {data_view}); run build_features for the day first"
            )
            continue
        if (expected := prepared_day.rows_up_to(d.horizon_days)) != d.rows:
            wrong.append(f"{d.day}: the prepared day has {expected} rows, and {d.rows} were scored")
        moments, read = found.get(d.day, ([prepared_day.as_of], []))
        if moments != [prepared_day.as_of]:
            wrong.append(
                f"{d.day}: the scores are not from the prepared day as of {prepared_day.as_of:%Y-%m-%d %H:%M} UTC"
            )
        elif any(_rebuilt(tables, prepared_day, version) for version in read):
            wrong.append(f"{d.day}: its features were built again after it was scored, and differ")
    if wrong:
        _refuse(model, wrong)


def _rebuilt(tables: Tables, prepared_day: PreparedDay, version: int) -> bool:
    """Return whether the features at the version that was scored differ from those of the prepared day."""
    table = features_table(prepared_day.project)
    scope = Scope(Interval.of(prepared_day.day), {"data_view": [prepared_day.data_view]})
    return tables.differ(table, scope, version, prepared_day.table_versions[table], sort_by=KEY)


def _refuse(model: Model, wrong: Sequence[str]) -> NoReturn:
    more = [f"… and {len(wrong) - 10} more"] if len(wrong) > 10 else []
    what_to_do = "Run score for these days again, then publish."
    raise DataError([f"{model.name}: nothing was published:", *wrong[:10], *more, what_to_do])


def _scores(
    model: Model, tables: Tables, interval: Interval, days: Sequence[ScoredDay], data_view: DataView
) -> pl.LazyFrame:
    wanted = pl.DataFrame([(d.day, d.model_version) for d in days], schema=["day", "model_version"], orient="row")
    return (
        tables
        .scan(scores_table(model.name, data_view))
        .filter(pl.col("day").is_between(interval.start, interval.end))
        .join(wanted.lazy().cast({"model_version": pl.Int64}), on=["day", "model_version"], how="semi")
    )


def _used(
    project: Project, prepared_days: Mapping[date, PreparedDay], days: Sequence[ScoredDay], settings: Settings
) -> pl.DataFrame:
    """Return the deliveries that the features of each day used, with the columns of `point_in_time.known_at`."""
    used = {d.day: prepared_days[d.day].deliveries for d in days}
    return recorded_deliveries(read_journal(settings, project).deliveries, used)


def _entities(project: Project, tables: Tables, used: pl.DataFrame) -> pl.LazyFrame:
    """Return the entities of each day, from the deliveries that its features used.

    A public column of a snapshot is null where the snapshot has no row for the entity, or was not known yet.
    """
    declared = project.feeds[project.entity.feed]
    own = with_horizon_of_day(project, states(used.filter(pl.col("feed") == project.entity.feed)).drop("feed"))
    scanned = tables.scan(clean_table(project.name, project.entity.feed))
    within = pl.col("day").is_between(own["day"].min(), own["day"].max())
    rows = rows_of(scanned.filter(within), own, declared.key).drop("day", "delivery_id")
    for feed_name, names in project.public_of_snapshots.items():
        key = [*project.feeds[feed_name].key]
        known = used.filter(pl.col("feed") == feed_name).select("run_date", "delivery_id")
        of_snapshot = (
            tables
            .scan(clean_table(project.name, feed_name))
            .join(known.lazy(), on="delivery_id")
            .select("run_date", *key, *names)
        )
        rows = rows.join(of_snapshot, on=["run_date", *key], how="left")
    return rows.select(pl.col("run_date").alias("day"), HORIZON, "entity_id", *project.entity.public)
