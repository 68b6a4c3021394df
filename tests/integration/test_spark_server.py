"""The shared Spark Connect server gives the same features as a local Spark, to the bit.

If the server is not running or dies, a step fails soon instead of waiting for ever. Nobody uses it without its token.

Each step runs in its own process, as a task does, because a process has one kind of session.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import polars as pl
import psutil
import pytest

from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.io import storage
from include.io.tables import Tables
from include.operations.simulate import simulate
from include.steps.land import land
from include.steps.validate import validate
from tests.conftest import Install
from tests.integration.stranger import ask_for_an_answer, listening
from tests.s3 import on_s3
from tests.spark_connect import TOKEN, begun, given_as_text, run
from tools.spark_server import TOKEN_FILE
from tools.stack import ROOT

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]

RUN_DATES = Interval(start=date(2013, 1, 1), end=date(2013, 1, 6))
BUILD = """
import sys
from datetime import date
from include.config.loading import load_project
from include.core.interval import Interval
from include.core.settings import Settings
from include.steps.build_features import build_features

interval = Interval(start=date(2013, 1, 1), end=date(2013, 1, 6))
print(build_features(load_project("ferries"), interval, Settings.model_validate_json(sys.stdin.read())).rows)
"""
WORKER = """
import sys
from pyspark.sql.functions import udf
from include.io.spark import session

[row] = session().range(1).select(udf(lambda _: sys.executable)("id")).collect()
print(row[0])
"""
UNKNOWN = """
import polars as pl
from include.config.loading import load_project
from include.features import Feeds
from include.io.spark import session

project = load_project("ferries")
feed = "sailings"
spark = session()
rows = spark.sql("SELECT DATE'2024-03-01' AS day, 'd' AS delivery_id, 0 AS _row, 'a' AS ferry")
known = {"run_date": pl.Date, "feed": pl.String, "day": pl.Date, "delivery_id": pl.String, "rows": pl.Int64}
feeds = Feeds(project, {feed: rows}, pl.DataFrame(schema=known))
print(feeds.current(feed).count(), feeds.add_windows(rows, feed, by="ferry", days=[1], n=("ferry", "count")).count())
"""
LISTENS = """
import sys
from pyspark import SparkContext
from include.io.spark import session

session().range(1).count()
print(SparkContext._gateway.gateway_parameters.port if SparkContext._gateway else 0, flush=True)
sys.stdin.read()
"""
SLOW = """
import time
from include.io.spark import session

spark = session()
print(spark.range(1).count(), flush=True)
spark.sql("SELECT sum(a.id * b.id) FROM range(10000000) a CROSS JOIN range(10000000) b").collect()
"""


@pytest.fixture(scope="module")
def landed(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return an installation with some days landed and validated. Tests must not change it."""
    project = load_project("ferries")
    with install(tmp_path_factory.mktemp("server")) as settings:
        simulate(project, RUN_DATES, settings)
        land(project, RUN_DATES, settings)
        validate(project, RUN_DATES, settings)
        yield settings


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """Return the file with the token that `server` asks for."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def only_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, psutil.Popen]]:
    """Yield address and process of the server of all tests except the one that kills it."""
    with begun(tmp_path_factory.mktemp("spark")) as server:
        yield server


@pytest.fixture
def server(
    only_server: tuple[str, psutil.Popen], token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, psutil.Popen]:
    """Return address and process of the server. The steps of the test know where its token is."""
    monkeypatch.setenv(TOKEN_FILE, str(token_file))
    return only_server


def features(own: Settings, remote: str | None) -> pl.DataFrame:
    process = run(BUILD, remote, given_as_text(own))
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert int(out) > 0
    return Tables(own).scan("features_ferries").collect().sort("day", "entity_id")


def in_folder(settings: Settings, folder: Path) -> Settings:
    shutil.copytree(settings.tables, folder)
    return settings.model_copy(update={"tables": str(folder)})


def copied_to_s3(settings: Settings, endpoint: str) -> Settings:
    own = on_s3(settings, endpoint)
    storage.filesystem(own, own.tables)[0].put(settings.tables, own.tables, recursive=True)
    return own


@pytest.fixture(scope="module")
def expected(landed: Settings, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Return the features that a local Spark builds in folders."""
    return features(in_folder(landed, tmp_path_factory.mktemp("own") / "tables"), None)


def test_features_are_equal_to_those_of_a_local_spark(
    landed: Settings, expected: pl.DataFrame, server: tuple[str, psutil.Popen], tmp_path: Path, s3: str
) -> None:
    for own in (in_folder(landed, tmp_path / "shared"), copied_to_s3(landed, s3)):
        shared = features(own, server[0])
        assert shared.schema == expected.schema
        assert shared.equals(expected)


