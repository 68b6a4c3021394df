"""A provider of Airflow that adds the commands `airflow dags backfill` and `airflow tasks log` to Airflow 3.

Every `airflow …` command loads this file, so it imports nothing; a command imports its code when it runs.
"""

from typing import Any


def provider_info() -> dict[str, Any]:
    """Return the description that Airflow requires from a provider."""
    return {
        "package-name": "nightly-ml-backfill",
        "name": "nightly-ml backfill",
        "description": "`airflow dags backfill` for Airflow 3.",
        "cli": ["nightly_backfill.arguments.add_commands"],
    }
