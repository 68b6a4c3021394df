"""The feeds of the flights as `bench/bare.py` checks them: types, formats and the rules of their `expectations.yaml`.

A rule about rows is an expression that is true where a row breaks it. A row that breaks a critical one is quarantined;
of warnings, the rows are counted. Numbers are from `include/projects/flights`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

TEXT, WHOLE, NUMBER, FLAG, MOMENT = pl.String(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Datetime("us", "UTC")
FLAGS = {"true": True, "false": False}
ORIGINS = ["EWR", "JFK", "LGA"]
QUARANTINED_SHARE = 0.05


@dataclass(frozen=True)
class PlainFeed:
    """A feed.

    Attributes:
        name: its folder in landing.
        columns: the type of each column.
        key: columns that are never null, and unique together.
        moment: the column whose local date is the day.
        rows: the fewest and the most rows of a day.
        formats: regular expressions that whole values of a column match.
        critical: by name, where a row breaks a rule.
        warnings: likewise.
        personal: columns that are checked, but not kept.
    """

    name: str
    columns: Mapping[str, pl.DataType]
    key: tuple[str, ...]
    moment: str
    rows: tuple[int, int]
    critical: Mapping[str, pl.Expr]
    formats: Mapping[str, str] = field(default_factory=dict)
    warnings: Mapping[str, pl.Expr] = field(default_factory=dict)
    personal: tuple[str, ...] = ()

    def require_whole(self, clean: pl.DataFrame, counts: pl.DataFrame, limit: int) -> None:
        """Apply the rules about whole deliveries: number of rows, quarantined share, and keys that repeat.

        Args:
            clean: the rows of some days.
            counts: delivered and quarantined rows of each day, in order.
            limit: how many times the rows of a real day a day may have.

        Raises:
            ValueError: one of them is broken.
        """
        fewest, most = self.rows
        for day, rows, quarantined in counts.select("day", "rows", "quarantined").iter_rows():
            if not fewest <= rows - quarantined <= most * limit:
                raise ValueError(f"{self.name} {day}: {rows - quarantined} rows")
            if quarantined > QUARANTINED_SHARE * rows:
                raise ValueError(f"{self.name} {day}: {quarantined} of {rows} rows are quarantined")
        if clean.select(pl.struct(*self.key).n_unique()).item() < clean.height:
            raise ValueError(f"{self.name} {counts['day'][0]} to {counts['day'][-1]}: a key repeats")


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    Attributes:
        clean: typed rows.
        quarantined: rows as text, with the names of the rules that they break.
        counts: for each day the number of rows, of quarantined ones, and of those that break each rule.
    """

    clean: pl.DataFrame
    quarantined: pl.DataFrame
    counts: pl.DataFrame


def check(feed: PlainFeed, text: pl.DataFrame) -> Checked:
    """Type rows, and apply the rules about single rows."""
    typed = {name: _typed(name, kind) for name, kind in feed.columns.items()}
    misfits = [pl.col(name).is_not_null() & value.is_null() for name, value in typed.items()]
    misfits += [~pl.col(name).str.contains(f"^(?:{form})$") for name, form in feed.formats.items()]
    rows = text.select("day", "_begins", "_ends", _malformed=pl.any_horizontal(misfits), **typed)
    moment = pl.col(feed.moment)
    critical = {
        "malformed": pl.col("_malformed"),
        "another_day": (moment < pl.col("_begins")) | (moment >= pl.col("_ends")),
        "key": pl.any_horizontal(pl.col(*feed.key).is_null()),
        **feed.critical,
    }
    rules = {f"breaks_{name}": rule.fill_null(False) for name, rule in (critical | dict(feed.warnings)).items()}
    breaks = rows.select("day", **rules).with_columns(
        quarantined=pl.any_horizontal(f"breaks_{name}" for name in critical)
    )
    counts = breaks.group_by("day").agg(pl.len().alias("rows"), pl.exclude("day").sum())
    clean = rows.select("day", *(name for name in feed.columns if name not in feed.personal))
    wrong = breaks["quarantined"]
    if not wrong.any():
        return Checked(clean, text.clear(), counts)
    broken = [pl.when(f"breaks_{name}").then(pl.lit(name)) for name in critical]
    names = breaks.filter(wrong).select(rules=pl.concat_str(broken, separator=",", ignore_nulls=True))
    return Checked(clean.filter(~wrong), text.filter(wrong).drop("_begins", "_ends").hstack(names), counts)


