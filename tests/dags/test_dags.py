"""Test which DAGs exist, the order of their tasks, and the rules that all of them must follow."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.providers.databricks.operators.databricks import DatabricksSubmitRunOperator
from airflow.sdk.definitions.context import _AIRFLOW_PARSING_CONTEXT_DAG_ID
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from dags import common, params
from dags.alerts import RUN_FAILED, RUNBOOKS, TASK_FAILED
from include.config.loading import is_simulated, load_model, load_project, model_names, project_names
from include.core.errors import DeliveryError, LockTimeoutError, UnreachableError
from include.core.intake import NotYetError
from include.core.interval import Interval
from include.core.project import Databricks, Project
from include.core.records import Check, GateDecision
from include.core.sources import Sql
from tests.dags.conftest import ROOT
from tests.own_projects import FOLDER
from tools import ui

HEAVY = {
    "pandas",
    "polars",
    "pyspark",
    "mlflow",
    "sklearn",
    "great_expectations",
    "deltalake",
    "alembic",
}

SHADOW = {"score_shadow", "shadow"}
"""Tasks whose failure `report_shadow` reports, also when they were killed."""


def expected_dags() -> set[str]:
    kinds = {f"{project}_{kind}" for project in project_names() for kind in ("prepare", "monitor", "backfill_range")}
    kinds |= {f"{project}_simulate" for project in project_names() if is_simulated(load_project(project))}
    return (
        kinds
        | {"maintenance", "outbox", "incidents"}
        | {f"{model}_{kind}" for model in model_names() for kind in ("train", "score", "rollback")}
        | {f"{model}_decide" for model in model_names() if load_model(model).shadow}
    )


def test_a_task_builds_only_its_own_dag(bag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of 500 models must not slow the start of each task, so nothing of the other models is even loaded."""
    for dag_id, dag in bag.dags.items():
        monkeypatch.setenv(_AIRFLOW_PARSING_CONTEXT_DAG_ID, dag_id)
        own = DagBag(dag.fileloc, bundle_path=ROOT, bundle_name="nightly-ml")
        assert (own.dag_ids, own.import_errors) == ([dag_id], {})
        assert own.dags[dag_id].task_ids == dag.task_ids


def test_examples_in_a_dags_text_are_days_of_its_project(bag: Any) -> None:
    for name in project_names():
        project = load_project(name)
        of_project = [dag for dag in bag.dags.values() if name in dag.tags]
        said = {day for dag in of_project for day in re.findall(r"\d{4}-\d\d-\d\d", dag.doc_md)}
        assert said == {str(project.first_day), str(project.first_day + timedelta(days=6))}


def upstream(dag: Any, task_id: str) -> set[str]:
    return {task.task_id for task in dag.get_task(task_id).get_flat_relatives(upstream=True)}


def test_the_bundle_has_the_dags_that_the_configs_declare(bag: Any) -> None:
    assert bag.import_errors == {}
    assert len(expected_dags()) >= 6, "no configs were found, so nothing was tested"
    assert set(bag.dags) == expected_dags()


def test_make_ui_unpauses_every_nightly_dag(bag: Any) -> None:
    scheduled = {dag.dag_id for dag in bag.dags.values() if dag.timetable.can_be_scheduled} - {"maintenance", "outbox"}
    assert {dag for name in project_names() for dag in ui.nightly_dags(load_project(name))} == scheduled


@pytest.mark.parametrize(
    ("kind", "chain"),
    [
        ("prepare", ["wait_for_files", "land", "validate", "build_features"]),
        ("monitor", ["wait_for_features", "outcomes", "monitor", "alert"]),
        ("monitor", ["wait_for_features", "skew"]),
        ("backfill_range", ["land", "validate", "build_features", "outcomes"]),
    ],
)
def test_everything_is_built_from_validated_data(bag: Any, kind: str, chain: list[str]) -> None:
    for project in project_names():
        dag = bag.dags[f"{project}_{kind}"]
        for n, task in enumerate(chain):
            assert set(chain[:n]) <= upstream(dag, task), f"{dag.dag_id}: {task} must come after {chain[:n]}"


