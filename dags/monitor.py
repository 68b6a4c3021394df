"""`<project>_monitor`: join the true outcomes that became known."""

from airflow.sdk import dag, task

from dags.common import Json, every_night, nightly, outcomes_asset, run_day, run_step
from dags.sensors import wait_for_night
from include.config import Project, load_project, project_names
from include.contracts import Interval

DOC = """
### {title}: what became true

Records the outcomes that the night knows, corrections of earlier days included, so that `predictions_with_outcomes`
shows what was predicted beside what came true.

**Safe to run again:** yes, in any order of days; an older night never overwrites what a newer one knows.
**If it waits:** `wait_for_features` names the night that `{name}_prepare` has not finished.
**By hand:** `python -m include.cli outcomes --project {name} --start 2013-03-02`
**Where to look:** view `predictions_with_outcomes`. **Owner:** {owner}
"""


def monitor(project: Project) -> None:
    """The DAG of a project."""

    @dag(
        dag_id=f"{project.name}_monitor",
        doc_md=DOC.format(**project.model_dump()),
        tags=[project.name, "nightly"],
        schedule=every_night(project),
        max_active_runs=4,
        **nightly(project),
    )
    def build() -> None:
        @task(outlets=[outcomes_asset(project)])
        def outcomes() -> Json:
            """The outcomes that became known, into the shared database."""
            return run_step("outcomes", project, Interval.of(run_day(project)))

        wait_for_night(project) >> outcomes()

    build()


for name in project_names():
    monitor(load_project(name))