def _typed(name: str, kind: pl.DataType) -> pl.Expr:
    """Return the values of a column of text as its type; null where they are not of it."""
    column = pl.col(name)
    if kind == MOMENT:
        return column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC", strict=False)
    if kind == FLAG:
        return column.replace_strict(FLAGS, default=None, return_dtype=FLAG)
    if kind == NUMBER:
        return column.cast(NUMBER, strict=False).fill_nan(None)
    return column.cast(kind, strict=False)


def _outside(name: str, least: float, most: float) -> pl.Expr:
    return ~pl.col(name).is_between(least, most)


FLIGHT = {"carrier": TEXT, "flight": WHOLE, "origin": TEXT, "dest": TEXT, "scheduled_departure": MOMENT}
"""How the feeds of flights begin."""
KEY = ("carrier", "flight", "origin", "scheduled_departure")
CODES = {"carrier": "[A-Z0-9]{2}", "origin": "[A-Z]{3}", "dest": "[A-Z]{3}"}
WRONG_ORIGIN = ~pl.col("origin").is_in(ORIGINS)

SCHEDULE = PlainFeed(
    name="schedule",
    columns={
        **FLIGHT,
        "scheduled_arrival_local": TEXT,
        "distance_miles": NUMBER,
        "is_holiday": FLAG,
        "contact_email": TEXT,
    },
    key=KEY,
    moment="scheduled_departure",
    rows=(1, 5000),
    formats={**CODES, "scheduled_arrival_local": "[0-9]{4}"},
    critical={
        "origin": WRONG_ORIGIN,
        "dest": ~pl.col("dest").str.contains("^[A-Z]{3}$"),
        "no_dest": pl.col("dest").is_null(),
        "distance_miles": _outside("distance_miles", 10, 6000),
    },
    warnings={
        "arrival": ~pl.col("scheduled_arrival_local").str.contains("^(?:[01][0-9]|2[0-4])[0-5][0-9]$"),
    },
    personal=("contact_email",),
)

WEATHER = PlainFeed(
    name="weather",
    columns={
        "origin": TEXT,
        "observed_at": MOMENT,
        **dict.fromkeys(
            (
                "temperature_f",
                "dew_point_f",
                "humidity_percent",
                "wind_direction_degrees",
                "wind_speed_mph",
                "wind_gust_mph",
                "precipitation_inches",
                "pressure_millibars",
                "visibility_miles",
            ),
            NUMBER,
        ),
    },
    key=("origin", "observed_at"),
    moment="observed_at",
    rows=(1, 75),
    formats={"origin": CODES["origin"]},
    critical={
        "origin": WRONG_ORIGIN,
        "temperature_f": _outside("temperature_f", -40, 130),
    },
    warnings={
        "wind_speed_mph": _outside("wind_speed_mph", 0, 150),
        "visibility_miles": _outside("visibility_miles", 0, 10),
        "no_pressure": pl.col("pressure_millibars").is_null(),
    },
)

ACTUALS = PlainFeed(
    name="actuals",
    columns={
        **FLIGHT,
        "tailnum": TEXT,
        "dep_delay_minutes": NUMBER,
        "arr_delay_minutes": NUMBER,
        "air_time_minutes": NUMBER,
    },
    key=KEY,
    moment="scheduled_departure",
    rows=(1, 5000),
    formats={**CODES, "tailnum": "[A-Z][0-9][0-9A-Z]{1,4}"},
    critical={
        "origin": WRONG_ORIGIN,
        "no_dest": pl.col("dest").is_null(),
        "arr_delay_minutes": _outside("arr_delay_minutes", -180, 3000),
    },
    warnings={"no_arrival": pl.col("arr_delay_minutes").is_null()},
    personal=("tailnum",),
)

FEEDS = (SCHEDULE, WEATHER, ACTUALS)
