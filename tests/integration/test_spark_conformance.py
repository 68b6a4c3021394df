"""A step gives the same rows on Spark as on the worker, to the bit: with a Spark of its own, and with a server's."""

from collections.abc import Iterator
from datetime import date

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from include.config.explanations import Explanations
from include.config.loading import load_model
from include.config.model import Model
from include.core.interval import Interval
from include.core.settings import Settings
from include.io.tables import Tables
from include.steps.score import score
from tests.spark_connect import TOKEN, begun, given_as_text, run
from tools.spark_server import TOKEN_FILE

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

SCORE = """
import sys
from include.config.loading import load_model
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
