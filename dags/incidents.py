"""`incidents`: acknowledge, snooze or close an incident by a form."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from dags.alerts import RUN_FAILED
from dags.common import DEFAULT_ARGS, Json, log, owners, settings
from include.core.errors import ActionRequiredError, LockTimeoutError

DOC = """
### Acknowledge, snooze or close an incident

The message of an incident names its number; the view `incidents` lists all. Who decided and why is in `human_actions`.

- **acknowledge:** you take care of it. An update is sent only if its severity rises, and its recovery is sent.
- **snooze:** nothing is sent for some days, unless its severity rises.
- **close:** of a failed task that nobody is going to repeat. Other incidents end by themselves.
- **By hand only:** the form asks for the number, what to do, and why.
- **Safe to run again:** yes.
- **If it fails:** nothing changed. The log says why.
- **By hand:** `python -m include.cli acknowledge --incident … --by … --why …`, or `snooze`, or `close`
- **Where to look:** views `incidents`, `incident_history`, `human_actions`; docs/alerts.md
- **Owner:** the owners of the projects
"""


@dag(
    dag_id="incidents",
    dag_display_name="Acknowledge, snooze or close an incident",
    doc_md=DOC,
    tags=["by hand"],
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=False,  # a form that waits in a paused DAG would be silent
    default_args={**DEFAULT_ARGS, "owner": owners(), "execution_timeout": timedelta(minutes=10)},
    params={
        "incident": Param(type="integer", minimum=1, title="Incident", description="Its number, as its message says."),
        "action": Param(
            "acknowledge",
            type="string",
            enum=["acknowledge", "snooze", "close"],
            title="What to do",
            description="acknowledge: you take care of it. snooze: send nothing for some days. close: nobody will "
            "repeat the failed task.",
        ),
        "days": Param(
            1, type="number", exclusiveMinimum=0, maximum=90, title="Days", description="Of a snooze: for how long."
        ),
        "why": Param(type="string", minLength=3, title="Why", description="The reason, for the audit. Required."),
        "by": Param(
            None,
            type=["null", "string"],
            title="Who decides",
            description="Your name. If empty: the Airflow user that starts the run.",
        ),
    },
    dagrun_timeout=timedelta(hours=1),
    on_failure_callback=RUN_FAILED,
)
def incidents() -> None:
    """Build the DAG of the bundle."""

    @task(task_display_name="Record the decision")
    def decide_incident() -> Json:
        """Record what the form says about the incident."""
        from include.operations.incidents import decide_incident, end_of_snooze

        context = get_current_context()
        form = context["params"]
        by = form["by"] or getattr(context["dag_run"], "triggering_user_name", None) or ""
        until = end_of_snooze(form["days"], None) if form["action"] == "snooze" else None
        try:
            done = decide_incident(settings(), form["incident"], form["action"], by=by, why=form["why"], until=until)
        except LockTimeoutError:
            raise
        except ActionRequiredError as error:
            raise AirflowFailException(str(error)) from error
        log.info("%s", done.sentence)
        return done.model_dump(mode="json")

    decide_incident()


incidents()
