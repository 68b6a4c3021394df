"""Are published predictions what the raw tables and the version give? Pure.

The step `skew` builds the features of a sample of published rows again, from the raw tables and the deliveries that
the day's record names, and scores them with the version that was published. `difference` compares; `SkewMonitor`
decides which differences are alerts. It also looks at what the version meets that it was not trained on: other types
of columns, labels that it has never seen, and numbers outside of those it was trained on.

A check belongs to one published batch and is made once, so runs in any order end the same. The alert about run date D
is raised as of D + 1, as one about late predictions is.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from include.core.base import Sentence
from include.core.records import Alert
from include.monitoring.base import Monitor, Watch
from include.monitoring.records import Findings, MonitoredModel

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl

LOOK_BACK_DAYS = 7
"""Run dates before the monitor's whose published rows are checked if no run did it yet."""

SKEW, UNSEEN, OUTSIDE, SIGNATURE = "skew", "skew: unseen labels", "skew: outside training", "skew: signature"

MAX_LABELS = 10_000
"""A column with more labels in training is not checked for unseen ones."""

MAX_NAMED = 10
"""Columns that an alert names."""

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
"""How close numbers must be that another processor made, or on another number of rows: see `registry.SAME_SCORES`."""

State = Literal["compared", "skipped", "failed"]


@dataclass(frozen=True)
class SkewCheck:
    """What was found of one published batch. It has names and numbers, and no values of rows.

    Attributes:
        day: the run date of the batch.
        batch_id: the batch.
        model_version: the version that made it.
        state: compared; skipped, because a comparison would say nothing; or failed, because nothing could be built.
        why: of a check that is not compared, the reason; else empty.
        rows: published rows that were compared.
        exact: whether features had to be equal to the bit; else they, and predictions always, as close as `CLOSE` says.
        missing: rows that one side has and the other has not.
        features: number of rows that differ, by column of the features.
        scores: number of rows that differ, by column of the predictions.
        signature: what is other than in training, in sentences.
        unseen: share of rows with a label that training did not have, by column; columns without any are left out.
        outside: share of rows with a number outside of those of training, by column; as above.
        far: share of rows with a number that is further outside than the range of training is wide; as above.
    """

    day: date
    batch_id: str
    model_version: int
    state: State = "compared"
    why: str = ""
    rows: int = 0
    exact: bool = True
    missing: int = 0
    features: Mapping[str, int] = field(default_factory=dict)
    scores: Mapping[str, int] = field(default_factory=dict)
    signature: Sequence[str] = ()
    unseen: Mapping[str, float] = field(default_factory=dict)
    outside: Mapping[str, float] = field(default_factory=dict)
    far: Mapping[str, float] = field(default_factory=dict)


class SkewMonitor(Monitor):
    """Builds a sample of published rows again from raw tables each night, and raises an alert when they differ."""

    kind: Literal["skew"] = "skew"
    rows: int = Field(
        default=1000, ge=0, description="published rows of a run date that are built again; 0 switches it off"
    )
    unseen_at_most: float = Field(
        default=0.2, ge=0, le=1, description="share of rows with a label in a column that training did not have"
    )
    far_at_most: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of rows with a number in a column that is further outside of those of training than their "
        "range is wide. A number a little outside, such as the next month, is recorded only",
    )
    ignore: tuple[str, ...] = Field(
        default=(),
        description="inputs that are expected to leave the values of training, such as a year",
        examples=[["year"]],
    )

    def run(self, watch: Watch) -> Findings:
        """Raise alerts about the checks of the run date before each run date of the interval."""
        checks = watch.skew_checks(watch.interval.shifted(start=-LOOK_BACK_DAYS, end=-1))
        return Findings(alerts=tuple(alert for check in checks for alert in self.alerts(watch.model, check)))

    def alerts(self, model: MonitoredModel, check: SkewCheck) -> list[Alert]:
        """Return what people are told of a check."""
        found = {SKEW: self._difference(check), SIGNATURE: "; ".join(check.signature)}
        for rule, shares, limit, what in (
            (UNSEEN, check.unseen, self.unseen_at_most, "labels that training did not have"),
            (OUTSIDE, check.far, self.far_at_most, "numbers far outside of those of training"),
        ):
            over = {name: share for name, share in shares.items() if share > limit and name not in self.ignore}
            named = _named({name: f"{share:.0%} of rows" for name, share in over.items()})
            found[rule] = f"{what}: {named}; at most {limit:.0%} is allowed" if over else ""
        differs = bool(check.missing or check.scores)
        effect = f"published scores of {check.day} are not those that the raw tables give" if differs else ""
        return [
            Alert(
                subject=model.name,
                rule=rule,
                day=check.day + timedelta(days=1),
                effect=effect if rule == SKEW else "",
                sentence=f"{model.name}, version {check.model_version}, run date {check.day}: {said}. Look at view "
                f"skew. Owner: {model.owner}. Runbook: docs/runbooks/alert-skew.md",
            )
            for rule, said in found.items()
            if said
        ]

    @staticmethod
    def _difference(check: SkewCheck) -> str:
        if check.state == "failed":
            return f"the published rows cannot be built again from the raw tables: {check.why}"
        if not (check.missing or check.features or check.scores):
            return ""
        parts = [f"of {check.rows:,} published rows that were built again from the raw tables"]
        if check.missing:
            parts.append(f"{check.missing:,} are on one side only")
        for what, counts in (("features", check.features), ("predictions", check.scores)):
            if counts:
                parts.append(f"{what} differ in {_named({name: f'{rows:,} rows' for name, rows in counts.items()})}")
        return ", ".join(parts)


