"""The small frozen records that travel between steps (as JSON through XCom or a file). Never frames, never secrets."""

from datetime import date, datetime
from typing import Literal

from include.core.base import Record
from include.core.interval import Interval

DataView = Literal["point_in_time", "latest"]

PublishMode = Literal["replace", "missing"]

BY_GATE = "gate"
"""Who promotes without hands, in the ledger; a decision of the gate does so once."""


class TableRef(Record):
    """Rows of a Delta table at one version: `version` is the data version."""

    table: str
    version: int
    interval: Interval
    rows: int


class Refusal(Record):
    """A delivery that was not taken, and why; the file stays where it is."""

    feed: str
    day: date
    uri: str
    why: str


class StepResult(Record):
    """What every step returns: `rows` that it wrote or read, and the version of the table or model that it made."""

    interval: Interval
    rows: int
    table_version: int | None = None
    model_version: int | None = None

    @property
    def skipped(self) -> str | None:
        """Why the step had nothing to do; None when it did something."""
        return None

    @property
    def tentative(self) -> bool:
        """Whether the step only tried something out: its days do not count as done."""
        return False


class Landed(StepResult):
    """`land`: deliveries that came into raw now, those that were there already, and those refused."""

    new: int
    known: int
    refused: tuple[Refusal, ...] = ()


class Validated(StepResult):
    """`validate`: verdicts on the deliveries that had none. `rows` went to clean, `quarantined` to quarantine."""

    accepted: int
    refused: tuple[Refusal, ...] = ()
    warnings: int = 0
    quarantined: int = 0


class Revalidated(StepResult):
    """`revalidate`: `rows` that came back into clean, rows that `stay` in quarantine, and the run days whose features
    were built of what is no longer so."""

    revalidated: int
    stay: int
    refused: tuple[Refusal, ...] = ()
    out_of_date: tuple[Interval, ...] = ()

    @property
    def skipped(self) -> str | None:
        return None if self.revalidated else f"nothing of {self.interval} is in quarantine or refused"


class PreparedDay(Record):
    """One prepared day: what was known (`as_of`, ids of the deliveries its features used) and where it lies."""

    project: str
    day: date
    data_view: DataView
    as_of: datetime
    deliveries: tuple[str, ...]
    table_versions: dict[str, int]
    rows: int


class Featured(StepResult):
    """`build_features`: the features written, and a night for each day, also for an empty one; of a `sample` of the
    entities there is none, so that nobody takes the day for prepared."""

    table: TableRef
    prepared_days: tuple[PreparedDay, ...]
    entity_fraction: float = 1

    @property
    def skipped(self) -> str | None:
        of = f"{self.table.table} has {self.rows} rows of a sample of {self.entity_fraction:g} of the entities, to try on"
        return None if self.entity_fraction == 1 else f"no night is prepared: {of}"

    @property
    def tentative(self) -> bool:
        return self.entity_fraction < 1


class Fitted(StepResult):
    """`fit`: one candidate, fitted and logged. `interval` is the days fitted; `digest` keys the fit."""

    model: str
    candidate: str
    run_id: str
    digest: str
    holdout: Interval


class Evaluated(StepResult):
    """`evaluate`: the best candidate as a model version, none when it was tried on a sample. `interval` is the days
    judged; `rows` those judged."""

    model: str
    candidate: str
    run_id: str
    metrics: dict[str, float]


class Check(Record):
    """One check of the gate. `measured` is None where nothing could be measured, which never passes."""

    name: str
    subject: str
    measured: float | None
    threshold: float
    passed: bool
    sentence: str


class GateDecision(StepResult):
    """`gate`: the decision on a version. `interval` is the run day; `rows` those judged; `champion` the version it was
    held against, None before the first."""

    model: str
    candidate: str
    gate_id: str
    champion: int | None
    passed: bool
    checks: tuple[Check, ...]

    @property
    def subject(self) -> str:
        """What was decided on, in words."""
        return f"candidate {self.candidate}" if self.model_version is None else f"version {self.model_version}"

    @property
    def why_not(self) -> str | None:
        """The checks that failed, in words; None when it passed."""
        return "; ".join(check.sentence for check in self.checks if not check.passed) or None


class Promotion(StepResult):
    """`promote`: the ledger's row. `interval` is its first day; `version` is the champion from then on. `rows` is 1
    when the row was written now, 0 when it was there."""

    model: str
    by: str
    why: str
    forced: bool = False
    held_back: str | None = None  # why nothing was promoted, though the gate was passed

    @property
    def skipped(self) -> str | None:
        return self.held_back


class ScoredDay(Record):
    """One version's scores of a day."""

    day: date
    model_version: int
    rows: int


class Scored(StepResult):
    """`score`: a batch to publish for each day that had a champion; `unscored` days had none."""

    model: str
    table: TableRef | None
    days: tuple[ScoredDay, ...]
    unscored: tuple[date, ...] = ()

    @property
    def skipped(self) -> str | None:
        return None if self.days else f"{self.model} has no champion for {self.interval}; nothing to score"


class PublishedDay(Record):
    """`published`: the pointer moved; `unchanged`: equal content was published already; `kept`: another batch stays
    published (`publish: missing`), with `differing` rows between the two."""

    day: date
    batch_id: str
    state: Literal["published", "unchanged", "kept"]
    rows: int
    differing: int = 0


class Published(StepResult):
    """`publish`: a line a day."""

    model: str
    days: tuple[PublishedDay, ...]


class UnpublishedDay(Record):
    """What readers see of a day since a publication was `undone`: the batch before, or nothing."""

    day: date
    batch_id: str | None
    undone: str


class Unpublished(StepResult):
    """`unpublish`: a line a day."""

    model: str
    days: tuple[UnpublishedDay, ...]

    @property
    def skipped(self) -> str | None:
        return None if self.days else f"{self.model}: nothing is published of {self.interval}"


class FailedDay(Record):
    """A day that a step over a range could not do, and why."""

    day: date
    step: str
    why: str


class Ranged(StepResult):
    """A step over a range in which bad days stop only themselves: days `done`, and those that `failed`."""

    done: tuple[Interval, ...]
    failed: tuple[FailedDay, ...] = ()

    @property
    def days(self) -> list[date]:
        """Those done."""
        return [day for part in self.done for day in part.days]


class Recorded(StepResult):
    """`outcomes`: how many days' outcomes became known or were corrected."""

    days: int


class Reproduced(Record):
    """`cli reproduce`: of the `rows` that a version's training saw, `differing` are scored otherwise by the model that
    was trained anew, by at most `largest_difference` (in the unit of the score). `changed`: what is no longer as it
    was when the version was made, and may be why."""

    model: str
    model_version: int
    candidate: str
    day: date
    rows: int
    differing: int
    largest_difference: float
    changed: tuple[str, ...]


class Alert(Record):
    """What people are told of once: `subject` (a model) broke `rule` as of run day `day`, in words."""

    subject: str
    rule: str
    day: date
    sentence: str


class Freshness(Record):
    """How far a table, or a model's published scores, had come as of run day `day`; `behind_days` is None where
    nothing was due or nothing is there."""

    subject: str
    day: date
    newest_day: date | None
    behind_days: int | None
    late: bool
    sentence: str


class Monitored(StepResult):
    """`monitor`: `rows` of performance written, of how many days of scores (`days`, over all models), and the alerts
    that were raised now."""

    days: int
    alerts: tuple[Alert, ...] = ()
