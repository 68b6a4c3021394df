"""What monitoring is told of the shared database, and what it finds."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from include.core.records import Alert, Freshness
from include.training.problem_types import ProblemType, get_problem_type


@dataclass(frozen=True)
class MonitoredModel:
    """What monitoring knows of a model."""

    name: str
    project: str
    owner: str
    outcome: str
    problem_type: str
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    classes: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    horizon_days: int = 0
    train_days: int = 0

    @property
    def problem(self) -> ProblemType:
        """The problem type."""
        return get_problem_type(self.problem_type).of(quantiles=self.quantiles, classes=self.classes)


@dataclass(frozen=True)
class DayValue:
    """A metric over all rows of a run date, which predicts the days up to `last_day`."""

    day: date
    model_version: int
    value: float
    horizon_days: int = 0

    @property
    def last_day(self) -> date:
        """The last day that the run date predicts."""
        return self.day + timedelta(days=self.horizon_days)


@dataclass(frozen=True)
class Punctuality:
    """What the audit columns say about a day's scores.

    Attributes:
        day: the day of the scores.
        champion: the version that the promotion history named by the deadline, None before the first one.
        first_published_at: when the day was first published (UTC), None if it never was.
        newest_day: the newest published day up to this one.
    """

    day: date
    champion: int | None
    first_published_at: datetime | None
    newest_day: date | None


@dataclass(frozen=True)
class Preparation:
    """When a day was prepared last (UTC), and how many rows of features it has."""

    day: date
    rows: int
    prepared_at: datetime


@dataclass(frozen=True)
class FeedDay:
    """Whether the delivery that a run date was the first to need came in time.

    Attributes:
        feed: its feed.
        supplier: who delivers it.
        day: the run date.
        file_day: the day of the delivery.
        due_at: by when it was due (UTC).
        available_from: from when the first one counts (UTC); None if the run date knew none.
        late: whether there was none by then.
    """

    feed: str
    supplier: str
    day: date
    file_day: date
    due_at: datetime
    available_from: datetime | None
    late: bool


@dataclass(frozen=True)
class ScoreHealth:
    """Numeric health of the published scores of a day.

    Attributes:
        day: the day of the scores.
        rows: predictions.
        distinct_scores: different scores.
        commonest_share: share of the rows with the commonest score.
        saturated_share: share of the rows whose score is 0 or 1 to nine digits; None if scores are no probabilities.
    """

    day: date
    rows: int
    distinct_scores: int
    commonest_share: float
    saturated_share: float | None


@dataclass(frozen=True)
class Findings:
    """What a monitor found.

    Attributes:
        alerts: what people have to be told.
        freshness: how fresh something was on each run date.
        days: days that were measured.
        rows: rows of performance that were written.
        feed_days: which deliveries came in time.
    """

    alerts: tuple[Alert, ...] = ()
    freshness: tuple[Freshness, ...] = ()
    days: int = 0
    rows: int = 0
    feed_days: tuple[FeedDay, ...] = ()
