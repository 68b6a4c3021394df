"""Register all plugins. Airflow's loader may see only this file; Airflow puts this folder on `sys.path`."""

from airflow.plugins_manager import AirflowPlugin

from nightly_links import MLflowRunLink, ModelVersionLink


class NightlyPlugin(AirflowPlugin):
    """The links that nightly-ml adds to Airflow's pages."""

    name = "nightly"
    operator_extra_links = [MLflowRunLink(), ModelVersionLink()]  # noqa: RUF012  # as the base class has it
