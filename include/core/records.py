"""The small frozen records that travel between steps, as JSON through XCom or a file. No frames and no secrets."""

from datetime import date, datetime
from typing import Literal

from pydantic import Field

from include.core.base import Record, Sentence
from include.core.interval import Interval

DataView = Literal["point_in_time", "latest"]

PublishMode = Literal["replace", "missing"]

BY_GATE = "gate"
"""The name in the promotion history for promotions by the gate; each decision of the gate promotes once."""


class TableRef(Record):
    """Rows of a Delta table at one of its versions."""

    table: str
    version: int
    interval: Interval
    rows: int


class Refusal(Record):
    """A delivery that was refused, and why; the file stays where it is."""

    feed: str
    day: date
    uri: str
    why: Sentence


class StepResult(Record):
    """The result of a step: the `rows` that it wrote or read, and the version of the table or model that it made."""

    interval: Interval
    rows: int
    table_version: int | None = None
    model_version: int | None = None

    @property
    def skipped(self) -> str | None:
        """The reason why the step had nothing to do; None if it did something."""
        return None

    @property
    def tentative(self) -> bool:
        """True if the step only tried something out, so that its days do not count as done."""
        return False


class Landed(StepResult):
    """The result of `land`: numbers of `new` deliveries and of objects landed before (`known`), and refused objects.

    `held` has a sentence for each delivery that waits for a decision of a person. `unnamed` is how many refused objects
    and held deliveries are left out, so that the record stays small.
    """

    new: int
    known: int
    refused: tuple[Refusal, ...] = ()
    held: tuple[Sentence, ...] = ()
    unnamed: int = 0


class Extracted(StepResult):
    """The result of `extract`: numbers of `new` deliveries and of queries that gave the `known` rows again.

    `left` has a sentence for each feed and day that was not extracted although no run date of the interval needs it
    today, `held` one for each delivery that waits for a decision of a person; both name at most 50.
    """

    new: int
    known: int
    left: tuple[Sentence, ...] = ()
    held: tuple[Sentence, ...] = ()


class Decided(Record):
    """A decision of a person about a delivery: who, and why."""

    delivery_id: str
    feed: str
    day: date
    decision: str
    by: str
    why: str


class Repaired(Record):
    """The result of `repair`: the days that have a new record, and who decided why."""

    interval: Interval
    days: tuple[date, ...]
    by: str
    why: str


class Rehashed(Record):
    """The result of `rehash`.

    Attributes:
        before: the fingerprint of the keys before.
        after: the fingerprint of the keys now.
        hashed: the tables whose rows this run changed; a run that continues another changes the others.
        removed: the tables that this run removed, which are made again.
        batches: how many prediction batches have other ids now.
        commands: what makes everything else again.
        by: who decided.
        why: why.
    """

    before: str
    after: str
    hashed: tuple[str, ...]
    removed: tuple[str, ...]
    batches: int
    commands: tuple[str, ...]
    by: str
    why: str


class Pulled(Record):
    """The result of `pull`: the prepared `days` that came, their rows of features, and the entry in the audit there."""

    interval: Interval
    days: tuple[date, ...]
    rows: int
    pull_id: str
    by: str
    why: str


class Validated(StepResult):
    """The result of `validate` for deliveries without a verdict: `rows` became clean, `quarantined` did not."""

    accepted: int
    refused: tuple[Refusal, ...] = ()
    warnings: int = 0
    quarantined: int = 0


class Revalidated(StepResult):
    """The result of `revalidate`.

    Attributes:
        rows: rows that became clean.
        stay: rows that stay in quarantine.
        out_of_date: run dates whose features were built from deliveries that changed.
    """

    revalidated: int
    stay: int
    refused: tuple[Refusal, ...] = ()
    out_of_date: tuple[Interval, ...] = ()

    @property
    def skipped(self) -> str | None:
        """The reason, if there was nothing to validate again."""
        return None if self.revalidated else f"nothing of {self.interval} is in quarantine or refused"


class DayRecord(Record):
    """The record of a prepared day: what its features are built from, whatever comes later.

    Attributes:
        day: the run date.
        number: 1 for the first record of a day; each repair adds the next one. The highest number counts.
        as_of: the moment (UTC) up to which the day knows deliveries.
        watermark: the newest entry of the journal that it could use.
        deliveries: the ids of the deliveries that its features read, sorted.
        reconstructed: whether the day was prepared after the cutoff of the next run date.
    """

    day: date
    number: int
    as_of: datetime
    watermark: int
    deliveries: tuple[str, ...]
    reconstructed: bool


