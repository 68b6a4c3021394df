"""What `build` may return: each column that the code makes, of a known type."""

from datetime import date

import pytest
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from include.core.errors import ConfigError
from include.features.returned import require_all, typed
from include.io.spark import session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

DAY = date(2026, 11, 16)


@pytest.fixture(scope="module")
def spark() -> SparkSession:
    return session()


@pytest.fixture
def rows(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [(DAY, "A-1", "A", 3, True)], "day date, entity_id string, store string, n int, on boolean"
    )


class TestTyped:
    def test_makes_doubles_of_numbers_and_booleans(self, rows: DataFrame) -> None:
        more = rows.withColumns({"price": F.lit("1.50").cast("decimal(5,2)"), "ratio": F.lit(0.5).cast("float")})
        made = typed(more)
        assert made.dtypes == [
            ("day", "date"), ("entity_id", "string"), ("store", "string"),
            ("n", "double"), ("on", "double"), ("price", "double"), ("ratio", "double"),
        ]  # fmt: skip
        assert [tuple(row) for row in made.collect()] == [(DAY, "A-1", "A", 3.0, 1.0, 1.5, 0.5)]

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("sold_at", F.current_timestamp, "the column sold_at is timestamp, which is no type of a feature"),
            ("nothing", lambda: F.lit(None), "the column nothing is void, which is no type of a feature"),
            ("all", lambda: F.array(F.lit(1)), "the column all is array<int>, which is no type of a feature"),
            ("on_day", F.current_date, "the column on_day is date, which is no type of a feature"),
            ("entity_id", lambda: F.lit(1), "the column entity_id is int, not string"),
            ("day", lambda: F.lit("2026-11-16"), "the column day is string, not date"),
        ],
    )
    def test_names_a_column_of_another_type(self, rows: DataFrame, name: str, value: object, message: str) -> None:
        column: Column = value()  # type: ignore[operator]  # made within a session
        with pytest.raises(ConfigError, match=message.replace("<", r"\<")):
            typed(rows.withColumn(name, column))

    def test_names_a_missing_key_and_a_column_that_comes_twice(self, rows: DataFrame) -> None:
        with pytest.raises(ConfigError, match="the column entity_id is missing; the column n comes 2 times"):
            typed(rows.select("day", "n", F.col("store").alias("N")))


class TestRequireAll:
    """The frame has the columns day, entity_id, store, n and on."""

    @pytest.mark.parametrize(
        "code",
        [
            'rows.withColumn("lost", F.lit(1))',
            'rows.withColumns({"lost": F.lit(1), "n": F.lit(2)})',
            'rows.select(F.lit(1).alias("lost"))',
            'rows.withColumnRenamed("x", "lost")',
            '"""Doc: lost is a feature."""\nrows.withColumn("lost", F.lit(1))',
            'rows.withColumn("lost", F.col("lost_2")).drop("unlost")',
            'rows.withColumn("lost", F.count("*")).drop(f"other_{days}d")',
            'rows.withColumn("lost", F.count("*")).drop(f"{name}_{days}d")',
        ],
    )
    def test_names_a_column_that_is_made_and_neither_used_nor_returned(self, rows: DataFrame, code: str) -> None:
        with pytest.raises(ConfigError, match="build makes lost and does not return it; return it, or do not make it"):
            require_all(rows, code, set())

    @pytest.mark.parametrize(
        "code",
        [
            'rows.withColumn("n", F.lit(1))',
            'rows.withColumn("hour", F.lit(1)).withColumn("n", F.col("hour") + 1)',
            'rows.withColumn("hour", F.lit(1)).drop("hour")',
            'rows.withColumn("hour", F.lit(1)).withColumn("n", F.expr("hour + 1"))',
            'rows.withColumn("hour", F.lit(1)).where(rows.hour > 1)',
            'rows.withColumn("hour_7d", F.lit(1)).drop(f"hour_{days}d")',
        ],
    )
    def test_lets_pass_what_is_returned_or_used(self, rows: DataFrame, code: str) -> None:
        require_all(rows, code, set())

    def test_names_a_window_that_is_not_returned_unless_the_code_names_it(self, rows: DataFrame) -> None:
        with pytest.raises(ConfigError, match="build makes sold_store_7d and does not return it"):
            require_all(rows, 'feeds.add_windows(rows, "sales", days=[7])', {"n", "sold_store_7d"})
        require_all(rows, 'rows.drop("sold_store_7d")', {"n", "sold_store_7d"})
