"""Aggregate a feed by groups, within each delivery first and then over windows of deliveries. Pure.

So the windows of a year of run dates multiply groups, not rows. Doubles are added in an order that follows from the
values, so that neither files nor cores nor the length of a range change a bit of a sum.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType, DataType, FractionalType, NumericType

from include.core.errors import ConfigError, nearest

FUNCTIONS = ("count", "max", "mean", "min", "share", "sum")
"""`share` is of the values that are neither 0 nor false. It is counted, so it costs less than the mean of doubles."""

AGE, GROUP, VALUES = "_age", "_group", "_values"


@dataclass(frozen=True)
class Window:
    """Deliveries by their age in days, and what ends the names of the columns made of them."""

    newest: int
    oldest: int
    suffix: str


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of a column of a feed; null where a window has no value of the column."""

    name: str
    column: str
    function: str
    fractional: bool

    @classmethod
    def of(cls, name: str, column: str, function: str, rows: DataFrame, feed: str) -> "Aggregate":
        """Return the aggregate.

        Raises:
            ConfigError: there is no such column or function, or the column cannot be added up.
        """
        kinds = {field.name: field.dataType for field in rows.schema}
        if function not in FUNCTIONS:
            raise ConfigError(f"{name}: no function {function!r}{nearest(function, FUNCTIONS)}")
        if column not in kinds:
            raise ConfigError(f"{name}: feed {feed} has no column {column!r}{nearest(column, kinds)}")
        kind: DataType = kinds[column]
        if function in ("mean", "share", "sum") and not isinstance(kind, NumericType | BooleanType):
            raise ConfigError(
                f"{name}: {function} of {column}, which is {kind.simpleString()}; use a number or boolean"
            )
        return cls(name, column, function, isinstance(kind, FractionalType) and function != "share")

    def of_delivery(self) -> Iterator[Column]:
        """Return the parts to keep of a delivery's rows."""
        value = F.col(self.column)
        if self.function in ("count", "mean", "share"):
            yield F.count(value).alias(self._part("count"))
        if self.function in ("mean", "sum"):
            total = _ordered_sum(F.array_sort(F.collect_list(value))) if self.fractional else F.sum(value.cast("long"))
            yield F.when(F.count(value) > 0, total).alias(self._part("sum"))
        if self.function == "share":
            yield F.count_if(value.cast("boolean")).alias(self._part("sum"))
        if self.function in ("min", "max"):
            yield getattr(F, self.function)(value).alias(self._part(self.function))

    def of_parts(self) -> Iterator[Column]:
        """Return the parts of several sets of a delivery's rows, from the parts of each; no fractional sums."""
        if self.function in ("count", "mean", "share"):
            yield F.sum(self._part("count")).alias(self._part("count"))
        if self.function in ("mean", "sum", "share"):
            yield F.sum(self._part("sum")).alias(self._part("sum"))
        if self.function in ("min", "max"):
            yield getattr(F, self.function)(self._part(self.function)).alias(self._part(self.function))

    def over(self, window: Window) -> Column:
        """Return the aggregate of the deliveries of a window, from their parts."""
        within = F.col(AGE).between(window.newest, window.oldest)

        def part(name: str) -> Column:
            return F.when(within, F.col(self._part(name)))

        if self.function == "count":
            found = F.nullif(F.sum(part("count")), F.lit(0))
        elif self.function in ("min", "max"):
            found = getattr(F, self.function)(part(self.function))
        else:
            found = self._sum_of_days(part("sum"))
            if self.function in ("mean", "share"):
                found = F.try_divide(found, F.sum(part("count")))
        return found.alias(f"{self.name}_{window.suffix}")

    def _sum_of_days(self, totals: Column) -> Column:
        if not self.fractional:
            return F.sum(totals)
        by_age = F.array_sort(F.collect_list(F.when(totals.isNotNull(), F.struct(AGE, totals.alias("total")))))
        return F.when(F.count(totals) > 0, _ordered_sum(F.transform(by_age, lambda each: each["total"])))

    def _part(self, name: str) -> str:
        return f"{self.name},{name}"  # no column of a feed has a comma


def _ordered_sum(values: Column) -> Column:
    """Return the sum of an array of numbers as double, added in the array's order."""
    return F.aggregate(values, F.lit(0.0), lambda total, each: total + each.cast("double"))


def per_delivery(
    rows: DataFrame, groups: Sequence[Sequence[str]], aggregates: Sequence[Aggregate], unique: Collection[str]
) -> DataFrame:
    """Return a row for each day, delivery and group, after one pass over the rows for all groups.

    Of several groups, rows are first aggregated by all of their columns together. That usually leaves far fewer rows,
    for each of which the text of each group is made. It is not done with doubles and decimals, which could differ then,
    nor where the columns tell all rows apart.

    Args:
        rows: the rows of deliveries, with `day` and `delivery_id`.
        groups: the columns of each group.
        aggregates: what to aggregate.
        unique: columns whose values no two rows of a delivery have in common.
    """
    group = F.explode(F.array_compact(F.array(*(key(group) for group in groups)))).alias(GROUP)
    parts = [part for each in aggregates for part in each.of_delivery()]
    of_delivery, columns = ("day", "delivery_id"), sorted({each.column for each in aggregates})
    together = sorted({name for each in groups for name in each} - {*of_delivery})
    fractional = {field.name for field in rows.schema if isinstance(field.dataType, FractionalType)}
    is_exact = not fractional & {*together} and not any(each.fractional for each in aggregates)
    if len(groups) > 1 and is_exact and not {*together, *of_delivery} >= {*unique}:
        rows = rows.groupBy(*of_delivery, *together).agg(*parts)
        parts = [part for each in aggregates for part in each.of_parts()]
        columns = [name for name in rows.columns if name not in (*of_delivery, *together)]
    return rows.select(*of_delivery, *columns, group).groupBy(*of_delivery, GROUP).agg(*parts)


def per_run_date(known: DataFrame, aggregates: Sequence[Aggregate], windows: Sequence[Window]) -> DataFrame:
    """Return a row for each run date (`day`) and group, with all aggregates of all windows in one struct."""
    values = [each.over(window) for each in aggregates for window in windows]
    return known.groupBy("day", GROUP).agg(F.struct(*values).alias(VALUES))


def key(group: Sequence[str]) -> Column:
    """Return the columns of a group and their values as one text; null if a value is null.

    The length of each value but the last is part of it, so that different values never make the same text.
    """
    values = [F.col(name).cast("string") for name in group]
    measured = [F.concat(F.length(value).cast("string"), F.lit(" "), value) for value in values[:-1]]
    return F.concat(F.lit(f"{','.join(group)} "), *measured, values[-1])
