"""`<project>_simulate`: land the next day of a sample project's data. Sample projects only; pause it in production."""

from airflow.sdk import dag, task

from dags.common import Json, nightly, nightly_schedule, settings
from dags.params import run_date
from include.config.loading import load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DOC = """
### {title}: land a day of sample data

Plays the suppliers: lands the files of the day, made of real flights and weather of 2013, as `{name}_prepare` expects
them. Any date maps onto 2013 by whole weeks.

- **Safe to run again:** yes; the same day is the same bytes, and a file that is there stays.
- **Owner:** {owner}
"""


def simulate_day(project: Project) -> None:
    """The DAG of a sample project."""

    @dag(
        dag_id=f"{project.name}_simulate",
        doc_md=DOC.format(**project.model_dump()),
        tags=[project.name, "nightly", "entity_fraction"],
        schedule=nightly_schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner),
    )
    def build() -> None:
        @task
        def simulate() -> Json:
            """Schedule and weather of the day, actuals of the day before."""
            from include.operations.simulate import simulate

            return simulate(project, Interval.of(run_date(project)), settings()).model_dump(mode="json")

        simulate()

    build()


for name in project_names():
    if load_project(name).simulate:
        simulate_day(load_project(name))
