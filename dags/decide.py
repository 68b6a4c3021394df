"""`<model>_decide`: end the days of a shadow, and promote it if it was not worse than the champion."""

from airflow.sdk import DAG, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.common import (
    Json,
    announce_champion,
    champions_asset,
    described,
    log,
    model_task,
    nightly,
    run_step,
    schedule,
    to_build,
)
from dags.params import run_date
from dags.sensors import wait_for_features
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.interval import Interval
from include.core.log_lines import wrapped
from include.core.records import ShadowEnded

DOC = """
### {title}: decide about the shadow

A version that passed the gate scores each run date beside the champion, unpublished, until enough outcomes are known.
`end_shadow` compares both on the same entities, by the loss and the tolerance of the gate's check against the champion.
If the version is not worse, `promote` makes it the champion from the next unpublished day on; where approval is
declared, people are asked instead. Otherwise it is declined, with the figures.

- **Safe to run again:** yes; a recorded end is kept, and a decision of the gate promotes once.
- **If `end_shadow` is skipped:** no version is a shadow.
- **If `promote` is skipped:** the shadow goes on, was worse, or waits for people; the log of `report` says which.
- **If it waits:** the log of `wait_for_features` names the day that `{project}_prepare` has not finished.
- **By hand:** `python -m include.cli end_shadow --model {name} --day {last_day}`
- **Where to look:** views `shadow_performance`, `shadow_decisions`, `version_history`; docs/shadow.md.
- **Owner:** {owner}
"""


def decide(model: Model) -> DAG:
    """Build the DAG of a model that declares a shadow."""
    project = load_project(model.project)

    @dag(
        dag_id=f"{model.name}_decide",
        **described(DOC, model, project),
        tags=[project.name, model.name, "nightly"],
        schedule=schedule(project),
        max_active_runs=1,  # each run date counts the days of the one before, and some more
        **nightly(project, model.owner),
    )
    def build() -> None:
        def day() -> Interval:
            return Interval.of(run_date(project))

        @task(task_display_name="Record outcomes")
        def outcomes() -> Json:
            """Write the outcomes that the run date knows, so that the decision does not depend on another DAG."""
            return run_step("outcomes", project, day())

        @model_task(task_display_name="Compare shadow and champion")
        def end_shadow() -> Json:
            """Compare the shadow with the champion, and end it if enough outcomes are known."""
            return run_step("end_shadow", model, day())

        @model_task(outlets=[champions_asset(model)], task_display_name="Promote")
        def promote(ended: Json) -> Json:
            """Make the version the champion; skipped unless its days as a shadow ended well."""
            record = ShadowEnded.model_validate(ended)
            if not record.passed:
                raise AirflowSkipException(record.sentence)
            done = run_step("promote", model, day().shifted(start=1, end=1), version=record.model_version)
            announce_champion(model)
            return done

        @task(trigger_rule="none_failed", task_display_name="Summarise")
        def report() -> str:
            """Say how the shadow stands, in a sentence."""
            ended = get_current_context()["ti"].xcom_pull(task_ids="end_shadow")
            sentence = ShadowEnded.model_validate(ended).sentence if ended else f"{model.name}: no version is a shadow"
            for line in wrapped(sentence, indent="    "):
                log.info("%s", line)
            return sentence

        ended = end_shadow()
        wait_for_features(project) >> outcomes() >> ended
        promoted, reported = promote(ended), report()
        promoted >> reported
        if model.approved_by is not None:
            from dags.question import StartQuestion

            doc = "Start the run that asks people about the version, once its days as a shadow ended well."
            ask = StartQuestion(
                task_id="ask",
                model=model,
                after="end_shadow",
                trigger_rule="none_failed",
                doc_md=doc,
                task_display_name="Ask people",
            )
            promoted >> ask >> reported

    return build()


for name in to_build(model_names(), "decide"):
    if (declared := load_model(name)).shadow is not None:
        decide(declared)
