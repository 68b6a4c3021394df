"""A step gives the same rows on Spark as on the worker, to the bit: with a Spark of its own, and with a server's."""

import json
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
import yaml
from polars.testing import assert_frame_equal
from pyspark.sql import DataFrame, SparkSession

from include.config.explanations import Explanations
from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core import schemas
from include.core.errors import UnreachableError
from include.core.interval import Interval
from include.core.journal import Entry
from include.core.personal import SEALED
from include.core.project import Project
from include.core.settings import Settings
from include.core.stack import state_id
from include.io import postgres
from include.io.executors import STAGED, map_blocks
from include.io.hash_key import read_hash_key
from include.io.journal import read_journal
from include.io.tables import Scope, Tables
from include.steps import delivered
from include.steps.land import land
from include.steps.outcome_values import OutcomeRows
from include.steps.outcomes import outcomes
from include.steps.score import score
from include.steps.verdicts import give_verdicts
from tests.deliveries import delivery, enter
from tests.integration.small import select
from tests.integration.training import DAYS, correct
from tests.integration.training import PROJECT as FERRIES
from tests.landing import DAY, VESSEL, deliver_one, logbook, rows_of, sailings, spoil, text_of, versions
from tests.marks import mostly_drills
from tests.spark_connect import TOKEN, begun, given_as_text, run
from tests.unit.test_corpus import CASES, landed
from tools.spark_server import TOKEN_FILE

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

SCORE = """
import sys
from include.config.loading import load_model, load_project
from include.core.settings import Settings
from tests.integration.test_spark_conformance import scored

spark, settings = {"score": "spark"}, Settings.model_validate_json(sys.stdin.read())
print(scored(load_model("late_ferry").model_copy(update={"run_on": spark}), settings))
"""
LoadChanged = Callable[..., Project]
"""The fixture `load_changed`."""


def scored(model: Model, settings: Settings) -> str:
    """Score some days with two versions, and give reasons; return the record, without what differs by commit."""
    days = Interval(start=date(2013, 3, 20), end=date(2013, 3, 28))
    versions = {day: 1 if day < date(2013, 3, 25) else 2 for day in days.days}
    explained = model.model_copy(update={"explanations": Explanations(top=2)})
    return score(explained, days, settings, versions=versions).model_dump_json(exclude={"table", "table_version"})


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of the only server of these tests."""
    folder = tmp_path_factory.mktemp("spark")
    with begun(folder) as (address, _), pytest.MonkeyPatch.context() as patch:
        token = folder / "token"
        token.write_text(TOKEN, encoding="utf-8")
        patch.setenv(TOKEN_FILE, str(token))
        yield address


def printed(code: str, remote: str | None, settings: Settings) -> str:
    """Return what the code prints in a process of its own."""
    process = run(code, remote, given_as_text(settings))
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out.strip()


def scores(settings: Settings) -> pl.DataFrame:
    return Tables(settings).scan("scores_late_ferry").sort("day", "model_version", "entity_id").collect()


@pytest.mark.parametrize("shared", mostly_drills((False, True), in_ci=(True,)))
def test_scores_are_equal(trained: Settings, remote: str, shared: bool) -> None:
    record = printed(SCORE, remote if shared else None, trained)
    on_spark = scores(trained)
    assert scored(load_model("late_ferry"), trained) == record
    assert_frame_equal(scores(trained), on_spark, check_exact=True)
    assert on_spark["reasons"].null_count() == 0
    assert on_spark.height > 1000


OUTCOMES = """
import sys
from include.config.loading import load_project
from include.core.settings import Settings
from tests.integration.test_spark_conformance import recorded

