"""`<project>_reprocess`: prepare, score and publish a range of days in one run."""

from datetime import date, timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowFailException
from pydantic import ValidationError

from dags.common import POLICY, Json, features_asset, predictions_asset, run_step
from dags.scoring import publish_scores, score_champion
from include.config import Model, Project, load_model, load_project, model_names, project_names
from include.contracts import Interval

DOC = """
### {title}: prepare, score and publish a range of days

For a long range, where one run a day would pay for starting Spark each day. Each day is made of what its own night
knew, exactly as the nightly DAGs make it. Days without a champion are prepared and not scored.

- **Safe to run again:** yes, also beside the nightly DAGs.
- **By hand only:** start it with a first and a last day.
- **If it fails:** the log's last lines name the days and the cure; clear the failed task after it.
- **Owner:** {owner}
"""


def reprocess(project: Project) -> None:
    """The DAG of a project."""
    models = [load_model(name) for name in model_names(project.name)]

    def day_param(title: str, description: str) -> Param:
        return Param(type="string", format="date", title=title, description=description)

    @dag(
        dag_id=f"{project.name}_reprocess",
        doc_md=DOC.format(**project.model_dump()),
        tags=[project.name, "by hand"],
        schedule=None,
        max_active_runs=1,
        default_args={**POLICY, "owner": project.owner},
        params={
            "start": day_param("First day", f"The first day to handle ({project.timezone})."),
            "end": day_param("Last day", "The last day to handle, included."),
        },
        dagrun_timeout=timedelta(hours=24),
    )
    def build() -> None:
        @task
        def land() -> Json:
            """Deliveries into raw tables, corrections included; identifiers hashed."""
            return run_step("land", project, _interval())

        @task
        def validate() -> Json:
            """Each delivery against its expectations; accepted ones into clean tables."""
            return run_step("validate", project, _interval())

        @task(outlets=[features_asset(project)])
        def build_features() -> Json:
            """Features of each day from what its night knew, in one Spark job."""
            return run_step("build_features", project, _interval())

        @task
        def outcomes() -> Json:
            """The outcomes that these nights know."""
            return run_step("outcomes", project, _interval())

        prepared = land() >> validate() >> build_features()
        prepared >> [outcomes(), *(_scoring(model) for model in models)]

    build()


def _scoring(model: Model) -> Any:
    @task_group(group_id=model.name, tooltip=model.title)
    def scoring() -> None:
        @task
        def score() -> Json:
            """All entities of each day with that day's champion; skipped when no day has one."""
            return score_champion(model, _interval())

        @task(outlets=[predictions_asset(model)])
        def publish(scored: Json) -> Json:
            """Each day's batch whole, or not at all."""
            return publish_scores(model, scored)

        publish(score())

    return scoring()


def _interval() -> Interval:
    params = get_current_context()["params"]
    try:
        return Interval(start=date.fromisoformat(params["start"]), end=date.fromisoformat(params["end"]))
    except ValidationError as error:
        raise AirflowFailException(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


for name in project_names():
    reprocess(load_project(name))
