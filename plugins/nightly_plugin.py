"""Register all plugins. Airflow's loader may see only this file; Airflow puts this folder on `sys.path`."""

from airflow.plugins_manager import AirflowPlugin

import nightly_notes
from nightly_links import MLflowRunLink, ModelVersionLink, QualityPageLink, TrainingReportLink


class NightlyPlugin(AirflowPlugin):
    """What nightly-ml adds to Airflow's pages: links of tasks, and notes of runs."""

    name = "nightly"
    operator_extra_links = [MLflowRunLink(), ModelVersionLink(), TrainingReportLink(), QualityPageLink()]  # noqa: RUF012
    listeners = [nightly_notes]  # noqa: RUF012
