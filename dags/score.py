"""`<model>_score`: score all entities of the day with its champion; publish the batch completely or not at all."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG, dag, task

from dags import params
from dags.common import Json, described, model_task, nightly, predictions_asset, run_step, schedule, to_build
from dags.params import run_date
from dags.public_page import write_public_page
from dags.scoring import NO_CALLBACK, publish_day, raise_if_not_scored, score_day, score_shadow
from dags.sensors import wait_for_features
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Scored

DOC = """
### {title}: score and publish

Scores every entity of the day with the day's champion from the promotion history, and publishes the batch. Readers of
`current_predictions` see the whole batch or nothing of it.

- **Safe to run again:** yes; equal content changes nothing.
- **If it is skipped:** {name} has no champion for the day yet. Nothing is published; this is not a failure.
- **If it waits:** the log of `wait_for_features` names the day that `{project}_prepare` has not finished.
- **If it fails:** the log names the days whose counts do not agree. Nothing was published, and the previous batch
  stays readable.
- **If `score_shadow` or `shadow` fails** (only models with a shadow have these tasks): the champion's scores are
  published all the same. `report_shadow` raises an alert; the runbook is docs/runbooks/shadow.md.
- **If `public_page` fails** (only if the project has a page for everybody): the predictions are published all the same,
  and the page is the one before. Clear the task. docs/public-page.md
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
        **described(DOC, model, project),
        tags=[project.name, model.name, "nightly"],
        schedule=schedule(project),
        max_active_runs=4,
        **nightly(project, model.owner, data=params.data(), version=params.version(), publish=params.publish()),
    )
    def build() -> None:
        @model_task(outlets=[predictions_asset(model)], task_display_name="Publish the batch")
        def publish(scored: Json) -> Json:
            """Write the batch and the pointer to it to the shared database, in one transaction."""
            return publish_day(model, scored)

        def day() -> Interval:
            return Interval.of(run_date(project))

        ready, scored = wait_for_features(project), score_day(model, day)
        ready >> scored
        published = publish(scored)
        if project.shows_publicly(model.name):
            published >> write_public_page(project)
        if model.shadow is not None:
            _beside(model, day, ready)

    return build()


def _beside(model: Model, day: Callable[[], Interval], ready: Any) -> None:
    """Add the tasks of the shadow. They are no upstream of `publish`, and their failure is an alert of its own."""

    @task(task_display_name="Store the shadow's scores", **NO_CALLBACK)
    def shadow(scored: Json) -> Json:
        """Store the scores of the shadow where no reader sees them."""
        record = Scored.model_validate(scored)
        return run_step("shadow", model, record.interval, days=record.days)

    @task(trigger_rule="all_done", task_display_name="Report on the shadow")
    def report_shadow() -> str:
        """Raise an alert if the shadow could not be scored; the run goes on."""
        return raise_if_not_scored(model, day())

    scored = score_shadow(model, day)
    ready >> scored
    shadow(scored) >> report_shadow()


for name in to_build(model_names(), "score"):
    score_and_publish(load_model(name))
