"""Both ways to put a frame of Spark into a table keep one contract, and know of each other: delta-rs, from files that a
local Spark wrote; and Spark's own Delta, as on Databricks.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake import Schema
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from include.core.errors import DataError
from include.core.interval import Interval
from include.core.records import TableRef
from include.io import native
from include.io import spark as io_spark
from include.io.tables import Scope, Tables
from tests.landing import days, places
from tests.writers import TABLE, WRITERS, frame, from_file, rows_of, stored, written

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

FIRST, SECOND = date(2013, 3, 1), date(2013, 3, 2)

Put = Callable[..., TableRef]


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> SparkSession:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "17.3")
    return io_spark.session()


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(places(tmp_path).model_copy(update={"run_id": "a run", "git_commit": "abc"}))


def of_spark(spark: SparkSession, rows: pl.DataFrame) -> DataFrame:
    schema = StructType.fromJson(json.loads(Schema.from_arrow(rows.to_arrow().schema).to_json()))
    return spark.createDataFrame(rows.rows(), schema)


@pytest.fixture
def natively(spark: SparkSession) -> Put:
    def put(tables: Tables, rows: pl.DataFrame, scope: Scope, *, by: str = "day") -> TableRef:
        made = of_spark(spark, rows)
        return native.replace(made, tables, TABLE, scope, partition_by=by.split(), metadata={"clean": 3})

    return put


@pytest.fixture(params=["by delta-rs", "natively"])
def put(request: pytest.FixtureRequest, natively: Put) -> Put:
    return natively if request.param == "natively" else from_file


def on(*of: date) -> Scope:
    return Scope(Interval(start=min(of), end=max(of)))


class TestConformance:
    def test_creates_the_table_and_returns_version_and_rows(self, tables: Tables, put: Put) -> None:
        ref = put(tables, frame(FIRST, 2, 1), on(FIRST))
        assert (ref.table, ref.rows, ref.interval) == (TABLE, 2, Interval.of(FIRST))
        assert stored(tables, ref.version) == rows_of(frame(FIRST, 1, 2))

    def test_replaces_only_its_days(self, tables: Tables, put: Put) -> None:
        put(tables, pl.concat([frame(FIRST, 1), frame(SECOND, 2)]), on(FIRST, SECOND))
        ref = put(tables, frame(FIRST, 5, 6), on(FIRST))
        assert stored(tables) == rows_of(frame(FIRST, 5, 6), frame(SECOND, 2))
        assert ref.version == tables.version(TABLE)

    def test_replaces_only_the_partitions_of_its_values(self, tables: Tables, put: Put) -> None:
        schema = {"day": pl.Date, "data_view": pl.String, "value": pl.Int64}
        cells = [(day, kind, 0) for day in days(FIRST, 3).days for kind in ("point_in_time", "latest")]
        rows = pl.DataFrame(cells, schema=schema, orient="row")
        put(tables, rows, Scope(days(FIRST, 3)), by="day data_view")
        put(tables, rows.clear(), Scope(days(FIRST, 2), {"data_view": ["point_in_time"]}), by="day data_view")
        gone = (pl.col("day") <= SECOND) & (pl.col("data_view") == "point_in_time")
        assert stored(tables) == sorted(rows.filter(~gone).iter_rows())

    def test_an_empty_frame_empties_its_days(self, tables: Tables, put: Put) -> None:
        put(tables, pl.concat([frame(FIRST, 1), frame(SECOND, 2)]), on(FIRST, SECOND))
        ref = put(tables, frame(FIRST), on(FIRST))
        assert (ref.rows, stored(tables)) == (0, rows_of(frame(SECOND, 2)))

    def test_an_empty_frame_makes_an_empty_table(self, tables: Tables, put: Put) -> None:
        put(tables, frame(FIRST), on(FIRST))
        assert (tables.exists(TABLE), stored(tables)) == (True, [])

    @pytest.mark.parametrize(
        ("drifted", "said"),
        [
            (frame(FIRST).drop("who"), "lost or of another type: who"),
            (frame(FIRST).with_columns(pl.col("value").cast(pl.String)), "lost or of another type: value"),
        ],
    )
    def test_a_lost_or_changed_column_is_refused(
        self, tables: Tables, put: Put, drifted: pl.DataFrame, said: str
    ) -> None:
        put(tables, frame(FIRST, 1), on(FIRST))
        version = tables.version(TABLE)
        with pytest.raises(DataError, match=said):
            put(tables, drifted, on(SECOND))
        assert tables.version(TABLE) == version

    def test_a_new_column_is_null_in_earlier_rows(self, tables: Tables, put: Put) -> None:
        put(tables, frame(FIRST, 1), on(FIRST))
        put(tables, frame(SECOND, 2).with_columns(new=pl.lit(1.5)), on(SECOND))
        assert tables.scan(TABLE).sort("day").collect()["new"].to_list() == [None, 1.5]

    def test_rows_outside_the_scope_are_refused(self, tables: Tables, natively: Put) -> None:
        natively(tables, frame(FIRST, 1), on(FIRST))
        with pytest.raises(DataError, match="rows are outside of what they replace, day >= '2013-03-01'"):
            natively(tables, frame(SECOND, 2), on(FIRST))
        assert stored(tables) == rows_of(frame(FIRST, 1))

    def test_a_commit_records_run_and_scope(self, tables: Tables, natively: Put) -> None:
        natively(tables, frame(FIRST, 1), on(FIRST))
        said = json.loads(tables.open(TABLE).history(1)[0]["userMetadata"])
        about = {"run_id": "a run", "git_commit": "abc", "clean": "3"}
        assert {key: said[key] for key in about} == about

    def test_spark_reads_what_both_wrote_at_its_version(self, tables: Tables, spark: SparkSession, put: Put) -> None:
        put(tables, frame(FIRST, 1, 2), on(FIRST))
        put(tables, frame(SECOND, 3), on(SECOND))
        read, version = native.read(spark, tables, TABLE, Interval.of(FIRST))
        assert version == tables.version(TABLE)
        put(tables, frame(FIRST, 9), on(FIRST))  # another write after the read, and before the count
        assert sorted(tuple(row) for row in read.select(*frame(FIRST).columns).collect()) == rows_of(frame(FIRST, 1, 2))

    def test_reading_a_missing_table_fails(self, tables: Tables, spark: SparkSession) -> None:
        with pytest.raises(DataError, match=r"table .*numbers does not exist yet"):
            native.read(spark, tables, TABLE, Interval.of(FIRST))


@pytest.fixture
def named(tables: Tables, spark: SparkSession) -> Tables:
    """Return settings with a catalog, by which tables have names."""
    spark.sql("CREATE DATABASE IF NOT EXISTS nightly")
    spark.sql(f"DROP TABLE IF EXISTS spark_catalog.nightly.{TABLE}")
    tables.catalog = "spark_catalog.nightly"
    return tables


def test_the_name_and_the_path_are_the_same_table(named: Tables, spark: SparkSession, natively: Put) -> None:
    natively(named, frame(FIRST, 1), on(FIRST))
    natively(named, frame(SECOND, 2), on(SECOND))
    assert stored(named) == rows_of(frame(FIRST, 1), frame(SECOND, 2))
    read, _ = native.read(spark, named, TABLE, days(FIRST, 2))
    assert read.count() == spark.table(f"spark_catalog.nightly.{TABLE}").count() == 2


class TestTwoWriters:
    """Both count the table's application transaction; without it, both commits would be accepted."""

    @pytest.fixture
    def writers(self, natively: Put) -> dict[str, Callable[[Tables, date, str], TableRef]]:
        return {**WRITERS, "natively": lambda tables, day, who: natively(tables, written(day, who), on(day))}

    @pytest.mark.parametrize("before", ["empty table", "filled partition"])
    @pytest.mark.parametrize("other", ["natively", *WRITERS])
    def test_a_write_since_the_table_was_opened_is_noticed(
        self, tables: Tables, writers: dict[str, Put], monkeypatch: pytest.MonkeyPatch, before: str, other: str
    ) -> None:
        """Spark would skip the commit silently, because the transaction number was used already."""
        tables.create(TABLE, frame(FIRST).schema)
        if before == "filled partition":
            writers["replace"](tables, FIRST, "before")
        opened, tried = tables.refuse_drift, []

        def refuse_drift(table: str, schema: Schema) -> bool:
            tried.append(1)
            if len(tried) == 1:
                writers[other](Tables(places(Path(tables.root).parent)), FIRST, "second")
            return opened(table, schema)

        monkeypatch.setattr(tables, "refuse_drift", refuse_drift)
        ref = writers["natively"](tables, FIRST, "first")
        assert len(tried) == 2
        assert stored(tables) == stored(tables, ref.version) == rows_of(written(FIRST, "first"))

    @pytest.mark.parametrize("other", ["natively", "replace", "files"])
    def test_of_two_writes_of_one_day_at_once_the_rows_of_one_remain(
        self, tables: Tables, writers: dict[str, Put], other: str
    ) -> None:
        tables.create(TABLE, frame(FIRST).schema)
        hows = ["natively", other] * 2
        whos = [f"{how}{n}" for n, how in enumerate(hows)]
        with ThreadPoolExecutor(4) as pool:
            going = [pool.submit(writers[how], tables, FIRST, who) for how, who in zip(hows, whos, strict=True)]
            refs = [each.result() for each in going]
        assert len({ref.version for ref in refs}) == 4
        assert stored(tables) in [rows_of(written(FIRST, who)) for who in whos]
        for ref, who in zip(refs, whos, strict=True):
            assert stored(tables, ref.version) == rows_of(written(FIRST, who))

    def test_writes_of_different_days_at_once_all_succeed(self, tables: Tables, writers: dict[str, Put]) -> None:
        tables.create(TABLE, frame(FIRST).schema)
        four = [*zip(days(FIRST, 4).days, ["natively", "replace", "natively", "files"], strict=True)]
        with ThreadPoolExecutor(4) as pool:
            for each in [pool.submit(writers[how], tables, day, how) for day, how in four]:
                each.result()
        assert stored(tables) == rows_of(*(written(day, how) for day, how in four))
