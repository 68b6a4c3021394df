"""`outbox`: send the messages that could not be sent when they were written."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronTriggerTimetable, dag, task
from airflow.sdk.exceptions import AirflowSkipException

from dags.alerts import report_dead_watcher, send_waiting
from dags.common import DEFAULT_ARGS, owners
from dags.recovery import try_to_note_recovered
from include.core.errors import ActionRequiredError

DOC = """
### Messages that wait

Whoever writes a message sends it at once. `send` repeats that for what the receiver did not take: after a minute, then
after ever longer times, up to an hour, and not before the receiver's own `Retry-After`. After a day, or when the
receiver refuses a message for good, the message is given up.

It also reports, once, that the watcher (docs/notifications.md) has stopped, asks Airflow whether the failed tasks of
open incidents have succeeded since, and sends that they recovered.

- **Safe to run again:** yes, at any time, also beside another run: a message that one sender has taken is left alone.
- **If `send` is skipped:** no message was due, or none can be sent now; its log says why. Without the connection that
  a message names, it waits until the connection exists. While the shared database is down there is nothing to do.
- **If `send` fails:** messages were given up. Its log names them and the command that sends them after all.
- **By hand:** `python -m include.cli outbox show`, `python -m include.cli outbox send`
- **Where to look:** the view `outbox`.
- **Owner:** the owners of the projects
"""


@dag(
    dag_id="outbox",
    dag_display_name="Messages that wait",
    doc_md=DOC,
    tags=["maintenance"],
    schedule=CronTriggerTimetable("*/5 * * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,  # nobody thinks of it until a message is missing
    default_args={**DEFAULT_ARGS, "owner": owners(), "execution_timeout": timedelta(minutes=10)},
    dagrun_timeout=timedelta(hours=1),
)
def outbox() -> None:
    """Build the DAG of the bundle."""

    @task(task_display_name="Send messages")
    def send() -> int:
        """Send the messages that wait in the outbox; skipped when none can be sent."""
        from sqlalchemy.exc import OperationalError

        try:
            report_dead_watcher()
            try_to_note_recovered()
            return send_waiting(seconds=200)
        # the nightly tasks report what is wrong with the database; this DAG would do so every five minutes
        except ActionRequiredError as error:
            raise AirflowSkipException(str(error)) from error
        except OperationalError as error:
            raise AirflowSkipException(f"the shared database does not answer: {error.orig}") from error

    send()


outbox()
