"""Which effects of a model's features are an alert on which day, within the owner's budget of false alerts. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.monitoring.drift_effects import WINDOWS, Compared
from include.monitoring.drift_summary import ALL, Series

if TYPE_CHECKING:  # every DAG file loads this module
    import numpy as np

LIMITS: Mapping[int, float] = {1: 3.0, 3: 2.5, 7: 3.0}
"""How many times as large as usual an effect must be, by the days that are compared together.

Chosen on the flights of January to June 2013 (`bench/drift.py`), for a budget of one false alert a month.
"""

SERIES = 30
"""The number of series that `LIMITS` were chosen for. Of more series, more have a large effect by chance."""

QUIET_DAYS = 28
"""A series that was over its limit in so many days before raises no further alert: the weeks before then have it."""

BUDGET_DAYS = 30
DEARER = 1.5
"""How much larger an effect must be for each alert that the budget has no room for."""

REPLAYED_DAYS = 60
"""Days before a run date whose alerts are found again, because they use up the budget."""


@dataclass(frozen=True)
class Found:
    """A series that is over its limit.

    Attributes:
        series: which.
        why: the effect that is the most over: its name, or `stuck`.
        days: how many of the newest days are compared together.
        value: the effect.
        usual: how large it usually is.
        strength: how far it is over its limit, as a multiple of the limit.
    """

    series: Series
    why: str
    days: int
    value: float
    usual: float
    strength: float


def strengths(compared: Mapping[Series, Compared]) -> "np.ndarray":
    """Return how far each series (row) is over its limit on each day, as a multiple of the limit; 0 if unknown."""
    import numpy as np

    wider = max(1.0, len(compared) / SERIES) ** (1 / 3)
    rows = []
    for each in compared.values():
        of_windows = [np.nan_to_num(each.scores[window]) / (LIMITS[window] * wider) for window in WINDOWS]
        rows.append(np.maximum(np.maximum.reduce(of_windows), 2.0 * each.stuck))
    return np.array(rows)


def find_alerts(compared: Mapping[Series, Compared], first: int, budget: float) -> Iterator[tuple[int, list[Found]]]:
    """Yield each day with an alert, as its place, and the series that are newly over their limits, the worst first.

    Args:
        compared: each series on the same days.
        first: the place of the first day to look at. It and the `REPLAYED_DAYS` after it decide how much of the budget
            is used up.
        budget: false alerts a month that the owner accepts.
    """
    import numpy as np

    if not compared:
        return
    series, over = list(compared), strengths(compared) * budget ** (1 / 6)
    last_over = np.full(len(series), -QUIET_DAYS - 1)
    raised: list[int] = []
    for place in range(first, over.shape[1]):
        recent = sum(place - before <= BUDGET_DAYS for before in raised)
        limit = DEARER ** max(0.0, recent - budget + 1)
        new = (over[:, place] >= limit) & (place - last_over > QUIET_DAYS)
        if new.any():
            raised.append(place)
            worst = sorted(np.flatnonzero(new), key=lambda row: (-over[row, place], series[row].words))
            yield place, [_found(series[row], compared[series[row]], place, over[row, place]) for row in worst]
        last_over[over[:, place] >= 1] = place


def _found(series: Series, compared: Compared, place: int, strength: float) -> Found:
    import numpy as np

    if compared.stuck[place]:
        return Found(series, "stuck", 1, 1.0, 0.0, float(strength))
    window = max(WINDOWS, key=lambda days: np.nan_to_num(compared.scores[days][place]) / LIMITS[days])
    effects, usual = compared.effects[window], compared.usual[window]
    name = max(usual, key=lambda each: np.nan_to_num(effects[each][place] / usual[each][place]))
    return Found(series, name, window, float(effects[name][place]), float(usual[name][place]), float(strength))


def repeated_day(fingerprints: Sequence[Mapping[str, str]]) -> int | None:
    """Return how many days before the newest one a day has the same values, None if none has.

    More than half of the features that have a fingerprint must agree: a single one, such as a distance, can be equal in
    two honest weeks.

    Args:
        fingerprints: of each day, the newest last: by feature, over all rows.
    """
    *before, newest = fingerprints
    for ago, earlier in enumerate(reversed(before), start=1):
        both = [name for name in newest if name in earlier]
        same = sum(newest[name] == earlier[name] for name in both)
        if len(newest) >= 2 and same > len(newest) / 2:
            return ago
    return None


def over_all_rows(series: Series) -> bool:
    """Return whether a series is of all rows."""
    return series.slice == ALL
