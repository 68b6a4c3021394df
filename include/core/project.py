"""`project.yaml`, as a frozen record."""

from datetime import date, datetime, time, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from include.core.base import Config, LocalTime, Name, Zone
from include.core.errors import ConfigError, nearest
from include.core.feeds import (
    HORIZON,
    POSTGRESQL_COLUMNS,
    RESERVED_COLUMNS,
    TARGET_DAY,
    Column,
    Entity,
    Feed,
    Outcome,
)
from include.core.local_time import first_time, moment_of
from include.core.paths import can_meet
from include.core.periods import Reports
from include.core.prices import Prices
from include.core.public_page import PublicPage
from include.core.routes import Route


class Databricks(Config):
    """The settings for steps on Databricks (`run_on`): a cluster that is made for the run, or serverless."""

    wheels: str = Field(
        description="folder that `make deploy TARGET=…` puts wheels in: /Volumes/…, s3://…",
        examples=["/Volumes/main/nightly/wheels"],
    )
    connection: str = Field(
        default="databricks_default", description="Airflow connection to the workspace", examples=["databricks_ml"]
    )
    new_cluster: dict[str, Any] | None = Field(
        default=None,
        description="as the Jobs API takes it; none: serverless",
        examples=[{"spark_version": "17.3.x-scala2.13", "node_type_id": "i3.xlarge", "num_workers": 2}],
    )
    dbu_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="Databricks units (DBU) that the whole cluster uses in an hour, for `prices`: the Jobs API does "
        "not say them",
        examples=[4.5],
    )
    environment: str = Field(default="3", description="client version of the serverless environment", examples=["4"])
    settings: dict[str, str] = Field(
        default_factory=dict,
        description="fields of Settings that differ there",
        examples=[{"mlflow_tracking_uri": "databricks"}],
    )
    secrets: dict[str, str] = Field(
        default_factory=dict,
        description="field of Settings -> scope/key of its secret",
        examples=[{"database_url": "nightly/database_url"}],
    )
    timeout_minutes: int = Field(
        default=120, ge=1, description="a step that takes longer is cancelled and fails", examples=[240]
    )


class Retention(Config):
    """How long the shared database keeps what can be made again from the raw tables, which keep everything."""

    predictions: int | None = Field(
        default=None,
        ge=8,
        description="whole months for which predictions and entities are kept; by default for ever. `maintain` removes "
        "older months, unless something still needs them (docs/maintenance.md); counts from the next `migrate`",
        examples=[36],
    )
    runs: int | None = Field(
        default=None,
        ge=12,
        description="whole months for which the runs of steps are kept (the view `step_history`); by default for ever",
        examples=[24],
    )


RunOn = Literal["worker", "spark", "databricks"]
"""Where a step runs: in the worker's process, on the worker's Spark, or on Databricks."""

EXTRACTED = "sql"
"""How the keys of deliveries begin that are extracted from a database; the others are paths below the landing."""


