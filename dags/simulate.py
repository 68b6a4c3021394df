"""`<project>_simulate`: deliver the next day of example data. Example projects only; pause it in production."""

from airflow.sdk import dag, task

from dags.common import Json, described, nightly, schedule, settings, to_build
from dags.params import run_date
from include.config.loading import is_simulated, load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DOC = """
### {title}: deliver a day of example data

Plays the suppliers: delivers the files that `{name}_prepare` expects for the day, as the project's
`simulate.py` makes them.

- **Safe to run again:** yes; the same day gives the same bytes, and an existing file is left alone.
- **Owner:** {owner}
"""


def simulate_day(project: Project) -> None:
    """Build the DAG of an example project."""

    @dag(
        dag_id=f"{project.name}_simulate",
        **described(DOC, project, project),
        tags=[project.name, "nightly", "example"],
        schedule=schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner),
    )
    def build() -> None:
        @task(task_display_name="Deliver example data")
        def simulate() -> Json:
            """Deliver the files that the run date needs."""
            from include.operations.simulate import simulate

            return simulate(project, Interval.of(run_date(project)), settings(project.connections)).model_dump(
                mode="json"
            )

        simulate()

    build()


for name in to_build(project_names(), "simulate"):
    if is_simulated(load_project(name)):
        simulate_day(load_project(name))
