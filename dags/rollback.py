"""`<model>_rollback`: make an earlier version the champion again, and let readers see its predictions."""

from datetime import date
from typing import Any

from airflow.sdk import DAG, dag, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from dags import params
from dags.alerts import RUN_FAILED
from dags.common import (
    DEFAULT_ARGS,
    Json,
    announce_champion,
    champions_asset,
    described,
    log,
    model_task,
    predictions_asset,
    run_step,
    settings,
    skipped,
    to_build,
)
from dags.scoring import digests, features
from dags.steps import runs_on_databricks, step_task
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.errors import ActionRequiredError, LockTimeoutError
from include.core.interval import Interval
from include.core.records import RollbackPlan, RolledBack, Scored

DOC = """
### {title}: roll back

Makes an earlier version the champion again, and readers see its predictions of the newest published day and later ones:
its stored batches where there are any, else it scores the days again. Past days change only if the form says from
which day on.

- **By hand only:** the form asks for the version (`previous`: the champion before) and for the reason.
- **Safe to run again:** yes. Champion and days change together or not at all, and `previous` does not undo a rollback.
- **If it fails:** nothing changed for readers. The log says why, and what to type.
- **If `score` is skipped:** each day has a stored batch of the version. This is not a failure.
- **What readers see now:** the last line of the log of `rollback` says it.
- **Afterwards:** the next trainings are compared with this champion. A version that was rolled back, or one with the
  same files, becomes the champion again only by a person. To stop trainings until the cause is found:
  `airflow dags pause {name}_train`
- **By hand:** `python -m include.cli rollback --model {name} --to previous --by … --why …`
- **Where to look:** views `promotion_history`, `human_actions`, `publication_history`; docs/runbooks/rollback.md
- **Owner:** {owner}
"""


def roll_back(model: Model) -> DAG:
    """Build the DAG of a model."""
    project = load_project(model.project)

    @dag(
        dag_id=f"{model.name}_rollback",
        **described(DOC, model, project),
        tags=[project.name, model.name, "by hand"],
        schedule=None,
        max_active_runs=1,
        default_args={**DEFAULT_ARGS, "owner": model.owner},
        params=params.rollback(project),
        dagrun_timeout=DEFAULT_ARGS["execution_timeout"] * 3,
        on_failure_callback=RUN_FAILED,
    )
    def build() -> None:
        def days() -> Interval:
            plan = _planned(model)
            if not plan.to_score:
                raise skipped("each published day has a stored batch of the version", get_current_context())
            return Interval(start=plan.to_score[0], end=plan.to_score[-1])

        def options() -> dict[str, Any]:
            plan = _planned(model)
            versions = dict.fromkeys(plan.to_score, plan.model_version)
            given = {"versions": versions, "features": features(model, plan.interval)}
            # Databricks does not reach the shared database; on the worker, the step reads them itself
            return given | ({"digests": digests(model, versions)} if runs_on_databricks(model, "score") else {})

        @model_task(
            outlets=[champions_asset(model), predictions_asset(model)],
            trigger_rule="none_failed",
            task_display_name="Roll back",
        )
        def rollback() -> Json:
            """Change the promotion history and what readers see in one transaction, then the registry's alias."""
            plan, form = _planned(model), _form()
            chosen = {"to": str(plan.model_version), "by": form["by"], "why": form["why"], "force": form["force"]}
            found = get_current_context()["ti"].xcom_pull(task_ids="score")
            scored = Scored.model_validate(found).days if found else None
            done = run_step("rollback", model, plan.interval, **chosen, scored=scored)
            log.info("%s", RolledBack.model_validate(done).sentence)
            announce_champion(model)
            return done

        doc = "Score the days that have no stored batch of the version; skipped if each has one."
        step_task("score", model, days, options, doc=doc, task_display_name="Score days without a batch") >> rollback()

    return build()


def _planned(model: Model) -> RollbackPlan:
    """Return what the run will do. A plan that is refused is not tried again."""
    from include.operations.rollback import plan_rollback

    try:
        return plan_rollback(model, settings(), **_form())
    except LockTimeoutError:
        raise
    except ActionRequiredError as error:
        raise AirflowFailException(f"rollback of {model.name}: {error}") from error


def _form() -> dict[str, Any]:
    context = get_current_context()
    chosen = context["params"]
    by = chosen["by"] or getattr(context["dag_run"], "triggering_user_name", None)
    if not by:
        raise AirflowFailException("nobody is named: Airflow does not know who started this run, so fill in `by`")
    first = chosen["from_day"]
    return {
        "to": chosen["version"],
        "by": by,
        "why": chosen["why"],
        "from_day": date.fromisoformat(first) if first else None,
        "force": chosen["force"],
    }


for name in to_build(model_names(), "rollback"):
    roll_back(load_model(name))