class TrainingRecord(Record):
    """The record of a training: what the fits of a model for a run date read, whatever comes later.

    Attributes:
        model: the model.
        day: the run date.
        watermark: the newest entry of the journal that the first fit could use.
        features_id: the id of the Delta table of the features; a table that is made again has another.
        features_version: the version of it that the first fit read.
    """

    model: str
    day: date
    watermark: int
    features_id: str
    features_version: int


class PreparedDay(Record):
    """A prepared day: its `as_of`, the newest journal entry it could use, what it used, and versions of tables.

    `number` is that of the record from which the features were built; None if they were built without one, as for a day
    that is prepared for the first time, and with the data view `latest`. `horizon_rows` counts the rows of each
    horizon, from 0; it is empty where all are of horizon 0. `left_out` is the number of entities without features,
    because `entity.where` is not true for them. `lacks` maps feeds to what the day went on without.
    `config_digest` is that of what decided the features (`changes.features_digest`).
    """

    project: str
    day: date
    data_view: DataView
    as_of: datetime
    watermark: int
    deliveries: tuple[str, ...]
    table_versions: dict[str, int]
    rows: int
    horizon_rows: tuple[int, ...] = ()
    left_out: int = 0
    number: int | None = None
    lacks: dict[str, Sentence] = Field(default_factory=dict)
    config_digest: str | None = None

    def rows_up_to(self, horizon_days: int) -> int:
        """Return the number of rows of the horizons that a model predicts."""
        return sum(self.horizon_rows[: horizon_days + 1]) if self.horizon_rows else self.rows


class Featured(StepResult):
    """The result of `build_features`: the features, and a prepared day for each day, also for a day without rows.

    With a fraction of the entities there are no prepared days, so that no reader takes the day for prepared.
    """

    table: TableRef
    prepared_days: tuple[PreparedDay, ...]
    entity_fraction: float = 1

    @property
    def skipped(self) -> str | None:
        """The reason, if features were built for a fraction of the entities only."""
        if self.entity_fraction == 1:
            return None
        return (
            f"no day is prepared: {self.table.table} has {self.rows} rows for trials, of an entity fraction of "
            f"{self.entity_fraction:g}"
        )

    @property
    def tentative(self) -> bool:
        """True if the features are only for a fraction of the entities."""
        return self.entity_fraction < 1


class FitOrigin(Record):
    """What a fit came from, as the shared database keeps it, for the semantic version and `cli lineage`.

    Attributes:
        git_commit: the commit of the code.
        declared: short digest of each part of the declaration (`training.declaration`).
        data_view: which features and outcomes it saw.
        as_of: the moment (UTC) up to which it knew deliveries.
        watermark: the newest entry of the journal that it could use.
        days: the labelled days, from the first one to fit on to the last holdout day.
        run_dates: the run dates whose features it may have read.
        missing: the labelled days without rows.
        features_version: the version of the features that it read.
        first_features_version: the version that days which were repaired since are read from.
        outcome_version: the version of the clean table of the outcome's feed.
    """

    git_commit: str
    declared: dict[str, str]
    data_view: DataView
    as_of: datetime
    watermark: int
    days: Interval
    run_dates: Interval
    missing: tuple[date, ...]
    features_version: int
    first_features_version: int
    outcome_version: int


class Fitted(StepResult):
    """The result of `fit` for one candidate. `interval` is the days it was fitted on; `digest` identifies the fit.

    `model_digest` is that of the files, which every later step compares before it loads them, and `tags_digest` that of
    what MLflow says of the fit. `read` is what it read; None for a trial, and with the data view `latest`, which have
    no record. `horizon_days` is the largest horizon of its rows. `logged` says whether this step logged the fit;
    otherwise MLflow had it. `origin` says what it came from.
    """

    model: str
    candidate: str
    run_id: str
    digest: str
    model_digest: str
    logged: bool
    validation: Interval
    holdout: Interval
    horizon_days: int = 0
    read: TrainingRecord | None = None
    tags_digest: str | None = None
    trained_day: date | None = None
    origin: FitOrigin | None = None


class Adopted(Fitted):
    """The result of `adopt_model`: a model that was fitted elsewhere, as a fit.

    Attributes:
        interval: the newest day whose outcomes it has seen. What it was fitted on is not known beyond that.
        source: where it came from, as the person named it.
        source_run: the MLflow run that logged it there, None if its files do not say.
        source_digest: sha256 of the estimator's file there.
        trusted_pickle: why a pickle was loaded; None if it was none.
        by: who adopted it.
        why: the reason.
        notes: what could not be checked, in sentences.
    """

    source: str
    source_run: str | None
    source_digest: str
    trusted_pickle: str | None
    by: str
    why: str
    notes: tuple[Sentence, ...] = ()


