"""`Feeds` on a handful of rows: what each run date knows, windows and lags, computed by hand."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from include.core.errors import ConfigError
from include.core.project import Project
from include.features import Feeds, feeds, windows
from include.io.spark import session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

DAY = date(2026, 11, 16)
NEXT = DAY + timedelta(days=1)

SHOP = Project.model_validate({
    "name": "shop",
    "folder": Path("projects/shop"),
    "title": "Shop",
    "owner": "data-team",
    "timezone": "Europe/Berlin",
    "first_day": "2026-01-01",
    "feeds": {
        "plan": {
            "path": "plan/{day}/*.csv",
            "key": ["store", "item"],
            "day_column": "on",
            "columns": {
                "store": {"type": "string", "class": "public"},
                "item": {"type": "string", "class": "public"},
                "on": {"type": "date", "class": "public"},
            },
        },
        "sales": {
            "path": "sales/{day}/*.csv",
            "key": ["store", "item", "units"],
            "day_column": "on",
            "required": False,
            "delay_days": 7,
            "lookback_days": 6,
            "columns": {
                "store": {"type": "string", "class": "public"},
                "item": {"type": "string", "class": "public"},
                "on": {"type": "date", "class": "public"},
                "units": {"type": "integer", "class": "public"},
                "amount": {"type": "double", "class": "public"},
            },
        },
    },
    "entity": {"feed": "plan", "key": ["store", "item"]},
    "outcomes": {},
})

PLAN = {"store": pl.String, "item": pl.String}
SALES = {**PLAN, "units": pl.Int64, "amount": pl.Float64}

Delivery = tuple[str, date, str, Sequence[tuple[Any, ...]]]
"""Feed, day, id and rows."""


@pytest.fixture(scope="module")
def spark() -> SparkSession:
    return session()


def before(days: int, day: date = DAY) -> date:
    return day - timedelta(days=days)


class Shop:
    """Deliveries, and which of them each run date knows."""

    def __init__(self, spark: SparkSession, *deliveries: Delivery) -> None:
        self.spark, self.deliveries = spark, deliveries

    def known(self, knows: Mapping[date, Sequence[str]]) -> Feeds:
        """Return the feeds of run dates that know the deliveries of these ids."""
        rows = {}
        for feed, schema in (("plan", PLAN), ("sales", SALES)):
            frames = [
                pl.DataFrame(given, schema=schema, orient="row").with_columns(
                    day=pl.lit(day), delivery_id=pl.lit(name), _row=pl.int_range(pl.len(), dtype=pl.Int64)
                )
                for of_feed, day, name, given in self.deliveries
                if of_feed == feed
            ]
            empty = pl.DataFrame(schema={**schema, "day": pl.Date, "delivery_id": pl.String, "_row": pl.Int64})
            rows[feed] = self.spark.createDataFrame(pl.concat([empty, *frames]).to_arrow())
        about = {name: (feed, day, len(given)) for feed, day, name, given in self.deliveries}
        found = [(run_date, *about[name][:2], name, about[name][2]) for run_date in knows for name in knows[run_date]]
        columns = {"run_date": pl.Date, "feed": pl.String, "day": pl.Date, "delivery_id": pl.String, "rows": pl.Int64}
        return Feeds(SHOP, rows, pl.DataFrame(found, schema=columns, orient="row"))


def collected(frame: DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in frame.select(*columns).collect()), key=repr)


class TestCurrent:
    def test_each_run_date_has_the_rows_of_the_delivery_that_it_knows(self, spark: SparkSession) -> None:
        """A correction of the first day came later, the second day knows its own delivery only."""
        shop = Shop(
            spark,
            ("plan", DAY, "first", [("A", "x")]),
            ("plan", DAY, "correction", [("A", "y")]),
            ("plan", NEXT, "next", [("A", "z"), ("B", "z")]),
        )
        known = shop.known({DAY: ["first"], NEXT: ["next"]})
        plan = known.current("plan")
        assert collected(plan, "day", "store", "item") == [(DAY, "A", "x"), (NEXT, "A", "z"), (NEXT, "B", "z")]
        assert set(plan.columns) == {"day", "store", "item"}
        assert known.timezone == "Europe/Berlin"

    def test_it_is_that_of_delay_days_before_and_no_other_of_the_window(self, spark: SparkSession) -> None:
        shop = Shop(
            spark, ("sales", before(7), "a", [("A", "x", 1, 1.0)]), ("sales", before(8), "b", [("A", "x", 2, 2.0)])
        )
        assert collected(shop.known({DAY: ["a", "b"]}).current("sales"), "day", "units") == [(DAY, 1)]

    def test_an_optional_feed_without_a_delivery_has_no_rows(self, spark: SparkSession) -> None:
        known = Shop(spark, ("plan", DAY, "p", [("A", "x")])).known({DAY: ["p"]})
        assert collected(known.current("sales"), "store", "units", "amount") == []
        assert collected(known.history("sales"), "store", "age") == []


class TestHistory:
    def test_has_each_row_with_its_age_for_each_run_date_that_knows_it(self, spark: SparkSession) -> None:
        """Between two run dates comes a correction; of one day in between there is no delivery."""
        shop = Shop(
            spark,
            ("sales", before(7), "new", [("A", "x", 5, 0.0)]),
            ("sales", before(9), "old", [("A", "x", 1, 0.0)]),
            ("sales", before(9), "corrected", [("A", "x", 2, 0.0), ("B", "x", 3, 0.0)]),
        )
        history = shop.known({DAY: ["new", "old"], NEXT: ["new", "corrected"]}).history("sales")
        assert collected(history, "day", "age", "store", "units") == sorted(
            [(DAY, 7, "A", 5), (DAY, 9, "A", 1), (NEXT, 8, "A", 5), (NEXT, 10, "A", 2), (NEXT, 10, "B", 3)], key=repr
        )


def day_frame(spark: SparkSession, *rows: tuple[Any, ...]) -> DataFrame:
    return spark.createDataFrame([*rows], "day date, store string, item string")


class TestWindows:
    """The newest day that DAY has of sales is seven days before it."""

    def shop(self, spark: SparkSession) -> Shop:
        return Shop(
            spark,
            ("sales", before(7), "d7", [("A", "x", 4, 4.0), ("A", "y", None, None), ("B", "x", 10, 10.0)]),
            # there is none of the eighth day before
            ("sales", before(9), "d9", [("A", "x", 1, 1.0), ("A", "y", 7, 7.0)]),
            ("sales", before(9), "d9 corrected", [("A", "x", 3, 3.0)]),
            ("sales", before(13), "d13", [("A", "x", 100, 100.0), (None, "x", 50, 50.0)]),
        )

    @pytest.mark.parametrize("column", ["units", "amount"], ids=["whole numbers", "doubles"])
    def test_follow_from_what_each_run_date_knows(self, spark: SparkSession, column: str) -> None:
        known = self.shop(spark).known({DAY: ["d7", "d9", "d13"], NEXT: ["d7", "d9 corrected"]})
        rows = day_frame(spark, (DAY, "A", "x"), (DAY, "B", "x"), (DAY, "C", "x"), (NEXT, "A", "x"))
        made = known.add_windows(
            rows, "sales", by="store", days=[1, 3, 7], sold=(column, "sum"), mean=(column, "mean"), n=(column, "count")
        )
        wanted = [f"{name}_store_{days}d" for name in ("sold", "mean", "n") for days in (1, 3, 7)]
        found = {(day, store): values for day, store, *values in collected(made, "day", "store", *wanted)}
        assert found == {
            (DAY, "A"): [4, 12, 112, 4.0, 4.0, 28.0, 1, 3, 4],
            (DAY, "B"): [10, 10, 10, 10.0, 10.0, 10.0, 1, 1, 1],
            (DAY, "C"): [None] * 9,
            (NEXT, "A"): [None, 4, 7, None, 4.0, 3.5, None, 1, 2],
        }
        assert known.made == set(wanted)

    def test_a_share_is_of_the_values_other_than_zero(self, spark: SparkSession) -> None:
        shop = Shop(
            spark,
            ("sales", before(7), "a", [("A", "x", 0, 0.0), ("A", "y", None, None), ("A", "z", 1, 1.0)]),
            ("sales", before(8), "b", [("A", "x", 2, 2.5), ("B", "x", None, None)]),
        )
        rows = day_frame(spark, (DAY, "A", "x"), (DAY, "B", "x"))
        made = shop.known({DAY: ["a", "b"]}).add_windows(
            rows, "sales", by="store", days=[1, 2], u=("units", "share"), v=("amount", "share")
        )
        names = ("store", "u_store_1d", "u_store_2d", "v_store_1d", "v_store_2d")
        assert collected(made, *names) == [("A", 1 / 2, 2 / 3, 1 / 2, 2 / 3), ("B", None, None, None, None)]

    def test_least_and_greatest(self, spark: SparkSession) -> None:
        known = self.shop(spark).known({DAY: ["d7", "d9", "d13"]})
        made = known.add_windows(
            day_frame(spark, (DAY, "A", "x")),
            "sales",
            by="store",
            days=[3, 7],
            least=("units", "min"),
            most=("units", "max"),
        )
        names = ("least_store_3d", "most_store_3d", "least_store_7d", "most_store_7d")
        assert collected(made, *names) == [(1, 7, 1, 100)]

    def test_several_groups_and_columns_that_belong_together(self, spark: SparkSession) -> None:
        """Neither ("A", "Ax") and ("AA", "x") are one group, nor are a store A and an item A."""
        shop = Shop(spark, ("sales", before(7), "d", [("A", "Ax", 1, 0.0), ("AA", "x", 2, 0.0), ("x", "A", 4, 0.0)]))
        known = shop.known({DAY: ["d"]})
        rows = day_frame(spark, (DAY, "A", "Ax"), (DAY, "AA", "x"), (DAY, "A", None))
        made = known.add_windows(rows, "sales", by=["store", "item", ("store", "item")], days=[1], u=("units", "sum"))
        names = ("store", "item", "u_store_1d", "u_item_1d", "u_store_item_1d")
        assert collected(made, *names) == sorted(
            [("A", "Ax", 1, 1, 1), ("AA", "x", 2, 2, 2), ("A", None, 1, None, None)], key=repr
        )

    def test_several_groups_of_whole_numbers_give_the_same_as_each_alone(self, spark: SparkSession) -> None:
        """These are aggregated in two passes: several rows of a store and item, without a value, of two deliveries."""
        given = [("A", "x", 3), ("A", "x", None), ("A", "x", 0), ("A", "y", 5), ("B", "x", None), (None, "y", 9)]
        shop = Shop(
            spark,
            ("sales", before(7), "a", [(*each, 1.0) for each in given]),
            ("sales", before(8), "b", [("A", "y", -4, 1.0), ("B", "x", 2, 1.0)]),
        )
        rows = day_frame(spark, (DAY, "A", "x"), (DAY, "A", "y"), (DAY, "B", "x"))
        functions = {name: ("units", name) for name in windows.FUNCTIONS}
        functions |= {"of_text": ("item", "max"), "texts": ("item", "count")}
        groups = ["store", "item", ("store", "item")]

        def add(to: DataFrame, by: Any) -> DataFrame:
            return shop.known({DAY: ["a", "b"]}).add_windows(to, "sales", by=by, days=[1, 2], **functions)

        together, alone = add(rows, groups), rows
        for group in groups:
            alone = add(alone, group)
        assert collected(together, *together.columns) == collected(alone, *together.columns)
        names = [f"{name}_store_2d" for name in ("count", "max", "mean", "min", "share", "sum")]
        assert collected(together, "store", "item", *names)[0] == ("A", "x", 4, 5, 1.0, -4, 0.75, 4)

    def test_a_large_number_of_groups_gives_the_same(
        self, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows = day_frame(spark, (DAY, "A", "x"), (DAY, "C", "x"))

        def made() -> DataFrame:
            known = self.shop(spark).known({DAY: ["d7", "d9", "d13"]})
            return known.add_windows(rows, "sales", by=["store", "item"], days=[3], sold=("amount", "sum"))

        sent = made()
        monkeypatch.setattr(feeds, "BROADCAST_GROUPS", 1)
        merged = made()
        names = ("store", "sold_store_3d", "sold_item_3d")
        assert collected(sent, *names) == collected(merged, *names) == [("A", 12.0, 15.0), ("C", None, 15.0)]

    def test_the_order_of_rows_changes_no_bit_of_a_sum(self, spark: SparkSession) -> None:
        """1e16 swallows a 1 that is added after it, so other orders have other sums. Each store has another order."""
        amounts = [1e16, 1.0, -1e16, 1.0, 0.1, 0.2, 0.3]
        stores = {f"store {n}": amounts[n:] + amounts[:n] for n in range(len(amounts))}
        shop = Shop(
            spark,
            ("sales", before(7), "d", [(store, "x", 1, amount) for store in stores for amount in stores[store]]),
            ("sales", before(8), "e", [(store, "x", 1, 0.7) for store in stores]),
        )
        made = shop.known({DAY: ["d", "e"]}).add_windows(
            day_frame(spark, *((DAY, store, "x") for store in stores)),
            "sales",
            by="store",
            days=[7],
            sold=("amount", "sum"),
        )
        sums = collected(made, "store", "sold_store_7d")
        assert [store for store, _ in sums] == [*stores]
        assert len({total for _, total in sums}) == 1

    def test_a_range_gives_the_same_as_its_days(self, spark: SparkSession) -> None:
        shop, knows = self.shop(spark), {DAY: ["d7", "d9", "d13"], NEXT: ["d7", "d9 corrected"]}
        rows = day_frame(spark, (DAY, "A", "x"), (NEXT, "A", "x"))

        def made(known: Mapping[date, Sequence[str]], of: DataFrame) -> list[tuple[Any, ...]]:
            found = shop.known(known).add_windows(of, "sales", by="store", days=[7], sold=("amount", "mean"))
            return collected(found, "day", "sold_store_7d")

        alone = [row for day in knows for row in made({day: knows[day]}, rows.where(F.col("day") == day))]
        assert made(knows, rows) == alone


class TestLags:
    def test_have_the_delivery_of_that_age_alone(self, spark: SparkSession) -> None:
        shop = Shop(
            spark, ("sales", before(7), "a", [("A", "x", 1, 1.0)]), ("sales", before(9), "b", [("A", "x", 5, 5.0)])
        )
        known = shop.known({DAY: ["a", "b"], NEXT: ["b"]})
        rows = day_frame(spark, (DAY, "A", "x"), (NEXT, "A", "x"))
        made = known.add_lags(rows, "sales", by=("store", "item"), ages=[7, 8, 10], sold=("units", "sum"))
        names = [f"sold_store_item_lag{age}" for age in (7, 8, 10)]
        assert collected(made, "day", *names) == [(DAY, 1, None, None), (NEXT, None, None, 5)]


class TestMistakes:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda f, rows: f.current("sails"), "shop has no feed 'sails'; did you mean 'sales'?"),
            (lambda f, rows: f.history("stock"), "shop has no feed 'stock'; there is plan, sales"),
            (
                lambda f, rows: f.add_windows(rows, "sales", by="store", days=[8], sold=("units", "sum")),
                "8d: run date D knows sales of D - 7 to D - 13; for more, raise feeds.sales.lookback_days",
            ),
            (
                lambda f, rows: f.add_lags(rows, "sales", by="store", ages=[6], sold=("units", "sum")),
                "lag6: run date D knows sales of D - 7 to D - 13",
            ),
            (
                lambda f, rows: f.add_windows(rows, "sales", by="shop", days=[1], sold=("units", "sum")),
                "by: feed sales has no column 'shop'",
            ),
            (
                lambda f, rows: f.add_windows(rows.drop("store"), "sales", by="store", days=[1], sold=("units", "sum")),
                "by: the rows have no column 'store'",
            ),
            (
                lambda f, rows: f.add_windows(rows, "sales", by="store", days=[1], sold=("unit", "sum")),
                "sold: feed sales has no column 'unit'; did you mean 'units'?",
            ),
            (
                lambda f, rows: f.add_windows(rows, "sales", by="store", days=[1], sold=("units", "avg")),
                "sold: no function 'avg'; there is count, max, mean, min, share, sum",
            ),
            (
                lambda f, rows: f.add_windows(rows, "sales", by="store", days=[1], sold=("item", "sum")),
                "sold: sum of item, which is string; use a number or boolean",
            ),
            (
                lambda f, rows: f.add_windows(rows, "sales", by=["store", ("store",)], days=[1], sold=("units", "sum")),
                "by: store comes twice",
            ),
            (
                lambda f, rows: f.add_windows(
                    f.add_windows(rows, "sales", by="store", days=[1], sold=("units", "sum")),
                    "sales",
                    by="store",
                    days=[1],
                    sold=("units", "max"),
                ),
                "sold_store_1d: the rows have a column of that name already; choose another name",
            ),
        ],
    )
    def test_are_named_with_the_file(self, spark: SparkSession, make: Any, message: str) -> None:
        known = Shop(spark, ("plan", DAY, "p", [("A", "x")])).known({DAY: ["p"]})
        with pytest.raises(ConfigError) as raised:
            make(known, day_frame(spark, (DAY, "A", "x")))
        assert message in str(raised.value)
        assert str(raised.value).startswith(str(Path("projects/shop/features.py")))
