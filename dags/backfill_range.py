"""`<project>_backfill_range`: prepare, score and publish a range of days in one run."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags import params
from dags.alerts import RUN_FAILED
from dags.common import DEFAULT_ARGS, Json, features_asset, log, predictions_asset, run_range_step, settings
from dags.scoring import versions
from include.config.loading import load_model, load_project, model_names, project_names
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.project import Project
from include.core.records import FailedDay, Ranged

DOC = """
### {title}: prepare, score and publish a range of days

For a long range, where one run a day would pay for starting each task and Spark each day. Each day is made of what its
own night knew, exactly as the nightly DAGs make it; or, with `as_of` latest, of all that was corrected since. Days
without a champion are prepared and not scored.

- **Safe to run again:** yes, also beside the nightly DAGs.
- **By hand only:** start it with a first and a last day.
- **Where it is:** the log of a task says after each part of the range how many days are done; so does its XCom
  `progress`, while it runs.
- **If a day is bad** (a file is missing or refused, rows do not agree) it stops only itself: the others are committed.
  `report` fails then, and lists the days that were not done, and why.
- **To go on:** after the cure, clear the run: `airflow dags clear {name}_backfill_range --run-id '…' -y`. It does only the
  days that it has not done yet. A run that did all does all again.
- **What is published:** `replace`, unless the form says `missing`; `python -m include.cli unpublish` undoes it.
- **Which days need it:** `python -m include.cli outdated --project {name} --start … --end …`
- **Owner:** {owner}
"""


def reprocess(project: Project) -> None:
    """The DAG of a project."""
    models = [load_model(name) for name in model_names(project.name)]

    @dag(
        dag_id=f"{project.name}_backfill_range",
        doc_md=DOC.format(**project.model_dump()),
        tags=[project.name, "by hand"],
        schedule=None,
        max_active_runs=1,
        default_args={
            **DEFAULT_ARGS,
            "owner": project.owner,
            "execution_timeout": timedelta(hours=24),
        },  # a year may be long
        params={
            **params.first_and_last_day(project),
            "data": params.data(),
            "models": params.models([model.name for model in models]),
            "version": params.version(),
            "publish": params.publish(),
        },
        dagrun_timeout=timedelta(hours=48),
        on_failure_callback=RUN_FAILED,
    )
    def build() -> None:
        @task
        def land() -> Json:
            """Deliveries into raw tables, corrections included; identifiers hashed."""
            _require_one_model_a_version()
            left = _left(project, params.interval().days, "build_features")
            return run_range_step("land", project, params.interval(), left, data_view=params.data_view())

        @task
        def validate(landed: Json) -> Json:
            """Each delivery against its expectations; rows that pass into clean tables, the others into quarantine."""
            return run_range_step("validate", project, params.interval(), _done(landed))

        @task(outlets=[features_asset(project)])
        def build_features(validated: Json) -> Json:
            """Features of each day from what its night knew, a Spark job for a part of the range."""
            data_view = params.data_view()
            return run_range_step("build_features", project, params.interval(), _done(validated), data_view=data_view)

        @task
        def outcomes() -> Json:
            """The outcomes that these nights know."""
            days = _left(project, _prepared(project), "outcomes")
            return run_range_step("outcomes", project, params.interval(), days, data_view=params.data_view())

        @task(trigger_rule="all_done")
        def report() -> None:
            """What was not done, and why. Fails when there is any."""
            _report(project, models)

        built = build_features(validate(land()))
        following = [outcomes(), *(_scoring(project, model) for model in models)]
        built >> following >> report()

    build()


def _scoring(project: Project, model: Model) -> Any:
    @task_group(group_id=model.name, tooltip=model.title)
    def scoring() -> None:
        @task
        def score() -> Json:
            """All entities of each day with that day's champion, or the version that the form names."""
            if model.name not in params.param("models", [model.name]):
                raise AirflowSkipException(f"{model.name} was not asked for")
            interval, days = params.interval(), _left(project, _prepared(project), "publish", model)
            asked = {"versions": versions(model, interval), "data_view": params.data_view()}
            return run_range_step("score", model, interval, days, **asked)

        @task(outlets=[predictions_asset(model)])
        def publish(scored: Json) -> Json:
            """Each day's batch whole, or not at all."""
            interval = params.interval()
            asked = {"versions": versions(model, interval), "data_view": params.data_view()}
            return run_range_step("publish", model, interval, _done(scored), mode=params.publish_mode(), **asked)

        publish(score())

    return scoring()


def _done(record: Json) -> list[date]:
    return Ranged.model_validate(record).days


def _prepared(project: Project) -> set[date]:
    """The days that this run has built features of, also before it was cleared."""

    from include.io import postgres

    return postgres.audit.read_done_days(settings(), "build_features", project.name)


def _left(project: Project, days: Iterable[date], step: str, model: Model | None = None) -> list[date]:
    """Those of the days that this run has not brought through a step yet."""

    from include.io import postgres

    done = postgres.audit.read_done_days(settings(), step, project.name, model.name if model else None)
    return sorted(set(days) - done)


def _require_one_model_a_version() -> None:
    version, names = params.param("version", "champion"), params.param("models", [])
    if version.isdigit() and len(names) != 1:
        raise AirflowFailException(
            f"version {version} of which model? choose one of them in `models`, not {', '.join(names) or 'none'}"
        )


def _report(project: Project, models: list[Model]) -> None:
    """What is left of each chain of steps, by day, with the reason that its steps gave."""
    from include.runner.ranges import record_range

    interval, failed = params.interval(), _failures(models)
    prepared = _prepared(project)
    left = {"preparing": set(interval.days) - prepared, "outcomes": set(_left(project, prepared, "outcomes"))}
    for model in models:
        if model.name in params.param("models", [model.name]):
            left[f"scoring of {model.name}"] = set(_left(project, prepared, "publish", model))
    lines = []
    for chain, days in left.items():
        whys = {each.day: f"{each.step}: {each.why}" for each in failed.get(chain, []) if each.day in days}
        lines += [f"{day}, {chain}: {whys.get(day, 'not reached; see the task that failed')}" for day in sorted(days)]
        log.info("%s: %d days done, %d not", chain, len(interval.days if chain == "preparing" else prepared), len(days))
    record_range(project, interval, settings(), done=not lines)
    if lines:
        more = [f"… and {len(lines) - 50} more; see the logs of the tasks"] if len(lines) > 50 else []
        again = f"airflow dags clear {project.name}_backfill_range --run-id '{get_current_context()['run_id']}' -y"
        told = "\n".join([
            f"{project.name} {interval}: not all was done; what is not named here is committed:",
            *lines[:50],
            *more,
            f"after the cure, this does only those: {again}",
        ])
        raise AirflowFailException(told) from ActionRequiredError(told)  # whose text the alert may say


def _failures(models: list[Model]) -> dict[str, list[FailedDay]]:
    """Chain of steps -> the days that failed in it, in the order of its steps."""
    tasks = {"preparing": ["land", "validate", "build_features"], "outcomes": ["outcomes"]}
    tasks |= {f"scoring of {model.name}": [f"{model.name}.score", f"{model.name}.publish"] for model in models}
    ti = get_current_context()["ti"]
    found: dict[str, list[FailedDay]] = {}
    for chain, ids in tasks.items():
        records = [ti.xcom_pull(task_ids=task_id) for task_id in ids]
        found[chain] = [each for record in records if record for each in Ranged.model_validate(record).failed]
    return found


for name in project_names():
    reprocess(load_project(name))