spark, settings = {"outcomes": "spark"}, Settings.model_validate_json(sys.stdin.read())
print(recorded(load_project("ferries").model_copy(update={"run_on": spark}), settings))
"""


def recorded(project: Project, settings: Settings) -> int:
    """Record the outcomes of all prepared days; return how many rows changed."""
    return outcomes(project, DAYS, settings).rows


def in_tables(settings: Settings) -> list[Any]:
    columns = "outcome, day, entity_id, value, label"
    with postgres.connection.engine(settings).connect() as connection:
        return [*connection.execute(sa.text(f"SELECT {columns} FROM outcomes ORDER BY {columns}"))]


@pytest.mark.parametrize("shared", mostly_drills((False, True), in_ci=(False,)))
def test_outcomes_are_equal(prepared: Settings, remote: str, shared: bool) -> None:
    correct(prepared, DAYS.start, minutes_before_cutoff=5)
    assert int(printed(OUTCOMES, remote if shared else None, prepared)) > 1000
    on_spark = in_tables(prepared)
    assert recorded(load_project("ferries"), prepared) == 0, "an outcome that differs in a bit would be written again"
    with postgres.connection.engine(prepared).begin() as connection:
        connection.execute(sa.text("TRUNCATE outcomes, outcome_days"))
    assert recorded(load_project("ferries"), prepared) == len(on_spark)
    assert in_tables(prepared) == on_spark


STACK = """
import sys
from include.core.settings import Settings
from include.io import spark
from tests.integration.test_spark_conformance import stack

rows = stack(Settings.model_validate_json(sys.stdin.read()))
with spark.job() as (session, staged):
    print(rows.by_spark(session, staged).sort("entity_id").write_json())
"""


def stack(settings: Settings) -> OutcomeRows:
    """Return rows of a day with a whole file and a delivery of changed rows, which has a key of the first one."""
    tables, schema = Tables(settings), schemas.clean(FERRIES, FERRIES.feeds["logbook"])
    ids = [("whole", "1"), ("whole", "2"), ("changed", "2"), ("changed", "3"), ("withdrawn", "1")]
    rows = pl.DataFrame(
        {
            "day": [DAYS.start] * len(ids),
            "delivery_id": [delivery for delivery, _ in ids],
            "entity_id": [entity for _, entity in ids],
            **{
                name: [entity for _, entity in ids]
                for name in FERRIES.feeds["logbook"].key
                if schema[name] == pl.String
            },
            "delay_minutes": [1.5, 2.5, 3.5, None, 9.5],
        },
        schema_overrides={"day": pl.Date},
    )
    absent = [pl.lit(None, kind).alias(name) for name, kind in schema.items() if name not in rows.columns]
    whole = rows.with_columns(absent).select(pl.col(name).cast(kind) for name, kind in schema.items())
    tables.replace("clean_ferries__logbook", whole, Scope(DAYS), sort_by=["day", "delivery_id", "entity_id"])
    return OutcomeRows(FERRIES, "ferry_delay", tables, {DAYS.start: state_id(["whole", "changed"])})


def test_outcomes_of_a_stack_are_equal(settings: Settings, remote: str) -> None:
    expected = stack(settings).by_worker().sort("entity_id")
    assert expected["value"].to_list() == [1.5, 3.5, None]
    assert printed(STACK, remote, settings) == expected.write_json()


VALIDATE = """
import sys
from include.config.loading import load_project
from include.core.settings import Settings
from tests.integration.test_spark_conformance import validated