def test_alerts_are_sent_although_what_found_them_failed_and_the_run_fails_with_it(bag: Any) -> None:
    dag = bag.dags["ferries_monitor"]
    alert = dag.get_task("alert")
    assert (alert.trigger_rule, alert.upstream_task_ids) == ("all_done_setup_success", {"monitor"})
    assert not [task for task in dag.tasks if task.is_setup], "without a setup, that is: whatever has failed"
    assert alert.is_teardown and not alert.on_failure_fail_dagrun, "so `monitor` decides whether the run failed"


def with_prices(project: Project) -> Project:
    """Return a project whose winds are rows of a database."""
    source = Sql(kind="sql", connection="shop_db", query="SELECT * FROM winds WHERE day = :day", immutable=True)
    winds = project.feeds["winds"].model_copy(update={"source": source, "path": ""})
    return project.model_copy(update={"feeds": {**project.feeds, "winds": winds}})


def test_a_project_with_queries_extracts_beside_landing_and_validates_after_both() -> None:
    from dags.backfill_range import backfill_range
    from dags.prepare import prepare

    plain, project = load_project("ferries"), with_prices(load_project("ferries"))
    assert "extract" not in prepare(plain).task_ids
    assert "extract" not in backfill_range(plain).task_ids
    for dag in (prepare(project), backfill_range(project)):
        assert dag.get_task("validate").upstream_task_ids == {"land", "extract"}
        assert dag.get_task("extract").upstream_task_ids == set()
    sensor: Any = prepare(project).get_task("extract")
    assert (sensor.mode, sensor.timeout, sensor.poke_interval) == ("reschedule", 12 * 3600, 300)


def test_a_query_without_rows_is_asked_again_and_not_recorded_as_failed(
    monkeypatch: pytest.MonkeyPatch, in_run: Callable[..., None]
) -> None:
    from dags import sensors
    from dags.prepare import prepare

    given: dict[str, Any] = {}

    def waits(*_: object, **options: Any) -> dict[str, int]:
        given.update(options)
        if given["record_waiting"]:
            return {"rows": 1}
        raise NotYetError("no row")

    in_run(LATE_EVENING, day="2013-03-04")
    monkeypatch.setattr(sensors, "run_step", waits)
    sensor: Any = prepare(with_prices(load_project("ferries"))).get_task("extract")
    found = sensor.python_callable()
    assert (found.is_done, given) == (False, {"record_waiting": False})
    monkeypatch.setattr(sensors, "run_step", lambda *_, **__: {"rows": 1})
    found = sensor.python_callable()
    assert (found.is_done, found.xcom_value) == (True, {"rows": 1})
    monkeypatch.setattr(sensors, "utc_now", lambda: datetime(2013, 3, 4, 7, 59, tzinfo=UTC))
    monkeypatch.setattr(sensors, "run_step", lambda *_, **__: pytest.fail("it asked before the cutoff"))
    assert not sensor.python_callable().is_done


@pytest.mark.parametrize("dry_run", [False, True])
def test_maintenance_sweeps_and_maintains_each_project(
    bag: Any, monkeypatch: pytest.MonkeyPatch, *, dry_run: bool
) -> None:
    dag = bag.dags["maintenance"]
    assert (dag.timetable.expression, dag.params["dry_run"]) == ("0 12 * * 0", False)
    assert dag.roots == dag.leaves, "a task that fails must fail the run, and stop no other"
    asked: list[Any] = []
    run = type("Run", (), {"logical_date": None, "run_after": LATE_EVENING})()
    context = {"dag_run": run, "params": {"dry_run": dry_run}, "ti": Mock()}
    for name in ("sweep", "maintain"):
        task = dag.get_task(name)
        assert task.op_kwargs_expand_input.value == {"project": project_names()}
        names = task.python_callable.__globals__
        monkeypatch.setitem(names, "run_step", lambda *given, **options: asked.append((*given, options)))
        monkeypatch.setitem(names, "get_current_context", lambda: context)
        with pytest.raises(AirflowSkipException) if dry_run and name == "sweep" else nullcontext():
            task.python_callable(project="ferries")
    about = (load_project("ferries"), Interval.of(date(2013, 3, 1)))
    swept = [] if dry_run else [("land", *about, {"sweep": True})]
    assert asked == [*swept, ("maintain", *about, {"dry_run": dry_run})]


