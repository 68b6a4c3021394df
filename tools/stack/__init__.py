"""A local stack: PostgreSQL, Airflow's four services, a Spark server, MLflow's pages and an S3 server in one folder.

People use `python -m tools.stack`, programs use `Stack`. Several stacks can run at the same time, each with its own
home folder and ports.

Each service is a class with its command, settings, ports and health check: `airflow`, `mlflow`, `s3` and `spark` here,
and `tools/postgres.py`. `services` lists them. `layout` and `state` hold what the services of a stack share, `ports`
chooses ports, `groups` starts and ends process groups, `environment` makes the environment of services and of shells,
and `stack` combines them.

What a stack is used for does not belong here (`tools/demo.py`, `tools/ui.py`), and neither do containers
(`tools/container.py`).
"""

from tools.stack.airflow import BACKFILL_POOL, BACKFILL_SLOTS, SETTINGS
from tools.stack.layout import HOME, ROOT, StackError
from tools.stack.ports import find_free_port, one_start_at_a_time
from tools.stack.private import private_files
from tools.stack.s3 import s3_server
from tools.stack.services import MLFLOW, SERVICES, SPARK, USUAL_PORTS
from tools.stack.stack import ServiceStatus, Stack

__all__ = [
    "BACKFILL_POOL",
    "BACKFILL_SLOTS",
    "HOME",
    "MLFLOW",
    "ROOT",
    "SERVICES",
    "SETTINGS",
    "SPARK",
    "USUAL_PORTS",
    "ServiceStatus",
    "Stack",
    "StackError",
    "find_free_port",
    "one_start_at_a_time",
    "private_files",
    "s3_server",
]
