"""Test S3 through Airflow: keys from the connection, and the wait for files in the triggerer."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from airflow.providers.amazon.aws.triggers.s3 import S3KeyTrigger
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk.bases.operator import TriggerFailureReason
from airflow.sdk.exceptions import AirflowException, AirflowRescheduleException, AirflowSensorTimeout, TaskDeferred

from dags import arrivals, common, connections, params, sensors
from dags.alerts import LateFeedsError
from dags.arrivals import WaitForFiles
from dags.prepare import prepare
from include.config.loading import load_project
from include.core.intake import NotYetError
from include.core.project import Project
from include.core.settings import Settings
from include.core.sources import Sql
from include.io import storage
from include.io.landing import write_whole
from tests import deliveries
from tests.landing import DAY, deliver_one
from tests.s3 import KEYS, bucket

KEY, SECRET, TOKEN = KEYS.values()


@pytest.fixture
def project() -> Project:
    return load_project("ferries")


class Ti:
    """A task instance that started now."""

    def __init__(self) -> None:
        self.start_date = datetime.now(UTC)

    def get_first_reschedule_date(self, context: object) -> None:
        return None


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the context of a run of DAY."""
    run = type("Run", (), {"logical_date": None, "run_type": "manual"})()
    found = {"params": {"day": str(DAY)}, "dag_run": run, "run_id": "test", "ti": Ti()}
    for module in (common, params):
        monkeypatch.setattr(module, "get_current_context", lambda: found)
    return found


