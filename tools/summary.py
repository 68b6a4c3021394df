"""Print a summary of a local stack for people. Every number is queried from the database."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from include.core.interval import Interval
from include.core.project import Project
from tools.stack import Stack

PUBLISHED = """
WITH scores AS (
    SELECT model, day, model_version, count(*) AS rows, avg(score) AS mean_score
    FROM current_predictions WHERE day BETWEEN :start AND :end GROUP BY model, day, model_version
), measured AS (
    SELECT model, day, model_version, max(rows) AS known, jsonb_object_agg(metric, value) AS metrics
    FROM model_performance WHERE slice = 'all' AND rows > 0 GROUP BY model, day, model_version
)
SELECT * FROM scores LEFT JOIN measured USING (model, day, model_version) ORDER BY model, day
"""

DECISIONS = """
SELECT d.model, d.day, d.model_version, d.candidate, d.champion_version, d.passed, d.checks, d.why_not, l.from_day
FROM gate_decisions d LEFT JOIN promotion_history l ON l.gate_id = d.gate_id AND l.by = 'gate'
WHERE d.day BETWEEN :start AND :end ORDER BY d.model, d.day, d.decided_at
"""

CHAMPIONS = """
SELECT DISTINCT ON (model) model, model_version, from_day, by, why, forced FROM promotion_history
WHERE from_day <= :day ORDER BY model, from_day DESC, id DESC
"""

QUARANTINE = """
SELECT feed, day, delivery_id, expectation, column_name, quarantined_rows, rows_evaluated, examples
FROM quarantine_counts ORDER BY day, feed, expectation
"""

ALERTS = "SELECT day, sentence FROM alert_history ORDER BY id"

SECONDS_BY_STEP = """
SELECT step, count(*) AS runs, sum(rows) AS rows, round(sum(seconds)::numeric, 1) AS seconds
FROM step_history WHERE state = 'success' GROUP BY step ORDER BY min(started_at)
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
    """Return the rows of a statement."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    with engine.connect() as connection:
        return list(connection.execute(sa.text(statement), values))


def show(console: Console, stack: Stack, project: Project, trained: Interval, prepared_days: Interval) -> None:
    """Show runs, decisions of the gate, champions, published scores, quarantine, times, and where to look.

    Args:
        console: where to print.
        stack: the running stack.
        project: the project.
        trained: the run dates of trainings.
        prepared_days: the run dates that were published.
    """
    urls = stack.cli_environment()
    airflow_url = stack.environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    console.rule(f"[bold]{project.title}")

    console.print(_runs(query(airflow_url, RUNS)))
    interval = {"start": prepared_days.start, "end": prepared_days.end}
    decisions = query(urls["OPS_READER_URL"], DECISIONS, start=trained.start, end=trained.end)
    console.print(_decisions(decisions))
    for row in decisions:
        if not row.passed:
            console.print(f"[bold]Rejected[/bold] {row.model} version {row.model_version}: {row.why_not}")
    for row in query(urls["OPS_READER_URL"], CHAMPIONS, day=prepared_days.end):
        console.print(
            f"[bold]Champion[/bold] of {prepared_days.end}: {row.model} [green]version {row.model_version}[/green] "
            f"since {row.from_day}, by {row.by}{' (FORCED)' if row.forced else ''}: {row.why}"
        )
    console.print(_published(query(urls["READER_URL"], PUBLISHED, **interval)))
    quality = query(urls["READER_URL"], QUALITY)[0]
    console.print(
        f"[bold]Data quality[/bold]: {quality.deliveries} deliveries, {quality.checks} checks, "
        f"{quality.critical} critical failures, {quality.warnings} warnings (view data_quality)"
    )
    for row in query(urls["OPS_READER_URL"], QUARANTINE):
        example = " ".join(row.examples[0]["key"].values())
        console.print(
            f"[bold]Quarantine[/bold]: {row.quarantined_rows} of {row.rows_evaluated} rows of {row.feed} {row.day} "
            f"broke {row.expectation} of {row.column_name}, such as {example}; the other rows were used"
        )
    alerts = query(urls["OPS_READER_URL"], ALERTS)
    console.print(f"[bold]Alerts[/bold]: {len(alerts) or 'none'}")
    for row in alerts:
        console.print(f"  {row.day}: {row.sentence}")
    console.print(_seconds(query(urls["OPS_READER_URL"], SECONDS_BY_STEP)))
    console.print(
        "[bold]Where to look next[/bold]\n"
        f"  Airflow      {stack.api_url}/dags\n"
        "  a shell      . .local/env\n"
        """  as analyst   psql "$READER_URL" -c '\\d+'\n"""
        "               views current_predictions, model_performance, …\n"
        """  on call      psql "$OPS_READER_URL" -c '\\d+'\n"""
        "               also gate_checks, promotion_history, …\n"
        "  pages        make ui\n"
        "  stop         make stop",
        soft_wrap=True,
    )


def _runs(rows: list[Any]) -> Table:
    """Return a table of runs, with a row for each DAG and a column for each run date."""
    marks = {"success": "[green]✓[/green]", "failed": "[red]✗[/red]", "running": "…", "queued": "…"}
    run_ids = list(dict.fromkeys(row.run_id for row in rows))
    table = Table(title="Runs", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("")
    for run_id in run_ids:
        table.add_column(run_id.removeprefix("nightly__"), justify="center", no_wrap=True)
    for dag_id in dict.fromkeys(row.dag_id for row in rows):
        cells = {
            row.run_id: f"{marks.get(row.state, row.state)} {row.seconds or 0:.0f} s"
            for row in rows
            if row.dag_id == dag_id
        }
        table.add_row(dag_id, *(cells.get(run_id, "") for run_id in run_ids))
    return table


def _decisions(rows: list[Any]) -> Table:
    columns = ("model version", "run date", "candidate", "against", "checks", "decision")
    table = _table("Decisions of the gate", *columns, folded="decision")
    for row in rows:
        decision = "[yellow]rejected[/yellow]"
        if row.passed:
            decision = f"[green]promoted from {row.from_day}[/green]" if row.from_day else "passed, held back"
        against = "none" if row.champion_version is None else row.champion_version
        cells = (f"{row.model} {row.model_version}", row.day, row.candidate, against, row.checks, decision)
        table.add_row(*map(str, cells))
    return table


def _published(rows: list[Any]) -> Table:
    columns = ("model", "day", "version", "rows", "mean score", "outcomes", "how good")
    table = _table("Published by day", *columns, right=columns[2:6], folded="how good")
    for row in rows:
        metrics, known = row.metrics or {}, "not yet"
        if row.known:
            known = f"{row.known:,}"
        shown = (("roc_auc", "AUC {:.3f}"), ("log_loss", "log loss {:.3f}"), ("mae", "MAE {:.1f}"))
        good = ", ".join(text.format(metrics[name]) for name, text in shown if metrics.get(name) is not None)
        cells = (row.model, row.day, row.model_version, f"{row.rows:,}", f"{row.mean_score:.3f}", known, good)
        table.add_row(*map(str, cells))
    return table


def _seconds(rows: list[Any]) -> Table:
    table = _table("Seconds by step", "step", "runs", "rows", "seconds", right=("runs", "rows", "seconds"))
    for row in rows:
        table.add_row(row.step, str(row.runs), f"{row.rows or 0:,}", f"{row.seconds:.1f}")
    return table


def _table(title: str, *columns: str, right: Sequence[str] = (), folded: str = "") -> Table:
    """Return a table without rows; only the cells of one column are folded to a terminal."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(
            column, justify="right" if column in right else "left", no_wrap=column != folded, overflow="fold"
        )
    return table
