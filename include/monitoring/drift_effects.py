"""How far the newest days of a feature are from the days before and from the training data. Pure.

**Which comparison raises alerts.** A day is compared with the same weekdays of the four weeks before it, and so are the
newest 3 and 7 days together. Weekdays then cancel out, and so does a season that moves slowly. What a feature usually
does from day to day stays: its effects of the eight weeks before say how large an effect it has anyway, and only what
is several times as large counts. The comparison with the champion's training data is information.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from include.monitoring.drift_summary import Edges, Summary

if TYPE_CHECKING:  # every DAG file loads this module
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

WINDOWS = (1, 3, 7)
"""How many of the newest days are compared together: a large effect shows on one day, a small one on several."""

WEEKS = 4
USUAL_DAYS = 56
"""Days before whose effects say how large an effect the feature has anyway."""

MIN_USUAL_DAYS = 21
USUAL_QUANTILE = 0.9
HISTORY_DAYS = 7 * WEEKS + USUAL_DAYS + max(WINDOWS)
"""Days before a run date that its effects are computed from."""

EFFECTS = ("shift", "spread", "shape", "missing", "new", "beyond", "rows")
WITHOUT_SHAPE = ("missing", "new", "rows")
FLOORS: Mapping[str, float] = {
    "shift": 0.05,  # standard deviations of the training data
    "spread": 0.05,  # logarithm of the ratio of standard deviations
    "shape": 0.02,  # Jensen-Shannon distance
    "missing": 0.02,
    "new": 0.01,
    "beyond": 0.15,
    "rows": 0.05,  # logarithm of the ratio
}
"""A smaller effect is never large, however small the effects of the feature usually are."""

LEAST = 0.01
"""Variance, as a share of that of the training data, that is added to both sides of a ratio."""

BEYOND = 0.25
"""How far outside a range a value is far outside, as a share of the range."""

MAX_CONSTANT_DAYS = 0.5
"""A series with one value on more of its days follows from the date (a weekday, a rate of the day before)."""

CALENDAR_DAYS = 0.9
"""A number with one value on more of its days is one of the calendar (a month): a new value of it is no surprise."""


@dataclass(frozen=True)
class Days:
    """The summaries of a series on consecutive days, as arrays; a day without one has no rows."""

    counts: "Floats"  # days × counts
    rows: "Floats"
    missing: "Floats"
    total: "Floats"
    squares: "Floats"
    low: "Floats"
    high: "Floats"

    @classmethod
    def of(cls, summaries: Mapping[date, Summary], start: date, days: int, size: int) -> "Days":
        """Return the arrays of `days` days from `start` on.

        Args:
            summaries: by day, on the same edges.
            start: the first day.
            days: how many.
            size: how many counts a summary has.
        """
        import numpy as np

        counts, others = np.zeros((days, size)), np.zeros((4, days))
        low, high = np.full(days, np.nan), np.full(days, np.nan)
        for day, each in summaries.items():
            place = (day - start).days
            if 0 <= place < days:
                counts[place] = each.counts
                others[:, place] = each.rows, each.missing, each.total, each.squares
                if each.low is not None and each.high is not None:
                    low[place], high[place] = each.low, each.high
        rows, missing, total, squares = others
        return cls(counts, rows, missing, total, squares, low, high)

    def summed(self, offsets: Iterable[int]) -> "Total":
        """Return for each day the sum of the days that are so many days before."""
        import numpy as np

        of_rows = (self.rows, self.missing, self.total, self.squares)
        total = _sum_back(np.column_stack([self.counts, *of_rows]), offsets)  # together, as each is small
        return Total(total[:, : -len(of_rows)], *total[:, -len(of_rows) :].T)

    def together(self) -> "Total":
        """Return the sum of all days, as one."""
        of_days = (self.counts, self.rows, self.missing, self.total, self.squares)
        return Total(*(each.sum(axis=0, keepdims=True) for each in of_days))


@dataclass(frozen=True)
class Total:
    """For each day, the sum of some of the days before it."""

    counts: "Floats"
    rows: "Floats"
    missing: "Floats"
    total: "Floats"
    squares: "Floats"

    def at(self, place: int) -> "Total":
        """Return the sum of one day."""
        return Total(*(each[place : place + 1] for each in vars(self).values()))


def reference_offsets(window: int) -> list[int]:
    """Return how many days before a day those are that its newest days are compared with: the same weekdays."""
    return [offset + 7 * week for offset in range(window) for week in range(1, WEEKS + 1)]


def _sum_back(values: "Floats", offsets: Iterable[int]) -> "Floats":
    import numpy as np

    total = np.zeros_like(values)
    for offset in offsets:
        if offset < len(values):
            total[offset:] += values[: len(values) - offset]
    return total


def compare(now: Total, before: Total, edges: Edges) -> dict[str, "Floats"]:
    """Return the effects of each day, NaN where one of both has no rows; those of a label have fewer.

    The effects: `shift` (Wasserstein distance in standard deviations of the training data), `spread` (logarithm of the
    ratio of standard deviations, without its sign), `shape` (Jensen-Shannon distance, base 2), `psi` (population
    stability index), `missing` (difference of the shares without a value), `outside` (more values outside the range of
    the training data), `new` and `vanished` (share of labels that are new, or gone; `new` also of a number with few
    distinct values). `side` is the signed difference of
    means.
    """
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        known, known_before = now.rows - now.missing, before.rows - before.missing
        both = np.where((known > 0) & (known_before > 0), 1.0, np.nan)
        p = now.counts / known[:, None]
        q = before.counts / known_before[:, None]
        effects = {
            "shape": both * _jensen_shannon(p, q),
            "psi": both * _psi(now.counts, before.counts),
            "missing": np.abs(now.missing / now.rows - before.missing / before.rows),
        }
        if lacking := edges.lacking:
            of_new, of_new_before = p[:, lacking].sum(axis=1), q[:, lacking].sum(axis=1)
            effects["new"] = both * np.maximum(0.0, of_new - of_new_before)
        if edges.is_label:
            expected = q * known[:, None]
            gone = (now.counts == 0) & (expected >= 5)
            effects["vanished"] = both * (q * gone).sum(axis=1)
            return effects
        mean, mean_before = now.total / known, before.total / known_before
        variance = np.maximum(now.squares / known - mean**2, 0)
        variance_before = np.maximum(before.squares / known_before - mean_before**2, 0)
        first, over = edges.inside
        effects["side"] = both * (mean - mean_before)
        effects["outside"] = both * np.maximum(0.0, q[:, first:over].sum(axis=1) - p[:, first:over].sum(axis=1))
        if edges.discrete:
            return effects
        effects["shift"] = both * np.maximum(np.abs(mean - mean_before), _wasserstein(p, q, edges))
        effects["spread"] = both * np.abs(0.5 * np.log((variance + LEAST) / (variance_before + LEAST)))
        return effects


def _jensen_shannon(p: "Floats", q: "Floats") -> "Floats":
    import numpy as np

    middle = (p + q) / 2

    def part(of: "Floats") -> "Floats":
        terms = np.where(of > 0, of * np.log2(np.where(of > 0, of, 1) / np.where(middle > 0, middle, 1)), 0)
        return np.asarray(terms.sum(axis=1))

    return np.asarray(np.sqrt(np.clip((part(p) + part(q)) / 2, 0, 1)))


def _psi(counts: "Floats", before: "Floats") -> "Floats":
    """Return the population stability index; half a row is added to each count, so that none is zero."""
    import numpy as np

    p = (counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True)
    q = (before + 0.5) / (before + 0.5).sum(axis=1, keepdims=True)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))


def _wasserstein(p: "Floats", q: "Floats", edges: Edges) -> "Floats":
    """Return the Wasserstein distance of two histograms, in standard deviations of the training data.

    What is outside the edges counts as if it were at the edge, so it is a lower limit there.
    """
    import numpy as np

    widths = np.diff(edges.edges) / edges.scale
    apart = np.abs(np.cumsum(p - q, axis=1))[:, :-1]  # at each edge
    return np.asarray(((apart[:, :-1] + apart[:, 1:]) / 2 * widths).sum(axis=1))


@dataclass(frozen=True)
class Compared:
    """A series on consecutive days, compared with its weeks before.

    Attributes:
        effects: of each window, by name; see `compare`.
        usual: how large each effect of each window usually is, at least its floor; NaN with too few days before.
        scores: the greatest effect of each window, as a multiple of what is usual; NaN where it is not known.
        stuck: whether all values of the newest days are one, which is not usual.
    """

    effects: Mapping[int, Mapping[str, "Floats"]]
    usual: Mapping[int, Mapping[str, "Floats"]]
    scores: Mapping[int, "Floats"]
    stuck: "npt.NDArray[np.bool_]"


def evaluate(days: Days, edges: Edges, *, rows: bool = False) -> Compared:
    """Compare each day of a series with the weeks before it.

    Args:
        days: the series.
        edges: of its feature.
        rows: whether the number of rows counts, too.
    """
    import numpy as np

    effects: dict[int, dict[str, Floats]] = {}
    usual: dict[int, dict[str, Floats]] = {}
    scores: dict[int, Floats] = {}
    constant = _one_value_a_day(days, edges, MAX_CONSTANT_DAYS)
    hidden = dict.fromkeys(EFFECTS, constant) | dict.fromkeys(WITHOUT_SHAPE, constant & False)
    if not edges.is_label:
        hidden["new"] = _one_value_a_day(days, edges, CALENDAR_DAYS)
    for window in WINDOWS:
        offsets = reference_offsets(window)
        now, before = days.summed(range(window)), days.summed(offsets)
        of_now, of_before = _days_with_rows(days, range(window)), _days_with_rows(days, offsets)
        enough = (of_now == window) & (of_before >= 2 * window)
        found = compare(now, before, edges)
        if rows:
            with np.errstate(divide="ignore", invalid="ignore"):
                found["rows"] = np.abs(np.log(now.rows / window / (before.rows / of_before)))
        if window == 1 and not edges.is_label and not edges.discrete:
            found["beyond"] = _beyond(days, edges)
        found = {name: np.where(enough, values, np.nan) for name, values in found.items()}
        effects[window] = found
        usual[window] = {
            name: np.where(hidden[name], np.nan, _usual(found[name], FLOORS[name])) for name in EFFECTS if name in found
        }
        scores[window] = np.fmax.reduce([found[name] / usual[window][name] for name in usual[window]])
    return Compared(effects, usual, scores, _stuck(days) & ("shift" in usual[1]) & ~constant)


def _beyond(days: Days, edges: Edges) -> "Floats":
    """Return the share of values far outside the range of the four weeks before: by a quarter of that range."""
    import numpy as np

    past = 7 * WEEKS
    low, high = (
        np.lib.stride_tricks.sliding_window_view(np.concatenate([np.full(past, np.nan), each[:-1]]), past)
        for each in (days.low, days.high)
    )
    least, most = np.fmin.reduce(low, axis=1), np.fmax.reduce(high, axis=1)
    margin = (most - least) * BEYOND
    ends = np.array([-np.inf, *edges.edges, np.inf])
    outside = (ends[None, 1:] <= (least - margin)[:, None]) | (ends[None, :-1] > (most + margin)[:, None])
    known = days.rows - days.missing
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((days.counts * outside).sum(axis=1) / known)


def _stuck(days: Days) -> "npt.NDArray[np.bool_]":
    """Return whether all values are one, for more days in a row than is usual: at least 2, and twice the longest."""
    import numpy as np

    stuck = np.zeros(days.rows.size, dtype=bool)
    constant = (days.low == days.high) & (days.rows - days.missing > 1)
    runs = np.zeros(days.rows.size, dtype=int)
    for place in range(runs.size):
        runs[place] = runs[place - 1] + 1 if constant[place] and place else int(constant[place])
        before = runs[max(0, place - USUAL_DAYS) : place - runs[place] + 1]
        seen = np.count_nonzero(days.rows[max(0, place - USUAL_DAYS) : place])
        if seen >= MIN_USUAL_DAYS:
            stuck[place] = runs[place] > max(1, 2 * int(before.max(initial=0)))
    return stuck


def _one_value_a_day(days: Days, edges: Edges, share: float) -> "npt.NDArray[np.bool_]":
    """Return for each day whether more than a share of the days up to it had one value, or none."""
    import numpy as np

    known = np.maximum(days.rows - days.missing, 1)
    one = days.counts.max(axis=1) >= known
    if not edges.is_label:
        one &= days.squares / known - (days.total / known) ** 2 < LEAST**2
    seen = days.rows > 0
    past = range(USUAL_DAYS)
    constant, of = _sum_back((one & seen).astype(float), past), _sum_back(seen.astype(float), past)
    return np.asarray(constant > share * of)


def _days_with_rows(days: Days, offsets: Iterable[int]) -> "Floats":
    return _sum_back((days.rows > 0).astype(float), offsets)


def _usual(effects: "Floats", floor: float) -> "Floats":
    """Return for each day the quantile of the effects of the days before, at least a floor."""
    import numpy as np

    padded = np.concatenate([np.full(USUAL_DAYS, np.nan), effects[:-1]])
    past = np.sort(np.lib.stride_tricks.sliding_window_view(padded, USUAL_DAYS), axis=1)  # NaN last
    days = np.isfinite(past).sum(axis=1)
    place = np.maximum(0, np.ceil(USUAL_QUANTILE * days).astype(int) - 1)
    quantile = past[np.arange(effects.size), place]
    return np.where(days >= MIN_USUAL_DAYS, np.maximum(floor, quantile), np.nan)
