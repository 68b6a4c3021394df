"""How the inputs of a version are distributed on the days fitted on, and what is unusual about them. Pure."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from include.report.subject import ReportSubject, by_frequency
from nightly_pages.charts import number

BINS = 16
MAX_MISSING = 0.2
MAX_MISSING_CHANGE = 0.05
MAX_SKEWNESS = 2.0
SKEWED = "skewed"
MAX_OUTLIERS = 0.02
MAX_UNSEEN = 0.01
MAX_LABELS = 50
RARE = 0.01
MANY_SCALES = 1000.0
SHOWN_LABELS = 3


@dataclass(frozen=True)
class InputProfile:
    """An input on the days fitted on, compared with the holdout days.

    Attributes:
        name: the column.
        kind: number or label.
        missing: share of the rows without a value.
        missing_later: the same of the holdout rows.
        distinct: how many different values there are.
        range: the values in words: 1 %, median and 99 %, or the most frequent labels.
        skewness: third standardised moment; None of labels and constants.
        outliers: share of values beyond three interquartile ranges of the quartiles; None of labels.
        magnitude: the median of the absolute values; None of labels.
        shares: share of rows in each of BINS equal parts of the range from 1 % to 99 %, or of each frequent label.
        notes: what is unusual, in words.
    """

    name: str
    kind: str
    missing: float
    missing_later: float
    distinct: int
    range: str
    skewness: float | None
    outliers: float | None
    magnitude: float | None
    shares: tuple[float, ...]
    notes: tuple[str, ...]


def profiles(subject: ReportSubject) -> list[InputProfile]:
    """Return each input of the version, numbers first, in the order of model.yaml."""
    numbers = [_number(subject, name) for name in subject.challenger.numeric]
    return numbers + [_label(subject, name) for name in subject.challenger.categorical]


def assumptions(found: list[InputProfile]) -> list[str]:
    """Return what the inputs together mean for a model, in sentences."""
    scales = sorted((each.magnitude, each.name) for each in found if each.magnitude)
    sentences = []
    if len(scales) > 1 and scales[-1][0] / scales[0][0] > MANY_SCALES:
        (least, small), (most, large) = scales[0], scales[-1]
        sentences.append(
            f"Magnitudes differ by a factor of {most / least:,.0f} ({small} {number(least)}, {large} {number(most)}): "
            "a linear model, a distance or a regularisation needs scaled numbers; trees do not."
        )
    skewed = [each.name for each in found if SKEWED in each.notes]
    if skewed:
        sentences.append(
            f"Skewed: {', '.join(skewed[:5])}{', …' if len(skewed) > 5 else ''}. For a linear model, take a power or a "
            "logarithm, or cut them into parts."
        )
    if missing := [each.name for each in found if each.missing > 0]:
        sentences.append(f"Inputs with missing values, which the pipeline must handle: {len(missing)} of {len(found)}.")
    return sentences


def _number(subject: ReportSubject, name: str) -> InputProfile:
    column, later = (rows[name].cast(pl.Float64).fill_nan(None) for rows in (subject.fitted_rows, subject.holdout_rows))
    values = column.drop_nulls().to_numpy()
    missing, missing_later = _missing(column), _missing(later)
    notes = _common_notes(missing, missing_later)
    if not len(values):
        return InputProfile(name, "number", missing, missing_later, 0, "no values", None, None, None, (), tuple(notes))
    low, first, median, third, high = np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99])
    spread, distinct = values.std(), len(np.unique(values))
    skewness = float(((values - values.mean()) ** 3).mean() / spread**3) if spread > 0 else None
    reach = 3 * (third - first)
    outliers = float(((values < first - reach) | (values > third + reach)).mean()) if reach > 0 else None
    if distinct == 1:
        notes.append("constant")
    if skewness is not None and abs(skewness) > MAX_SKEWNESS and distinct > 2:
        notes.append(SKEWED)
    if outliers is not None and outliers > MAX_OUTLIERS:
        notes.append(f"outliers {outliers:.1%}")
    ends = (low, high) if high > low else (values.min(), values.max() + 1e-9 + abs(values.max()) * 1e-9)
    counts = np.histogram(np.clip(values, *ends), bins=BINS, range=ends)[0]
    words = f"{low:.4g} to {high:.4g}, median {median:.4g}"
    if subject.is_personal(name):
        words = "(hidden)"
    return InputProfile(
        *(name, "number", missing, missing_later, distinct, words, skewness, outliers),
        float(np.median(np.abs(values))),
        tuple(float(count) for count in counts / counts.sum()),
        tuple(notes),
    )


def _label(subject: ReportSubject, name: str) -> InputProfile:
    column, later = (rows[name].cast(pl.String) for rows in (subject.fitted_rows, subject.holdout_rows))
    missing, missing_later = _missing(column), _missing(later)
    notes, values = _common_notes(missing, missing_later), column.drop_nulls()
    frequent = by_frequency(values.to_list(), BINS)
    counted = dict(values.value_counts().iter_rows())
    distinct = len(counted)
    known = later.drop_nulls()
    unseen = sum(each not in counted for each in known) / len(known) if len(known) else 0.0
    rare = sum(count for count in counted.values() if count < RARE * len(values))
    if distinct == 1:
        notes.append("constant")
    if distinct > MAX_LABELS:
        notes.append(f"{distinct} labels")
    if rare:
        notes.append(f"rare labels {rare / len(values):.1%}")
    if unseen > MAX_UNSEEN:
        notes.append(f"unseen on holdout days {unseen:.1%}")
    words = ", ".join(
        f"{subject.label(name, each)} {counted[str(each)] / len(values):.0%}" for each in frequent[:SHOWN_LABELS]
    )
    return InputProfile(
        *(name, "label", missing, missing_later, distinct, words or "no values", None, None, None),
        tuple(counted[str(each)] / len(values) for each in frequent),
        tuple(notes),
    )


def _common_notes(missing: float, missing_later: float) -> list[str]:
    notes = []
    if missing > MAX_MISSING:
        notes.append(f"missing {missing:.0%}")
    if abs(missing - missing_later) > MAX_MISSING_CHANGE:
        notes.append(f"missing {missing_later:.0%} on holdout days")
    return notes


def _missing(column: pl.Series) -> float:
    return column.null_count() / len(column) if len(column) else 0.0
