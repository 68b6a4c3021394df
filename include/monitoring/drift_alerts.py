"""Which effects of a model's features are an alert on which day, within the owner's budget of false alerts. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.monitoring.drift_effects import MIN_USUAL_DAYS, WINDOWS, Compared
from include.monitoring.drift_summary import ALL, WatchedSeries

if TYPE_CHECKING:  # every DAG file loads this module
    import numpy as np

LIMITS: Mapping[int, float] = {1: 3.0, 3: 2.5, 7: 3.0}
"""How many times as large as usual an effect must be, by the days that are compared together.

Chosen on half a year of real days (`bench/drift.py`), for a budget of one false alert a month.
"""

SERIES = 30
"""The number of series that `LIMITS` were chosen for. Of more series, more have a large effect by chance."""

OF_SLICES = 2.0
"""How many times as wide the limits of a slice are: it has fewer rows, and a holiday of a store is no fault.

Chosen like `LIMITS`. A slice is never stuck: one value of a quiet slice for days is usual.
"""

STUCK = 3.0
"""How far a feature that is stuck at one value is over its limit."""

QUIET_DAYS = 28
"""A series that was over its limit in so many days before raises no further alert, unless it is `FURTHER` over it."""

FURTHER = 2.0
"""How many times as strong as the strongest of its quiet days an effect must be to raise another alert."""

BUDGET_DAYS = 30
DEARER = 1.5
"""How much larger an effect must be for each alert that the budget has no room for."""

EARLIER_DAYS = 60
"""Days before a run date whose alerts are found again, because they use up the budget."""


@dataclass(frozen=True)
class Drifted:
    """A series that is over its limit.

    Attributes:
        series: which.
        why: the effect that is the most over: its name, or `stuck`.
        days: how many of the newest days are compared together.
        value: the effect.
        usual: how large it usually is.
        strength: how far it is over its limit, as a multiple of the limit.
    """

    series: WatchedSeries
    why: str
    days: int
    value: float
    usual: float
    strength: float


def strengths(compared: Mapping[WatchedSeries, Compared]) -> "np.ndarray":
    """Return how far each series (row) is over its limit on each day, as a multiple of the limit; 0 if unknown.

    A slice makes the limits of slices wider, and not those of all rows: whoever declares one loses nothing.
    """
    import numpy as np

    whole = [series.slice == ALL for series in compared]
    of_day = np.isfinite([each.scores[1] for each in compared.values()])
    wider_of_all, wider = (np.maximum(1.0, known.sum(axis=0) / SERIES) ** (1 / 3) for known in (of_day[whole], of_day))
    rows = []
    for is_whole, each in zip(whole, compared.values(), strict=True):
        limit = wider_of_all if is_whole else OF_SLICES * wider
        of_windows = [np.nan_to_num(each.scores[window]) / (LIMITS[window] * limit) for window in WINDOWS]
        rows.append(np.maximum(np.maximum.reduce(of_windows), STUCK * (each.stuck & is_whole)))
    return np.array(rows)


def find_alert(
    compared: Mapping[WatchedSeries, Compared], over: "np.ndarray", place: int, budget: float
) -> list[Drifted]:
    """Return the series that are newly over their limits on a day, the worst first; none if that is no alert.

    The alerts of the `EARLIER_DAYS` before are found again, because they use up the budget. So a repeated run, and
    runs in another order, find the same.

    Args:
        compared: each series on the same days.
        over: their `strengths`.
        place: the day.
        budget: false alerts a month that the owner accepts.
    """
    import numpy as np

    series, own = list(compared), over * budget ** (1 / 6)
    raised: list[int] = []
    worst: list[int] = []
    for each in range(max(0, place - EARLIER_DAYS), place + 1):
        recent = sum(each - before <= BUDGET_DAYS for before in raised)
        limit = DEARER ** max(0.0, recent - budget + 1)
        quiet = own[:, max(0, place - EARLIER_DAYS, each - QUIET_DAYS) : each].max(axis=1, initial=0.0)
        new = np.flatnonzero((own[:, each] >= limit) & ((quiet < 1) | (own[:, each] >= FURTHER * quiet)))
        worst = sorted(new.tolist(), key=lambda row: (-own[row, each], series[row].words))
        raised += [each] * bool(worst)
    return [_found(series[row], compared[series[row]], place, own[row, place]) for row in worst]


def _found(series: WatchedSeries, compared: Compared, place: int, strength: float) -> Drifted:
    import numpy as np

    if compared.stuck[place]:
        return Drifted(series, "stuck", 1, 1.0, 0.0, float(strength))
    window = max(WINDOWS, key=lambda days: np.nan_to_num(compared.scores[days][place]) / LIMITS[days])
    effects, usual = compared.effects[window], compared.usual[window]
    name = max(usual, key=lambda each: np.nan_to_num(effects[each][place] / usual[each][place]))
    return Drifted(series, name, window, float(effects[name][place]), float(usual[name][place]), float(strength))


def repeated_day(fingerprints: Sequence[Mapping[str, str]]) -> int | None:
    """Return how many days before the newest one a day has the same values, None if none has.

    More than half of the features that have a fingerprint must agree: a single one, such as a distance, can be equal in
    two honest weeks. A feature that has repeated before, such as one that changes weekly, does not count.

    Args:
        fingerprints: of each day, the newest last: by feature, over all rows.
    """
    *before, newest = fingerprints
    if sum(bool(each) for each in before) < MIN_USUAL_DAYS:
        return None
    past = {name: [each[name] for each in before if name in each] for name in newest}
    voting = [name for name, values in past.items() if len(set(values)) == len(values)]
    for ago, earlier in enumerate(reversed(before), start=1):
        same = sum(newest[name] == earlier.get(name) for name in voting)
        if len(voting) >= 2 and same > len(voting) / 2:
            return ago
    return None
