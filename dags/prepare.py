"""`<project>_prepare`: get the files and rows of a run date, validate them, and build features."""

from typing import Any

from airflow.sdk import DAG, dag, task

from dags import params
from dags.arrivals import WaitForFiles
from dags.common import Json, described, features_asset, nightly, quality_task, run_step, schedule, to_build
from dags.params import run_date
from dags.sensors import extract_rows
from dags.steps import step_task
from include.config.loading import load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DOC = """
### {title}: prepare a day

`land` takes the files of the run date, and `extract` the rows of feeds that are queries, if there are any. `validate`
checks them against `expectations.yaml`, and `build_features` builds the features that training and scoring read. The
row in `prepared_days` is written last. The other DAGs wait for that row, never for the state of this DAG.

- **Safe to run again:** yes, at any time, for any day and several runs at once; the result has the same rows.
- **If it waits:** the log of `wait_for_files` names the missing file and its feed. The task does not look for
  files before {cutoff}. The log of `extract` names the query that gave no row yet.
- **If it fails:** the last lines of the log name the file, the line and what to do. A refused delivery stays in
  landing. A day that lacks a required feed is not prepared, and yesterday's scores stay readable. Fix the cause, then
  clear the failed task.
- **If rows are in quarantine:** the day was prepared without them. The log of `validate` names each rule with the
  number of rows and examples, and links the page of Great Expectations. After you fixed the rule, run
  `python -m include.cli revalidate --project {name} --start {last_day}` (the day of the file): it brings the rows back
  and names the features to rebuild. A corrected file is a new delivery.
- **To run past days again:** `airflow dags backfill {name}_prepare -s {first_day} -e {last_day}`, in any order. With
  `data: latest`, features also use what was corrected since; they are stored beside the original ones.
- **If a prepared day used a wrong file:** withdraw the file (`python -m include.cli withdraw`). A prepared day keeps
  what it used until somebody repairs it; `python -m include.cli outdated --project {name} --start {last_day}` prints
  the commands.
- **By hand:** `python -m include.cli prepare --project {name} --start {last_day}`
- **Where to look:** views `data_quality`, `quarantine_counts`; tables `prepared_days`, `quarantine_{name}__<feed>`.
- **Owner:** {owner}
"""


def prepare(project: Project) -> DAG:
    """Build the DAG of a project."""

    @dag(
        dag_id=f"{project.name}_prepare",
        **described(DOC, project, project),
        tags=[project.name, "nightly"],
        schedule=schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner, data=params.data()),
    )
    def build() -> None:
        @task(task_display_name="Land deliveries")
        def land() -> Json:
            """Write deliveries, corrections of earlier days included, to raw tables; hash identifiers."""
            return run_step("land", project, Interval.of(run_date(project)))

        @quality_task(task_display_name="Validate deliveries")
        def validate() -> Json:
            """Check deliveries against their expectations; valid rows become clean, invalid rows go to quarantine."""
            return run_step("validate", project, Interval.of(run_date(project)))

        validated = validate()
        WaitForFiles(project=project) >> land() >> validated >> features_of_day(project)
        if project.sql_feeds:
            extract_rows(project) >> validated

    return build()


def features_of_day(project: Project) -> Any:
    """Return the task `build_features`."""
    return step_task(
        "build_features",
        project,
        lambda: Interval.of(run_date(project)),
        lambda: {"data_view": params.data_view()},
        doc="Build the features of the day with Spark, then write the row in `prepared_days`.",
        outlets=[features_asset(project)],
        task_display_name="Build features",
    )


for name in to_build(project_names(), "prepare"):
    prepare(load_project(name))
