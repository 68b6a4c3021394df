"""What a local stack holds, as a person enjoys reading it. Every figure is queried from the database, none is kept."""

from datetime import date
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from include.config import Model, Project
from include.contracts import Interval
from tools.stack import Stack

AUC_BY_DAY = """
WITH ranked AS (
    SELECT day, model_version, outcome_value,
        -- the mean rank of equal scores, so that a tie counts one half (Mann and Whitney 1947)
        rank() OVER (PARTITION BY day ORDER BY score) + (count(*) OVER (PARTITION BY day, score) - 1) / 2.0 AS rank
    FROM predictions_with_outcomes
    WHERE model = :model AND day BETWEEN :start AND :end AND outcome_value IS NOT NULL
), counted AS (
    SELECT day, sum(rank) FILTER (WHERE outcome_value = 1) AS ranks,
        count(*) FILTER (WHERE outcome_value = 1) AS ones, count(*) FILTER (WHERE outcome_value = 0) AS zeros
    FROM ranked GROUP BY day
), published AS (
    SELECT day, model_version, count(*) AS rows, avg(score) AS mean_score, sum(prediction) AS predicted
    FROM current_predictions WHERE model = :model AND day BETWEEN :start AND :end GROUP BY day, model_version
)
SELECT day, model_version, rows, mean_score, predicted, ones + zeros AS known,
    ones::float / nullif(ones + zeros, 0) AS rate,
    (ranks - ones * (ones + 1) / 2.0) / nullif(ones * zeros, 0) AS auc
FROM published LEFT JOIN counted USING (day) ORDER BY day
"""

CHAMPION = """
SELECT model_version, from_day, by, why FROM promotions
WHERE model = :model AND from_day <= :day ORDER BY from_day DESC, id DESC LIMIT 1
"""

EVALUATED = """
SELECT version FROM step_runs WHERE model = :model AND step = 'evaluate' AND state = 'success' AND interval_end = :day
ORDER BY id DESC LIMIT 1
"""

SECONDS_BY_STEP = """
SELECT step, count(*) AS runs, sum(rows) AS rows, round(sum(seconds)::numeric, 1) AS seconds
FROM step_runs WHERE state = 'success' GROUP BY step ORDER BY min(started_at)
"""

RUNS = """
SELECT dag_id, run_id, state, round(extract(epoch FROM end_date - start_date)::numeric, 0) AS seconds
FROM dag_run ORDER BY start_date
"""

QUALITY = """
SELECT count(DISTINCT delivery_id) AS deliveries, count(*) AS checks,
    count(*) FILTER (WHERE NOT success AND severity = 'critical') AS critical,
    count(*) FILTER (WHERE NOT success AND severity = 'warning') AS warnings FROM data_quality
"""


def query(url: str, statement: str, **values: Any) -> list[Any]:
    """The rows of a statement."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement), values))


def evaluated_version(stack: Stack, model: Model, day: date) -> int:
    """The version that the training of a day registered."""
    return int(query(stack.cli_environment()["DATABASE_URL"], EVALUATED, model=model.name, day=day)[0].version)


def champion(stack: Stack, model: Model, day: date) -> Any | None:
    """The ledger's row for a day: model_version, from_day, by, why; None before the first champion."""
    rows = query(stack.cli_environment()["DATABASE_URL"], CHAMPION, model=model.name, day=day)
    return rows[0] if rows else None


def show(console: Console, stack: Stack, project: Project, model: Model, nights: Interval) -> None:
    """Runs and their states, the champion, what is published and how it did, where the time went, where to look."""
    urls = stack.cli_environment()
    airflow_url = stack.environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    console.rule(f"[bold]{project.title}: {model.title.lower()}")

    console.print(_runs(query(airflow_url, RUNS)))
    named = champion(stack, model, nights.end)
    if named is not None:
        console.print(
            f"[bold]Champion[/bold] on {nights.end}: [green]version {named.model_version}[/green] "
            f"since {named.from_day}, by {named.by}: {named.why}"
        )
    interval = {"start": nights.start, "end": nights.end}
    console.print(_published(query(urls["READER_URL"], AUC_BY_DAY, model=model.name, **interval)))
    quality = query(urls["READER_URL"], QUALITY)[0]
    console.print(
        f"[bold]Data quality[/bold]: {quality.deliveries} deliveries, {quality.checks} checks, "
        f"{quality.critical} critical failures, {quality.warnings} warnings (view data_quality)"
    )
    console.print(_seconds(query(urls["DATABASE_URL"], SECONDS_BY_STEP)))
    console.print(
        "[bold]Where to look next[/bold]\n"
        f"  Airflow      {stack.api_url}/dags\n"
        "  a shell      . .local/env\n"
        """  as analyst   psql "$READER_URL" -c '\\d+'    (views current_predictions, predictions_with_outcomes, …)\n"""
        "  models       mlflow models --help    (MLFLOW_TRACKING_URI is set)\n"
        "  stop         make stop",
        soft_wrap=True,
    )


def _runs(rows: list[Any]) -> Table:
    """DAGs down, nights across: a mark a run."""
    marks = {"success": "[green]✓[/green]", "failed": "[red]✗[/red]", "running": "…", "queued": "…"}
    run_ids = list(dict.fromkeys(row.run_id for row in rows))
    table = Table(title="Runs", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for run_id in run_ids:
        table.add_column(run_id.removeprefix("night__"), justify="center")
    for dag_id in dict.fromkeys(row.dag_id for row in rows):
        cells = {
            row.run_id: f"{marks.get(row.state, row.state)} {row.seconds or 0:.0f} s"
            for row in rows
            if row.dag_id == dag_id
        }
        table.add_row(dag_id, *(cells.get(run_id, "") for run_id in run_ids))
    return table


def _published(rows: list[Any]) -> Table:
    table = Table(title="Published by day", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("day", "version", "rows", "mean score", "predicted 1", "outcomes known", "rate", "AUC"):
        table.add_column(column, justify="left" if column == "day" else "right")
    for row in rows:
        measured = (f"{row.known:,}", f"{row.rate:.1%}", f"{row.auc:.3f}") if row.known else ("not yet", "", "")
        table.add_row(
            str(row.day),
            str(row.model_version),
            f"{row.rows:,}",
            f"{row.mean_score:.3f}",
            f"{row.predicted:,.0f}",
            *measured,
        )
    return table


def _seconds(rows: list[Any]) -> Table:
    table = Table(title="Seconds by step", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("step", "runs", "rows", "seconds"):
        table.add_column(column, justify="left" if column == "step" else "right")
    for row in rows:
        table.add_row(row.step, str(row.runs), f"{row.rows or 0:,}", f"{row.seconds:.1f}")
    return table
