"""Buttons on the page of a task: its MLflow run, model version and training report, and the page about its deliveries.

The API server makes the buttons when it shows a page. It takes `run_id`, `model` and `model_version` from the record
that the task returned (`include/core/records.py`), and the address of MLflow's pages from `ui_url` in the extra of the
connection `nightly_mlflow`. So buttons also work for older runs, and after the address changed. If either is missing,
there is no button. The provider of Databricks adds the button of a task's Databricks run by itself.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from airflow.sdk import BaseOperatorLink, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

CONNECTION = "nightly_mlflow"
EARLIER = ("evaluate", "score")
"""The tasks whose record has all values. Later tasks of the run are about the same version, even skipped ones."""

# Stand-ins for the classes in dags/: Airflow's pages compare only the module and the name of an operator.
MODEL_TASK = type("ModelTask", (), {"__module__": "dags.common"})
QUALITY_TASK = type("QualityTask", (), {"__module__": "dags.common"})
REMOTE_STEP = type("StepOperator", (), {"__module__": "dags.databricks"})


class _MLflowLink(BaseOperatorLink):
    operators: ClassVar[list[Any]] = [MODEL_TASK, REMOTE_STEP]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if there is none."""
        base = ui_url()
        return (base and self.address(base, find_record(ti_key))) or ""

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """Return the address for a record, below `base` of MLflow's pages; None if the record has no values for it."""
        raise NotImplementedError


class MLflowRunLink(_MLflowLink):
    """A link to the MLflow run of a fit."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "MLflow run"

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """Return the address of the run."""
        # no record has the number of the experiment; MLflow redirects this address to the one with the experiment
        run_id = record.get("run_id")
        return f"{base}/#/runs/{quote(str(run_id), safe='')}" if run_id else None


class ModelVersionLink(_MLflowLink):
    """A link to the registered model version."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Model version"

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """Return the address of the model version."""
        model, version = record.get("model"), record.get("model_version")
        if not model or not version:
            return None
        place = f"{quote(str(model), safe='')}/versions/{quote(str(version), safe='')}"
        return f"{base}/#/models/{place}?workflowType=machine_learning"


class TrainingReportLink(_MLflowLink):
    """A link to the training report of the version."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Training report"

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """Return the address of the page among the artifacts of its run; only `report_version` returns where it is."""
        run_id, experiment, report = (record.get(name) for name in ("run_id", "experiment_id", "report"))
        if not run_id or not experiment or not report:
            return None
        run = f"{quote(str(experiment), safe='')}/runs/{quote(str(run_id), safe='')}"
        return f"{base}/#/experiments/{run}/artifacts/{quote(str(report))}"


class QualityPageLink(BaseOperatorLink):
    """A link to the page of the run: its deliveries, which expectations failed, and rows in quarantine."""

    operators: ClassVar[list[Any]] = [QUALITY_TASK]

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Quality page"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address; empty if the pages are not installed."""
        prefix = pages_prefix()
        asked = urlencode({"dag_id": ti_key.dag_id, "run_id": ti_key.run_id, "task_id": ti_key.task_id})
        return f"{prefix}/run?{asked}" if prefix else ""


def pages_prefix() -> str | None:
    """Return where Airflow serves the product's pages; None if they are not installed."""
    from airflow.configuration import conf

    try:
        from nightly_web.app import PREFIX
    except ImportError:
        return None
    return f"{conf.get('api', 'base_url', fallback='').rstrip('/')}{PREFIX}"


def find_record(ti_key: Any) -> Mapping[str, Any]:
    """Return the record of a task; missing values come from an earlier task of the run, except for mapped tasks."""
    own = returned(ti_key, ti_key.task_id)
    if ti_key.map_index >= 0:
        return own
    found: dict[str, Any] = {}
    for record in (*(returned(ti_key, task_id) for task_id in EARLIER), own):
        named = {**record, "model_version": record.get("model_version") or _version_of_days(record)}
        found |= {key: value for key, value in named.items() if value is not None}
    return found


def _version_of_days(record: Mapping[str, Any]) -> int | None:
    """Return the version that scored all days of a record; None if there are several, or none."""
    days = record.get("days")
    versions = {day.get("model_version") for day in days if isinstance(day, Mapping)} if isinstance(days, list) else ()
    return next(iter(versions)) if len(versions) == 1 else None


def returned(ti_key: Any, task_id: str) -> Mapping[str, Any]:
    """Read the record that a task of the same run returned from Airflow's database; empty if there is none."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    query = XComModel.get_many(
        key="return_value",
        dag_ids=ti_key.dag_id,
        run_id=ti_key.run_id,
        task_ids=task_id,
        map_indexes=ti_key.map_index if task_id == ti_key.task_id else -1,
    )
    with create_session() as session:
        found = session.execute(query.with_only_columns(XComModel.value)).scalars().first()
    value = json.loads(found) if isinstance(found, str) else found
    return value if isinstance(value, Mapping) else {}


def ui_url() -> str | None:
    """Return the http(s) address of MLflow's pages without a trailing slash; None if the connection has none."""
    try:
        extra = Connection.get(CONNECTION).extra_dejson
    except AirflowNotFoundException:
        return None
    address = str(extra.get("ui_url") or "").rstrip("/")
    return address if address.startswith(("http://", "https://")) else None
