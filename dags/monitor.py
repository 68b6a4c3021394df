"""`<project>_monitor`: record the outcomes that became known, measure the models with them, and send alerts."""

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import notify
from dags.common import Json, describe, nightly, outcomes_asset, run_step, schedule, settings
from dags.params import run_date
from dags.sensors import wait_for_features
from include.config.loading import load_project, project_names
from include.core.interval import Interval
from include.core.project import Project

DOC = """
### {title}: outcomes and monitoring

`outcomes` records the outcomes that the run date knows, corrections of earlier days included. `monitor` measures each
model's published scores by day, version and slice, checks how fresh tables and scores are, and raises an alert if a
rule of `model.yaml` is broken or the scores of the day before were late. `alert` sends the unsent alerts of the last
seven days through the connection `nightly_alerts`; without that connection it writes them to its log.

- **Safe to run again:** yes, in any order of days. An older run date never overwrites what a newer one knows, a day is
  measured again only when its scores or outcomes changed, and no alert is sent twice.
- **If a day is not measured yet:** its scores were published after this run, for example by a backfill of many days.
  The next run measures it; so does this run after you clear it.
- **If it waits:** the log of `wait_for_features` names the day that `{name}_prepare` has not finished.
- **If `alert` is skipped:** there was no alert to send.
- **If `alert` fails:** the webhook did not accept the message. Clear the task; it sends what was not sent yet.
- **By hand:** `python -m include.cli outcomes --project {name} --start {last_day}`, then `monitor` likewise.
- **Where to look:** views `predictions_with_outcomes`, `model_performance`, `model_status`, `freshness_status`,
  `alert_history`.
- **Owner:** {owner}
"""


def monitor(project: Project) -> None:
    """Build the DAG of a project."""

    @dag(
        dag_id=f"{project.name}_monitor",
        doc_md=describe(DOC, project, project),
        tags=[project.name, "nightly"],
        schedule=schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner),
    )
    def build() -> None:
        @task(outlets=[outcomes_asset(project)])
        def outcomes() -> Json:
            """Write the outcomes that became known to the shared database."""
            return run_step("outcomes", project, Interval.of(run_date(project)))

        @task
        def monitor() -> Json:
            """Measure the performance of all models and the freshness of tables; raise alerts by the rules."""
            return run_step("monitor", project, Interval.of(run_date(project)))

        @task
        def alert() -> None:
            """Send the unsent alerts of the last seven days; skipped when there are none."""
            from include.io import postgres

            day = run_date(project)
            # include the days before: sending may have failed, or somebody ran `monitor` by hand
            week = Interval.of(day).shifted(start=-6)
            with postgres.alerts.unsent_alerts(settings(), project.name, week) as alerts:
                if not alerts:
                    raise AirflowSkipException(f"{project.name}: there are no unsent alerts of {week}")
                notify("\n\n".join(found.sentence for found in alerts))(get_current_context())

        wait_for_features(project) >> outcomes() >> monitor() >> alert()

    build()


for name in project_names():
    monitor(load_project(name))
