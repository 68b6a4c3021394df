"""`<project>_monitor`: record the outcomes that became known, measure the models with them, and send alerts."""

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TaskGroup, dag, task, teardown
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import send_waiting
from dags.common import Json, described, nightly, outcomes_asset, run_step, schedule, to_build
from dags.params import is_backfill, run_date
from dags.public_page import write_public_page
from dags.sensors import wait_for_features
from include.config.loading import load_model, load_project, model_names, project_names
from include.core.interval import Interval
from include.core.periods import Period
from include.core.project import Project

DOC = """
### {title}: outcomes and monitoring

`outcomes` records the outcomes that the run date knows, corrections of earlier days included. `monitor` measures each
model's published scores by day, version and slice, checks how fresh tables and scores are, and raises an alert if a
rule of `model.yaml` is broken or the scores of the day before were late. `skew` builds a sample of the rows that were
published for the day before again, from the raw tables, and raises an alert if they differ. One cause is one incident:
people are told when it begins, when it is clearly worse, and when it is over. `alert` sends the messages that wait in
the outbox. What a receiver does not take now, the DAG `outbox` sends later. `report_period` writes the reports that
`project.yaml` declares, on the run date after each week, month or quarter (docs/reports.md).

- **Safe to run again:** yes, in any order of days. An older run date never overwrites what a newer one knows, a day is
  measured again only when its scores or outcomes changed, and no alert is sent twice.
- **If a day is not measured yet:** its scores were published after this run, for example by a backfill of many days.
  The next run measures it; so does this run after you clear it.
- **If `monitor` fails:** the end of its error names the monitors that failed. The alerts of all others are raised, and
  `alert` sends them at once. Incidents of a model whose monitor failed, and those that models share, are not over
  before its monitors have looked; those of other models are.
- **If `skew` fails:** `report_period` makes the report all the same, which says what was not checked. What `skew` did
  not check, the run of the next day does, for a week.
- **If it waits:** the log of `wait_for_features` names the day that `{name}_prepare` has not finished.
- **If `<model>.retrain` is skipped:** no training is asked for; its log says why. View `retraining_requests`.
- **If `report_period` is skipped:** no week, month or quarter that is reported on ended the day before.
- **If `report_period` fails:** nothing else waits for it. Clear it: a report is sent once, however often it is written.
- **If `public_page` fails** (only if the project has a page for everybody): it shows older measures. Clear the task; or
  wait: each next run writes it.
- **If `alert` is skipped:** no message was due, or none can be sent now; its log says why.
- **If `alert` fails:** the webhook refused messages for good, or did not accept them within a day. They were given up.
  The run does not fail because of it.
- **By hand:** `python -m include.cli outcomes --project {name} --start {last_day}`, then `monitor` likewise.
- **Where to look:** views `predictions_with_outcomes`, `model_performance`, `model_status`, `freshness_status`,
  `incidents`, `skew`, `alert_history`, `outbox`.
- **Owner:** {owner}
"""


def monitor(project: Project) -> DAG:
    """Build the DAG of a project."""

    @dag(
        dag_id=f"{project.name}_monitor",
        **described(DOC, project, project),
        tags=[project.name, "nightly"],
        schedule=schedule(project),
        max_active_runs=4,
        **nightly(project, project.owner),
    )
    def build() -> None:
        @task(outlets=[outcomes_asset(project)], task_display_name="Record outcomes")
        def outcomes() -> Json:
            """Write the outcomes that became known to the shared database."""
            return run_step("outcomes", project, Interval.of(run_date(project)))

        @task(task_display_name="Measure, and raise alerts")
        def monitor() -> Json:
            """Measure the performance of all models and the freshness of tables; raise alerts by the rules."""
            return run_step("monitor", project, Interval.of(run_date(project)))

        @teardown  # it runs whatever failed before it, and the run fails with what failed
        @task(task_display_name="Send messages")
        def alert() -> int:
            """Send the messages that wait in the outbox; skipped when none can be sent."""
            return send_waiting(seconds=60)

        @task(task_display_name="Compare with raw tables")
        def skew() -> Json:
            """Build a sample of the rows published the day before again from raw tables, and compare."""
            return run_step("skew", project, Interval.of(run_date(project)))

        @task(task_display_name="Report on a period")
        def report_period() -> Json:
            """Write the report of the week, month or quarter that ended the day before, and send it."""
            day, reports = run_date(project), project.reports
            if reports is None or not Period.ended_before(day, reports.periods):
                raise AirflowSkipException(f"no period that is reported on ended the day before {day}")
            return run_step("report_period", project, Interval.of(day), send=False if is_backfill() else None)

        ready, monitored = wait_for_features(project), monitor()
        ready >> outcomes() >> monitored >> alert()
        skewed = skew()
        ready >> skewed
        if project.shown_page:
            monitored >> write_public_page(project)
        if project.reports:
            # A report waits for skew, also if that fails. A teardown leaves the failure of skew that of the run.
            ended = EmptyOperator(
                task_id="skew_ended",
                task_display_name="Skew has ended",
                doc_md="Let `report_period` run if skew failed.",
            ).as_teardown()
            skewed >> ended
            [monitored, ended] >> report_period()
        for model in (load_model(name) for name in model_names(project.name)):
            if model.retrained is not None:
                from dags.retrain import RequestTraining

                doc = "Start a training of the run date if its alerts ask for one; a backfill starts none."
                with TaskGroup(model.name, group_display_name=model.title):
                    asked = RequestTraining(
                        task_id="retrain", model=model, doc_md=doc, task_display_name="Request a training"
                    )
                monitored >> asked

    return build()


for name in to_build(project_names(), "monitor"):
    monitor(load_project(name))
