"""`maintenance`: what the whole bundle needs once a week."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task

from dags.alerts import RUN_FAILED
from dags.common import DEFAULT_ARGS, Json, owners, run_step
from include.config.loading import load_project, project_names
from include.core.interval import Interval

DOC = """
### Weekly maintenance of all projects

`sweep` runs `land --sweep` for each project. A nightly run looks only at the days that its run date reads, and at
`corrections_days` before them, so that years of history cost nothing. The sweep looks at all days: what it finds is
landed, or held for a decision as the rules say.

- **Safe to run again:** yes, at any time; what was landed is left alone.
- **If `sweep` fails:** its log names the project and what to do. The other projects are not affected.
- **By hand:** `python -m include.cli land --sweep --project PROJECT --start DAY`, with today as the day.
- **Where to look:** the log of `sweep`, the alerts about held deliveries, the view `data_quality`.
- **Owner:** the owners of the projects
"""


@dag(
    dag_id="maintenance",
    dag_display_name="Weekly maintenance of all projects",
    doc_md=DOC,
    tags=["maintenance"],
    schedule=CronTriggerTimetable("0 12 * * 0", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={**DEFAULT_ARGS, "owner": owners()},
    dagrun_timeout=timedelta(hours=24),
    on_failure_callback=RUN_FAILED,
)
def maintenance() -> None:
    """Build the DAG of the bundle."""

    # a mapped task does not take its text from the function
    @task(
        map_index_template="{{ project }}",
        task_display_name="Sweep the landing",
        doc_md="Land what no nightly run looks at, such as a late correction.",
    )
    def sweep(project: str) -> Json:
        context: Any = get_current_context()
        context["project"] = project
        declared = load_project(project)
        run = context["dag_run"]
        return run_step("land", declared, Interval.of(declared.day_of(run.logical_date or run.run_after)), sweep=True)

    sweep.expand(project=project_names())


maintenance()
