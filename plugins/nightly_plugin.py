"""Register all plugins. Airflow's loader may see only this file; Airflow puts this folder on `sys.path`."""

from airflow.plugins_manager import AirflowPlugin

import nightly_notes
from nightly_links import MLflowRunLink, ModelVersionLink, QualityPageLink, TrainingReportLink
from nightly_web.app import PREFIX, LazyApp


class NightlyPlugin(AirflowPlugin):
    """What nightly-ml adds to Airflow: pages, links of tasks, and notes of runs."""

    name = "nightly"
    operator_extra_links = [MLflowRunLink(), ModelVersionLink(), TrainingReportLink(), QualityPageLink()]  # noqa: RUF012
    fastapi_apps = [{"app": LazyApp(), "url_prefix": PREFIX, "name": "nightly"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Nightly", "href": f"{PREFIX}/", "destination": "nav", "url_route": "nightly"},
        {
            "name": "Nightly",
            "href": f"{PREFIX}/dag?dag_id={{DAG_ID}}",
            "destination": "dag",
            "url_route": "nightly-dag",
        },
        {
            "name": "Nightly",
            "href": f"{PREFIX}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "nightly-run",
        },
        {
            "name": "Nightly",
            "href": f"{PREFIX}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}",
            "destination": "task_instance",
            "url_route": "nightly-task",
        },
    ]
    listeners = [nightly_notes]  # noqa: RUF012
