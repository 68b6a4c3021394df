"""`<model>_train`: fit the candidates on what the night knew, judge them, let the best through the gate."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import params
from dags.common import (
    Json,
    champions_asset,
    log,
    model_task,
    nightly,
    nightly_schedule,
    run_step,
    settings,
    versions_asset,
)
from dags.params import run_date
from dags.sensors import wait_for_features
from dags.steps import runs_on_databricks
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.interval import Interval
from include.core.records import Evaluated, Fitted, GateDecision, Promotion

DOC = """
### {title}: train

Fits each candidate of `model.yaml` on the labelled days before the run day, judges all on the newest {holdout_days} of
them, which none was fitted on, and registers the best as a version of `{name}`. The gate holds that version against
`model.yaml` and the champion; only one that passes every check is promoted, from the next unpublished day on.

- **Safe to run again:** yes; a fit of the same data and code is taken up, no second version is made, and a decision
  of the gate promotes once.
- **If `promote` is skipped:** the gate rejected the version (why: its log, and view `gate_checks`), or a later day's
  training made the champion. The champion stays and scoring goes on; that is no failure.
- **If `fit` is skipped:** too few labelled days are known yet.
- **If it waits:** `wait_for_features` names the night.
- **To promote by hand:** `python -m include.cli promote --model {name} --version … --from-day … --by … --why …`; it
  asks for the gate's decision too (`--force` goes without, and the ledger says so).
- **By hand:** `python -m include.cli gate --model {name} --day 2013-03-01`
- **Where to look:** MLflow, by the links on a task's tab Details, or its experiment `{project}/{name}`; views
  `gate_decisions`, `gate_checks`, `promotion_history`.
- **To replay:** `airflow dags backfill {name}_train -s 2013-03-06 -e 2013-03-07`: one at a time, in ascending order,
  up to the first that fails.
- **Owner:** {owner}
"""


def train(model: Model) -> DAG:
    """The DAG of a model."""
    project = load_project(model.project)

    @dag(
        dag_id=f"{model.name}_train",
        doc_md=DOC.format(**model.model_dump()),
        tags=[project.name, model.name, "nightly"],
        schedule=nightly_schedule(project),
        max_active_runs=1,  # a gate needs the champion that earlier nights made
        **nightly(project, model.owner, data=params.data(), displace_newer=params.displace_newer()),
    )
    def build() -> None:
        def prepared_day() -> Interval:
            return Interval.of(run_date(project))

        @model_task(outlets=[versions_asset(model)])
        def evaluate(fitted: Json) -> Json:
            """Judge the candidates on later days than they were fitted on; the best becomes a model version."""
            records = [Fitted.model_validate(record) for record in fitted]
            return run_step("evaluate", model, prepared_day(), fitted=records)

        @model_task
        def gate(fitted: Json, evaluated: Json) -> Json:
            """Hold the version against model.yaml and the champion; a rejection is a decision, not a failure."""
            records = [Fitted.model_validate(record) for record in fitted]
            best = Evaluated.model_validate(evaluated)
            return run_step("gate", model, prepared_day(), evaluated=best, fitted=records)

        @model_task(outlets=[champions_asset(model)])
        def promote(decided: Json) -> Json:
            """The ledger, then the registry's alias; skipped when the gate rejected the version, saying why."""
            decision = GateDecision.model_validate(decided)
            if not decision.passed:
                raise AirflowSkipException(f"{decision.subject} is rejected: {decision.why_not}")
            next_day = prepared_day().shifted(start=1, end=1)
            displace_newer = params.param("displace_newer", False)
            return run_step("promote", model, next_day, version=decision.model_version, displace_newer=displace_newer)

        @task(trigger_rule="none_failed")
        def report() -> str:
            """What became of the night's training, in a sentence; mends the registry's alias after the ledger."""
            from include.steps.promote import sync_alias

            champion = sync_alias(model, settings())
            sentence = f"{_outcome(model)}; champion: {'none yet' if champion is None else f'version {champion}'}"
            log.info("%s", sentence)
            return sentence

        ready = wait_for_features(project)
        fitted = _fits(model, prepared_day)
        ready >> fitted
        promote(gate(fitted, evaluate(fitted))) >> report()

    return build()


def _fits(model: Model, prepared_day: Callable[[], Interval]) -> Any:
    """The task `fit`, one for each candidate, where the config says that it runs."""
    names = [candidate.name for candidate in model.candidates]
    doc = "Fit one candidate; one that is fitted already is taken up."  # of a mapped task Airflow takes no docstring
    if runs_on_databricks(model, "fit"):
        from dags.databricks import StepOperator

        mapped = StepOperator.partial(
            task_id="fit",
            step="fit",
            config=model,
            interval=prepared_day,
            options=lambda: {"data_view": params.data_view()},
            map_index_template="{{ task.given.candidate }}",
            doc_md=doc,
        )
        return mapped.expand(given=[{"candidate": name} for name in names]).output

    @model_task(map_index_template="{{ candidate }}", doc_md=doc)
    def fit(candidate: str) -> Json:
        return run_step("fit", model, prepared_day(), candidate=candidate, data_view=params.data_view())

    return fit.expand(candidate=names)


def _outcome(model: Model) -> str:
    ti = get_current_context()["ti"]
    # by state, since a task that is skipped in a run that was cleared keeps what it returned before
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=["gate", "promote"], run_ids=[ti.run_id])[ti.run_id]
    if states.get("gate") != "success":
        return f"{model.name}: nothing was trained; the log of fit says why"
    decision = GateDecision.model_validate(ti.xcom_pull(task_ids="gate"))
    if not decision.passed:
        return f"{model.name} {decision.subject} rejected: {decision.why_not}"
    if states.get("promote") != "success":
        return f"{model.name} version {decision.model_version} passed the gate and was held back; the log of promote says why"
    promotion = Promotion.model_validate(ti.xcom_pull(task_ids="promote"))
    promoted = "promoted" if promotion.rows else "was promoted before"
    return f"{model.name} version {decision.model_version} {promoted}, champion from {promotion.interval.start} on"


for name in model_names():
    train(load_model(name))
