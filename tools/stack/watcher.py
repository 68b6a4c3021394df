"""The watcher, which notices a deadline that is missed because nothing ran (docs/notifications.md).

It runs only with the DAGs' schedules: without them nothing is due. It reads the connections of messages when it starts.
"""

import sys
from datetime import datetime

from tools.stack.airflow import AirflowService


class WatcherService(AirflowService):
    """The product's own process, with the connections of Airflow's services."""

    name = "watcher"
    package = "apprise"

    def command(self) -> list[str]:
        """Return the command, which finds the connections and becomes `include.cli watch`."""
        memory = self.layout.home / "watcher.json"
        return [sys.executable, "-m", "dags.cli", "watch", "--memory", str(memory)]

    def settings(self) -> dict[str, str]:
        """Return the settings of Airflow's services, and where to ask for their health."""
        return {
            **self.airflow.settings(),
            "NIGHTLY_AIRFLOW_URL": self.layout.api_url,
            "PYTHONPATH": str(self.layout.bundle),
        }

    def is_healthy(self, started_at: datetime) -> bool:
        """Return True: its process lives, and whether it still looks is what `cli check` says."""
        return True
