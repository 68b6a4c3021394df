"""`airflow dags backfill` for Airflow 3, and `airflow tasks log`: a provider of Airflow that adds the two commands.

Every `airflow …` command loads this file, so it imports nothing; what runs is imported when it runs.
"""

from typing import Any


def provider_info() -> dict[str, Any]:
    """What Airflow asks of a provider."""
    return {
        "package-name": "nightly-ml-backfill",
        "name": "nightly-ml backfill",
        "description": "`airflow dags backfill` for Airflow 3.",
        "cli": ["nightly_backfill.arguments.add_commands"],
    }