class Evaluated(StepResult):
    """The result of `evaluate`: the best candidate as a model version.

    `interval`, `rows` and `metrics` are of the holdout days, on which the gate decides; the candidate was chosen by
    `validation_metrics`, of the validation days. With a fraction of the entities there is no model version.
    """

    model: str
    candidate: str
    run_id: str
    validation: Interval
    validation_metrics: dict[str, float]
    metrics: dict[str, float]


class Check(Record):
    """One check of the gate.

    `measured` is None if nothing could be measured; such a check never passes. `low` and `high` are the interval within
    which the measured value is in 90 % of resamples of days, None if it has none.
    """

    name: str
    subject: str
    measured: float | None
    threshold: float
    passed: bool
    sentence: Sentence
    low: float | None = None
    high: float | None = None


class GateDecision(StepResult):
    """The result of `gate`: the decision on a version.

    Attributes:
        interval: the run date.
        rows: the rows of the holdout.
        champion: the version it was compared with, None before the first champion.
    """

    model: str
    candidate: str
    gate_id: str
    champion: int | None
    passed: bool
    checks: tuple[Check, ...]

    @property
    def subject(self) -> str:
        """The name of the candidate or version, for messages."""
        return f"candidate {self.candidate}" if self.model_version is None else f"version {self.model_version}"

    @property
    def why_not(self) -> str | None:
        """The sentences of the failed checks; None if all passed."""
        return "; ".join(check.sentence for check in self.checks if not check.passed) or None


class Reported(StepResult):
    """The result of `report_version`: where the training report of a version is.

    Attributes:
        interval: the run date of the training.
        rows: the rows of the holdout days.
        run_id: the MLflow run of the version.
        experiment_id: of that run.
        report: the page, below the artifacts of that run.
        digest: sha256 of the page. The same version and decision give the same page.
    """

    model: str
    gate_id: str
    run_id: str
    experiment_id: str
    report: str
    digest: str


class Promotion(StepResult):
    """The result of `promote`: the entry of the promotion history.

    Attributes:
        interval: the first day on which `model_version` is champion.
        rows: 1 if the entry was written now, 0 if it existed.
        held_back: why nothing was promoted although the version passed the gate.
    """

    model: str
    by: str
    why: str
    forced: bool = False
    held_back: Sentence | None = None

    @property
    def skipped(self) -> str | None:
        """The reason, if nothing was promoted."""
        return self.held_back


class Declined(Record):
    """The result of `decline`: what a person decided about a version, and the champion that stays."""

    model: str
    model_version: int
    state: str
    by: str
    why: Sentence
    champion: int | None


class ScoredDay(Record):
    """The scores of one version for a day, of the horizons from 0 to `horizon_days`."""

    day: date
    model_version: int
    rows: int
    horizon_days: int = 0


class Scored(StepResult):
    """The result of `score`: scores to publish for each day with a champion; `unscored` days had none."""

    model: str
    table: TableRef | None
    days: tuple[ScoredDay, ...]
    unscored: tuple[date, ...] = ()

    @property
    def skipped(self) -> str | None:
        """The reason, if no day had a champion."""
        return None if self.days else f"{self.model} has no champion for {self.interval}; nothing to score"


class PublishedDay(Record):
    """The result of `publish` for a day.

    Attributes:
        state: `published` if the pointer moved, `unchanged` if equal content was published already, `kept` if another
            batch stays published (`publish: missing`).
        differing: how many rows differ between the new batch and the one that stays.
    """

    day: date
    batch_id: str
    state: Literal["published", "unchanged", "kept"]
    rows: int
    differing: int = 0


class Published(StepResult):
    """The result of `publish`, by day."""

    model: str
    days: tuple[PublishedDay, ...]


class UnpublishedDay(Record):
    """The batch that readers see after the publication `undone` of a day was undone: the one before it, or none."""

    day: date
    batch_id: str | None
    undone: str


class Unpublished(StepResult):
    """The result of `unpublish`, by day."""

    model: str
    days: tuple[UnpublishedDay, ...]

    @property
    def skipped(self) -> str | None:
        """The reason, if nothing was published."""
        return None if self.days else f"{self.model}: nothing is published of {self.interval}"


class Shadowed(StepResult):
    """The result of `shadow`: the scores that were stored beside the champion's, unpublished."""

    model: str
    days: tuple[ScoredDay, ...]

    @property
    def skipped(self) -> str | None:
        """The reason, if no version is a shadow."""
        return None if self.days else f"{self.model} has no version that scores beside the champion on {self.interval}"