def test_a_training_on_an_entity_fraction_has_no_report_and_does_not_fail(bag: Any) -> None:
    failed = Check(name="entity fraction", subject="x", measured=None, threshold=1, passed=False, sentence="of 5 %")
    decision = GateDecision(
        interval=Interval.of(date(2013, 3, 1)),
        rows=9,
        model_version=None,
        model="late_ferry",
        candidate="x",
        gate_id="not recorded",
        champion=None,
        passed=False,
        checks=(failed,),
    )
    write = bag.dags["late_ferry_train"].get_task("report_version").python_callable
    with pytest.raises(AirflowSkipException, match="no version, so no report"):
        write(decision.model_dump(mode="json"))


def test_messages_that_wait_are_sent_every_five_minutes_without_a_person(bag: Any) -> None:
    dag = bag.dags["outbox"]
    assert (dag.timetable.expression, dag.max_active_runs) == ("*/5 * * * *", 1)
    assert dag.is_paused_upon_creation is False


def test_features_are_built_where_the_config_says() -> None:
    from dags.prepare import prepare

    place = {
        "databricks": Databricks(wheels="/Volumes/main/nightly/wheels"),
        "run_on": {"build_features": "databricks"},
    }
    dag = prepare(load_project("ferries").model_copy(update=place))
    task = dag.get_task("build_features")
    assert isinstance(task, DatabricksSubmitRunOperator)
    assert task.upstream_task_ids == {"validate"}
    assert [asset.name for asset in task.outlets] == ["features_ferries"]
    assert (task.retries, task.deferrable) == (3, True)


def test_a_model_is_fitted_and_scored_where_its_config_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import databricks, score, train

    place = Databricks(wheels="/Volumes/main/nightly/wheels")
    project = load_project("ferries").model_copy(update={"databricks": place})
    monkeypatch.setattr(databricks, "load_project", lambda _: project)
    there = {"run_on": {"fit": "databricks", "score": "databricks"}}
    model = load_model("late_ferry").model_copy(update=there)
    for dag, task_id, before in (
        (train.train(model), "fit", {"wait_for_features"}),
        (score.score_and_publish(model), "score", {"wait_for_features"}),
    ):
        DagSerialization.from_dict(DagSerialization.to_dict(dag))
        task, follows = dag.get_task(task_id), {"fit": "evaluate", "score": "publish"}[task_id]
        assert issubclass(getattr(task, "operator_class", type(task)), DatabricksSubmitRunOperator)
        assert task.upstream_task_ids == before
        assert task_id in dag.get_task(follows).upstream_task_ids
        assert not isinstance(dag.get_task(follows), DatabricksSubmitRunOperator)


def test_scoring_waits_for_features_and_publishing_for_scores(bag: Any) -> None:
    for name in model_names():
        dag = bag.dags[f"{name}_score"]
        assert upstream(dag, "score") == {"wait_for_features"}
        assert upstream(dag, "publish") == {"wait_for_features", "score"}
        ranged = bag.dags[f"{load_model(name).project}_backfill_range"]
        assert {"land", "validate", "build_features"} <= upstream(ranged, f"{name}.score")
        assert f"{name}.score" in upstream(ranged, f"{name}.publish")


def test_only_versions_that_went_through_the_gate_are_promoted(bag: Any) -> None:
    order = ["wait_for_features", "fit", "evaluate", "gate", "promote", "report"]
    for name in model_names():
        dag = bag.dags[f"{name}_train"]
        assert {task.task_id for task in dag.tasks} == {*order, "report_version"}
        assert upstream(dag, "report_version") == set(order[:4])
        assert not dag.get_task("report_version").downstream_task_ids, "a failing report must not lose a decision"
        for n, task in enumerate(order):
            assert upstream(dag, task) == set(order[:n]), f"{dag.dag_id}: {task} must come after {order[:n]}"
        rules = {task.task_id: task.trigger_rule.value for task in dag.tasks}
        assert {rules[task] for task in order[:-1]} == {"all_success"}, f"{dag.dag_id}: a failure must stop the rest"
        assert rules["report"] == "none_failed", f"{dag.dag_id}: a rejection must be reported, and the alias synced"
        assert dag.max_active_runs == 1, "training must see the champion of earlier run dates, so one run at a time"


def test_title_and_owner_are_text_in_the_markdown_of_a_dag() -> None:
    project = load_project("ferries").model_copy(update={"title": "<b>a</b> [x](http://y)\n# b", "owner": "a_b"})
    text = common.describe("### {title} of `{name}`, by {owner}", project, project)
    assert text == r"### \<b\>a\</b\> \[x\](http\://y)\\n\# b of `ferries`, by a\_b"