spark, settings = {"validate": "spark"}, Settings.model_validate_json(sys.stdin.read())
project = load_project("ferries").model_copy(update={"run_on": spark})
print(validated(project, settings))
"""

SHARE = {"expect": "share_of_quarantined_rows_to_be_at_most", "max_value": 0.9, "severity": "critical"}
RULES = {
    "sailings": [
        SHARE,
        {"expect": "column_values_to_be_in_set", "column": "dest", "value_set": ["HOB", "QQQ"], "severity": "critical"},
        {
            "expect": "column_values_to_be_between",
            "column": "distance_miles",
            "max_value": 3000,
            "severity": "critical",
        },
        {"expect": "column_values_to_not_be_null", "column": "dest", "mostly": 0.5, "severity": "critical"},
        {"expect": "column_values_to_be_unique", "column": "distance_miles", "severity": "warning"},
        # Great Expectations evaluates these: a rule about rows, and two about a whole delivery
        {"expect": "column_values_to_match_regex", "column": "dest", "regex": "^(?!QQQ)", "severity": "critical"},
        {"expect": "column_mean_to_be_between", "column": "distance_miles", "max_value": 9, "severity": "warning"},
        {"expect": "column_max_to_be_between", "column": "ferry", "max_value": 999, "severity": "critical"},
    ],
    "logbook": [SHARE],
}
PERSON = f"{VESSEL}7"
SEALED_TEXTS = ("far", PERSON)
COLLIDING = ("row", "_place", "asked 0", "Broken 1", "key_0", "times")
"""Columns of a feed that are named as marks once were, or are now."""


def deliver_odd_rows(settings: Settings, project: Project) -> None:
    """Land rows that break each kind of rule, and erase a person whose rows a restored table still has."""
    colliding = [pl.lit("public").alias(name) for name in COLLIDING]
    path = deliver_one(project, settings, "sailings", DAY, sailings(DAY, 45).with_columns(colliding))
    lines = text_of(path).splitlines(keepends=True)
    for at, (old, new) in {
        2: ("2454.0", "far"),  # sealed
        3: ("2454.0", "NaN"),
        4: ("2454.0", ""),
        9: ("HOB", "XYZ"),
        20: ("2454.0", "9000.0"),
        21: ("HOB", "QQQ"),
        30: ("HOB", ""),
        40: (",BAT,", f",{PERSON},"),  # sealed, too: as in a file with swapped columns
        44: ("HOB", "XYZ"),
    }.items():
        assert old in lines[at], lines[at]
        lines[at] = lines[at].replace(old, new)
    lines[44] = lines[44].replace("2454.0", "9000.0")
    spoil(path, "".join([*lines, lines[20]]))  # a key twice, but both rows break a rule
    before, after = DAY - timedelta(days=1), DAY + timedelta(days=1)
    for feed, day in project.required(after).items():
        deliver_one(project, settings, feed, day, sailings(after, 20) if feed == "sailings" else None)
    theirs_too = pl.when(pl.col("ferry") == 7).then(pl.lit(PERSON)).otherwise(pl.lit("N1AB"))
    twice = logbook(before, [float(n) for n in range(30)]).with_columns(vessel=theirs_too)
    deliver_one(project, settings, "logbook", before, pl.concat([twice, twice.head(1)]))
    deliver_one(project, settings, "winds", DAY)
    land(project, Interval(start=DAY, end=after), settings)
    key = read_hash_key(settings, project.name)
    listed = read_journal(settings, project).deliveries.select("feed", "day", "delivery_id")
    theirs = {
        delivery_id: 1
        for feed, day, delivery_id in listed.iter_rows()
        if (feed, day) in {("sailings", DAY), ("logbook", before)}
    }
    enter(settings, project, [Entry.erasure(key.hashed(PERSON), key.fingerprint, theirs, by="me", why="asked")])


class Killed(BaseException):
    pass


def watch_spark(patch: pytest.MonkeyPatch) -> None:
    """Fail if the worker reads rows while a session is open, which a server would end, or types rows but sealed ones.

    Also if a file that executors see has sealed text, or what was sealed.
    """
    from include.io import spark

    session, of_files, landed = spark.opened, spark.of_files, delivered.Reader.landed
    now: list[SparkSession] = []

    @contextmanager
    def opened() -> Iterator[SparkSession]:
        with session() as one:
            now.append(one)
            yield one
        now.pop()

    def checked(session: SparkSession, columns: Any, path: Path) -> DataFrame:
        assert now == [session]
        for file in path.parent.rglob("*.parquet"):
            texts = pl.read_parquet(file, hive_partitioning=False).select(pl.col(pl.String))
            found = [text for column in texts for text in column.drop_nulls()]
            assert not [text for text in found if text.startswith(SEALED) or text in SEALED_TEXTS], file
        return of_files(session, columns, path)

    def read(*given: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
        assert not now
        return landed(*given)

    patch.setattr(spark, "opened", opened)
    patch.setattr(spark, "of_files", checked)
    patch.setattr(delivered.Reader, "landed", read)
    patch.setattr(delivered.Reader, "part", None)


def lose_rows(patch: pytest.MonkeyPatch) -> None:
    """Let rows of each large delivery come back twice, then not at all, and go on with what was there before."""
    from include.steps.spark_rows import SparkRows

    typed = SparkRows._type

    def losing(self: SparkRows) -> None:
        typed(self)
        refused = partial(pytest.raises, UnreachableError)
        height = self._heights[0]
        file = next(self._exchange.glob("typed/,block=0/*.parquet"))
        again = Path(shutil.copy(file, file.with_name("again.parquet")))
        with refused(
            match=f"of the {height} rows of block 1 of 3, [0-9]+ rows, .+ of them different, came back from Spark"
        ):
            self._read_marks()
        lost = file.rename(file.with_name("lost"))
        again.unlink()
        for read in (self._read_marks, partial(self._typed_block, 0)):
            with refused(match=f"of the {height} rows of block 1 of 3, [0-9] rows, .+ so it has no verdict"):
                read()
        lost.rename(file)

    patch.setattr(SparkRows, "_type", losing)


def validated(project: Project, settings: Settings, *, killed: bool = False, large: int = 30) -> str:
    """Give all deliveries a verdict; on Spark, each of `large` rows is cut into three blocks. Return the counts.

    With `killed`, a first run ends when the clean rows of the third delivery are written, and its quarantine is not.
    """
    known = read_journal(settings, project)
    given = project, known.deliveries.sort("day", "feed", "delivery_id"), settings

    written = count(1)

    def killing(*_: Any) -> None:
        if next(written) == 3:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if project.run_on:
            watch_spark(patch)
            if not killed:
                lose_rows(patch)
            patch.setattr(delivered, "BLOCK_VALUES", 1)
            patch.setattr(delivered, "block_rows", lambda _, of: of["rows"] // (3 if of["rows"] >= large else 1) + 1)
        if killed:
            with patch.context() as first, pytest.raises(Killed):
                first.setattr(postgres.audit, "record_quality", killing)
                give_verdicts(*given, listed=known.deliveries, erased=known.erased)
        return repr(give_verdicts(*given, listed=known.deliveries, erased=known.erased))


def given_verdicts(settings: Settings, project: Project) -> list[Any]:
    """Return verdicts and results of validation, without the time."""
    results = select(settings, "SELECT * FROM quality_results ORDER BY delivery_id, id")
    varying = {"id", "checked_at"}
    return [
        read_journal(settings, project).deliveries.rows(),
        [{name: value for name, value in row.items() if name not in varying} for row in results],
    ]


def test_verdicts_and_rows_are_equal(
    load_changed: LoadChanged, settings: Settings, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {name: {"type": "string", "class": "public", "optional": True} for name in COLLIDING}
    project = load_changed("ferries", lambda changed: changed["feeds"]["sailings"]["columns"].update(more))
    (project.folder / "expectations.yaml").write_text(yaml.safe_dump(RULES), encoding="utf-8")
    deliver_odd_rows(settings, project)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "exchange"))
    (tmp_path / "exchange").mkdir()
    counts = printed(VALIDATE, remote, settings)
    assert [*(tmp_path / "exchange").glob(f"{STAGED}*")] == []
    written, found = versions(settings), given_verdicts(settings, project)
    assert validated(project, settings) == counts
    assert versions(settings) == written, "a row that differs in a bit would be written again"
    assert given_verdicts(settings, project) == found

    [refusal] = [row for row in read_journal(settings, project).deliveries.rows(named=True) if row["why"]]
    assert "unique of company, ferry, origin, departs_at failed, 2 of 30 rows" in refusal["why"]
    quarantine = rows_of(settings, "quarantine_ferries__sailings")
    assert quarantine["_row"].to_list() == [3, 4, 10, 21, 22, 45, 47]
    assert quarantine["distance_miles"].str.starts_with(SEALED).to_list()[:2] == [True, True]
    clean = rows_of(settings, "clean_ferries__sailings")
    assert clean.height == 45 - 7 + 20
    assert clean.select(pl.col(COLLIDING).count()).row(0) == (45 - 7,) * len(COLLIDING)


def corpus(load_changed: LoadChanged) -> tuple[Project, dict[str, pl.DataFrame]]:
    """Return a project with a feed for each declaration of the corpus and each day, and the rows of one delivery each.

    Each row comes twice, so that a delivery has several blocks.
    """
    declared: dict[str, dict[str, Any]] = {}
    rows: dict[str, list[pl.DataFrame]] = {}
    for number, case in enumerate(case for case in CASES if {"values", "malformed"} & case.keys()):
        feed, stored, _ = landed(case)
        dumped: dict[str, Any] = feed.model_dump(mode="json", by_alias=True, exclude_unset=True)
        kept: dict[str, Any] = {key: dumped[key] for key in ("columns", "format") if key in dumped}
        kept["columns"]["row_of"] = {"type": "string", "class": "public"}
        for (day,), of_day in stored.group_by("day", maintain_order=True):
            name = f"c{zlib.crc32(json.dumps([kept, str(day)]).encode())}"
            declared[name] = {"path": f"{name}/{{day}}/*", "key": ["row_of"], "day_column": "on", **kept}
            twice = pl.concat([of_day, of_day]).with_row_index()
            row_of = pl.format(f"case {number}, row {{}}", "index")
            rows.setdefault(name, []).append(twice.with_columns(delivery_id=pl.lit(name), row_of=row_of))
    project = load_changed("ferries", lambda changed: changed["feeds"].update(declared))
    (project.folder / "expectations.yaml").write_text(yaml.safe_dump({n: [SHARE] for n in declared}), encoding="utf-8")
    numbered = pl.int_range(2, 2 + pl.len(), dtype=pl.Int64).alias("_row")
    return project, {
        name: pl.concat(parts).with_columns(numbered).select(schemas.raw(project.feeds[name]).keys())
        for name, parts in rows.items()
    }


def of_each_type(columns: Mapping[str, pl.DataType]) -> dict[str, str]:
    return {name: f"{name} {type(kind).__name__}" for name, kind in columns.items()}


CORPUS = """
import sys
from tests.integration.test_spark_conformance import typed_corpus