class ShadowEnded(StepResult):
    """The result of `end_shadow`: how the shadow stands on a run date.

    Attributes:
        rows: the rows that shadow and champion both predicted and whose outcome is known.
        model_version: the version that is the shadow; None if there is none.
        passed: whether the shadow ended as not worse than the champion; None if it goes on, or there is none.
        sentence: the result in words.
    """

    model: str
    passed: bool | None
    sentence: Sentence

    @property
    def skipped(self) -> str | None:
        """The reason, if no version is a shadow."""
        return self.sentence if self.model_version is None else None


class RollbackPlan(Record):
    """What a rollback will do, found before anything is written.

    Attributes:
        model: its name.
        model_version: the version that becomes the champion again.
        replaces: the champion up to now.
        first_day: the first day of the promotion.
        last_day: the newest published day, or `first_day` if nothing is published from it on.
        stored: published days of which a batch of the version is stored.
        to_score: published days that the version has to score.
    """

    model: str
    model_version: int
    replaces: int
    first_day: date
    last_day: date
    stored: tuple[date, ...] = ()
    to_score: tuple[date, ...] = ()

    @property
    def interval(self) -> Interval:
        """The days that the rollback is about."""
        return Interval(start=self.first_day, end=self.last_day)


class RolledBackDay(Record):
    """What readers see of a day after a rollback: a stored batch again, a day `scored` again, or what they saw."""

    day: date
    state: Literal["stored", "scored", "unchanged"]
    batch_id: str
    instead_of: int


class RolledBack(StepResult):
    """The result of `rollback`; `rows` counts the days that changed for readers.

    Attributes:
        replaces: the champion before.
        first_day: the first day on which `model_version` is the champion again.
        recorded: whether the promotion history got an entry now.
    """

    model: str
    by: str
    why: str
    replaces: int
    first_day: date
    recorded: bool
    forced: bool = False
    days: tuple[RolledBackDay, ...] = ()

    @property
    def sentence(self) -> str:
        """What readers see now."""
        version = f"version {self.model_version} of {self.model}"
        if not self.days:
            return f"{version} is the champion from {self.first_day} on. No day is published from then on yet."
        first, last = self.days[0].day, self.days[-1].day
        of = f"{first}" if first == last else f"each of the {len(self.days)} published days from {first} to {last}"
        counted = {state: sum(day.state == state for day in self.days) for state in ("stored", "scored", "unchanged")}
        how = ", ".join(
            f"{count} {words}"
            for count, words in (
                (counted["stored"], "from a stored batch"),
                (counted["scored"], "scored again"),
                (counted["unchanged"], "as before"),
            )
            if count
        )
        return f"Readers now see {version} for {of} ({how}). It is the champion from {self.first_day} on."


class MaintainedTable(Record):
    """What `maintain` did with a Delta table, or would do.

    Attributes:
        table: its name.
        new_properties: properties that it lacked.
        compacted_days: days whose small files became larger ones.
        compacted_files: how many files that were.
        compacted_bytes: and their bytes.
        kept: how many versions stay readable, by what needs them.
        removed_files: files that none of these versions has.
        removed_bytes: their bytes.
    """

    table: str
    new_properties: tuple[str, ...] = ()
    compacted_days: int = 0
    compacted_files: int = 0
    compacted_bytes: int = 0
    kept: dict[str, int] = Field(default_factory=dict)
    removed_files: int = 0
    removed_bytes: int = 0


class MaintainedMonth(Record):
    """A month of a table of the shared database that `retention` does not keep.

    Attributes:
        relation: the table.
        month: the first day of the month.
        rows: the rows of the project.
        bytes: what they take, with indexes.
        needed: what still needs it, in words; then it stays.
        removed: whether it was removed; false in a dry run, and if it could not be had for itself.
    """

    relation: str
    month: date
    rows: int
    bytes: int
    needed: tuple[str, ...] = ()
    removed: bool = False


class Maintained(StepResult):
    """The result of `maintain`; `rows` counts the files that it removed. A dry run changes nothing.

    Attributes:
        dry_run: whether nothing was changed.
        tables: the Delta tables.
        months: those of the shared database that `retention` does not keep.
        removed_runs: rows about runs of steps that it does not keep.
        analyzed: tables with months of which the database collected statistics for its planner.
    """

    dry_run: bool
    tables: tuple[MaintainedTable, ...] = ()
    months: tuple[MaintainedMonth, ...] = ()
    removed_runs: int = 0
    analyzed: tuple[str, ...] = ()

    @property
    def tentative(self) -> bool:
        """True for a dry run."""
        return self.dry_run


