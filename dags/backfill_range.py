"""`<project>_backfill_range`: prepare, score and publish a range of days in one run."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from airflow.sdk import DAG, dag, get_current_context, task, task_group
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from dags import params
from dags.alerts import RUN_FAILED
from dags.common import (
    DEFAULT_ARGS,
    Json,
    described,
    features_asset,
    log,
    predictions_asset,
    quality_task,
    run_range_step,
    settings,
    to_build,
)
from dags.public_page import write_public_page
from dags.scoring import versions
from include.config.loading import load_model, load_project, model_names, project_names
from include.config.model import Model
from include.core.errors import ActionRequiredError
from include.core.project import Project
from include.core.records import FailedDay, Ranged

DOC = """
### {title}: prepare, score and publish a range of days

Use it for a long range: with one run per day, the start of each task and of Spark would dominate. Each day uses what
its own run date knew, exactly as in the nightly DAGs; with `data: latest`, it also uses everything landed since. Days
without a champion are prepared but not scored.

- **Safe to run again:** yes, also while the nightly DAGs run.
- **By hand only:** start it with a first and a last day.
- **Progress:** after each part of the range, the log of a task says how many days are done. The task's XCom `progress`
  says the same while it runs.
- **If a day fails** (a file is missing or refused, rows do not agree), the other days are committed. `report` then
  fails and lists the days that were not done, with the reason.
- **To continue:** fix the cause and clear the run: `airflow dags clear {name}_backfill_range --run-id '…' -y`. It
  does only the days that it has not done yet. A run that has done all its days does them all again.
- **What is published:** the new scores replace what readers see, unless the form says `publish: missing`.
  `python -m include.cli unpublish` undoes it.
- **To find days that need it:** `python -m include.cli outdated --project {name} --start … --end …`
- **Owner:** {owner}
"""


def backfill_range(project: Project) -> DAG:
    """Build the DAG of a project."""
    models = [load_model(name) for name in model_names(project.name)]

    @dag(
        dag_id=f"{project.name}_backfill_range",
        **described(DOC, project, project),
        tags=[project.name, "by hand"],
        schedule=None,
        max_active_runs=1,
        default_args={
            **DEFAULT_ARGS,
            "owner": project.owner,
            "execution_timeout": timedelta(hours=24),  # a range may be a year long
        },
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
        @task(task_display_name="Land deliveries")
        def land() -> Json:
            """Write deliveries, corrections included, to raw tables; hash identifiers."""
            _require_one_model_a_version()
            left = _left(project, params.interval().days, "build_features")
            return run_range_step("land", project, params.interval(), left)

        @task(task_display_name="Extract rows of queries")
        def extract() -> Json:
            """Run the queries of feeds, and write their rows to raw tables; hash identifiers."""
            left = _left(project, params.interval().days, "build_features")
            return run_range_step("extract", project, params.interval(), left)

        @quality_task(task_display_name="Validate deliveries")
        def validate(taken: list[Json]) -> Json:
            """Check deliveries against their expectations; valid rows become clean, invalid rows go to quarantine."""
            days = set.intersection(*(set(_done(record)) for record in taken))
            return run_range_step("validate", project, params.interval(), sorted(days))

        @task(outlets=[features_asset(project)], task_display_name="Build features")
        def build_features(validated: Json) -> Json:
            """Build the features of each day, with one Spark job for each part of the range."""
            data_view = params.data_view()
            return run_range_step("build_features", project, params.interval(), _done(validated), data_view=data_view)

        @task(task_display_name="Record outcomes")
        def outcomes() -> Json:
            """Record the outcomes that the days of the range know."""
            days = _left(project, _prepared(project), "outcomes")
            return run_range_step("outcomes", project, params.interval(), days, data_view=params.data_view())

        @task(trigger_rule="all_done", task_display_name="List days not done")
        def report() -> None:
            """List days not done, with the reason. Fails if there are any."""
            _report(project, models)

        taken = [land(), *([extract()] if project.sql_feeds else [])]
        built = build_features(validate(taken))
        following = [outcomes(), *(_scoring(project, model) for model in models)]
        built >> following >> report()
        if project.shown_page:
            following >> write_public_page(project, params.interval, trigger_rule="all_done")

    return build()


def _scoring(project: Project, model: Model) -> Any:
    @task_group(group_id=model.name, group_display_name=model.title, tooltip=model.title)
    def scoring() -> None:
        @task(task_display_name="Score the entities")
        def score() -> Json:
            """Score all entities of each day with that day's champion, or with the version of the form."""
            if model.name not in params.param("models", [model.name]):
                raise AirflowSkipException(f"{model.name} is not among the models of this run's form")
            interval, days = params.interval(), _left(project, _prepared(project), "publish", model)
            chosen = {"versions": versions(model, interval), "data_view": params.data_view()}
            return run_range_step("score", model, interval, days, **chosen)

        @task(outlets=[predictions_asset(model)], task_display_name="Publish the batches")
        def publish(scored: Json) -> Json:
            """Publish the batch of each day, completely or not at all."""
            interval = params.interval()
            chosen = {"versions": versions(model, interval), "data_view": params.data_view()}
            return run_range_step("publish", model, interval, _done(scored), mode=params.publish_mode(), **chosen)

        publish(score())

    return scoring()


def _done(record: Json) -> list[date]:
    return Ranged.model_validate(record).days


def _prepared(project: Project) -> set[date]:
    """Return the days whose features this run has built, also before it was cleared."""
    from include.io import postgres

    return postgres.audit.read_done_days(settings(), "build_features", project.name)


def _left(project: Project, days: Iterable[date], step: str, model: Model | None = None) -> list[date]:
    """Return those of the days for which this run has not finished a step yet."""
    from include.io import postgres

    done = postgres.audit.read_done_days(settings(), step, project.name, model.name if model else None)
    return sorted(set(days) - done)


def _require_one_model_a_version() -> None:
    version, names = params.param("version", "champion"), params.param("models", [])
    if version.isdigit() and len(names) != 1:
        raise AirflowFailException(
            f"version {version} needs exactly one model in `models` of the form, not {', '.join(names) or 'none'}"
        )


def _report(project: Project, models: list[Model]) -> None:
    """Log what each chain of steps has not done, by day and with the reason; fail if there is any."""
    from include.runner.ranges import record_range

    interval, failed = params.interval(), _failures(project, models)
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
        lines = [
            f"{project.name} {interval}: these days were not done; all other days are committed:",
            *lines[:50],
            *more,
            f"fix the cause, then run only these days again: {again}",
        ]
        raise AirflowFailException("\n".join(lines)) from ActionRequiredError(lines)  # whose text the alert sends


def _failures(project: Project, models: list[Model]) -> dict[str, list[FailedDay]]:
    """Map each chain of steps to the days that failed in it, in the order of its steps."""
    taking = ["land", *(["extract"] if project.sql_feeds else [])]
    tasks = {"preparing": [*taking, "validate", "build_features"], "outcomes": ["outcomes"]}
    tasks |= {f"scoring of {model.name}": [f"{model.name}.score", f"{model.name}.publish"] for model in models}
    ti = get_current_context()["ti"]
    found: dict[str, list[FailedDay]] = {}
    for chain, ids in tasks.items():
        records = [ti.xcom_pull(task_ids=task_id) for task_id in ids]
        found[chain] = [each for record in records if record for each in Ranged.model_validate(record).failed]
    return found


for name in to_build(project_names(), "backfill_range"):
    backfill_range(load_project(name))
