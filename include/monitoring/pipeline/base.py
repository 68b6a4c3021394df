"""What every monitor of a project has in common, and what it is given. One file beside this one for each monitor."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from include.core.interval import Interval
from include.core.project import Project
from include.core.variants import Variant
from include.monitoring.records import Findings


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
class ProjectWatch(ABC):
    """One project and the run dates that its monitors look at, with what they may read of the shared database."""

    project: Project
    interval: Interval

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

    The runs of a backfill compete for the machine and say nothing of a night, so they are no history, nor judged.
    """
    return project.cutoff_at(run.day) <= run.started_at and run.ended_at < project.cutoff_at(
        run.day + timedelta(days=1)
    )
