"""`<project>_prepare`: wait for the night's files, land them, validate them, build features."""

from typing import Any

from airflow.sdk import DAG, dag, task

from dags import params
from dags.arrivals import WaitForFiles
from dags.common import Json, features_asset, nightly, nightly_schedule, run_step
from dags.params import run_date
from dags.steps import step_task
from include.config.loading import load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DOC = """
### {title}: prepare a night

Takes what suppliers delivered for the day (`land`), holds it against `expectations.yaml` (`validate`), and builds the
features that training and scoring read (`build_features`). The row in `prepared_days` is written last: the other DAGs wait
for it, never for this DAG's state.

- **Safe to run again:** yes, at any time and for any day, also twice at once; the result is the same to the row.
- **If it waits:** `wait_for_files` says which file of which feed is not there. It does not look before {cutoff}.
- **If it fails:** the log's last lines name file, line and cure. A refused delivery stays where it is; nothing is
  made of a night that lacks a required feed, and yesterday's scores stay readable. After the cure, clear the failed
  task.
- **If rows are in quarantine:** the night went on without them. The log of `validate` says which rule and how many,
  with examples and Great Expectations' page. Once the rule is mended, `python -m include.cli revalidate --project {name}
  --start 2013-03-01` (day of the file) brings them back and says which features to rebuild; a mended file is a new
  delivery.
- **To replay:** `airflow dags backfill {name}_prepare -s 2013-03-01 -e 2013-03-07`, in any order. `as_of` latest makes
  the days with what was corrected since, beside what the nights made.
- **By hand:** `python -m include.cli prepare --project {name} --start 2013-03-01`
- **Where to look:** views `data_quality`, `quarantine_counts`; tables `prepared_days`, `quarantine_<feed>`.
- **Owner:** {owner}
"""


def prepare(project: Project) -> DAG:
    """The DAG of a project."""

    @dag(
        dag_id=f"{project.name}_prepare",
        doc_md=DOC.format(**project.model_dump()),
        tags=[project.name, "nightly"],
        schedule=nightly_schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner, data=params.data()),
    )
    def build() -> None:
        @task
        def land() -> Json:
            """Deliveries into raw tables, corrections of earlier days included; identifiers hashed."""
            return run_step("land", project, Interval.of(run_date(project)), data_view=params.data_view())

        @task
        def validate() -> Json:
            """Each delivery against its expectations; rows that pass into clean tables, the others into quarantine."""
            return run_step("validate", project, Interval.of(run_date(project)))

        WaitForFiles(project=project) >> land() >> validate() >> features_of_day(project)

    return build()


def features_of_day(project: Project) -> Any:
    """The task `build_features`."""
    return step_task(
        "build_features",
        project,
        lambda: Interval.of(run_date(project)),
        lambda: {"data_view": params.data_view()},
        doc="Features of the day from what its night knew, on Spark; then the row in `prepared_days`.",
        outlets=[features_asset(project)],
    )


for name in project_names():
    prepare(load_project(name))