typed_corpus()
"""


def typed_corpus() -> None:
    """Compare what executors make of the corpus, in one job for all feeds, with what this process makes of it."""
    from include.io import spark
    from include.quality.row_kernel import BLOCK, PLACE, RowKernel
    from include.quality.suites import Suites

    project, rows = corpus(lambda name, _: load_project(name))
    rules = Suites(project).rules
    kernels = {name: RowKernel(project, name, rules[name]) for name in rows}
    names = {name: of_each_type(kernel.columns) for name, kernel in kernels.items()}
    columns = {names[name][each]: kind for name, of in kernels.items() for each, kind in of.columns.items()}

    def together(block: pl.DataFrame) -> pl.DataFrame:  # nested, so that executors do not import this file
        made = [pl.DataFrame(schema=columns)]
        for (name,), part in block.group_by("delivery_id", maintain_order=True):
            typed = kernels[name](part.select([*kernels[name].landed]))
            made.append(typed.rename(names[name]))
        return pl.concat(made, how="diagonal")

    block = pl.lit(0, pl.Int32()).alias(BLOCK)
    placed = [part.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(PLACE), block) for part in rows.values()]
    with spark.job() as (session, staged):
        frame = spark.staged(session, pl.concat(placed, how="diagonal").lazy(), staged / "landed.parquet")
        map_blocks(frame, together, columns).write.parquet(str(staged / "typed"))
        found = pl.read_parquet(staged / "typed" / "*.parquet", schema=columns)
    for part in placed:
        name = part["delivery_id"][0]
        of_feed = found.filter(pl.col("delivery_id String") == name).sort(f"{PLACE} Int64")
        expected = kernels[name](part.select([*kernels[name].landed]))
        assert_frame_equal(of_feed.select(names[name].values()), expected.rename(names[name]), check_exact=True)
    assert len(placed) > 50


def test_the_corpus_is_typed_and_marked_equally(load_changed: LoadChanged, remote: str, settings: Settings) -> None:
    """Verdicts and rows follow from this by the same code, as the drill below shows."""
    corpus(load_changed)
    printed(CORPUS, remote, settings)


@pytest.mark.drill
def test_the_corpus_has_equal_verdicts_and_rows(load_changed: LoadChanged, settings: Settings) -> None:
    """Also if the first run was killed."""
    project, rows = corpus(load_changed)
    for name, raw in rows.items():
        day = raw["day"][0]
        Tables(settings).replace(f"raw_ferries__{name}", raw, Scope(Interval.of(day)), sort_by=["_row"])
        moment = datetime.combine(day, time(8), UTC)
        about = delivery(name, day, name, available_from=moment, rows=raw.height, verdict="landed")
        enter(settings, project, about)
    counts = validated(project.model_copy(update={"run_on": {"validate": "spark"}}), settings, killed=True, large=20)
    written, found = versions(settings), given_verdicts(settings, project)
    assert validated(project, settings) == counts
    assert versions(settings) == written
    assert given_verdicts(settings, project) == found
    for layer in ("clean", "quarantine"):
        assert sum(rows_of(settings, f"{layer}_ferries__{name}").height for name in rows) > 50
    assert set(read_journal(settings, project).deliveries["verdict"]) == {"accepted", "refused"}
