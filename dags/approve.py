"""`<model>_approve`: ask people whether a version that passed the gate shall become the champion."""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Param, dag

from dags.alerts import RUN_FAILED
from dags.common import DEFAULT_ARGS, Json, announce_champion, champions_asset, described, model_task, to_build
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model

DOC = """
### {title}: approve a version

`model.yaml` declares `approval`, so a version that passed the gate is *pending* until a person decides. `{name}_train`
starts one run of this DAG for each such version, named by its number: `v3`. `ask` puts the question on the page
*Required Actions*, with the gate's table, and sends people a link. `record` writes down who decided and why, and makes
an approved version the champion from the next unpublished day on.

- **Safe to run again:** yes. A decision is recorded once; clearing `ask` asks again only while the version is pending.
- **If `ask` is skipped:** the version does not wait any more. It was decided by command, a newer version superseded it,
  or nobody decided in time; its log and the view `version_history` say which. An open question notices that within
  ten minutes.
- **If `record` fails:** the answer was not applied, and its message says why. The champion stays.
- **By hand:** `python -m include.cli approve --model {name} --version … --by … --why …`, or `decline`.
- **Where to look:** views `version_history`, `human_actions`, `promotion_history`.
- **Owner:** {owner}
"""


def approve(model: Model) -> DAG:
    """Build the DAG of a model that declares `approval`."""
    from dags.question import AskPeople, form, record_answer

    project = load_project(model.project)
    assert model.approved_by is not None

    @dag(
        dag_id=f"{model.name}_approve",
        **described(DOC, model, project),
        tags=[project.name, model.name, "approval"],
        schedule=None,
        start_date=datetime.combine(project.first_day, datetime.min.time(), project.zone),
        catchup=False,
        max_active_runs=100,  # a run waits for days
        is_paused_upon_creation=False,  # in a paused DAG, the question would never be asked
        default_args={**DEFAULT_ARGS, "owner": model.owner},
        params={
            "version": Param(
                None,
                type=["null", "integer"],
                minimum=1,
                title="Pending version",
                description="Its number. If empty: the one of the latest run date.",
            )
        },
        dagrun_timeout=model.approved_by.timeout + timedelta(days=1 + (model.shadow.wait_days if model.shadow else 0)),
        on_failure_callback=RUN_FAILED,
    )
    def build() -> None:
        ask = AskPeople(
            task_id="ask",
            task_display_name="Ask people",
            model=model,
            params=form(),
            doc_md="Ask whether the version shall become the champion; wait for the answer.",
        )

        @model_task(outlets=[champions_asset(model)], task_display_name="Record the answer")
        def record(answer: Json) -> Json:
            """Record who decided and why; promote the version if it is approved."""
            done = record_answer(model, answer)
            announce_champion(model)
            return done

        record(ask.output)

    return build()


for name in to_build(model_names(), "approve"):
    if load_model(name).approved_by is not None:
        approve(load_model(name))
