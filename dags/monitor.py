"""`<project>_monitor`: join the true outcomes that became known, measure the models by them, tell people."""

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import notify
from dags.common import Json, nightly, nightly_schedule, outcomes_asset, run_step, settings
from dags.params import run_date
from dags.sensors import wait_for_features
from include.config.loading import load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DOC = """
### {title}: what became true

Records the outcomes that the night knows, corrections of earlier days included (`outcomes`). Then measures each model's
published scores by day, version and slice, looks how fresh tables and scores are, and raises an alert where a rule of
`model.yaml` is broken or the scores of the day before were late (`monitor`). `alert` tells people of what was raised
in the week up to this day and nobody was told of yet, by the connection `nightly_alerts`; without it, in its log.

- **Safe to run again:** yes, in any order of days; an older night never overwrites what a newer one knows, a day is
  measured again only when its scores or outcomes changed, and nobody is told twice.
- **If a day is not measured yet:** its scores came after this run, as when many nights are backfilled beside their
  scoring; the next run, or this one cleared, measures it.
- **If it waits:** `wait_for_features` names the night that `{name}_prepare` has not finished.
- **If `alert` is skipped:** there was nothing to tell.
- **If it fails:** the webhook did not take it; clear it, and it tells what is still untold.
- **By hand:** `python -m include.cli outcomes --project {name} --start 2013-03-02`, then `monitor` likewise.
- **Where to look:** views `predictions_with_outcomes`, `model_performance`, `model_status`, `freshness_status`,
  `alert_history`.
- **Owner:** {owner}
"""


def monitor(project: Project) -> None:
    """The DAG of a project."""

    @dag(
        dag_id=f"{project.name}_monitor",
        doc_md=DOC.format(**project.model_dump()),
        tags=[project.name, "nightly"],
        schedule=nightly_schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner),
    )
    def build() -> None:
        @task(outlets=[outcomes_asset(project)])
        def outcomes() -> Json:
            """The outcomes that became known, into the shared database."""
            return run_step("outcomes", project, Interval.of(run_date(project)))

        @task
        def monitor() -> Json:
            """Performance of all models, freshness, and alerts by the rules."""
            return run_step("monitor", project, Interval.of(run_date(project)))

        @task
        def alert() -> None:
            """Tell people of the alerts of this week that nobody was told of yet; skipped when there is none."""

            from include.io import postgres

            day = run_date(project)
            # also of the days before, whose telling may have failed or which were monitored by hand
            week = Interval.of(day).shifted(start=-6)
            with postgres.alerts.unsent_alerts(settings(), project.name, week) as alerts:
                if not alerts:
                    raise AirflowSkipException(f"{project.name}: nothing to tell of {week}")
                notify("\n\n".join(found.sentence for found in alerts))(get_current_context())

        wait_for_features(project) >> outcomes() >> monitor() >> alert()

    build()


for name in project_names():
    monitor(load_project(name))
