"""`<model>_train`: fit the candidates, evaluate them, and promote the best one if it passes the gate."""

from collections.abc import Callable
from typing import Any

from airflow.sdk import DAG, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags import params
from dags.common import (
    Json,
    announce_champion,
    champions_asset,
    described,
    log,
    model_task,
    nightly,
    quiet_logs,
    run_step,
    schedule,
    settings,
    skipped,
    to_build,
    versions_asset,
)
from dags.params import run_date
from dags.sensors import wait_for_features
from dags.steps import runs_on_databricks
from include.config.loading import load_model, load_project, model_names
from include.config.model import Model
from include.core.interval import Interval
from include.core.log_lines import wrapped
from include.core.records import Evaluated, Fitted, GateDecision, Promotion

DOC = """
### {title}: train

Fits each candidate of `model.yaml` on the labelled days before the run date. No candidate is
fitted on the newest of them: all are compared on the {validation_days} validation days, and the best becomes a version
of `{name}`. On the {holdout_days} holdout days after those, the gate checks that version against `model.yaml` and the
champion. A version that passes every check is promoted, from the
next unpublished day on.

- **Safe to run again:** yes. A fit of the same data and code is reused, no second version is made, and a decision of
  the gate promotes once.
- **If `promote` is skipped:** the gate rejected the version (the log of `promote` and the view `gate_checks` say why),
  or the training of a later day made the champion, or `model.yaml` declares `approval` and the version waits for a
  person (`{name}_approve`). The champion stays and scoring goes on; this is not a failure.
- **If `fit` is skipped:** the run date knows too few labelled days yet.
- **If it waits:** the log of `wait_for_features` names the day that is not prepared.
- **If `report_version` fails:** the decision counts and promotion goes on; clear the task to write the report again.
- **To promote by hand:** `python -m include.cli promote --model {name} --version … --from-day … --by … --why …`. This
  also needs a decision of the gate; `--force` goes without one, and the promotion history records that.
- **By hand:** `python -m include.cli gate --model {name} --day {last_day}`
- **Where to look:** the training report of the version (link *Training report* of `report_version`), MLflow, by the
  links on a task's tab Details, or its experiment `{project}/{name}`; views
  `gate_decisions`, `gate_checks`, `promotion_history`.
- **To run past days again:** `airflow dags backfill {name}_train -s {first_day} -e {last_day}`. The days of
  its schedule run one at a time in ascending order, and the backfill stops at the first day that fails.
- **Owner:** {owner}
"""


def train(model: Model) -> DAG:
    """Build the DAG of a model."""
    project = load_project(model.project)

    @dag(
        dag_id=f"{model.name}_train",
        **described(DOC, model, project),
        tags=[project.name, model.name, "nightly"],
        schedule=schedule(project, model.train_schedule),
        max_active_runs=1,  # the gate needs the champion that earlier run dates made
        **nightly(project, model.owner, data=params.data(), displace_newer=params.displace_newer()),
    )
    def build() -> None:
        def day() -> Interval:
            return Interval.of(run_date(project))

        @model_task(outlets=[versions_asset(model)], task_display_name="Evaluate the candidates")
        def evaluate(fitted: Json) -> Json:
            """Compare the candidates on the validation days, and register the best one as a model version."""
            records = [Fitted.model_validate(record) for record in fitted]
            return run_step("evaluate", model, day(), fitted=records)

        @model_task(task_display_name="Check at the gate")
        def gate(fitted: Json, evaluated: Json) -> Json:
            """Check the version against model.yaml and the champion; a rejection is a decision, not a failure."""
            records = [Fitted.model_validate(record) for record in fitted]
            best = Evaluated.model_validate(evaluated)
            return run_step("gate", model, day(), evaluated=best, fitted=records)

        @model_task(task_display_name="Write the training report")
        def report_version(decided: Json) -> Json:
            """Write the training report of the version, decided either way; promotion does not wait for it."""
            decision = GateDecision.model_validate(decided)
            if decision.model_version is None:
                raise AirflowSkipException(f"no version, so no report: {decision.why_not}")  # of an entity fraction
            return run_step("report_version", model, day(), decision=decision)

        @model_task(outlets=[champions_asset(model)], task_display_name="Promote")
        def promote(decided: Json) -> Json:
            """Write the promotion history, then the registry's alias; skipped if the gate rejected the version."""
            decision = GateDecision.model_validate(decided)
            if not decision.passed:
                raise AirflowSkipException(rejected(decision))
            next_day = day().shifted(start=1, end=1)
            displace_newer = params.param("displace_newer", False)
            done = run_step("promote", model, next_day, version=decision.model_version, displace_newer=displace_newer)
            announce_champion(model)
            return done

        @task(trigger_rule="none_failed", task_display_name="Summarise")
        def report() -> str:
            """Summarise the training in a sentence; sync the registry's alias with the promotion history."""
            quiet_logs()
            from include.steps.promote import sync_alias

            champion = sync_alias(model, settings())
            sentence = f"{_outcome(model)}; champion: {'none yet' if champion is None else _named(model, champion)}"
            for line in wrapped(sentence, indent="    "):
                log.info("%s", line)
            return sentence

        ready = wait_for_features(project)
        if model.retrained is not None:
            _check_request(model) >> ready
        fitted = _fits(model, day)
        ready >> fitted
        decided = gate(fitted, evaluate(fitted))
        written, promoted, reported = report_version(decided), promote(decided), report()
        promoted >> reported
        if model.approved_by is not None:
            from dags.question import StartQuestion

            doc = "Start the run that asks people about a pending version, once; a backfill asks nobody."
            ask = StartQuestion(
                task_id="ask", model=model, trigger_rule="all_done", doc_md=doc, task_display_name="Ask people"
            )  # also without a report
            [written, promoted] >> ask >> reported

    return build()


