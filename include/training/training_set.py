"""Which rows a training sees. Pure functions of frames: no reading, no writing, no clock.

A training of run date D sees the features of earlier days as their own runs built them, and the outcomes that the run
of D knew. With data view `latest` it sees both with the corrections that came later, where there are any. The newest
labelled days are the holdout days, those before them the validation days; no estimator is ever fitted on either.

A row has a run date (`day`) and a horizon, and the outcome of its target day (`day` + horizon). Labelled days are
target days, so that one outcome is never both fitted on and held out, whatever the run dates and horizons of its rows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from include.core.errors import DataError, NotReadyError
from include.core.feeds import HORIZON, TARGET_DAY
from include.core.horizons import KEY, target_day, with_horizon
from include.core.interval import Interval
from include.core.journal import Known
from include.core.outcomes import outcome_column, without_values
from include.core.point_in_time import accepted, as_of, current_as_of
from include.core.project import Project
from include.core.records import DataView
from include.core.stack import rows_of
from include.training.config import Training
from include.training.labelled_rows import DAILY, LabelledRows, blocks_of, rows_digest
from include.training.labelled_rows import LABEL as LABEL

if TYPE_CHECKING:
    import pandas as pd

SEASON_DAYS = 7


@dataclass(frozen=True)
class TrainingSet:
    """The labelled rows that the training of a run date sees, and their days.

    Attributes:
        day: the run date.
        as_of: the moment up to which it knows deliveries.
        labelled: KEY, the model's features and LABEL (f64), sorted by KEY.
        fit: the target days to fit on.
        validation: the later target days on which candidates are compared.
        holdout: the still later target days on which the gate decides.
        missing: the target days up to the newest labelled one that should have labelled rows and have none.
        data_view: which features and outcomes it sees.
        horizon_days: the largest horizon of the rows.
    """

    day: date
    as_of: datetime
    labelled: LabelledRows
    fit: Interval
    validation: Interval
    holdout: Interval
    missing: tuple[date, ...]
    data_view: DataView = "point_in_time"
    horizon_days: int = 0

    @property
    def interval(self) -> Interval:
        """All target days whose rows may be in it."""
        return Interval(start=self.fit.start, end=self.holdout.end)

    @property
    def run_dates(self) -> Interval:
        """All run dates whose rows may be in it."""
        return earlier_by(self.interval, self.horizon_days)

    @property
    def count(self) -> int:
        """Return how many rows there are."""
        return len(self.labelled.labels)

    @property
    def rows(self) -> pl.DataFrame:
        """Return all rows, which may be many."""
        return self.within(self.interval)

    @property
    def fitted_rows(self) -> pl.DataFrame:
        """Return the rows to fit on, which may be many."""
        return self.within(self.fit)

    @property
    def validation_rows(self) -> pl.DataFrame:
        """Return the rows on which candidates are compared."""
        return self.within(self.validation)

    @property
    def holdout_rows(self) -> pl.DataFrame:
        """Return the later rows on which the gate decides."""
        return self.within(self.holdout)

    @property
    def fitted_labels(self) -> np.ndarray:
        """Return the outcomes (f64) of the rows to fit on."""
        labels: np.ndarray = self.labelled.labels[self.labelled.within(self.fit)]
        return labels

    @property
    def digest(self) -> str:
        """Follows from the content alone: another day written to the same tables does not change it."""
        return self.labelled.digest

    def has_digest(self, digest: str) -> bool:
        """Return whether the rows have a digest; one of an older release is of all rows at once."""
        if digest.startswith(DAILY):
            return digest == self.digest
        rows = self.rows
        return digest == rows_digest(rows if (rows[HORIZON] > 0).any() else rows.drop(HORIZON))

    def within(self, interval: Interval, columns: Sequence[str] = ()) -> pl.DataFrame:
        """Return the rows of target days; all columns unless some are named."""
        return pl.concat(part.select(columns or pl.all()) for part in self.parts(interval))

    def labels_within(self, interval: Interval) -> pl.DataFrame:
        """Return KEY and LABEL of the rows of target days."""
        return self.within(interval, [*KEY, LABEL])

    def parts(self, interval: Interval) -> Iterator[pl.DataFrame]:
        """Yield the rows of target days block by block, at least one."""
        return self.labelled.parts(interval, self.horizon_days)

    def fit_inputs(self, numeric: Sequence[str], categorical: Sequence[str]) -> tuple["pd.DataFrame", np.ndarray]:
        """Return what estimators take of the rows to fit on, and their outcomes (f64).

        The numbers are one matrix by column, filled block by block, so that no second copy of the rows is ever there.
        """
        import pandas as pd

        labels = self.fitted_labels
        numbers = np.empty((len(numeric), len(labels)))
        texts = {name: np.empty(len(labels), dtype=object) for name in categorical}
        first = 0
        for part in self.parts(self.fit):
            last, inputs = first + part.height, estimator_inputs(part, numeric, categorical)
            numbers[:, first:last] = inputs[[*numeric]].to_numpy(dtype=np.float64).T
            for name, text in texts.items():
                text[first:last] = inputs[name].to_numpy()
            first = last
        found = pd.DataFrame(numbers.T, columns=[*numeric], copy=False)
        for name, text in texts.items():
            found[name] = text
        return found, labels

    def fitted_at(self, numbers: np.ndarray, columns: Sequence[str]) -> pl.DataFrame:
        """Return some of the rows to fit on, by their numbers in ascending order."""
        found, first = [], 0
        for part in self.parts(self.fit):
            here = numbers[(numbers >= first) & (numbers < first + part.height)] - first
            found.append(part.select(columns)[here])
            first += part.height
        return pl.concat(found)


def window(project: Project, model: Training, day: date) -> Interval:
    """The days whose outcomes a training of the run date may see: `train_days` of them, the newest last.

    Raises `NotReadyError` when the project has no such day yet.
    """
    feed = project.feeds[project.outcomes[model.outcome].feed]
    last = feed.needed_day(day)
    if last < project.first_day:
        raise NotReadyError(f"{model.name}: no outcome is known on {day}; {project.name} begins on {project.first_day}")
    return Interval(start=max(project.first_day, last - timedelta(days=model.train_days - 1)), end=last)


def trained_day(project: Project, model: Training, day: date, journal: Known) -> date:
    """Return the run date whose training a run date takes up: its own, or an earlier one if no label was added since.

    A day without a file of the outcome, such as a Sunday, adds none, unless an earlier one was corrected meanwhile.
    """
    try:
        while not _adds_labels(project, model, day, journal):
            day -= timedelta(days=1)
    except (DataError, NotReadyError):  # the day before cannot be trained
        pass
    return day


def _adds_labels(project: Project, model: Training, day: date, journal: Known) -> bool:
    """Return whether a run date knows other outcomes than the run date before."""
    days, feed = window(project, model, day), project.outcomes[model.outcome].feed
    known, before = (
        current_as_of(journal.deliveries, feed, days, as_of(project, journal, run_date))
        for run_date in (day, day - timedelta(days=1))
    )
    return days.end in known or known != before


def build_training_set(
    project: Project,
    model: Training,
    day: date,
    *,
    journal: Known,
    features: pl.LazyFrame,
    clean: pl.LazyFrame,
    data_view: DataView = "point_in_time",
) -> TrainingSet:
    """Return the labelled days that the run of `day` knew, split into days to fit on, validation and holdout days.

    `journal`: what the training knows of it; `features`: of the project; `clean`: of the feed that the outcome is from.
    Raises `DataError` when the day has no accepted delivery of a required feed, a feature is missing or an entity
    comes twice; `NotReadyError` when there are too few labelled days.
    """
    days = window(project, model, day)
    run_dates = earlier_by(days, model.horizon_days)
    moment = as_of(project, journal, day)
    if data_view == "latest":
        moment = max([moment, *accepted(journal.deliveries).filter(pl.col("day") <= day)["available_from"]])
    require_columns(model.name, model.features, features.collect_schema().names(), f"the features of {project.name}")
    feed = project.outcomes[model.outcome].feed
    known = _frame(current_as_of(journal.deliveries, feed, days, moment))
    # A run that was later than this one, because its files were, knew what this one could not know.
    in_time = pl.col("as_of").le(moment) & ~pl.col("day").is_in(_admitting_later(journal, run_dates, moment))
    own = features.filter(in_time, pl.col("data_view").is_in(["point_in_time", data_view]))

    def read(block: Interval) -> pl.DataFrame:
        last = block.end + timedelta(days=model.horizon_days)
        of_targets = pl.col("day").is_between(max(block.start, days.start), min(last, days.end))
        of_days = rows_of(clean.filter(of_targets), known.filter(of_targets), project.feeds[feed].key)
        labels = outcome_column(project, model.outcome, LABEL)(of_days).select(
            pl.col("day").alias(TARGET_DAY), "entity_id", pl.col(LABEL).fill_nan(None)
        )
        with without_values():
            known_labels = labels.drop_nulls(LABEL).collect()
        of_block = with_horizon(own.filter(pl.col("day").is_between(block.start, block.end)))
        made = _made(model, of_block, days, data_view).with_columns(target_day())
        return made.join(known_labels, on=[TARGET_DAY, "entity_id"]).drop(TARGET_DAY).sort(KEY)

    within = own.filter(pl.col("day").is_between(run_dates.start, run_dates.end))
    counts = within.group_by("day").len().collect()
    rows = LabelledRows.in_blocks(blocks_of(run_dates, counts, len(model.features)), read)
    if rows.doubled:
        raise DataError(
            f"{model.name}: {rows.doubled} of {len(rows.labels)} labelled rows of {days} are of an entity and day twice"
        )
    problem_type = model.problem
    if problem_type.wrong_labels(rows.labels):
        raise DataError(f"{model.name}: outcome {model.outcome} of {days} has values other than {problem_type.labels}")

    labelled: list[date] = np.unique(rows.target_days).tolist()
    needed = model.min_fit_days + model.held_back_days
    if len(labelled) < needed:
        absent = [d for d in _labelled_by_calendar(project, model, days) if d not in set(labelled)]
        raise NotReadyError(
            f"{model.name}: {len(labelled)} labelled days are known on {day}, and {needed} are needed: "
            f"{model.min_fit_days} to fit on (min_fit_days), {model.validation_days} to compare candidates on "
            f"(validation_days) and {model.holdout_days} for the gate (holdout_days); without features or outcomes: "
            f"{_listed(absent)}. "
            "Prepare (land, validate, build_features) such days, or train on a later day"
        )
    fitted = labelled[: -model.held_back_days]
    compared = labelled[len(fitted) : -model.holdout_days]
    held_out = labelled[-model.holdout_days :]
    inside = _labelled_by_calendar(project, model, Interval(start=labelled[0], end=days.end))
    return TrainingSet(
        day=day,
        as_of=moment,
        labelled=rows,
        fit=Interval(start=fitted[0], end=fitted[-1]),
        validation=Interval(start=compared[0], end=compared[-1]),
        holdout=Interval(start=held_out[0], end=held_out[-1]),
        missing=tuple(d for d in inside if d not in set(labelled)),
        data_view=data_view,
        horizon_days=model.horizon_days,
    )


def earlier_by(days: Interval, horizon_days: int) -> Interval:
    """Return the run dates with rows about some target days."""
    return Interval(start=days.start - timedelta(days=horizon_days), end=days.end)


def _made(model: Training, own: pl.LazyFrame, days: Interval, data_view: DataView) -> pl.DataFrame:
    """Return KEY and features of the rows about target days. Days that were not rebuilt keep their original ones."""
    of_targets = (pl.col(HORIZON) <= model.horizon_days) & target_day().is_between(days.start, days.end)
    made = own.filter(of_targets).select(*KEY, *_features(model), "data_view").collect()
    again = made.filter(pl.col("data_view") == data_view)["day"].unique().to_list()
    return made.filter((pl.col("data_view") == data_view) | ~pl.col("day").is_in(again)).drop("data_view")


def seasonal_naive(
    project: Project, model: Training, rows: pl.DataFrame, earlier: Callable[[Interval], pl.DataFrame]
) -> pl.Series:
    """Return for each row the outcome of its entity a week before its target day, null if there is none.

    Where the run date does not know that yet, because outcomes take longer or the target day is ahead, it is as many
    whole weeks earlier as it takes: the newest outcome of the same weekday that the run date knows.

    Args:
        project: the model's project.
        model: the model.
        rows: KEY.
        earlier: returns the rows of target days, with KEY and LABEL.
    """
    delay = project.feeds[project.outcomes[model.outcome].feed].delay_days
    weeks = ((pl.col(HORIZON).cast(pl.Int64) + delay + SEASON_DAYS - 1) // SEASON_DAYS).clip(1)
    wanted = rows.with_columns(target_day()).select(
        pl.col(TARGET_DAY) - pl.duration(days=SEASON_DAYS * weeks), "entity_id"
    )
    if wanted.is_empty():
        return pl.Series("naive", dtype=pl.Float64)
    needed = Interval(start=wanted[TARGET_DAY].min(), end=wanted[TARGET_DAY].max())
    before = earlier(needed).select(target_day(), "entity_id", naive=LABEL).unique([TARGET_DAY, "entity_id"])
    return wanted.join(before, on=[TARGET_DAY, "entity_id"], how="left", maintain_order="left")["naive"]


def _admitting_later(journal: Known, days: Interval, moment: datetime) -> list[date]:
    """Return the days whose features admitted a late file that came after a moment."""
    later = set(journal.deliveries.filter(pl.col("available_from") > moment)["delivery_id"])
    return [
        day for day in days.days if day in journal.records and not later.isdisjoint(journal.records[day].deliveries)
    ]


def _labelled_by_calendar(project: Project, model: Training, days: Interval) -> list[date]:
    """The days that should have labels: those with a file of the entities, and one of the outcome."""
    entities, outcome = project.feeds[project.entity.feed], project.feeds[project.outcomes[model.outcome].feed]
    delay = timedelta(days=entities.delay_days)
    return [day for day in days.days if outcome.has_file_on(day) and entities.has_file_on(day - delay)]


def require_columns(model: str, needed: Sequence[str], there: Sequence[str], where: str) -> None:
    """Raises `DataError` naming the columns that a model needs and a table has not."""
    if absent := [name for name in needed if name not in set(there)]:
        raise DataError(
            f"{model} needs {', '.join(absent)}, which {where} do not have; "
            "restore the column in features.py and build these days again, or name another in model.yaml and train"
        )


def _features(model: Training) -> list[pl.Expr]:
    numbers = [pl.col(name).cast(pl.Float64).fill_nan(None) for name in model.numeric if name not in KEY]
    return numbers + [pl.col(name).cast(pl.String) for name in model.categorical]


def _frame(known: Mapping[date, str]) -> pl.DataFrame:
    return pl.DataFrame(list(known.items()), schema={"day": pl.Date(), "delivery_id": pl.String()}, orient="row")


def _listed(days: Sequence[date]) -> str:
    shown = ", ".join(map(str, days[:5]))
    return f"{shown} and {len(days) - 5} more" if len(days) > 5 else shown or "none"


def estimator_inputs(frame: pl.DataFrame, numeric: Sequence[str], categorical: Sequence[str]) -> "pd.DataFrame":
    """Return what estimators take: numbers as float64 with NaN for missing, labels as objects with None for missing."""
    return frame.select(
        *(pl.col(name).cast(pl.Float64) for name in numeric), *(pl.col(name).cast(pl.String) for name in categorical)
    ).to_pandas()
