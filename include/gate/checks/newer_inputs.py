"""Is there an input that is newer than the run date?"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from include.core.errors import nearest
from include.core.records import Check
from include.gate.checks.base import GateCheck, at_most
from include.gate.evidence import Evidence
from include.training.config import Training

if TYPE_CHECKING:  # every DAG file loads this module
    import polars as pl

ALMOST_ALL = 0.9
"""An input is a date if so many of its values read as one."""
YEARS = 30
"""A number is read as a moment only within so many years of the target day."""


class NewerInputs(GateCheck):
    """What the holdout rows know that their run dates could not. It keeps out an input that comes too late to be used.

    Deliveries: a day whose file came late is prepared with it afterwards, so its features are better than those that
    were scored. If that is usual, the holdout days say little about the run dates to come. Dates: an input that is a
    date and lies after the target day was written after it. Seconds since 1970 look like any large number, so
    `timestamps` names such inputs.
    """

    kind: Literal["newer_inputs"] = "newer_inputs"
    late_at_most: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="share of holdout rows whose features used a delivery that came after the moment up to which their "
        "run date knows",
    )
    known_ahead: tuple[str, ...] = Field(
        default=(), description="inputs with dates that are known ahead, such as the end of a contract"
    )

    timestamps: tuple[str, ...] = Field(
        default=(),
        description="inputs that are moments as numbers: seconds, milliseconds, microseconds or nanoseconds since "
        "1970. Other large numbers are no dates",
    )

    def require_fit(self, model: Training) -> None:
        """Refuse inputs that the model does not have."""
        for key in ("known_ahead", "timestamps"):
            for name in getattr(self, key):
                if name not in model.features:
                    raise ValueError(f"{key}: no feature {name!r}{nearest(name, model.features)}")

    def run(self, evidence: Evidence) -> Iterator[Check]:
        """Yield a verdict on deliveries, and one on dates."""
        late = evidence.too_late
        share = float(late.mean()) if late is not None and len(late) else None
        days = "" if share is None or late is None else f" ({len(np.unique(evidence.days[late]))} days)"
        sentence = f"holdout rows with a delivery that came after their run date could use it{days}:"
        yield self.verdict("deliveries", share, at_most(self.late_at_most), sentence, ".1%")
        yield self._dates(evidence)

    def _dates(self, evidence: Evidence) -> Check:
        found = {
            name: float((dates > evidence.days).mean())
            for name in evidence.challenger.columns
            if name in evidence.labels.columns and name not in self.known_ahead
            for dates in (dates_in(evidence.labels[name], evidence.days, since_1970=name in self.timestamps),)
            if dates is not None
        }
        worst = max(found, key=lambda name: found[name], default="")
        newer = ", ".join(name for name, share in found.items() if share > 0)
        sentence = f"inputs that are dates: {', '.join(found) or 'none'}; rows with one after the target day"
        if newer:
            sentence += f" ({newer})"
        share = found.get(worst, 0.0) if len(evidence.days) else None
        return self.verdict(worst or "dates", share, at_most(0.0), f"{sentence}:", ".1%")


def dates_in(values: "pl.Series", days: np.ndarray, *, since_1970: bool = False) -> np.ndarray | None:
    """Return values as dates (datetime64[D], NaT for missing), None if they are not dates.

    Dates are columns of dates or timestamps, ISO text, and numbers that read as YYYYMMDD, which hardly any others do.

    Args:
        values: one for each row.
        days: the target day of each row.
        since_1970: whether whole numbers are seconds, milliseconds, microseconds or nanoseconds since 1970. Amounts
            look the same, so nobody can guess that.
    """
    import polars as pl

    there = len(values) - values.null_count()
    if not there:
        return None
    if values.dtype == pl.String:
        read = values.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
        return read.to_numpy().astype("datetime64[D]") if len(read) - read.null_count() >= ALMOST_ALL * there else None
    if values.dtype.is_temporal():
        return values.cast(pl.Date).to_numpy().astype("datetime64[D]")
    numbers = values.cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**62)
    if whole.sum() < ALMOST_ALL * there:
        return None
    integers = np.where(whole, numbers, 0).astype(np.int64)
    as_text = pl.Series(integers).cast(pl.String).str.to_date("%Y%m%d", strict=False).to_numpy()
    candidates = [np.asarray(as_text).astype("datetime64[D]")]
    if since_1970:
        candidates += [
            integers.astype(f"datetime64[{unit}]").astype("datetime64[D]") for unit in ("s", "ms", "us", "ns")
        ]
    for dates in candidates:
        near = whole & ~np.isnat(dates) & (np.abs((dates - days).astype(np.float64)) < YEARS * 365)
        if near.sum() >= ALMOST_ALL * there and len(np.unique(integers[near])) > 1:
            return np.where(near, dates, np.datetime64("NaT"))
    return None
