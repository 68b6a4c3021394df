"""The work of a nightly run in plain functions: one for each step, one run date at a time.

They are those of `bench/bare.py`, with files between them as a team would have that orchestrates such a script: each
step reads what the one before it wrote, and writes the same again when it runs again. This file imports neither the
product nor an orchestrator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from os import environ
from pathlib import Path

import adbc_driver_postgresql.dbapi
import joblib
import polars as pl

from bench import bare
from bench.bare_feeds import ACTUALS, FEEDS, SCHEDULE, WEATHER, PlainFeed

FEED_NAMES = tuple(feed.name for feed in FEEDS)


@dataclass(frozen=True)
class Night:
    """Where the files, the model and the tables of one run date are.

    Attributes:
        run_date: the run date. Its schedule and weather have this day, its actuals the day before.
        landing: the folder with the files of suppliers.
        tables: the folder for clean rows, features and scores.
        model: the model as `bench/backfill.py` dumps it.
        database_url: the database with the tables of `bench.bare.TABLES`.
    """

    run_date: date
    landing: Path
    tables: Path
    model: Path
    database_url: str

    @classmethod
    def of(cls, run_date: str, environment: Mapping[str, str] = environ) -> "Night":
        """Return the night of a run date (ISO), with places from the environment variables PEER_…."""
        landing, tables, model = (Path(environment[f"PEER_{name}"]) for name in ("LANDING", "TABLES", "MODEL"))
        return cls(date.fromisoformat(run_date), landing, tables, model, environment["PEER_DATABASE_URL"])

    def validate(self, name: str) -> None:
        """Read the file of a feed, check it, and write its clean and quarantined rows.

        Raises:
            FileNotFoundError: it has not arrived.
            ValueError: it breaks a rule about whole deliveries.
        """
        feed = {each.name: each for each in FEEDS}[name]
        day = self.run_date - timedelta(days=feed is ACTUALS)
        if (file := bare.files_of(self.landing, feed).get(day)) is None:
            raise FileNotFoundError(f"{name}: there is no file of {day} in {self.landing}")
        bare.clean_rows(feed, {day: file}, self.tables, 1, bare.Phases())

    def build_features(self) -> None:
        """Write the features of the run date, beside its public columns."""
        days = [self.run_date - timedelta(days=n) for n in range(1, max(bare.RATE_WINDOWS_DAYS) + 1)]
        counted = bare.count_late(self._clean(ACTUALS, days))
        rates = {by: bare.late_rates(daily, by) for by, daily in counted.items()}
        schedule, weather = (self._clean(feed, [self.run_date]) for feed in (SCHEDULE, WEATHER))
        flights = bare.make_features(schedule, weather, rates).filter(pl.col("day") == self.run_date)
        bare.write(flights, self.tables / "features", str(self.run_date))

    def score(self) -> None:
        """Score the features of the run date."""
        scores = bare.score(joblib.load(self.model), self._read("features"))
        bare.write(scores, self.tables / "scores", str(self.run_date))

    def publish(self) -> None:
        """Replace the run date's predictions and entities in one transaction."""
        with adbc_driver_postgresql.dbapi.connect(self.database_url) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM predictions WHERE day = '{self.run_date}'")  # noqa: S608
                cursor.execute(f"DELETE FROM entities WHERE day = '{self.run_date}'")  # noqa: S608
            bare.publish(connection, self._read("scores"), self._read("features"))

    def _clean(self, feed: PlainFeed, days: list[date]) -> pl.DataFrame:
        found = (self.tables / "clean" / feed.name / f"{day}-0.parquet" for day in days)
        return pl.read_parquet([file for file in found if file.exists()])

    def _read(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.tables / name / f"{self.run_date}.parquet")
