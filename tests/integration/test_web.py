"""The pages inside a real Airflow, in a browser, as three people see them: an administrator, a viewer of one model, and
somebody who may see nothing. One API server for all tests, without a scheduler.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

from bench.filled import Shape, fill
from tests.chromium import Chromium, chromium
from tests.conftest import Install
from tools.stack import ROOT, find_free_port

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]

SHAPE = Shape(projects=1, models=2, days=100, last=date(2026, 11, 29), features=3)
PASSWORDS = {"admin": "a-password", "viewer": "v-password", "nobody": "n-password"}
DAGS = """
from airflow.sdk import dag, task

for name in {names}:

    @dag(dag_id=name, schedule=None)
    def of_a_test():
        @task
        def validate():
            pass

        validate()

    of_a_test()
"""
BUNDLES = {
    "one": ["model_1_1_score", "model_1_1_rollback"],
    "rest": ["project_1_prepare", "model_1_2_score", "maintenance"],
}
"""The DAGs of each team: a viewer of a team sees only them."""

COMMANDS = """
import json, sys
from airflow.__main__ import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["airflow", *words]
    main()
"""
RUN = "manual__2026-11-30T03:00:00.123456+00:00"
"""The name of a run, with the characters that an address must escape."""
FRAME = "document.querySelector('iframe').contentDocument"


@dataclass
class Pages:
    """A running API server, and the shared database as a superuser."""

    url: str
    shared: sa.Engine

    def get(self, path: str, user: str | None = None) -> httpx.Response:
        """Ask for a page as a user."""
        return self._ask("GET", path, user)

    def start(self, dag_id: str, run_id: str) -> None:
        """Start a run as the administrator; without a scheduler it stays in the queue."""
        run = {"dag_run_id": run_id, "logical_date": None}
        self._ask("POST", f"/api/v2/dags/{dag_id}/dagRuns", "admin", json=run).raise_for_status()

    def _ask(self, method: str, path: str, user: str | None, **content: Any) -> httpx.Response:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            headers = {}
            if user:
                who = {"username": user, "password": PASSWORDS[user]}
                token = client.post("/auth/token", json=who).raise_for_status().json()["access_token"]
                headers = {"Authorization": f"Bearer {token}"}
            return client.request(method, path, headers=headers, **content)


@pytest.fixture(scope="module")
def pages(postgres_url: sa.URL, install: Install) -> Iterator[Pages]:
    """Start an API server over a shared database with two models of one project."""
    with tempfile.TemporaryDirectory(prefix="nightly-web-") as name:
        folder = Path(name)
        with install(folder / "places") as settings:
            shared = sa.make_url(settings.database_url.get_secret_value())
            engine = sa.create_engine(shared.set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
            with engine.begin() as connection:
                fill(connection, SHAPE)
                connection.execute(sa.text("DROP ROLE IF EXISTS pages_of_a_test"))
                connection.execute(sa.text("CREATE ROLE pages_of_a_test LOGIN IN ROLE ops_reader"))
                connection.execute(sa.text(f"GRANT CONNECT ON DATABASE {shared.database} TO ops_reader"))
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("CREATE DATABASE airflow_of_pages"))
            environment = make_environment(folder, postgres_url, shared)
            words = [["db", "migrate"], *(["teams", "create", team] for team in (*BUNDLES, "none"))]
            subprocess.run(
                [sys.executable, "-c", COMMANDS, json.dumps([*words, ["dags", "reserialize"]])],
                env=environment, check=True, capture_output=True, timeout=600,
            )  # fmt: skip
            url = environment["AIRFLOW__API__BASE_URL"]
            with (
                (folder / "api.log").open("wb") as log,
                subprocess.Popen(
                    [Path(sys.executable).with_name("airflow"), "api-server"], env=environment, stdout=log, stderr=log
                ) as server,
            ):
                try:
                    wait_for(url, folder / "api.log")
                    yield Pages(url, engine)
                finally:
                    server.terminate()
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.execute(sa.text("DROP DATABASE airflow_of_pages WITH (FORCE)"))


def make_environment(folder: Path, postgres: sa.URL, shared: sa.URL) -> dict[str, str]:
    """Write DAGs and passwords; return the variables of the API server."""
    bundles = []
    for team, names in BUNDLES.items():
        (folder / team).mkdir()
        (folder / team / "dags.py").write_text(DAGS.format(names=names), encoding="utf-8")
        classpath = "airflow.dag_processing.bundles.local.LocalDagBundle"
        kwargs = {"path": str(folder / team)}
        bundles.append({"name": team, "classpath": classpath, "kwargs": kwargs, "team_name": team})
    (folder / "passwords.json").write_text(json.dumps(PASSWORDS), encoding="utf-8")
    airflow = postgres.set(database="airflow_of_pages")
    port = find_free_port()
    secret = "a secret of the tests that is long enough for signatures of the server"
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "NIGHTLY"))},
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__API_AUTH__JWT_SECRET": secret,
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": secret,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer:one,nobody:viewer:none",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow.set(drivername="postgresql+psycopg2").render_as_string(False),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": airflow.set(drivername="postgresql+asyncpg").render_as_string(
            False
        ),
        "AIRFLOW_CONN_NIGHTLY_DATABASE_OPS_READER": json.dumps({
            "conn_type": "postgres",
            "host": str(shared.query["host"]),
            "login": "pages_of_a_test",
            "schema": shared.database,
        }),
        "PYTHONPATH": str(ROOT / "plugins"),
    }


def wait_for(url: str, log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/api/v2/version", trust_env=False, timeout=5).is_success:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8")[-4000:])


PATHS = (
    "/nightly/model/model_1_1",
    "/nightly/model/model_1_2",
    "/nightly/day/project_1/2026-11-29",
    "/nightly/feed/project_1/orders",
    "/nightly/dag?dag_id=maintenance",
    "/nightly/start/model_1_1_rollback",
)


def test_without_a_login_there_is_nothing(pages: Pages) -> None:
    assert [pages.get(path).status_code for path in ("/nightly/", *PATHS)] == [401] * 7


def test_each_role_sees_what_belongs_to_its_dags(pages: Pages) -> None:
    found = {user: [pages.get(path, user).status_code for path in PATHS] for user in PASSWORDS}
    assert found == {
        "admin": [200] * 6,
        "viewer": [200, 403, 403, 403, 403, 200],
        "nobody": [403] * 6,
    }
    today = {user: pages.get("/nightly/", user).text for user in PASSWORDS}
    seen = {user: [name in text for name in ("model_1_1", "model_1_2", "Project 1")] for user, text in today.items()}
    assert seen == {
        "admin": [True, True, True],
        "viewer": [True, False, False],
        "nobody": [False, False, False],
    }
    assert "There is nothing to show." in today["nobody"]
    assert "not start it" in pages.get("/nightly/start/model_1_1_rollback", "viewer").text


@pytest.fixture
def browser(pages: Pages, tmp_path: Path) -> Iterator[Chromium]:
    with chromium(tmp_path) as found:
        found.log_in(pages.url, "admin", PASSWORDS["admin"])
        yield found


def test_an_administrator_clicks_from_today_to_a_rollback(pages: Pages, browser: Chromium) -> None:
    browser.open(f"{pages.url}/plugin/nightly")
    assert browser.wait(f"{FRAME}.querySelector('main h1').textContent") == "Today"
    browser.run("localStorage.theme = 'dark'")
    browser.open(f"{pages.url}/plugin/nightly")
    assert browser.wait(f"{FRAME}.documentElement.dataset.theme") == "dark"
    assert browser.run(f"getComputedStyle({FRAME}.body).backgroundColor") == "rgb(18, 22, 27)"

    browser.run(f"{FRAME}.querySelector('.cards th a').click()")
    assert browser.wait(f"{FRAME}.querySelector('h1').textContent === 'Model 1.1' && location.pathname") == (
        "/plugin/nightly/nightly/model/model_1_1"
    )
    assert browser.run(f"{FRAME}.title") == "Model 1.1"

    browser.run(f"[...{FRAME}.querySelectorAll('a.button')].find(a => a.textContent === 'Roll back').click()")
    browser.wait(f"{FRAME}.querySelector('form')")
    browser.run(f"{FRAME}.getElementById('f-version').value = '1'; {FRAME}.getElementById('f-why').value = 'of a test'")
    browser.run(f"{FRAME}.querySelector('form').requestSubmit()")
    run_id = browser.wait("(location.pathname.match(/^.dags.model_1_1_rollback.runs.(.+)/) || [])[1]")
    run = pages.get(f"/api/v2/dags/model_1_1_rollback/dagRuns/{run_id}", "admin").json()
    assert run["conf"] == {"version": "1", "why": "of a test"}
    assert browser.errors() == []


def click_tab(browser: Chromium, route: str) -> str:
    """Click the tab of the product on a page of Airflow; return the heading of what it shows."""
    browser.wait(f"!!document.querySelector('a[href$=\"/plugin/{route}\"]')")
    browser.run(f"document.querySelector('a[href$=\"/plugin/{route}\"]').click()")
    browser.wait(f"location.pathname.endsWith('/plugin/{route}')")
    heading: str = browser.wait(f"{FRAME}.querySelector('h1').textContent")
    return heading


def test_the_tab_of_a_dag_is_in_short_what_its_page_says(pages: Pages, browser: Chromium) -> None:
    browser.open(f"{pages.url}/dags/model_1_1_score")
    assert click_tab(browser, "nightly-dag") == "Model 1.1"
    browser.run(f"[...{FRAME}.querySelectorAll('a.button')].find(a => a.textContent.startsWith('Open')).click()")
    assert browser.wait(f"{FRAME}.getElementById('gate') && {FRAME}.querySelector('h1').textContent") == "Model 1.1"
    assert browser.errors() == []


def test_the_tabs_of_a_run_and_of_its_task_have_its_steps_and_open_the_run_date(
    pages: Pages, browser: Chromium
) -> None:
    pages.start("project_1_prepare", RUN)
    with pages.shared.begin() as connection:
        connection.execute(sa.text("SET LOCAL session_replication_role = replica"))  # rows of steps do not change
        recorded = "UPDATE step_runs SET run_id = :run WHERE project = 'project_1' AND interval_start = :day"
        connection.execute(sa.text(recorded), {"run": RUN, "day": SHAPE.last})
    table = f"{FRAME}.querySelectorAll('[aria-labelledby=steps] tbody tr > :first-child')"
    steps = f"{FRAME}.readyState === 'complete' && [...{table}].map(cell => cell.textContent.trim())"
    run = f"{pages.url}/dags/project_1_prepare/runs/{quote(RUN, safe='')}"

    browser.open(f"{run}/tasks/validate")
    assert click_tab(browser, "nightly-task") == "validate of project_1_prepare"
    assert browser.wait(steps) == ["validate"]
    assert "Failed expectations" in browser.run(f"{FRAME}.body.textContent")

    browser.open(run)
    assert click_tab(browser, "nightly-run") == "project_1_prepare"
    assert browser.wait(steps) == ["land", "validate", "build_features"]
    browser.run(f"[...{FRAME}.querySelectorAll('main a')].find(a => a.textContent === '{SHAPE.last}').click()")
    browser.wait(f"{FRAME}.location.pathname === '/nightly/day/project_1/{SHAPE.last}'")
    assert str(SHAPE.last) in browser.wait(f"{FRAME}.querySelector('h1').textContent")
    assert browser.errors() == []


TOUCHING = """
[...document.querySelectorAll('svg.chart')].flatMap(chart => {
  const boxes = name => [...chart.querySelectorAll('text.' + name)].map(text => [text, text.getBoundingClientRect()]);
  return boxes('label').flatMap(([label, a]) => boxes('tick').filter(([_, b]) => (
    a.left < b.right && b.left < a.right && a.top + 2 < b.bottom && b.top + 2 < a.bottom
  )).map(([tick]) => `${label.textContent} and ${tick.textContent}`));
})
"""
"""The labels of axes that touch a number of an axis."""


def test_on_a_phone_the_labels_of_axes_touch_no_number(pages: Pages, browser: Chromium) -> None:
    browser.ask("Emulation.setDeviceMetricsOverride", width=360, height=800, deviceScaleFactor=1, mobile=True)
    browser.open(f"{pages.url}/nightly/model/model_1_1")
    assert browser.run("document.querySelectorAll('svg.chart text.tick').length") > 20
    assert browser.run(TOUCHING) == []