class FailedDay(Record):
    """A day for which a step over a range failed, and why."""

    day: date
    step: str
    why: Sentence


class Ranged(StepResult):
    """The result of a step over a range: the days `done`, and those that `failed` without stopping the others."""

    done: tuple[Interval, ...]
    failed: tuple[FailedDay, ...] = ()

    @property
    def days(self) -> list[date]:
        """The days that are done."""
        return [day for part in self.done for day in part.days]


class Recorded(StepResult):
    """The result of `outcomes`: for how many days outcomes became known or were corrected."""

    days: int


class Reproduced(Record):
    """The result of `cli reproduce`: how a newly trained model scores the `rows` of a version's training.

    Attributes:
        differing: rows that the two models score differently.
        largest_difference: the largest difference of two scores, in the unit of the score.
        changed: what changed since the version was made and may explain the differences.
        note: what was not repeated, and why: the fit of an adopted model.
    """

    model: str
    model_version: int
    candidate: str
    day: date
    rows: int
    differing: int
    largest_difference: float
    changed: tuple[str, ...]
    note: Sentence | None = None


class Alert(Record):
    """An alert: `subject` (a model) broke `rule` on run date `day`; `sentence` says how. Its incident is sent once.

    Attributes:
        effect: what readers see; empty if they do not notice it.
        command: what to type when the cause is fixed.
        runbook: the page, such as `docs/runbooks/land.md`; it may stand at the end of the sentence instead.
        tier: of the model, which decides the severity; the step `monitor` fills it in.
        models: the models that it affects.
        badness: how bad it is, a number that grows, so that an update is sent when it is clearly worse.
        scored_day: the day of late scores.
        late_feed: the late feed that is their cause; several, with commas between them, if any of them may be it.
        missing_feeds: the required feeds without a delivery, for which the day of these scores still waits.
        because: how late it is, in a sentence. Of drift: what changed.
        drifted: columns of features and of feeds (`feed.column`) that changed, the worst first.
        faulty: where the cause is, such as `feed sales` or `column price`, if models share it.
    """

    subject: str
    rule: str
    day: date
    sentence: Sentence
    effect: Sentence = ""
    command: Sentence = ""
    runbook: str = ""
    tier: Literal[1, 2, 3] = 2
    models: tuple[str, ...] = ()
    badness: float | None = None
    scored_day: date | None = None
    late_feed: str | None = None
    missing_feeds: tuple[str, ...] = ()
    because: Sentence = ""
    drifted: tuple[str, ...] = ()
    faulty: str = ""


class Freshness(Record):
    """The freshness of a table or of a model's published scores on run date `day`.

    `behind_days` is None if nothing was due or nothing exists.
    """

    subject: str
    day: date
    newest_day: date | None
    behind_days: int | None
    late: bool
    sentence: Sentence


class Monitored(StepResult):
    """The result of `monitor`.

    Attributes:
        rows: rows of performance that were written.
        days: days of scores that were measured, over all models.
        alerts: the alerts that were raised now.
    """

    days: int
    alerts: tuple[Alert, ...] = ()


class Skewed(StepResult):
    """The result of `skew`.

    Attributes:
        rows: published rows that were built again and compared.
        days: published days that were checked, over all models.
        alerts: the alerts that were raised now.
    """

    days: int
    alerts: tuple[Alert, ...] = ()


class PeriodReported(Record):
    """A report of a period: where its page and its PDF are, who gets it, and what it says first."""

    period: str
    page: str
    pdf: str | None
    why_no_pdf: Sentence | None = None
    subscribers: int = 0
    summary: tuple[Sentence, ...] = ()


class PeriodsReported(StepResult):
    """The result of `report_period`."""

    reports: tuple[PeriodReported, ...] = ()

    @property
    def skipped(self) -> str | None:
        """The reason, if there was nothing to report on."""
        return None if self.reports else "no period that is reported on ended the day before"


class PublicPageMade(StepResult):
    """The result of `public_page`: where the page is, and of each model the run date that it shows, if any."""

    page: str
    bytes: int
    changed: bool
    shown: dict[str, date | None] = Field(default_factory=dict)


class Retrained(StepResult):
    """The result of `retrain`: `why` a training of the run date is asked for, or why not."""

    model: str
    why: str | None = None
    why_not: str | None = None

    @property
    def skipped(self) -> str | None:
        """The reason, if no training is asked for."""
        return self.why_not
