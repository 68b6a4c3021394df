"""`maintenance`: what the whole bundle needs once a week."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, Param, dag, get_current_context, task

from dags.alerts import RUN_FAILED
from dags.common import DEFAULT_ARGS, Json, owners, run_step, skipped
from include.config.loading import load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DRY_RUN = "dry_run"

DOC = """
### Weekly maintenance of all projects

`sweep` runs `land --sweep` for each project. A nightly run looks only at the days that its run date reads, and at
`corrections_days` before them, so that years of history cost nothing. The sweep looks at all days: what it finds is
landed, or held for a decision as the rules say.

`maintain` compacts the small files of old days, and removes files that no recorded version needs. What a prepared day,
a training, a fit or stored scores name stays readable. In the shared database it makes the months to come, and removes
months of predictions that `retention` of the project does not keep and nothing needs.

- **Safe to run again:** yes, at any time, also beside a nightly run.
- **Dry run:** the field of the form. `maintain` then says what it would do; nothing is swept and nothing is changed.
- **If `sweep` or `maintain` fails:** its log names the project and what to do. The other projects are not affected.
- **By hand:** `python -m include.cli land --sweep --project PROJECT --start DAY`, with today as the day, and
  `python -m include.cli maintain --project PROJECT --dry-run`.
- **Where to look:** the logs, the alerts about held deliveries, the view `data_quality`.
- **Airflow's own metadata:** no task may change it. A timer runs `tools.airflow_cleanup`: docs/maintenance.md.
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
    params={
        DRY_RUN: Param(
            default=False,
            type="boolean",
            title="Dry run",
            description="If set, the log of `maintain` says what would be done, and nothing is swept or changed.",
        )
    },
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
        if context["params"][DRY_RUN]:
            raise skipped("a dry run sweeps nothing", context)
        declared, day = _about(context, project)
        return run_step("land", declared, day, sweep=True)

    @task(
        map_index_template="{{ project }}",
        task_display_name="Compact and vacuum",
        doc_md="Compact small files of old days, and remove files that no recorded version needs.",
    )
    def maintain(project: str) -> Json:
        context: Any = get_current_context()
        declared, day = _about(context, project)
        return run_step("maintain", declared, day, dry_run=context["params"][DRY_RUN])

    for each in (sweep, maintain):  # neither waits for the other: a sweep that failed keeps nobody from removing files
        each.expand(project=project_names())


def _about(context: Any, project: str) -> tuple[Project, Interval]:
    """Return a project, whose name the map index shows, and the day of the run in its timezone."""
    context["project"] = project
    declared, run = load_project(project), context["dag_run"]
    return declared, Interval.of(declared.day_of(run.logical_date or run.run_after))


maintenance()
