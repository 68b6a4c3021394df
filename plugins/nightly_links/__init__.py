"""Buttons on the page of a task that link to its MLflow run and its model version.

The API server makes them when it shows a page, from the record that the task returned (`include/core/records.py`:
`run_id`, `model`, `model_version`) and from the address of MLflow's pages (`ui_url` in the extra of the connection
`nightly_mlflow`). So they also work for older runs, and after that address changed. Without data there is no button.
"""

import json
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink, Connection
from airflow.sdk.exceptions import AirflowNotFoundException

CONNECTION = "nightly_mlflow"
EVALUATE = "evaluate"
"""The task whose record has all: later ones of its run are about the same version, also when they were skipped."""

# Airflow compares names: the pages know an operator's class by its module and name only. It is in dags/common.py.
MODEL_TASK = type("ModelTask", (), {"__module__": "dags.common"})


class _MLflowLink(BaseOperatorLink):
    operators: ClassVar[list[Any]] = [MODEL_TASK]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address, or nothing."""
        base = ui_url()
        return (base and self.address(base, find_record(ti_key))) or ""

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """The address below MLflow's `base` of what a record is about."""
        raise NotImplementedError


class MLflowRunLink(_MLflowLink):
    """To the run that a candidate was fitted in."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "MLflow run"

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """Return the address of the run."""
        # MLflow adds the experiment, whose number no record has; the part of its menu is dropped on the way
        run_id = record.get("run_id")
        return f"{base}/#/runs/{quote(str(run_id), safe='')}" if run_id else None


class ModelVersionLink(_MLflowLink):
    """To the registered version."""

    @property
    def name(self) -> str:
        """The text of the button."""
        return "Model version"

    def address(self, base: str, record: Mapping[str, Any]) -> str | None:
        """Return the address of the model version."""
        model, version = record.get("model"), record.get("model_version")
        if not model or not version:
            return None
        return f"{base}/#/models/{quote(str(model), safe='')}/versions/{version}?workflowType=machine_learning"


def find_record(ti_key: Any) -> Mapping[str, Any]:
    """What the task returned; what is missing there is taken from `evaluate`, unless the task is one of many mapped."""
    own = returned(ti_key, ti_key.task_id)
    if ti_key.map_index >= 0:
        return own
    known = {key: value for key, value in own.items() if value is not None}
    return {**returned(ti_key, EVALUATE), **known}


def returned(ti_key: Any, task_id: str) -> Mapping[str, Any]:
    """The record that a task of the same run returned, in Airflow's database; empty when there is none."""
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
    """The address of MLflow's pages, without a slash at its end; None when the connection does not say."""
    try:
        extra = Connection.get(CONNECTION).extra_dejson
    except AirflowNotFoundException:
        return None
    return str(extra.get("ui_url") or "").rstrip("/") or None