def difference(
    stored: "pl.DataFrame", again: "pl.DataFrame", key: Sequence[str], columns: Sequence[str], *, exact: bool
) -> tuple[int, dict[str, int]]:
    """Return how many rows only one frame has, and by column how many of the others differ.

    Args:
        stored: what was stored.
        again: what was made again. A column that it lacks differs in all rows, and so does one of another type, unless
            its values are the same after a cast.
        key: the columns that identify a row.
        columns: the columns of `stored` to compare.
        exact: whether numbers must be equal to the bit; else as close as `CLOSE` says.
    """
    import polars as pl

    both = stored.join(again.rename({name: f"{name}{_AGAIN}" for name in again.columns if name not in key}), on=key)
    missing = stored.height + again.height - 2 * both.height
    differing: dict[str, pl.Expr] = {}
    for name in columns:
        kind = stored.schema[name]
        if f"{name}{_AGAIN}" not in both.columns:
            differing[name] = pl.len()
            continue
        own, other = pl.col(name), pl.col(f"{name}{_AGAIN}").cast(kind, strict=False)
        differs = own.ne_missing(other)
        if kind.is_float() and not exact:
            close = (own - other).abs() <= CLOSE["atol"] + CLOSE["rtol"] * own.abs()
            differs &= ~close.fill_null(value=False)
        differing[name] = differs.sum()
    counts = both.select(each.alias(name) for name, each in differing.items()).to_dicts()
    return missing, {name: rows for of_all in counts for name, rows in of_all.items() if rows}


def summarise(parts: Iterable["pl.DataFrame"], numeric: Sequence[str], categorical: Sequence[str]) -> dict[str, Any]:
    """Return what a version was trained on, by input: the least and the greatest number, or the labels as digests.

    Labels with the hash of an identifier are left out, so neither an erasure nor a new hash key has to change them.

    Args:
        parts: the rows that it was fitted on and chosen by, at least one frame.
        numeric: the inputs that are numbers.
        categorical: the inputs that are labels.
    """
    import polars as pl

    from include.core.personal import PROTECTED

    ends: list[pl.DataFrame] = []
    labels: dict[str, pl.Series] = {name: pl.Series(name, dtype=pl.String) for name in categorical}
    for rows in parts:
        numbers = rows.lazy().select(pl.col(name).cast(pl.Float64) for name in numeric)
        finite = pl.all().filter(pl.all().is_finite())  # JSON has no infinite numbers
        ends.append(numbers.select(finite.min().name.suffix(" low"), finite.max().name.suffix(" high")).collect())
        for name in categorical:
            if len(labels[name]) <= MAX_LABELS:
                there = rows[name].cast(pl.String).drop_nulls().unique()
                there = there.filter(~there.str.contains(PROTECTED))
                labels[name] = pl.concat([labels[name], there]).unique()
    all_ends = pl.concat(ends)
    found: dict[str, Any] = {
        name: {"low": all_ends[f"{name} low"].min(), "high": all_ends[f"{name} high"].max()} for name in numeric
    }
    for name, each in labels.items():
        found[name] = {"labels": sorted(map(label_digest, each)) if len(each) <= MAX_LABELS else None}
    return found


def label_digest(label: str) -> str:
    """Return a short digest of a label, so that no value is stored."""
    return sha256(label.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Unlike:
    """Shares of rows that are unlike training, by input: see `SkewCheck`. Inputs without any such row are left out."""

    unseen: Mapping[str, float]
    outside: Mapping[str, float]
    far: Mapping[str, float]


def unlike_training(summary: Mapping[str, Any], rows: "pl.DataFrame") -> Unlike:
    """Return which share of rows has a label or a number that training did not have. A missing value is neither.

    Args:
        summary: the result of `summarise`.
        rows: the inputs of scored rows.
    """
    import polars as pl

    from include.core.personal import PROTECTED

    unseen, outside, far = {}, {}, {}
    for name, trained in summary.items():
        if name not in rows.columns or rows.is_empty():
            continue
        if (labels := trained.get("labels")) is not None:
            known, texts = set(labels), rows[name].cast(pl.String)
            new = [
                label
                for label in texts.drop_nulls().unique()
                if label_digest(label) not in known and not re.search(PROTECTED, label)
            ]
            unseen[name] = _share(texts.is_in(new))
        elif trained.get("low") is not None:
            values, low, high = rows[name].cast(pl.Float64), trained["low"], trained["high"]
            outside[name] = _share((values < low) | (values > high))
            width = high - low
            if width > 0 and rows.schema[name] != pl.Boolean():
                far[name] = _share((values < low - width) | (values > high + width))
    shares = ({name: share for name, share in each.items() if share > 0} for each in (unseen, outside, far))
    return Unlike(*shares)


def signature_differences(
    inputs: Sequence[str], trained: Mapping[str, str], served: Mapping[str, str]
) -> tuple[str, ...]:
    """Return a sentence for each input whose column is gone, or has another type than in training.

    Args:
        inputs: the columns that the version reads, in its order.
        trained: the type of each column of the features that it was trained on; empty if that is not known.
        served: the type of each column of the features that were scored.
    """
    found = []
    for name in inputs:
        if name not in served:
            found.append(f"the features have no column {name} any more")
        elif name in trained and trained[name] != served[name]:
            found.append(f"{name} was {trained[name]} in training and is {served[name]} now")
    return tuple(found)


_AGAIN = "__again"


def _share(true: "pl.Series") -> float:
    return float(true.fill_null(value=False).sum()) / len(true)


def _named(said: Mapping[str, str]) -> Sentence:
    shown = [f"{name} ({text})" for name, text in list(said.items())[:MAX_NAMED]]
    return ", ".join(shown) + (f" and {len(said) - MAX_NAMED} more" if len(said) > MAX_NAMED else "")