@pytest.fixture
def connect(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set up the connections: an empty database, places below a URI, and `nightly_storage` only if it is given."""

    def make(uri: str, **aws: Any) -> None:
        for place in ("landing", "tables", "artifacts", "journal"):
            connection = {"conn_type": "generic", "extra": {"uri": f"{uri}/{place}"}}
            monkeypatch.setenv(f"AIRFLOW_CONN_NIGHTLY_{place.upper()}", json.dumps(connection))
        for name in ("mlflow", "hash_key"):
            monkeypatch.setenv(f"AIRFLOW_CONN_NIGHTLY_{name.upper()}", '{"conn_type": "generic", "password": "unused"}')
        shared = sa.make_url(settings.database_url.get_secret_value())
        host = shared.host or shared.query["host"]  # the folder of its socket
        database = {"host": host, "port": shared.port, "login": shared.username, "password": shared.password}
        connection = {"conn_type": "postgres", "schema": shared.database, **database}
        monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_DATABASE", json.dumps(connection))
        if aws:
            monkeypatch.setenv("AIRFLOW_CONN_NIGHTLY_STORAGE", json.dumps({"conn_type": "aws", **aws}))

    return make


@pytest.fixture
def on_s3(s3: str, connect: Callable[..., None], context: dict[str, Any]) -> Settings:
    extra = {"endpoint_url": s3, "region_name": "eu-west-1", "aws_session_token": TOKEN}
    connect(bucket(s3), login=KEY, password=SECRET, extra=extra)
    return common.settings()


def deferred(call: Callable[[], object]) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        call()
    assert caught.value.method_name == "execute_complete"
    return caught.value


def fired(trigger: Any) -> Any:
    """Return the event of the triggerer, which knows only the stored form of the trigger."""

    async def first() -> Any:
        name, arguments = trigger.serialize()
        assert name == f"{type(trigger).__module__}.{type(trigger).__name__}"
        again = type(trigger)(**arguments)
        return (await anext(aiter(again.run()))).payload

    return asyncio.run(asyncio.wait_for(first(), 20))


def options(settings: Settings) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in settings.storage_options.items()}


class TestSettings:
    def test_keys_and_token_come_from_the_connection(self, on_s3: Settings, s3: str) -> None:
        assert options(on_s3) == {**KEYS, "AWS_ENDPOINT_URL": s3, "AWS_REGION": "eu-west-1"}
        for secret in KEYS.values():
            assert secret not in repr(on_s3) + str(on_s3.model_dump())

    def test_a_role_is_resolved_to_its_keys(
        self, s3: str, connect: Callable[..., None], context: dict[str, Any]
    ) -> None:
        services = {"sts": {"endpoint_url": s3}, "s3": {"endpoint_url": s3}}
        role = {"role_arn": "arn:aws:iam::123456789012:role/nightly", "region_name": "eu-west-1"}
        connect("s3://bucket", login=KEY, password=SECRET, extra={**role, "service_config": services})
        found = options(common.settings())
        assert found["AWS_ACCESS_KEY_ID"].startswith("ASIA")
        assert found["AWS_SECRET_ACCESS_KEY"] != SECRET
        assert found["AWS_SESSION_TOKEN"]

    def test_without_keys_each_library_uses_those_of_the_machine(
        self, s3: str, connect: Callable[..., None], context: dict[str, Any]
    ) -> None:
        connect("s3://bucket", extra={"region_name": "eu-west-1"})
        assert options(common.settings()) == {"AWS_REGION": "eu-west-1"}

    def test_folders_need_no_connection(
        self, connect: Callable[..., None], context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "storage_options", lambda: pytest.fail("the connection was read"))
        connect("/somewhere")
        assert common.settings().storage_options == {}


class TestWait:
    def test_the_missing_keys_are_waited_for_in_the_triggerer(
        self, project: Project, on_s3: Settings, context: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO")
        deliver_one(project, on_s3, "winds", DAY)
        task = WaitForFiles(project=project)
        waiting = deferred(lambda: task.execute(context))
        assert isinstance(waiting.trigger, S3KeyTrigger)
        before = DAY - timedelta(days=1)
        keys = {f"{on_s3.landing}/ferries/{at}/*.csv.gz" for at in (f"sailings/{DAY}", f"logbook/{before}")}
        assert set(waiting.trigger.bucket_key) == keys
        assert f"waiting: no file of feed sailings for {DAY} (looked for {on_s3.landing}" in caplog.text
        assert "feed winds" not in caplog.text
        assert waiting.timeout is not None
        assert timedelta(hours=11, minutes=59) < waiting.timeout <= timedelta(hours=12)
        stored = str(waiting.trigger.serialize()) + caplog.text
        assert not [secret for secret in KEYS.values() if secret in stored]
        deliver_one(project, on_s3, "sailings", DAY)
        deliver_one(project, on_s3, "logbook", before)
        WaitForFiles(project=project).execute_complete(context, fired(waiting.trigger))  # and waits no longer

    def test_if_all_files_are_there_it_succeeds_at_once(
        self, project: Project, on_s3: Settings, context: dict[str, Any]
    ) -> None:
        for feed, day in project.required(DAY).items():
            deliver_one(project, on_s3, feed, day)
        WaitForFiles(project=project).execute(context)  # it does not wait

    def test_a_sidecar_alone_does_not_count_as_a_file(
        self, project: Project, on_s3: Settings, context: dict[str, Any]
    ) -> None:
        """Its key matches the pattern of a feed, so the sensor must check again later, not at once for ever."""
        anything = {name: feed.model_copy(update={"path": f"{name}/{{day}}/*"}) for name, feed in project.feeds.items()}
        loose = project.model_copy(update={"feeds": anything})
        for feed, day in project.required(DAY).items():
            filesystem, root = storage.filesystem(on_s3, on_s3.landing)
            write_whole(filesystem, f"{root}/ferries/{feed}/{day}/_COMING", b"{}")
        waiting = deferred(lambda: WaitForFiles(project=loose).execute(context))
        again = deferred(lambda: WaitForFiles(project=loose).execute_complete(context, fired(waiting.trigger)))
        assert isinstance(again.trigger, DateTimeTrigger)
        assert again.trigger.moment <= datetime.now(UTC) + timedelta(seconds=20)
        then = deferred(lambda: WaitForFiles(project=loose).execute_complete(context, again.trigger.moment))
        assert isinstance(then.trigger, S3KeyTrigger)

    def test_a_file_whose_claim_is_ahead_does_not_count_yet(
        self, project: Project, on_s3: Settings, context: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its key exists, so the triggerer finds it at once; the sensor checks again later."""
        caplog.set_level("INFO")
        deliver_one(project, on_s3, "winds", DAY)
        deliver_one(project, on_s3, "logbook", DAY - timedelta(days=1))
        deliver_one(project, on_s3, "sailings", DAY, at=datetime.now(UTC) + timedelta(hours=1))
        waiting = deferred(lambda: WaitForFiles(project=project).execute(context))
        assert "which is still ahead" in caplog.text
        again = deferred(lambda: WaitForFiles(project=project).execute_complete(context, fired(waiting.trigger)))
        assert isinstance(again.trigger, DateTimeTrigger)

    def test_when_the_time_is_over_its_error_names_the_feeds_that_are_late(
        self, project: Project, on_s3: Settings, context: dict[str, Any]
    ) -> None:
        deliver_one(project, on_s3, "winds", DAY)
        timed_out = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
        with pytest.raises(LateFeedsError, match=f"no file of feed sailings for {DAY}") as caught:
            WaitForFiles(project=project).resume_execution("__fail__", timed_out, context)
        assert caught.value.feeds == ("sailings", "logbook")
        for feed, day in project.required(DAY).items():
            if feed != "winds":
                deliver_one(project, on_s3, feed, day)
        with pytest.raises(AirflowSensorTimeout) as too_late:
            WaitForFiles(project=project).resume_execution("__fail__", timed_out, context)
        assert not isinstance(too_late.value, LateFeedsError), "they came at the last moment"

    def test_when_the_time_is_over_it_is_over_also_if_the_landing_does_not_answer(
        self, project: Project, on_s3: Settings, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Airflow retries any other error, so the run date would wait twelve hours more."""

        def down(*_: object) -> None:
            raise ConnectionError("no answer")

        monkeypatch.setattr("include.steps.arrivals.missing_files", down)
        timed_out = {"error": TriggerFailureReason.TRIGGER_TIMEOUT}
        with pytest.raises(AirflowSensorTimeout):
            WaitForFiles(project=project).resume_execution("__fail__", timed_out, context)

    def test_it_does_not_look_before_the_cutoff(
        self, project: Project, on_s3: Settings, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cutoff = project.cutoff_at(DAY)
        monkeypatch.setattr(arrivals, "utc_now", lambda: cutoff - timedelta(minutes=1))
        monkeypatch.setattr(arrivals, "settings", lambda: pytest.fail("it looked"))
        context["ti"].start_date = cutoff - timedelta(hours=1)
        waiting = deferred(lambda: WaitForFiles(project=project).execute(context))
        assert isinstance(waiting.trigger, DateTimeTrigger)
        assert waiting.trigger.moment == cutoff

    def test_it_times_out_after_twelve_hours_however_often_it_was_deferred(
        self, project: Project, on_s3: Settings, context: dict[str, Any]
    ) -> None:
        context["ti"].start_date -= timedelta(hours=12, seconds=1)
        with pytest.raises(AirflowSensorTimeout, match="did not arrive within 12 hours"):
            WaitForFiles(project=project).execute_complete(context, date.max)

    def test_an_error_in_the_triggerer_fails_the_task(
        self, project: Project, on_s3: Settings, context: dict[str, Any]
    ) -> None:
        with pytest.raises(AirflowException, match="no route"):
            WaitForFiles(project=project).execute_complete(context, {"status": "error", "message": "no route"})

    def test_a_folder_is_polled_on_the_worker(
        self, project: Project, tmp_path: Any, connect: Callable[..., None], context: dict[str, Any]
    ) -> None:
        connect(str(tmp_path))
        with pytest.raises(AirflowRescheduleException):
            WaitForFiles(project=project).execute(context)
        for feed, day in project.required(DAY).items():
            deliver_one(project, common.settings(), feed, day)
        WaitForFiles(project=project).execute(context)  # it does not wait


def test_when_the_time_for_rows_of_queries_is_over_the_error_names_the_feeds_that_are_late(
    project: Project, settings: Settings, context: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Sql(kind="sql", connection="shop_db", query="SELECT * FROM winds WHERE day = :day", immutable=True)
    winds = project.feeds["winds"].model_copy(update={"source": source, "path": "", "required": True})
    queried = project.model_copy(update={"feeds": {**project.feeds, "winds": winds}})

    def waits(*_: object, **__: object) -> None:
        raise NotYetError("no row")

    monkeypatch.setattr(sensors, "run_step", waits)
    monkeypatch.setattr(sensors, "settings", lambda: settings)
    sensor: Any = prepare(queried).get_task("extract")
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(context)
    sensor.timeout = -1
    with pytest.raises(LateFeedsError, match=f"the query of feed winds gave no row for {DAY}") as caught:
        sensor.execute(context)
    assert caught.value.feeds == ("winds",)
    [(_, day)] = [each for each in queried.required_days(DAY) if each[0] == "winds"]
    entered = deliveries.delivery("winds", day, "winds@1", verdict="accepted", rows=1, available_from=datetime.now(UTC))
    deliveries.enter(settings, queried, entered)
    with pytest.raises(AirflowSensorTimeout) as too_late:
        sensor.execute(context)
    assert not isinstance(too_late.value, LateFeedsError), "they came at the last moment"
