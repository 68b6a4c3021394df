"""MLflow's pages. They run only on request, since they cost 0.4 GB and some seconds; tasks use MLflow's database.

People log in (`tools/mlflow_pages.py`): every user of the machine reaches the port.
"""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from tools.mlflow_pages import PASSWORDS_FILE
from tools.stack.layout import ROOT
from tools.stack.service import Service, answers


class MLflow(Service):
    """MLflow's server, which reads the same database and artifacts as the tasks."""

    name = "mlflow"
    package = "mlflow"
    usual_ports: ClassVar[Mapping[str, int]] = {"mlflow": 5000}

    def command(self) -> list[str]:
        """Return the command of MLflow's server."""
        return [sys.executable, "-m", "tools.mlflow_pages"]

    def settings(self) -> dict[str, str]:
        """Return MLflow's options. A database URL may carry a password, so no option is on the command line."""
        layout = self.layout
        return {
            **layout.storage_options(),
            **({"MLFLOW_S3_ENDPOINT_URL": layout.s3_url} if layout.s3_url else {}),
            "MLFLOW_BACKEND_STORE_URI": layout.postgres.url("mlflow", "mlflow"),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": layout.place("artifacts"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(layout.state.ports["mlflow"]),
            # Only clients that upload over HTTP need this. The pages show and download artifacts without it.
            "MLFLOW_SERVE_ARTIFACTS": "false",
            # Job execution would start processes for features that nothing here uses.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "PYTHONPATH": str(ROOT),
            PASSWORDS_FILE: str(layout.passwords_file),
        }

    def is_healthy(self, started_at: datetime) -> bool:
        """Return whether the pages answer."""
        return answers(f"{self.layout.mlflow_url}/health")
