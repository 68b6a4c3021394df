"""A step gives the same rows on Spark as on the worker, to the bit: with a Spark of its own, and with a server's."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from include.config.explanations import Explanations
from include.config.loading import load_model, load_project
from include.config.model import Model
from include.core import schemas
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.core.stack import state_id
from include.io import postgres
from include.io.tables import Scope, Tables
from include.steps.outcome_values import OutcomeRows
from include.steps.outcomes import outcomes
from include.steps.score import score
from tests.integration.training import DAYS, correct
from tests.integration.training import PROJECT as FERRIES
from tests.spark_connect import TOKEN, begun, given_as_text, run
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
PLACES = pytest.mark.parametrize("shared", [False, True], ids=["own Spark", "server"])


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


@PLACES
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


@PLACES
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
