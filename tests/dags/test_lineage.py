"""What the OpenLineage provider sends of a step, validated against the specification in `openlineage/`.

The specification is from https://github.com/OpenLineage/OpenLineage (commit 8f02abfb7a25), Apache-2.0.
"""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

from dags import common, lineage
from include.config.loading import load_model, load_project
from include.core.interval import Interval
from include.core.records import Featured, FitOrigin, Fitted, PreparedDay, Scored, ScoredDay, StepResult, TableRef
from include.runner.datasets import datasets_of

SPEC = {
    file.stem: json.loads(file.read_text(encoding="utf-8"))
    for file in (Path(__file__).parent / "openlineage").glob("*.json")
}
PROJECT, MODEL = load_project("ferries"), load_model("late_ferry")
DAY = Interval.of(date(2013, 3, 22))
MOMENT = datetime(2013, 3, 22, 8, tzinfo=UTC)
FEATURES = TableRef(table="features_ferries", version=7, interval=DAY, rows=120)
BUILT = Featured(
    interval=DAY,
    rows=120,
    table_version=7,
    table=FEATURES,
    prepared_days=(
        PreparedDay(
            project="ferries",
            day=DAY.start,
            data_view="point_in_time",
            as_of=MOMENT,
            watermark=3,
            deliveries=("logbook/secret-name.csv@0123",),
            table_versions={"clean_ferries__logbook": 5, "features_ferries": 7},
            rows=120,
        ),
    ),
)
FITTED = Fitted(
    interval=DAY,
    rows=900,
    model="late_ferry",
    candidate="linear",
    run_id="r1",
    digest="d",
    model_digest="m",
    logged=True,
    validation=DAY,
    holdout=DAY,
    origin=FitOrigin(
        git_commit="2e5fd9ec49a1",
        declared={},
        data_view="point_in_time",
        as_of=MOMENT,
        watermark=3,
        days=DAY,
        run_dates=DAY,
        missing=(),
        features_version=7,
        first_features_version=7,
        outcome_version=5,
    ),
)
SCORED = Scored(
    interval=DAY,
    rows=120,
    table_version=2,
    model="late_ferry",
    table=TableRef(table="scores_late_ferry", version=2, interval=DAY, rows=120),
    days=(ScoredDay(day=DAY.start, model_version=3, rows=120),),
)


def sent(step: str, config: Any, result: StepResult, folder: Path) -> dict[str, Any]:
    """Return the event of a task that ended, as the provider's adapter writes it by the file transport."""
    from airflow.providers.openlineage.extractors.manager import ExtractorManager
    from airflow.providers.openlineage.plugins.adapter import OpenLineageAdapter
    from airflow.sdk import task
    from airflow.utils.state import TaskInstanceState
    from openlineage.client import OpenLineageClient
    from openlineage.client.transport.file import FileConfig, FileTransport

    @task
    def work() -> None:
        """Do nothing."""

    called: Any = work()
    operator = called.operator.prepare_for_execution()  # as Airflow does before it runs a task
    setattr(operator, lineage.ASKED, lambda _: lineage.facets(step, config, result))
    run = SimpleNamespace(run_id="r")
    told = ExtractorManager().extract_metadata(run, operator, TaskInstanceState.SUCCESS, SimpleNamespace())
    file = folder / "events.jsonl"
    transport = FileTransport(FileConfig(log_file_path=str(file), append=True))
    adapter: Any = OpenLineageAdapter(OpenLineageClient(transport=transport))
    about: dict[str, Any] = {
        "job_name": f"dag.{step}",
        "end_time": MOMENT.isoformat(),
        "task": told,
        "owners": ["data-science"],
    }
    names = adapter.complete_task.__code__.co_varnames[: adapter.complete_task.__code__.co_argcount]
    about |= {"run_id": "019abfd7-0000-7000-8000-000000000000", "tags": None, "run_facets": {}}
    about |= {"nominal_start_time": None, "nominal_end_time": None, "job_description": "text"}
    about |= {"job_description_type": "text/plain"}
    adapter.complete_task(**{name: value for name, value in about.items() if name in names})
    [line] = file.read_text(encoding="utf-8").splitlines()
    event: dict[str, Any] = json.loads(line)
    return event


def problems(event: dict[str, Any]) -> list[str]:
    """Return what is wrong with an event, and with the facets of which the specification is here."""
    registry = Registry().with_resources([(each["$id"], Resource.from_contents(each)) for each in SPEC.values()])

    def errors(schema: dict[str, Any], value: Any) -> list[str]:
        validator = Draft202012Validator(schema, registry=registry, format_checker=FormatChecker())
        return [error.message for error in validator.iter_errors(value)]

    found = errors({"$ref": SPEC["OpenLineage"]["$id"]}, event)
    for each in (*event["inputs"], *event["outputs"]):
        for name in ("facets", "outputFacets"):
            for facet in each.get(name, {}).values():
                schema = facet["_schemaURL"].partition("#")[0].rpartition("/")[2].removesuffix(".json")
                found += errors({"$ref": facet["_schemaURL"]}, facet) if schema in SPEC else [f"no schema {schema}"]
    return found


def named(datasets: list[dict[str, Any]]) -> dict[str, str | None]:
    return {each["name"]: each["facets"].get("version", {}).get("datasetVersion") for each in datasets}


@pytest.mark.parametrize(
    ("step", "config", "result", "inputs", "outputs"),
    [
        (
            "build_features",
            PROJECT,
            BUILT,
            {f"clean_ferries__{feed}": "5" if feed == "logbook" else None for feed in PROJECT.feeds},
            {"features_ferries": "7"},
        ),
        (
            "fit",
            MODEL,
            FITTED,
            {"features_ferries": "7", "clean_ferries__logbook": "5"},
            {"ferries.models.late_ferry.fits": "r1"},
        ),
        (
            "score",
            MODEL,
            SCORED,
            {"features_ferries": None, "ferries.models.late_ferry": "3"},
            {"scores_late_ferry": "2"},
        ),
    ],
)
def test_an_event_names_what_a_step_read_and_wrote_and_follows_the_specification(
    step: str, config: Any, result: StepResult, inputs: dict[str, Any], outputs: dict[str, Any], tmp_path: Path
) -> None:
    event = sent(step, config, result, tmp_path)
    assert problems(event) == []
    assert (named(event["inputs"]), named(event["outputs"])) == (inputs, outputs)
    assert "secret" not in json.dumps(event)
    if step != "fit":
        assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 120


def test_the_specification_refuses_what_is_not_an_event(tmp_path: Path) -> None:
    event = sent("build_features", PROJECT, BUILT, tmp_path)
    assert problems({**event, "eventType": "DONE"}) != []
    event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] = "many"
    assert problems(event) != []


def test_each_step_of_the_pipeline_reads_and_writes_something() -> None:
    for step in ("land", "validate", "outcomes"):
        found = datasets_of(step, PROJECT, PROJECT, StepResult(interval=DAY, rows=1))
        assert found.inputs and found.outputs, step


def test_a_step_that_ran_is_what_its_task_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    running = SimpleNamespace()
    monkeypatch.setattr(common, "get_current_context", lambda: {"task": running})
    monkeypatch.setattr(common, "settings", lambda sources=(): None)
    monkeypatch.setattr("include.runner.run.run", lambda *args, **options: SCORED)
    common.run_step("score", MODEL, DAY)
    told = getattr(running, lineage.ASKED)(None)
    assert [each.name for each in told.outputs] == ["scores_late_ferry"]


def test_nothing_is_sent_unless_a_transport_is_configured() -> None:
    from airflow.providers.openlineage import conf

    assert conf.is_disabled()
