"""Tables: a commit replaces one scope of a table; two concurrent writers lose no rows and double none.

Here, two handles interleave at a fixed point; tests/integration/test_tables.py starts real processes.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from include.core.errors import ConfigError, DataError
from include.core.interval import Interval
from include.core.records import TableRef
from include.io import tables as tables_module
from include.io.tables import Scope, Tables
from tests.landing import days, places
from tests.writers import TABLE, WRITERS, by_files, frame, from_file, rows_of, stored, written

FIRST, SECOND = date(2013, 3, 1), date(2013, 3, 2)


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(places(tmp_path).model_copy(update={"run_id": "a run", "git_commit": "abc"}))


def put(tables: Tables, rows: pl.DataFrame, day: date = FIRST, **values: list[str]) -> TableRef:
    return tables.replace(TABLE, rows, Scope(Interval.of(day), values), sort_by=["value"])


@pytest.mark.parametrize("place", ["a folder", "100%", "ärger", "a#b"])
def test_a_place_that_polars_cannot_read_is_refused(tmp_path: Path, place: str) -> None:
    settings = places(tmp_path / place)
    with pytest.raises(ConfigError, match=r"which polars cannot read; move the tables"):
        Tables(settings)
    write_deltalake(settings.tables, frame(FIRST, 1).to_arrow(), partition_by=["day"])
    with pytest.raises((OSError, DeltaError)):  # if this fails, delta-rs has fixed it
        pl.read_delta(settings.tables)


def test_a_version_can_be_read_for_ever(tables: Tables) -> None:
    """By default, a checkpoint removes the log of versions older than 30 days, and with it what reads them."""
    for n in range(3):
        put(tables, frame(FIRST, n))
    log = Path(tables.uri(TABLE)) / "_delta_log"
    long_ago = datetime(2013, 1, 1, tzinfo=UTC).timestamp()
    for path in log.iterdir():
        os.utime(path, (long_ago, long_ago))
    tables.open(TABLE).create_checkpoint()
    put(tables, frame(FIRST, 3))
    assert [tables.scan(TABLE, 1 + n).collect()["value"].to_list() for n in range(4)] == [[0], [1], [2], [3]]


def test_days_are_those_that_have_rows(tables: Tables) -> None:
    assert tables.days(TABLE) == []
    put(tables, frame(SECOND, 1), SECOND)
    put(tables, frame(FIRST, 1, 2))
    assert tables.days(TABLE) == [FIRST, SECOND]
    put(tables, frame(SECOND), SECOND)
    assert tables.days(TABLE) == [FIRST]


class TestReplace:
    def test_the_first_replace_creates_the_table(self, tables: Tables) -> None:
        ref = put(tables, frame(FIRST, 2, 1))
        assert (ref.table, ref.rows, ref.interval) == (TABLE, 2, Interval.of(FIRST))
        assert stored(tables, ref.version) == rows_of(frame(FIRST, 1, 2))
        assert tables.open(TABLE).metadata().partition_columns == ["day"]

    def test_only_rows_in_the_scope_are_replaced(self, tables: Tables) -> None:
        put(tables, frame(FIRST, 1, 2))
        put(tables, frame(SECOND, 3), SECOND)
        put(tables, frame(FIRST, 9, who="b"), who=["b"])
        put(tables, frame(FIRST, 4), who=["a"])
        assert stored(tables) == rows_of(frame(FIRST, 4), frame(SECOND, 3), frame(FIRST, 9, who="b"))

    def test_an_empty_frame_empties_the_scope(self, tables: Tables) -> None:
        put(tables, frame(FIRST, 1))
        put(tables, frame(SECOND, 2), SECOND)
        ref = put(tables, frame(FIRST))
        assert ref.rows == 0
        assert stored(tables) == rows_of(frame(SECOND, 2))

    def test_an_empty_frame_makes_an_empty_table(self, tables: Tables) -> None:
        put(tables, frame(FIRST))
        assert stored(tables) == []

    def test_rows_outside_the_scope_are_refused(self, tables: Tables) -> None:
        put(tables, frame(FIRST, 1))
        with pytest.raises(DataError, match="1 rows are outside of what they replace, day >= '2013-03-01' AND day <= "):
            put(tables, frame(SECOND, 2), FIRST)
        with pytest.raises(DataError, match="2 rows are outside"):  # the error of delta-rs would contain the rows
            put(tables, frame(FIRST, 2, 3).with_columns(who=pl.lit(None, pl.String)), FIRST, who=["a"])
        assert stored(tables) == rows_of(frame(FIRST, 1))

    @pytest.mark.parametrize(
        "drifted",
        [
            frame(FIRST, 1).with_columns(new=pl.lit(1)),
            frame(FIRST, 1).drop("who"),
            frame(FIRST, 1).with_columns(pl.col("value").cast(pl.String)),
            frame(FIRST, 1).with_columns(pl.col("value") + 0.5),
        ],
        ids=["more columns", "fewer", "another type", "fractions"],
    )
    def test_other_columns_are_refused(self, tables: Tables, drifted: pl.DataFrame) -> None:
        put(tables, frame(FIRST, 7))
        version = tables.version(TABLE)
        with pytest.raises(DataError, match=r"has no column new|lost or of another type: (who|value)"):
            put(tables, drifted)
        assert (tables.version(TABLE), stored(tables)) == (version, rows_of(frame(FIRST, 7)))

    def test_a_table_may_get_the_columns_of_a_newer_version_of_the_product(self, tables: Tables) -> None:
        put(tables, frame(FIRST, 1))
        newer = frame(SECOND, 2).with_columns(new=pl.lit(5))
        tables.replace(TABLE, newer, Scope(Interval.of(SECOND)), sort_by=["value"], may_grow=True)
        found = tables.scan(TABLE).sort("day").select("value", "new").collect().rows()
        assert found == [(1, None), (2, 5)]
        with pytest.raises(DataError, match="lost or of another type: new"):
            tables.replace(TABLE, frame(SECOND, 2), Scope(Interval.of(SECOND)), sort_by=["value"], may_grow=True)

    def test_a_function_can_make_the_new_rows_from_the_old(self, tables: Tables) -> None:
        put(tables, frame(FIRST, 1, 2))
        put(tables, frame(SECOND, 5), SECOND)
        scope = Scope(Interval.of(FIRST))
        tables.replace(TABLE, lambda rows: rows.with_columns(pl.col("value") * 10), scope, sort_by=["value"])
        assert stored(tables) == rows_of(frame(FIRST, 10, 20), frame(SECOND, 5))

    def test_a_function_that_changes_nothing_commits_no_version(self, tables: Tables) -> None:
        before = put(tables, frame(FIRST, 2, 1))
        again = tables.replace(TABLE, lambda rows: rows.reverse(), Scope(Interval.of(FIRST)), sort_by=["value"])
        assert again == before
        assert tables.version(TABLE) == before.version

    def test_a_function_needs_an_existing_table(self, tables: Tables) -> None:
        with pytest.raises(DataError, match="numbers does not exist yet"):
            tables.replace(TABLE, lambda rows: rows, Scope(Interval.of(FIRST)), sort_by=["value"])
        assert not tables.exists(TABLE)

    def test_a_commit_records_run_and_scope(self, tables: Tables) -> None:
        scope = Scope(Interval.of(FIRST))
        tables.replace(TABLE, frame(FIRST, 1), scope, sort_by=["value"], metadata={"deliveries": "x,y", "clean": 3})
        said = tables.open(TABLE).history(1)[0]
        assert {key: said[key] for key in ("run_id", "git_commit", "deliveries", "clean")} == {
            "run_id": "a run",
            "git_commit": "abc",
            "deliveries": "x,y",
            "clean": "3",
        }

    def test_equal_content_is_equal_bytes(self, tables: Tables) -> None:
        put(tables, frame(FIRST, 1, 2, 3))
        [first] = tables.open(TABLE).file_uris()
        put(tables, frame(FIRST, 3, 1, 2))
        [second] = tables.open(TABLE).file_uris()
        assert Path(first).read_bytes() == Path(second).read_bytes()

    def test_a_missing_table_is_named(self, tables: Tables) -> None:
        with pytest.raises(DataError, match=r"table .*/numbers does not exist yet; first run the step that makes it"):
            tables.scan(TABLE)

    def test_create_keeps_the_rows_of_an_existing_table(self, tables: Tables) -> None:
        tables.create(TABLE, frame(FIRST).schema)
        put(tables, frame(FIRST, 1))
        tables.create(TABLE, frame(FIRST).schema)
        assert stored(tables) == rows_of(frame(FIRST, 1))


class TestScope:
    """The predicate exists twice, for delta-rs and for polars. Both must select the same rows."""

    WORDS = (
        "a",
        "A",
        "",
        "it's",
        "''",
        "a'' OR 1=1 --",
        "back\\slash",
        'qu"ote',
        "per%cent_",
        "ünïcödé 文",
        "a\nb",
        " a ",
    )

    def scopes(self) -> Iterator[Scope]:
        for start, length in itertools.product((FIRST, SECOND), (1, 2)):
            yield Scope(days(start, length))
        for word in self.WORDS:
            yield Scope(days(FIRST, 2), {"word": [word]})
        for words, numbers in (
            (self.WORDS, [7]),
            (self.WORDS[:5], [-1, 0]),
            (self.WORDS[5:], [0, 7]),
            (["not there"], [99]),
        ):
            yield Scope(days(SECOND, 3), {"word": list(words), "n": numbers})

    def test_both_predicates_select_the_same_rows(self, tmp_path: Path) -> None:
        some = itertools.product(days(FIRST, 4).days, [*self.WORDS, None], [-1, 0, 7, None])
        rows = pl.DataFrame([*some], schema={"day": pl.Date, "word": pl.String, "n": pl.Int64}, orient="row")
        chosen = 0
        for scope in self.scopes():
            write_deltalake(tmp_path, rows.to_arrow(), mode="overwrite", partition_by=["day"])
            write_deltalake(tmp_path, rows.clear().to_arrow(), mode="overwrite", predicate=scope.sql())
            left = rows.filter(~scope.expr().fill_null(False))
            assert pl.read_delta(str(tmp_path)).sort(pl.all()).equals(left.sort(pl.all())), scope.sql()
            chosen += rows.height - left.height
        assert chosen > 300

    def test_a_scope_of_deliveries_has_their_days_and_ids(self) -> None:
        scope = Scope.of_deliveries([SECOND, FIRST, SECOND], ["y", "x", "y"])
        assert scope == Scope(days(FIRST, 2), {"delivery_id": ["x", "y"]})


def before_first_commit(monkeypatch: pytest.MonkeyPatch, interruption: Callable[[], object]) -> list[int]:
    """Run something after a writer opened its handle and before it commits. Return the list of attempted commits."""
    tried: list[int] = []

    def interrupted(commit: Callable[..., Any]) -> Callable[..., Any]:
        def first(*given: Any, **named: Any) -> Any:
            tried.append(1)
            if len(tried) == 1:
                interruption()
            return commit(*given, **named)

        return first

    monkeypatch.setattr(tables_module, "write_deltalake", interrupted(write_deltalake))

    return tried


class TestConcurrentWriters:
    @pytest.mark.parametrize(
        ("before", "first", "second"),
        [
            (before, first, second)
            for before in ("no table", "empty table", "empty partition", "filled partition")
            for first, second in itertools.product(WRITERS, WRITERS)
            if before != "no table" or "function" not in {first, second}  # the first writer creates the table
        ],
    )
    def test_writers_of_one_day_leave_the_rows_of_one_writer(
        self, tables: Tables, monkeypatch: pytest.MonkeyPatch, before: str, first: str, second: str
    ) -> None:
        if before != "no table":
            tables.create(TABLE, frame(FIRST).schema)
        if before.endswith("partition"):
            put(tables, frame(SECOND, 8), SECOND)
        if before == "filled partition":
            put(tables, frame(FIRST, 1, 2, 3, who="before"))
        refs = []
        tried = before_first_commit(monkeypatch, lambda: refs.append(WRITERS[second](tables, FIRST, "second")))
        refs.append(WRITERS[first](tables, FIRST, "first"))
        assert len(tried) == 3  # the first writer, the second writer, and the first writer's retry
        others = [frame(SECOND, 8)] if before.endswith("partition") else []
        for ref, who in zip(refs, ("second", "first"), strict=True):
            assert stored(tables, ref.version) == rows_of(written(FIRST, who), *others)

    @pytest.mark.parametrize(("first", "second"), [*itertools.product(WRITERS, WRITERS)])
    def test_writers_of_two_days_leave_the_rows_of_both(
        self, tables: Tables, monkeypatch: pytest.MonkeyPatch, first: str, second: str
    ) -> None:
        tables.create(TABLE, frame(FIRST).schema)
        before_first_commit(monkeypatch, lambda: WRITERS[second](tables, SECOND, "second"))
        WRITERS[first](tables, FIRST, "first")
        assert stored(tables) == rows_of(written(FIRST, "first"), written(SECOND, "second"))

    def test_a_function_gets_the_rows_that_the_other_writer_committed(
        self, tables: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(tables, frame(FIRST, 1))
        before_first_commit(monkeypatch, lambda: put(tables, frame(FIRST, 5)))
        scope = Scope(Interval.of(FIRST))
        tables.replace(TABLE, lambda rows: rows.with_columns(pl.col("value") + 100), scope, sort_by=["value"])
        assert stored(tables) == rows_of(frame(FIRST, 105))

    def test_a_writer_gives_up_after_some_attempts(self, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
        put(tables, frame(FIRST, 1))
        monkeypatch.setattr(tables_module, "COMMIT_TRIES", 3)
        monkeypatch.setattr("time.sleep", lambda _: None)
        tried = []

        def refused(*_: Any, **__: Any) -> None:
            tried.append(1)
            raise CommitFailedError("another came first")

        monkeypatch.setattr(tables_module, "write_deltalake", refused)
        with pytest.raises(CommitFailedError):
            put(tables, frame(FIRST, 2))
        assert len(tried) == 3

    def test_without_the_transaction_delta_commits_both(self, tmp_path: Path) -> None:
        """This is why we use the transaction. If the test fails, deltalake has fixed it: remove the transaction."""
        tables = Tables(places(tmp_path))
        tables.create(TABLE, frame(FIRST).schema)
        schema = tables.open(TABLE).schema()
        actions = []
        for who in ("first", "second"):
            path = Path(tables.uri(TABLE)) / f"{who}.parquet"
            written(FIRST, who).drop("day").write_parquet(path)
            actions.append(AddAction(path.name, path.stat().st_size, {"day": str(FIRST)}, 0, True, "{}"))
        handles = [tables.open(TABLE), tables.open(TABLE)]
        for handle, action in zip(handles, actions, strict=True):
            filters = [("day", ">=", str(FIRST)), ("day", "<=", str(FIRST))]
            handle.create_write_transaction([action], "overwrite", schema, ["day"], filters)
        assert tables.scan(TABLE).collect().height == 6


class TestBlocks:
    def put(self, tables: Tables, *blocks: pl.DataFrame) -> TableRef:
        return tables.write_blocks(TABLE, lambda: iter(blocks), frame(FIRST).schema, Scope(Interval.of(FIRST)))

    def test_blocks_are_one_commit(self, tables: Tables) -> None:
        self.put(tables, frame(FIRST, 9))
        ref = self.put(tables, frame(FIRST, 3), frame(FIRST, 1, 2))
        assert (ref.version, ref.rows) == (2, 3)
        assert stored(tables) == rows_of(frame(FIRST, 1, 2, 3))
        assert self.put(tables).rows == 0
        assert stored(tables) == []

    def test_a_table_with_another_order_of_columns_is_not_written_again(self, tables: Tables) -> None:
        """A table keeps the order of its first writer, whatever project.yaml says by now."""
        rows, scope = frame(FIRST, 1, 2), Scope(Interval.of(FIRST))
        tables.create(TABLE, {name: rows.schema[name] for name in ("value", "who", "day")})
        first = self.put(tables, rows)
        again = tables.replace_blocks(
            TABLE, lambda there: iter([(rows, there.sort("value").collect())]), 2, scope, schema=rows.schema
        )
        whole = tables.replace(TABLE, lambda _: rows, scope, sort_by=["value"])
        assert again == whole == first
        assert tables.scan(TABLE).select(rows.columns).collect().equals(rows)

    def test_an_error_of_a_block_is_raised_as_it_is(self, tables: Tables) -> None:
        """delta-rs would make a text of it, and of what it was about."""
        self.put(tables, frame(FIRST, 1))
        with pytest.raises(DataError, match="1 rows are outside of what they replace"):
            self.put(tables, frame(FIRST, 2), frame(SECOND, 3))
        assert stored(tables) == rows_of(frame(FIRST, 1))


class TestFiles:
    def test_the_returned_version_contains_the_rows(self, tables: Tables) -> None:
        for who in ("a", "b"):
            ref = by_files(tables, FIRST, who)
            assert stored(tables, ref.version) == rows_of(written(FIRST, who))
            assert ref.version == tables.version(TABLE)

    def test_the_returned_version_is_right_after_a_concurrent_commit(
        self, tables: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A compaction does not use our transactions, and delta-rs retries after it on its own."""
        put(tables, frame(SECOND, 1), SECOND)

        def foreign() -> None:
            write_deltalake(
                tables.open(TABLE), frame(SECOND, 2).to_arrow(), mode="overwrite", predicate=f"day = '{SECOND}'"
            )

        before_first_commit(monkeypatch, foreign)
        ref = by_files(tables, FIRST, "a")
        assert stored(tables, ref.version) == rows_of(frame(FIRST, 1, 2, 3), frame(SECOND, 2))
        write_deltalake(
            tables.open(TABLE), frame(SECOND, 3).to_arrow(), mode="overwrite", predicate=f"day = '{SECOND}'"
        )
        assert tables.version(TABLE) == ref.version + 1

    def test_only_partitions_of_its_days_and_values_are_removed(self, tables: Tables) -> None:
        schema = {"day": pl.Date, "data_view": pl.String, "value": pl.Int64}
        rows = pl.DataFrame(
            [(day, kind, 0) for day in days(FIRST, 3).days for kind in ("point_in_time", "latest")],
            schema=schema,
            orient="row",
        )
        write_deltalake(tables.uri(TABLE), rows.to_arrow(), partition_by=["day", "data_view"])
        from_file(tables, rows.clear(), Scope(days(FIRST, 2), {"data_view": ["point_in_time"]}), by="day data_view")
        gone = (pl.col("day") <= SECOND) & (pl.col("data_view") == "point_in_time")
        assert stored(tables) == sorted(rows.filter(~gone).iter_rows())

    @pytest.mark.parametrize(
        ("drifted", "said"),
        [
            (frame(FIRST).drop("who"), "lost or of another type: who"),
            (frame(FIRST).with_columns(pl.col("value").cast(pl.String)), "lost or of another type: value"),
        ],
    )
    def test_a_missing_or_changed_column_is_refused(self, tables: Tables, drifted: pl.DataFrame, said: str) -> None:
        put(tables, frame(FIRST, 1))
        version = tables.version(TABLE)
        with pytest.raises(DataError, match=said):
            from_file(tables, drifted, Scope(Interval.of(SECOND)))
        assert tables.version(TABLE) == version

    def test_a_new_column_is_null_in_old_rows(self, tables: Tables, caplog: pytest.LogCaptureFixture) -> None:
        put(tables, frame(FIRST, 1))
        from_file(tables, frame(SECOND, 2).with_columns(new=pl.lit(1.5)), Scope(Interval.of(SECOND)))
        assert tables.scan(TABLE).sort("day").collect()["new"].to_list() == [None, 1.5]
        assert "new columns ['new']; they are null for earlier days" in caplog.text


def test_transaction_numbers_increase(tables: Tables) -> None:
    for count in (1, 2, 3):
        put(tables, frame(FIRST, count))
        assert tables.open(TABLE).transaction_version(TABLE) == count