@pytest.mark.parametrize("shared", [False, True])
def test_python_code_of_a_step_runs_with_the_python_of_this_environment(
    server: tuple[str, psutil.Popen], shared: bool
) -> None:
    """By default, Spark uses the `python3` of PATH, which may have another version and lacks the packages."""
    out, errors = run(WORKER, server[0] if shared else None).communicate()
    assert out.strip() == sys.executable, errors


@pytest.mark.parametrize("shared", [False, True])
def test_a_feed_of_which_nothing_is_known_has_no_rows(server: tuple[str, psutil.Popen], shared: bool) -> None:
    out, errors = run(UNKNOWN, server[0] if shared else None).communicate()
    assert out.split() == ["0", "1"], errors


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "asks for a token: set NIGHTLY_SPARK_TOKEN_FILE"),
        ("another", "asks for another token than that in {file}: set NIGHTLY_SPARK_TOKEN_FILE"),
        ("", "NIGHTLY_SPARK_TOKEN_FILE: {file} is empty"),
        ("missing", "NIGHTLY_SPARK_TOKEN_FILE: {file} cannot be read (No such file or directory)"),
    ],
)
def test_a_step_without_the_right_token_is_refused(
    server: tuple[str, psutil.Popen], token_file: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, said: str
) -> None:
    if given is None:
        monkeypatch.delenv(TOKEN_FILE)
    elif given == "missing":
        token_file.unlink()
    else:
        token_file.write_text(given, encoding="utf-8")
    process = run(WORKER, server[0])
    out, errors = process.communicate()
    assert process.returncode
    assert not out
    assert errors.splitlines()[-1].startswith("include.core.errors.AccessError: ")
    assert said.format(file=token_file) in errors.splitlines()[-1]
    assert TOKEN not in errors


def test_a_refusal_does_not_show_the_parameters_of_the_address(server: tuple[str, psutil.Popen]) -> None:
    process = run(WORKER, "sc://127.0.0.1:1/;token=of-a-server-with-tls")
    _, errors = process.communicate()
    assert "the Spark server sc://127.0.0.1:1 does not answer" in errors
    assert "of-a-server-with-tls" not in errors


@pytest.mark.parametrize("shared", [False, True])
def test_all_ports_of_the_jvm_listen_on_loopback_and_ask_for_a_secret(
    server: tuple[str, psutil.Popen], shared: bool
) -> None:
    """The driver and the block manager would read serialised Java objects from every user of the machine."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENS], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        gateway = int(process.stdout.readline())  # Python's own port, with a secret of its own
        owners = [server[1]] if shared else psutil.Process(process.pid).children(recursive=True)
        owners = [owner for owner in owners if owner.name() == "java"]
        found = listening(owners)
        assert {address for address, _ in found} == {"127.0.0.1"}
        others = {port for _, port in found} - {gateway, int(server[0].rpartition(":")[2])}
        assert len(others) == 2, "the driver and the block manager"
        for port in others:
            assert "Expected SaslMessage" in ask_for_an_answer(port)
        assert shared or umask_of(owners[0]) == 0o077, "what the JVM writes, only its owner may read"


def umask_of(process: psutil.Process) -> int:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(":", 1) for line in lines)["Umask"], 8)


def test_without_the_server_a_step_fails_at_once(landed: Settings) -> None:
    began = time.monotonic()
    process = run(BUILD, "sc://127.0.0.1:1", given_as_text(landed))
    _, errors = process.communicate()
    assert process.returncode
    assert "ConnectionError: the Spark server sc://127.0.0.1:1 does not answer" in errors
    assert "make start" in errors
    assert time.monotonic() - began < 30


def test_without_a_server_and_java_a_step_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    process = run(WORKER, None)
    _, errors = process.communicate()
    assert process.returncode
    assert "ConfigError: no Spark starts on this machine, and SPARK_REMOTE names no server" in errors


@pytest.mark.drill
def test_a_step_fails_when_the_server_dies(token_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_FILE, str(token_file))
    with begun(tmp_path) as (address, server):
        process = run(SLOW, address)
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        time.sleep(2)
        assert process.poll() is None
        server.kill()
        began = time.monotonic()
        _, errors = process.communicate(timeout=200)
    assert process.returncode
    assert "Connection refused" in errors or "UNAVAILABLE" in errors, errors
    assert time.monotonic() - began < 120