def test_people_read_names_and_not_ids(bag: Any) -> None:
    for dag in bag.dags.values():
        assert dag.dag_display_name == dag.dag_display_name.strip() != dag.dag_id, f"{dag.dag_id}: give it a name"
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            assert task.task_display_name not in (task.task_id, ""), f"{where}: give it a task_display_name"
            for asset in task.outlets:
                assert asset.extra["description"], f"{where}: say what an event of {asset.name} means"
                assert asset.group in project_names(), f"{asset.name}: its group is its project"
    assert bag.dags["late_ferry_score"].dag_display_name == f"{load_model('late_ferry').title}: score and publish"


def test_every_dag_has_the_doc_and_limits_that_on_call_needs(bag: Any) -> None:
    for dag in bag.dags.values():
        doc = dag.doc_md or ""
        assert "Safe to run again" in doc, f"{dag.dag_id}: say in its DOC whether it is safe to run again"
        assert "{" not in doc.replace('{"', ""), f"{dag.dag_id}: a placeholder was left in its DOC"
        assert all("**" not in line or line.startswith("- **") for line in doc.splitlines()), (
            f"{dag.dag_id}: make each hint in its DOC a list item, or the page joins them into one paragraph"
        )
        assert dag.tags, f"{dag.dag_id}: give it tags"
        assert dag.dagrun_timeout, f"{dag.dag_id}: give it a dagrun_timeout"
        if "nightly" in dag.tags:
            assert dag.on_failure_callback is RUN_FAILED, (
                f"{dag.dag_id}: set on_failure_callback, so that a timeout is reported"
            )
        assert not dag.catchup, f"{dag.dag_id}: set catchup=False: missed days are backfilled on purpose"


def test_every_task_follows_the_rules_of_operation(bag: Any) -> None:
    configs = [load_project(name) for name in project_names()] + [load_model(name) for name in model_names()]
    for dag in bag.dags.values():
        for task in dag.tasks:
            where = f"{dag.dag_id}.{task.task_id}"
            owners = {config.owner for config in configs if dag.dag_id.startswith(f"{config.name}_")}
            if dag.dag_id in ("maintenance", "outbox", "incidents"):
                owners = {load_project(name).owner for name in project_names()}
            assert task.owner == ", ".join(sorted(owners)), f"{where}: owner must come from the config"
            assert task.doc_md, f"{where}: give its function a docstring"
            assert task.execution_timeout, f"{where}: give it an execution_timeout (dags/common.py, DEFAULT_ARGS)"
            reported = "a task that fails for good must be reported (dags/common.py, DEFAULT_ARGS)"
            if task.task_id not in SHADOW or "report_shadow" not in dag.task_ids:
                assert task.on_failure_callback in ([TASK_FAILED], TASK_FAILED), f"{where}: {reported}"
            if task.task_id.startswith("wait_for_"):
                assert task.mode == "reschedule", f"{where}: a sensor must free its slot between checks"
                assert task.timeout, f"{where}: give the sensor a timeout"
            assert task.retries >= 2, f"{where}: give it retries"
            assert task.retry_exponential_backoff, f"{where}: give its retries an exponential back-off"


def test_every_task_has_a_runbook(bag: Any) -> None:
    every = [task for dag in bag.dags.values() for task in dag.tasks if not task.inherits_from_empty_operator]
    tasks = {task.task_id.rsplit(".", 1)[-1] for task in every}
    tasks -= SHADOW | {"report_shadow"}  # their alert is one of its own, and names its page
    without = sorted(task for task in tasks if not (RUNBOOKS / f"{task}.md").is_file())
    assert len(tasks) > 10
    assert not without, f"write docs/runbooks/<task>.md, to which the alert refers: {', '.join(without)}"


def test_a_run_has_the_local_day_also_when_the_clocks_change(bag: Any) -> None:
    for project in map(load_project, project_names()):
        for kind in ("prepare", "monitor"):
            timetable = bag.dags[f"{project.name}_{kind}"].timetable
            assert str(timetable.timezone) == project.timezone
    project = load_project("ferries")
    for day in (date(2013, 3, 9), date(2013, 3, 10), date(2013, 11, 3)):
        assert project.day_of(project.at(day, time(3))) == day