def _check_request(model: Model) -> Any:
    """Return the task `check_request`, with which a run that alerts asked for begins."""

    @task(task_display_name="Check the request")
    def check_request() -> None:
        """Skip a training that alerts asked for if another one took its place; any other run goes on."""
        from include.io import postgres

        if model.retrained is None or not params.is_requested():
            return
        day, cool_down = run_date(load_project(model.project)), model.retrained.cool_down_days
        why = postgres.retrainings.why_replaced(settings(), model.name, day, cool_down_days=cool_down)
        if why is not None:
            raise skipped(f"the training of {day} is not needed: {why}", get_current_context())

    return check_request()


def _fits(model: Model, day: Callable[[], Interval]) -> Any:
    """Return the task `fit`, mapped over the candidates, on the worker or on Databricks as the config says."""
    names = [candidate.name for candidate in model.candidates]
    doc = "Fit one candidate; an equal fit is reused."  # Airflow ignores the docstring of a mapped task
    if runs_on_databricks(model, "fit"):
        from dags.databricks import StepOperator

        mapped = StepOperator.partial(
            task_id="fit",
            step="fit",
            config=model,
            interval=day,
            options=lambda: {"data_view": params.data_view()},
            map_index_template="{{ task.given.candidate }}",
            doc_md=doc,
            task_display_name="Fit a candidate",
        )
        return mapped.expand(given=[{"candidate": name} for name in names]).output

    @model_task(map_index_template="{{ candidate }}", doc_md=doc, task_display_name="Fit a candidate")
    def fit(candidate: str) -> Json:
        return run_step("fit", model, day(), candidate=candidate, data_view=params.data_view())

    return fit.expand(candidate=names)


def rejected(decision: GateDecision) -> str:
    """Say which checks rejected a version, in lines that fit the page of the log."""
    failed = [f"✗ {check.name}: {check.sentence}" for check in decision.checks if not check.passed]
    lines = [line for each in failed for line in wrapped(each, indent="    ")]
    return "\n".join([
        f"the gate rejected {decision.subject}; {len(failed)} of {len(decision.checks)} checks failed:",
        *lines,
    ])


def _outcome(model: Model) -> str:
    ti = get_current_context()["ti"]
    # check the states: a task that is skipped after its run was cleared keeps the XCom of the earlier try
    states = ti.get_task_states(dag_id=ti.dag_id, task_ids=["gate", "promote"], run_ids=[ti.run_id])[ti.run_id]
    if states.get("gate") != "success":
        return f"{model.name}: nothing was trained; see the log of the first task that was skipped"
    decision = GateDecision.model_validate(ti.xcom_pull(task_ids="gate"))
    if not decision.passed:
        return f"{model.name}: the gate rejected {_named(model, decision.model_version)}: {decision.why_not}"
    version = f"{model.name} {_named(model, decision.model_version)}"
    if states.get("promote") != "success":
        return f"{version} passed the gate but was not promoted; see the log of promote"
    promotion = Promotion.model_validate(ti.xcom_pull(task_ids="promote"))
    promoted = "was promoted now" if promotion.rows else "was promoted before"
    return f"{version} {promoted}, champion from {promotion.interval.start} on"


def _named(model: Model, version: int | None) -> str:
    """Return a version with its semantic version, as in `version 12 (1.4.2+2e5fd9ec49a1)`."""
    from include.io import postgres

    if version is None:  # of an entity fraction
        return "its candidate"
    name = postgres.model_files.read_names(settings(), model.name, [version]).get(version)
    return f"version {version}" + (f" ({name})" if name else "")


for name in to_build(model_names(), "train"):
    train(load_model(name))
