"""Summaries of a day's values by feature: histograms on frozen edges, counts and moments. Pure.

Two summaries on the same edges add up to the summary of both days, in any order: counts are integers, and sums are
added with `math.fsum`, which rounds once. So any two periods can be compared without reading their rows again.
`drift_effects.py` compares them.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:  # every DAG file loads this module
    import numpy as np
    import polars as pl

ALL = "all"
NO_VALUE = "(none)"
MAX_VALUE_CHARACTERS = 200
BINS = 20
TAILS = (*(n / 4 for n in range(1, 9)), *(n / 2 for n in range(5, 13)))
TOP_LABELS = 50
"""Labels with a count of their own, the most frequent of the training data; the others are counted together."""
MAX_SLICE_VALUES = 100
"""Values of a slice that are summarised on a day, those with the most rows."""
MIN_DISTINCT = 20
"""A day with fewer distinct values has no fingerprint, because an honest next day can have the same values."""

SUMMARISED_BY = 1
"""Increase it when days are summarised differently, so that stored summaries are made again."""


@dataclass(frozen=True)
class Edges:
    """How the values of a feature are counted, frozen from the training data of a model's first champion.

    Attributes:
        edges: of a number, ascending; empty of a label. One count is for values under the first edge, one for each
            part between two edges (the lower one belongs to it), and one for values from the last edge on.
        labels: of a label, those with a count of their own; the last count is for all others.
        center: what moments are centred on, the mean of the training data.
        scale: what moments are divided by, the standard deviation of the training data; 1 if it has none.
        low: the smallest value of the training data.
        high: the first number over their greatest value, which is an edge.
        discrete: whether the training data have a few distinct values only, each of which has a count of its own.
    """

    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    center: float = 0.0
    scale: float = 1.0
    low: float = 0.0
    high: float = 0.0
    discrete: bool = False

    @property
    def is_label(self) -> bool:
        """Whether the feature is a label."""
        return not self.edges

    @property
    def size(self) -> int:
        """The number of counts."""
        return len(self.labels) + 1 if self.is_label else len(self.edges) + 1

    @property
    def inside(self) -> tuple[int, int]:
        """The first count within the range of the training data, and the first one over it; of a number."""
        return self.edges.index(self.low) + 1, self.edges.index(self.high) + 1

    @property
    def lacking(self) -> list[int]:
        """The counts of values that the training data lack; of a label or of few distinct numbers, else none."""
        import numpy as np

        if self.is_label:
            return [self.size - 1]
        if not self.discrete:
            return []
        ends = np.nextafter(self.edges, np.inf)[:-1]
        return [0, *(np.flatnonzero(ends != self.edges[1:]) + 1).tolist(), self.size - 1]

    @classmethod
    def of_numbers(cls, values: "np.ndarray") -> Self:
        """Freeze the quantiles of numbers; each of a few distinct values gets a count of its own.

        Beyond the quantiles there are edges up to six standard deviations further, so that a season that the training
        data lack is counted finely, too.

        Args:
            values: float64; NaN and infinite values are left out.
        """
        import numpy as np

        known = np.sort(values[np.isfinite(values)])
        if not known.size:
            return cls(edges=(0.0,))
        with np.errstate(over="ignore", invalid="ignore"):
            distinct, deviation = np.unique(known), float(known.std())
        if not math.isfinite(deviation):  # values near the greatest number
            deviation = 0.0
        low, high = float(known[0]), float(np.nextafter(known[-1], np.inf))
        discrete = distinct.size <= BINS
        quantiles = np.quantile(known, np.linspace(0, 1, BINS + 1))
        # A value that is a quantile more than once, such as no rain, gets a count of its own.
        frequent = distinct if discrete else quantiles[1:][np.diff(quantiles) == 0]
        inner = [*(frequent if discrete else quantiles[:-1]), *np.nextafter(frequent, np.inf), high]
        tails = (
            [] if discrete else [edge for step in TAILS for edge in (low - step * deviation, high + step * deviation)]
        )
        return cls(
            edges=tuple(np.unique([*inner, *tails]).tolist()),
            center=float(known.mean()),
            scale=deviation if deviation > 0 else 1.0,
            low=low,
            high=high,
            discrete=discrete,
        )

    @classmethod
    def of_probabilities(cls) -> Self:
        """Freeze equal parts from 0 to 1, which need no training data."""
        import numpy as np

        edges = (*np.linspace(0, 1, BINS + 1)[:-1].tolist(), float(np.nextafter(1.0, 2.0)))
        return cls(edges=edges, center=0.5, scale=0.25, low=0.0, high=edges[-1])

    @classmethod
    def of_labels(cls, values: "pl.Series") -> Self:
        """Freeze the most frequent labels, of equally frequent ones the first in the alphabet.

        Labels with the hash of an identifier get no count of their own: edges are kept for ever, and neither an erasure
        nor a new hash key changes them.
        """
        import polars as pl

        from include.core.personal import PROTECTED

        texts = values.cast(pl.String).str.slice(0, MAX_VALUE_CHARACTERS).alias("label").drop_nulls()
        counted = texts.filter(~texts.str.contains(PROTECTED)).value_counts(name="rows")
        top = counted.sort(["rows", "label"], descending=[True, False]).head(TOP_LABELS)
        return cls(labels=tuple(sorted(top["label"].to_list())))


@dataclass(frozen=True)
class Summary:
    """What is kept of the values of a feature, of one day and slice or of several.

    Attributes:
        rows: rows, those without a value included.
        missing: rows without a value; NaN and infinite numbers are none.
        counts: see `Edges`.
        low: smallest value; None of a label, and if there is none.
        high: greatest value.
        total: sum of (value - center) / scale.
        squares: sum of ((value - center) / scale)².
        fingerprint: digest of all values of a day; None where equal days are no surprise.
    """

    rows: int
    missing: int
    counts: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    total: float = 0.0
    squares: float = 0.0
    fingerprint: str | None = None


def merge(summaries: Sequence[Summary]) -> Summary:
    """Return the summary of all rows of summaries on the same edges. Their order does not matter."""
    lows = [each.low for each in summaries if each.low is not None]
    highs = [each.high for each in summaries if each.high is not None]
    return Summary(
        rows=sum(each.rows for each in summaries),
        missing=sum(each.missing for each in summaries),
        counts=tuple(map(sum, zip(*(each.counts for each in summaries), strict=True))),
        low=min(lows, default=None),
        high=max(highs, default=None),
        total=math.fsum(each.total for each in summaries),
        squares=math.fsum(each.squares for each in summaries),
    )


def summarise(values: "pl.Series", edges: Edges) -> Summary:
    """Return the summary of values, whatever their order."""
    return _of_labels(values, edges) if edges.is_label else _of_numbers(values, edges)


def _of_numbers(values: "pl.Series", edges: Edges) -> Summary:
    import numpy as np
    import polars as pl

    given = values.cast(pl.Float64).fill_null(math.nan).to_numpy()
    known = np.sort(given[np.isfinite(given)]) + 0.0  # a negative zero becomes zero
    cuts = np.searchsorted(known, edges.edges, side="left")
    counts = np.diff(cuts, prepend=0, append=known.size)
    rows, missing = given.size, given.size - known.size
    if not known.size:
        return Summary(rows, missing, tuple(counts.tolist()))
    moved = (known - edges.center) / edges.scale
    distinct = 1 + int(np.count_nonzero(np.diff(known)))
    return Summary(
        rows=rows,
        missing=missing,
        counts=tuple(counts.tolist()),
        low=float(known[0]),
        high=float(known[-1]),
        total=float(moved.sum()),
        squares=float((moved * moved).sum()),
        fingerprint=hashlib.sha256(known.tobytes()).hexdigest()[:16] if distinct >= MIN_DISTINCT else None,
    )


def _of_labels(values: "pl.Series", edges: Edges) -> Summary:
    import polars as pl

    texts = values.cast(pl.String).str.slice(0, MAX_VALUE_CHARACTERS).alias("label")
    counted = dict(texts.drop_nulls().value_counts(name="rows").iter_rows())
    counts = [counted.get(label, 0) for label in edges.labels]
    missing = texts.null_count()
    return Summary(texts.len(), missing, (*counts, texts.len() - missing - sum(counts)))


@dataclass(frozen=True)
class WatchedSeries:
    """What is watched: a feature, or what a model predicts, over all rows or over those of one value of a slice."""

    role: str  # input, prediction or outcome
    feature: str
    slice: str = ALL
    slice_value: str = ALL

    @property
    def words(self) -> str:
        """How messages name it."""
        of_slice = "" if self.slice == ALL else f" of {self.slice}={self.slice_value}"
        return f"{self.role} {self.feature}{of_slice}"


def summarise_day(
    rows: "pl.DataFrame", role: str, edges: Mapping[str, Edges], slices: Sequence[str], min_rows: int
) -> Iterator[tuple[WatchedSeries, Summary]]:
    """Yield the summary of each column of a day: over all rows, and by each value of a slice with enough rows.

    Args:
        rows: the columns of `edges` and of `slices`.
        role: input, prediction or outcome.
        edges: of each column.
        slices: columns by which rows are looked at, too. One that the rows lack is left out.
        min_rows: a value of a slice with fewer rows is left out. So are those after the `MAX_SLICE_VALUES` largest, and
            hashes of identifiers, which an erasure would have to remove.
    """
    import polars as pl

    from include.core.personal import PROTECTED

    parts = [(ALL, ALL, rows)]
    for column in slices:
        if column in rows.columns:
            texts = pl.col(column).cast(pl.String).fill_null(NO_VALUE).str.slice(0, MAX_VALUE_CHARACTERS)
            of_value = (
                rows
                .with_columns(__slice=texts)
                .filter(~pl.col("__slice").str.contains(PROTECTED))
                .partition_by("__slice", as_dict=True)
            )
            enough = [each for each in sorted(of_value.items()) if each[1].height >= min_rows]
            largest = sorted(enough, key=lambda each: -each[1].height)[:MAX_SLICE_VALUES]
            parts += [(column, str(value), part) for (value,), part in sorted(largest)]
    for column, value, part in parts:
        for name in edges:
            if name != column:  # a slice has one value only
                yield WatchedSeries(role, name, column, value), summarise(part[name], edges[name])


@dataclass(frozen=True)
class Summarised:
    """The summaries of a model.

    Attributes:
        edges: by role and feature.
        days: of each series by run date. An outcome is of the run date that first knows it.
        versions: the version that predicted on each run date.
        training: the first and the last run date whose features the training of a version read.
        run_dates: those to measure, in order: those asked for, and later ones whose days before have changed.
    """

    edges: Mapping[tuple[str, str], Edges]
    days: Mapping[WatchedSeries, Mapping[date, Summary]]
    versions: Mapping[date, int]
    training: Mapping[int, tuple[date, date]]
    run_dates: Sequence[date]
