"""What every monitor of a project has in common, and what it is given. One file beside this one for each monitor."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Literal

from include.core.interval import Interval
from include.core.project import Project
from include.core.variants import Variant
from include.monitoring.records import Findings

Part = Literal["steps", "storage"]
"""A part of the cost of a project."""


@dataclass(frozen=True)
class StepRun:
    """A successful run of a step for one day.

    Attributes:
        step: its name.
        model: of a step of a model.
        part: the candidate that it fitted.
        remote: whether it ran on Databricks, where times mean something else.
        day: the run date.
        started_at: when it started (UTC).
        ended_at: when it ended (UTC).
        values: what it took, by the name of the column in `step_runs`; without what was not measured.
    """

    step: str
    model: str | None
    part: str | None
    remote: bool
    day: date
    started_at: datetime
    ended_at: datetime
    values: dict[str, float]


@dataclass(frozen=True)
class Arrival:
    """A delivery in the journal.

    Attributes:
        sequence: its number there.
        available_from: the moment (UTC) from which it counts.
        differs: how its columns differ from the declared ones, in words.
        types: the types of its columns as delivered, as far as they are known.
    """

    sequence: int
    available_from: datetime
    differs: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeliveryQuality:
    """What validation found in a delivery.

    Attributes:
        feed: its feed.
        day: its day.
        sequence: its number in the journal.
        rows: rows that were checked.
        quarantined: rows that were quarantined.
        failed: expectations that failed, warnings included.
    """

    feed: str
    day: date
    sequence: int
    rows: int
    quarantined: int
    failed: int

    @property
    def quarantined_share(self) -> float:
        """The share of the rows that were quarantined."""
        return min(1.0, self.quarantined / self.rows) if self.rows else 0.0


@dataclass(frozen=True)
class LibraryChange:
    """The first end (UTC) of a step with one set of versions that ended after a step with another."""

    before_digest: str
    after_digest: str
    before: Mapping[str, str]
    after: Mapping[str, str]
    first_at: datetime


@dataclass(frozen=True)
class ProjectWatch(ABC):
    """One project and the run dates that its monitors look at, with what they may read of the shared database.

    Attributes:
        project: the project.
        interval: the run dates.
        watermarks: of each prepared day, the newest entry of the journal that its record knew.
        arrivals: the deliveries of each feed and day.
    """

    project: Project
    interval: Interval
    watermarks: Mapping[date, int]
    arrivals: Mapping[tuple[str, date], Sequence[Arrival]]

    @property
    @abstractmethod
    def quality(self) -> Mapping[str, Sequence[DeliveryQuality]]:
        """What validation found in the deliveries of the last months, by feed, in the order of their numbers."""

    @abstractmethod
    def library_changes(self, until: datetime) -> Sequence[LibraryChange]:
        """Return each change of libraries between two runs of steps up to a moment, once."""

    @abstractmethod
    def costs(self, days: Interval, currency: str) -> Mapping[Part, Mapping[date, float]]:
        """Return what the runs that ended on each of these days cost, and storage on them, in a currency."""

    @abstractmethod
    def step_runs(self, days: Interval) -> Sequence[StepRun]:
        """Return the successful runs of steps for one of these days each, in the order in which they were recorded."""


class ProjectMonitor(Variant):
    """A monitor with its settings. A kind that `project.yaml` does not list runs with its defaults."""

    def require_fit(self, project: Project) -> None:
        """Raise ValueError when a setting does not fit the project; its text begins with the key."""

    @abstractmethod
    def run(self, watch: ProjectWatch) -> Findings:
        """Look at each run date of the interval; count nothing later, so that a repeated run finds the same."""


def is_nightly(project: Project, run: StepRun) -> bool:
    """Return whether a run was that of its own run date: it started and ended between its cutoff and the next one.

    The runs of a backfill compete for the machine and say nothing of a nightly run: neither compared nor history.
    """
    return project.cutoff_at(run.day) <= run.started_at and run.ended_at < project.cutoff_at(
        run.day + timedelta(days=1)
    )
