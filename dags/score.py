"""`<model>_score`: score all entities of the day with its champion; publish the batch completely or not at all."""

from airflow.sdk import DAG, dag, task

from dags import params
from dags.common import Json, describe, nightly, predictions_asset, schedule
from dags.params import run_date
from dags.scoring import publish_day, score_day
from dags.sensors import wait_for_features
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.interval import Interval

DOC = """
### {title}: score and publish

Scores every entity of the day with the day's champion from the promotion history, and publishes the batch. Readers of
`current_predictions` see the whole batch or nothing of it.

- **Safe to run again:** yes; equal content changes nothing.
- **If it is skipped:** {name} has no champion for the day yet. Nothing is published; this is not a failure.
- **If it waits:** the log of `wait_for_features` names the day that `{project}_prepare` has not finished.
- **If it fails:** the log names the days whose counts do not agree. Nothing was published, and the previous batch
  stays readable.
- **To run past days again:** `airflow dags backfill {name}_score -s {first_day} -e {last_day}`. Readers keep what they
  see, and the log of `publish` says how many rows differ. With `-c '{{"publish": "replace"}}'` readers see the new
  scores; `python -m include.cli unpublish` undoes that.
- **By hand:** `python -m include.cli score --model {name} --start {last_day}`, then `publish` with the same options.
- **Where to look:** views `current_predictions` and `predictions_with_outcomes`.
- **Owner:** {owner}
"""


def score_and_publish(model: Model) -> DAG:
    """Build the DAG of a model."""
    project = load_project(model.project)

    @dag(
        dag_id=f"{model.name}_score",
        doc_md=describe(DOC, model, project),
        tags=[project.name, model.name, "nightly"],
        schedule=schedule(project),
        max_active_runs=4,
        **nightly(project, model.owner, data=params.data(), version=params.version(), publish=params.publish()),
    )
    def build() -> None:
        @task(outlets=[predictions_asset(model)])
        def publish(scored: Json) -> Json:
            """Write the batch and the pointer to it to the shared database, in one transaction."""
            return publish_day(model, scored)

        scored = score_day(model, lambda: Interval.of(run_date(project)))
        wait_for_features(project) >> scored
        publish(scored)

    return build()


for name in model_names():
    score_and_publish(load_model(name))