def test_a_model_trains_weekly_and_scores_nightly() -> None:
    from dags import score, train

    model = load_model("late_ferry").model_copy(update={"train_schedule": "30 4 * * mon"})
    started = {}
    for kind, dag in (("train", train.train(model)), ("score", score.score_and_publish(model))):
        serialized = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        runs = serialized.iter_dagrun_infos_between(pendulum.datetime(2013, 3, 4), pendulum.datetime(2013, 3, 18))
        zone = load_project("ferries").zone
        started[kind] = [f"{run.logical_date.astimezone(zone):%F %H:%M}" for run in runs]
    assert started["train"] == ["2013-03-04 04:30", "2013-03-11 04:30"]  # clocks were put forward between them
    assert len(started["score"]) == 14


PARSE = f"""
import os, runpy, sys
import airflow.sdk
from airflow.sdk import CronTriggerTimetable
base = set(sys.modules)
for path in sys.argv[1:]:
    if not (pid := os.fork()):
        runpy.run_path(path, run_name="dag_file")
        print("heavy", os.path.basename(path), *sorted((set(sys.modules) - base) & {HEAVY!r}), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""
"""Parse each file in a fork of a process that has imported Airflow, which takes seconds of a core."""


@pytest.fixture(scope="module")
def heavy() -> dict[str, list[str]]:
    """Map the name of each file of `dags/` to the heavy modules that it imports."""
    files = sorted(map(str, (ROOT / "dags").glob("*.py")))
    done = subprocess.run([sys.executable, "-c", PARSE, *files], cwd=ROOT, capture_output=True, text=True, check=True)
    said = [line.split() for line in done.stdout.splitlines() if line.startswith("heavy ")]
    return {name: modules for _, name, *modules in said}


def test_airflow_parses_only_the_files_of_dags(bag: Any) -> None:
    lines = (ROOT / ".airflowignore").read_text(encoding="utf-8").splitlines()
    ignored = {line.removeprefix("/dags/") for line in lines if line.startswith("/dags/") and line.endswith(".py")}
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "dags").glob("*.py")}
    helpers = {name for name, text in texts.items() if not re.search(r"^ *@dag\b|\bDAG\(", text, re.MULTILINE)}
    assert ignored == helpers - {"__init__.py"}, (
        "list what DAG files import in .airflowignore: Airflow would parse it too"
    )
    assert not ignored & {Path(dag.fileloc).name for dag in bag.dags.values()}


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "dags").glob("*.py")))
def test_parsing_imports_nothing_heavy(heavy: dict[str, list[str]], name: str) -> None:
    assert heavy.get(name) == [], f"{name} imports {heavy.get(name)} at every parse; import it in the task"


def test_a_folder_is_all_that_a_new_model_needs(tmp_path: Path) -> None:
    copied = ["cp", "-r", str(ROOT / "dags"), str(ROOT / "include"), str(FOLDER), str(tmp_path)]
    subprocess.run(copied, check=True)
    models = tmp_path / "projects" / "ferries" / "models"
    subprocess.run(["cp", "-r", str(models / "late_ferry"), str(models / "very_late")], check=True)
    code = (
        "from pathlib import Path; from airflow.dag_processing.dagbag import DagBag; "
        "bag = DagBag(Path('dags'), bundle_path=Path('.'), bundle_name='b'); print(bag.import_errors, sorted(bag.dags))"
    )
    found = {**os.environ, "NIGHTLY_PROJECTS": str(tmp_path / "projects")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True, check=True)
    assert "'very_late_score', 'very_late_train'" in done.stdout
    assert "{}" in done.stdout


class FakeContext(dict[str, Any]):
    def __init__(self, logical_date: datetime | None = None, run_type: str = "manual", **params: Any) -> None:
        run = type("Run", (), {"logical_date": logical_date, "run_type": run_type})()
        super().__init__(params=params, dag_run=run)


@pytest.fixture
def in_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *run, **asked: monkeypatch.setattr(params, "get_current_context", lambda: FakeContext(*run, **asked))


LATE_EVENING = datetime(2013, 3, 2, 3, 30, tzinfo=ZoneInfo("UTC"))  # still 1 March in New York


def test_the_day_is_the_forms_else_that_of_the_logical_date(in_run: Callable[..., None]) -> None:
    project = load_project("ferries")
    in_run(LATE_EVENING, day="2013-05-01")
    assert params.run_date(project) == date(2013, 5, 1)
    in_run(LATE_EVENING, day=None)
    assert params.run_date(project) == date(2013, 3, 1)
    in_run()
    with pytest.raises(AirflowFailException, match="neither a logical date nor a day"):
        params.run_date(project)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (NotYetError("later"), NotYetError),
        (UnreachableError("down"), UnreachableError),
        (LockTimeoutError("pid 1"), LockTimeoutError),
        (DeliveryError("wrong"), AirflowFailException),
    ],
)
def test_only_what_a_person_must_fix_is_not_retried(
    monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("include.runner.run.run", fails)
    monkeypatch.setattr(common, "settings", lambda _: None)
    with pytest.raises(raised):
        common.run_step("land", load_project("ferries"), Interval.of(date(2013, 3, 4)))


def test_a_backfill_cannot_do_one_day_in_each_of_its_runs(in_run: Callable[..., None]) -> None:
    project = load_project("ferries")
    in_run(LATE_EVENING, "backfill", day="2013-05-01")
    with pytest.raises(AirflowFailException, match="remove `day` from the conf"):
        params.run_date(project)
    in_run(LATE_EVENING, "backfill", day="2013-03-01")  # a run by hand that a backfill resets
    assert params.run_date(project) == date(2013, 3, 1)


@pytest.mark.parametrize(
    ("run_type", "asked", "mode"),
    [
        ("manual", {}, "replace"),
        ("scheduled", {"publish": "auto"}, "replace"),
        ("backfill", {"publish": "auto"}, "missing"),
        ("backfill", {}, "missing"),
        ("backfill", {"publish": "replace"}, "replace"),
        ("manual", {"publish": "missing"}, "missing"),
    ],
)
def test_a_backfill_keeps_what_readers_see_unless_publish_is_replace(
    run_type: str, asked: dict[str, str], mode: str, in_run: Callable[..., None]
) -> None:
    in_run(LATE_EVENING, run_type, **asked)
    assert params.publish_mode() == mode


@pytest.mark.parametrize(
    ("dag_id", "asked"),
    [
        ("ferries_prepare", {"day", "data"}),
        ("ferries_monitor", {"day"}),
        ("ferries_simulate", {"day"}),
        ("late_ferry_train", {"day", "data", "displace_newer"}),
        ("late_ferry_score", {"day", "data", "version", "publish"}),
        ("ferries_backfill_range", {"start", "end", "data", "models", "version", "publish"}),
        ("late_ferry_rollback", {"version", "why", "by", "from_day", "force"}),
    ],
)
def test_each_field_of_a_form_has_a_title_and_a_help_text(dag_id: str, asked: set[str], bag: Any) -> None:
    form = bag.dags[dag_id].params
    assert set(form) == asked
    for name in asked:
        param = form.get_param(name)
        assert param.schema["title"], f"{dag_id}: {name}"
        assert len(param.description or "") > 20, f"{dag_id}: {name} has no help text"


@pytest.mark.parametrize(
    ("dag_id", "name", "right", "wrong"),
    [
        ("ferries_prepare", "data", ["point_in_time", "latest"], ["tonight", None, ""]),
        ("late_ferry_score", "publish", ["auto", "replace", "missing"], ["no", None]),
        ("late_ferry_score", "version", ["champion", "newest", "7"], ["0", "current", "7.5", ""]),
        ("late_ferry_score", "day", ["2013-03-01", None], ["1 March", "2013-02-30"]),
        ("late_ferry_rollback", "version", ["previous", "3"], ["0", "newest", ""]),
        ("late_ferry_rollback", "why", ["it predicts nonsense"], [None, ""]),
        ("ferries_backfill_range", "models", [["late_ferry"]], [["late"], [], "late_ferry"]),
        ("ferries_backfill_range", "start", ["2013-03-01"], [None, "yesterday"]),
    ],
)
def test_a_form_refuses_invalid_values(dag_id: str, name: str, right: list[Any], wrong: list[Any], bag: Any) -> None:
    param = bag.dags[dag_id].params.get_param(name)
    for value in right:
        assert param.resolve(value) == value
    for value in wrong:
        with pytest.raises(ParamValidationError):
            param.resolve(value)