class Project(Config):
    """`project.yaml`."""

    name: Name
    folder: Path = Field(exclude=True, description="where project.yaml is")
    title: str = Field(description="the project's name for people", examples=["Store sales"])
    owner: str = Field(description="the team that answers for it; the owner of its DAGs", examples=["data-team"])
    timezone: Zone = Field(description="in which days begin and the cutoff is meant", examples=["Europe/Berlin"])
    first_day: date = Field(description="no file is required for a day before it", examples=["2026-01-01"])
    schedule: str = Field(default="0 3 * * *", description="cron, in the project's timezone", examples=["30 4 * * *"])
    cutoff: LocalTime = Field(
        default=time(3), description="local time on run date D up to which the run of D knows", examples=["04:30"]
    )
    feeds: dict[Name, Feed] = Field(
        description="the files that suppliers deliver, by the feed's name",
    )
    entity: Entity = Field(
        description="what a row of features is about",
        examples=[{"feed": "sales", "key": ["store", "product"], "public": ["store"]}],
    )
    outcomes: dict[Name, Outcome] = Field(
        description="the true results that models learn to predict, by the outcome's name",
        examples=[{"revenue": {"feed": "sales", "sql": "units * price"}}],
    )
    entity_fraction: float = Field(
        default=1,
        gt=0,
        le=1,
        strict=True,
        description="share of the entities to try things on; nothing of it goes live",
        examples=[0.05],
    )
    notify: tuple[Route, ...] = Field(
        default=(),
        description="who gets messages about the project; all routes that fit get them, nightly_alerts if none does",
        examples=[[{"to": "oncall_pager", "severities": ["critical"]}]],
    )
    reports: Reports | None = Field(
        default=None,
        description="reports of weeks, months and quarters, by the run date after each; without it, there are none",
        examples=[{"periods": ["week", "month"], "to": ["managers_mail"]}],
    )
    public_page: bool | PublicPage = Field(
        default=False,
        description="one HTML page with the newest predictions and how good they were, for everybody who may see the "
        "public columns of the entity (docs/public-page.md): true, or which models and how many rows. By default there "
        "is none",
        examples=[True, {"models": ["revenue"], "rows": 2000}],
    )
    after_publish: tuple[Name, ...] = Field(
        default=(),
        description="Airflow connections that get a message after each change of what readers see; one of the channel "
        "power_bi refreshes a dataset",
        examples=[["power_bi_sales"]],
    )
    run_on: dict[Literal["validate", "build_features", "outcomes"], RunOn] = Field(
        default_factory=dict,
        description="where a step runs: on the worker by default; on Spark, or on Databricks (docs/where-steps-run.md)",
        examples=[{"build_features": "databricks"}],
    )
    databricks: Databricks | None = Field(
        default=None,
        description="where steps run for which `run_on` says databricks",
        examples=[{"wheels": "/Volumes/main/nightly/wheels"}],
    )
    prices: Prices | None = Field(
        default=None,
        description="what a run of a step costs, and the budget; without it, runs have no cost in money",
        examples=[{"currency": "EUR", "core_hour": 0.05, "dbu": 0.22, "budget_per_month": 100}],
    )

    retention: Retention = Field(
        default=Retention(),
        description="how many months the shared database keeps; by default everything for ever",
        examples=[{"predictions": 36, "runs": 24}],
    )

    @model_validator(mode="after")
    def _databricks_is_declared(self) -> Self:
        if self.run_on.get("outcomes") == "databricks":
            raise ValueError(
                "run_on: outcomes writes to the shared database, which Databricks cannot reach; write worker or spark"
            )
        if self.run_on.get("validate") == "databricks":
            raise ValueError(
                "run_on: validate needs the hash key and the shared database, which Databricks cannot reach; write "
                "worker or spark"
            )
        if "databricks" in self.run_on.values() and self.databricks is None:
            raise ValueError("run_on: a step runs on databricks, and there is no section `databricks` that says where")
        return self

    @model_validator(mode="after")
    def _public_page_has_columns(self) -> Self:
        if self.shown_page and not self.entity.public:
            raise ValueError(
                "public_page: entity.public names no column, and the page shows no others; name the public columns by "
                "which people know a row, or remove public_page"
            )
        return self

    @model_validator(mode="after")
    def _schedule_is_not_before_the_cutoff(self) -> Self:
        self.require_schedule("schedule", self.schedule)
        return self

    @model_validator(mode="after")
    def _a_file_is_of_one_feed(self) -> Self:
        for name, feed in self.file_feeds.items():
            if self.sql_feeds and can_meet(feed.path.split("/")[0], EXTRACTED):
                raise ValueError(
                    f"feeds.{name}.path: deliveries that are extracted from databases have the names {EXTRACTED}/…; "
                    "give the files another folder"
                )
        for (one, mine), (other, its) in combinations(self.file_feeds.items(), 2):
            if can_meet(mine.path, its.path):
                raise ValueError(
                    f"feeds.{other}.path: a file can match {its.path!r} and the path of feed {one}, {mine.path!r}; "
                    "give each feed a folder or a beginning of names of its own"
                )
            if can_meet(f"{mine.path}.json", its.path) or can_meet(mine.path, f"{its.path}.json"):
                raise ValueError(
                    f"feeds.{other}.path: a file of feed {one} or {other} can be named like a sidecar of the other; "
                    "give each feed a folder of its own"
                )
            for name, marker, path in ((one, mine.marker_path, its.path), (other, its.marker_path, mine.path)):
                if marker and can_meet(marker, path):
                    raise ValueError(
                        f"feeds.{name}.parts.marker: {marker!r} can be a file of another feed, whose path is {path!r}; "
                        "give each feed a folder of its own"
                    )
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for where, feed in [
            ("entity.feed", self.entity.feed),
            *((f"outcomes.{k}.feed", v.feed) for k, v in self.outcomes.items()),
        ]:
            if feed not in self.feeds:
                raise ValueError(f"{where}: no feed {feed!r}{nearest(feed, self.feeds)}")
            if self.feeds[feed].is_snapshot:
                raise ValueError(f"{where}: {feed} is a snapshot; its rows are of no day")
        for name, outcome in self.outcomes.items():
            if self.feeds[outcome.feed].delay_days < 1:
                raise ValueError(
                    f"outcomes.{name}.feed: {outcome.feed} has delay_days 0: a day cannot know its own outcome"
                )
            if name in {column.lower() for column in self.feeds[outcome.feed].columns}:
                raise ValueError(f"outcomes.{name}: feed {outcome.feed} has a column of that name; rename the outcome")
            if name in RESERVED_COLUMNS:
                raise ValueError(f"outcomes.{name}: the pipeline adds a column of that name; rename the outcome")
            if name in (HORIZON, TARGET_DAY):
                raise ValueError(f"outcomes.{name}: features have a column of that name; rename the outcome")
        self._require_horizon()
        if not self.feeds[self.entity.feed].required:
            raise ValueError(
                f"entity.feed: {self.entity.feed} is not required, but without its file a run has no entities to "
                f"predict; remove feeds.{self.entity.feed}.required"
            )
        columns = self.feeds[self.entity.feed].kept
        for name in self.entity.key:
            if name not in columns:
                raise ValueError(f"entity.key: {self.entity.feed} keeps no column {name!r}{nearest(name, columns)}")
        self._require_equal_keys()
        self._require_public()
        return self

    def _require_horizon(self) -> None:
        """Refuse a horizon for which the entities are not known."""
        name, ahead = self.entity.feed, self.feeds[self.entity.feed].ahead_days
        if self.entity.horizon_days > ahead:
            raise ValueError(
                f"entity.horizon_days: {self.entity.horizon_days} days ahead need the entities of these days, and "
                f"feeds.{name}.ahead_days is {ahead}; raise it, if the files are known that early, or lower "
                "horizon_days"
            )
        for column in self.entity.public:
            if column in (HORIZON, TARGET_DAY):
                raise ValueError(f"entity.public: views have a column {column!r} of their own; rename it")

    def _require_public(self) -> None:
        """Refuse a public column of the entity that is nowhere, is in two snapshots, or is not public."""
        own = self.feeds[self.entity.feed].kept
        for name in self.entity.public:
            places = [feed for feed, declared in self.snapshots.items() if name in declared.kept]
            if name not in own and not places:
                meant = nearest(name, {*own, *(each for feed in self.snapshots.values() for each in feed.kept)})
                raise ValueError(f"entity.public: {self.entity.feed} and the snapshots keep no column {name!r}{meant}")
            if name not in own and len(places) > 1:
                raise ValueError(f"entity.public: {name!r} is a column of {' and '.join(places)}; rename it in one")
        for name, (feed, column) in self.public.items():
            if name.lower() in POSTGRESQL_COLUMNS:
                raise ValueError(f"entity.public: {name!r} is a column of every table of PostgreSQL; rename it")
            if column.data_class != "public":
                raise ValueError(f"entity.public: {name!r} is of class {column.data_class}, not public")
            for key in self.feeds[feed].key if name not in own else ():
                mine, its = own.get(key), self.feeds[feed].kept[key]
                if mine is None or (mine.type, mine.data_class) != (its.type, its.data_class):
                    raise ValueError(
                        f"entity.public: {name!r} is a column of {feed}, whose key {key} is not a column of the same "
                        f"type and class in {self.entity.feed}, so its row cannot be looked up"
                    )

    def _require_equal_keys(self) -> None:
        """Refuse a feed with the entity's key in other types: its rows would never meet the entities."""
        declared = self.feeds[self.entity.feed].kept
        for name, feed in self.feeds.items():
            if not set(self.entity.key) <= feed.kept.keys():
                continue
            for key in self.entity.key:
                mine, other = feed.kept[key], declared[key]
                if (mine.type, mine.data_class) != (other.type, other.data_class):
                    raise ValueError(
                        f"feeds.{name}.columns.{key}: is {mine.type}, {mine.data_class}, but {other.type}, "
                        f"{other.data_class} in {self.entity.feed}; the key of the entity must be the same in both"
                    )

    @property
    def zone(self) -> ZoneInfo:
        """Return the timezone."""
        return ZoneInfo(self.timezone)

    @property
    def recorded_as(self) -> tuple[str, str | None]:
        """The project and model under which the audit lists a step."""
        return self.name, None

    def day_of(self, moment: datetime) -> date:
        """Return the project's calendar day of an aware datetime."""
        return moment.astimezone(self.zone).date()

    def at(self, day: date, local: time) -> datetime:
        """Return a local time on a day in UTC, also on a day when the clock changes."""
        return moment_of(day, local, self.zone)

    def cutoff_at(self, day: date) -> datetime:
        """Return the moment (UTC) up to which run date `day` knows if nothing is late."""
        return self.at(day, self.cutoff)

    def require_schedule(self, key: str, cron: str) -> None:
        """Refuse a schedule that is no cron expression, or starts a run before the cutoff.

        Args:
            key: where the schedule is declared.
            cron: in the project's timezone.

        Raises:
            ValueError: begins with the key that is wrong.
        """
        try:
            scheduled = first_time(cron)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
        if self.cutoff > scheduled:  # then it is not later on any day either: moment_of keeps the order of times
            raise ValueError(
                f"{key}: {scheduled:%H:%M} ({cron}) is before the cutoff, {self.cutoff:%H:%M}, so a run would start "
                f"too early; move the schedule to {self.cutoff:%H:%M} or later"
            )

    def refuse_entity_fraction(self, step: str) -> None:
        """Refuse a step whose results readers would see.

        Raises:
            ConfigError: the project has an entity fraction.
        """
        if self.entity_fraction < 1:
            raise ConfigError(
                f"{self.folder / 'project.yaml'}: entity_fraction: {self.entity_fraction:g}: {step} needs all "
                "entities, never a fraction; remove the key"
            )

    def slot(self, feed: str, day: date) -> tuple[str, date | None]:
        """Return in what a delivery is replaced: its feed and day, or all of the feed if that is a snapshot.

        A feed that is not declared any more keeps its days.
        """
        return feed, None if feed in self.snapshots else day

    @property
    def snapshots(self) -> dict[str, Feed]:
        """Return the feeds that are snapshots."""
        return {name: feed for name, feed in self.feeds.items() if feed.is_snapshot}

    @property
    def file_feeds(self) -> dict[str, Feed]:
        """Return the feeds whose deliveries are files in the landing."""
        return {name: feed for name, feed in self.feeds.items() if feed.source is None}

    @property
    def sql_feeds(self) -> dict[str, Feed]:
        """Return the feeds whose deliveries are extracted from databases."""
        return {name: feed for name, feed in self.feeds.items() if feed.source is not None}

    @property
    def connections(self) -> list[str]:
        """Return the names of the connections that the queries of feeds use, sorted."""
        return sorted({feed.source.connection for feed in self.feeds.values() if feed.source is not None})

    @property
    def public(self) -> dict[str, tuple[str, Column]]:
        """Map each public column of the entity to its feed and its declaration.

        It is a column of the entity's feed, or of a snapshot that can be looked up by columns of that feed.
        """
        own = self.entity.feed
        found = {name: (own, column) for name, column in self.feeds[own].kept.items()}
        for feed, declared in self.snapshots.items():
            found = {name: (feed, column) for name, column in declared.kept.items()} | found
        return {name: found[name] for name in self.entity.public}

    @property
    def public_of_snapshots(self) -> dict[str, list[str]]:
        """Map each snapshot to the public columns of the entity that come from it."""
        found: dict[str, list[str]] = {}
        for name, (feed, _) in self.public.items():
            if feed != self.entity.feed:
                found.setdefault(feed, []).append(name)
        return found

    @property
    def looks_ahead(self) -> bool:
        """Return whether entities are known before their day, so that rows of features have a horizon."""
        return self.feeds[self.entity.feed].ahead_days > 0

    @property
    def shown_page(self) -> PublicPage | None:
        """What the page for everybody shows; None without one."""
        if isinstance(self.public_page, PublicPage):
            return self.public_page
        return PublicPage() if self.public_page else None

    def shows_publicly(self, model: str) -> bool:
        """Return whether the page for everybody has a model."""
        page = self.shown_page
        return page is not None and (not page.models or model in page.models)

    @property
    def has_public_entity_id(self) -> bool:
        """Return whether `entity_id` is made of public columns only, so that it may leave the database."""
        columns = self.feeds[self.entity.feed].columns
        return all(columns[name].data_class == "public" for name in self.entity.key)

    def required(self, run_date: date) -> dict[str, date]:
        """Map each feed whose file a run date waits for to the newest day of these files."""
        return dict(self.required_days(run_date))

    def required_days(self, run_date: date) -> list[tuple[str, date]]:
        """Return feed and day of each file that a run date waits for; of a feed with `ahead_days`, several days."""
        return [(name, day) for name, day in self.delivered_days(run_date) if self.feeds[name].required]

    def required_file_days(self, run_date: date) -> list[tuple[str, date]]:
        """Return feed and day of each file in the landing that a run date waits for."""
        return [(name, day) for name, day in self.required_days(run_date) if self.feeds[name].source is None]

    def delivered_days(self, run_date: date) -> list[tuple[str, date]]:
        """Return feed and day of each file for a run date, of optional feeds too; the days of a feed in order.

        A feed has none of a day that is not in its calendar, or is before `first_day`.
        """
        return [
            (name, day)
            for name, feed in self.feeds.items()
            if not feed.is_snapshot
            for day in feed.needed_days(run_date)
            if day >= self.first_day and feed.has_file_on(day)
        ]

    def expected(self, run_date: date) -> dict[str, date]:
        """Map each feed to the newest day whose file should be there when a run date is prepared.

        It is the newest day of the feed's calendar. An optional feed that arrives after the cutoff has then only the
        file of the run date before. A feed of which no file is expected yet is absent.
        """
        found = {}
        for name, feed in self.feeds.items():
            if feed.is_snapshot:
                continue
            later = not feed.required and feed.arrives is not None and feed.arrives > self.cutoff
            day = feed.needed_day(run_date) - timedelta(days=int(later))
            while day >= self.first_day and not feed.has_file_on(day):
                day -= timedelta(days=1)
            if day >= self.first_day:
                found[name] = day
        return found
