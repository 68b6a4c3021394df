"""The list of a stack's services, without PostgreSQL, and which of them should run."""

from tools.stack.airflow import Airflow, AirflowService, ApiServer, DagProcessor, Scheduler, Triggerer
from tools.stack.layout import StackLayout
from tools.stack.mlflow import MLflow
from tools.stack.s3 import S3
from tools.stack.service import Service
from tools.stack.spark import Spark
from tools.stack.watcher import WatcherService

OF_AIRFLOW: tuple[type[AirflowService], ...] = (ApiServer, DagProcessor, Triggerer, Scheduler)
OTHERS: tuple[type[Service], ...] = (Spark, MLflow, S3)
"""A service runs if the field of `StackState` with its name is true."""

SERVICES = tuple(service.name for service in OF_AIRFLOW)
SPARK, MLFLOW = Spark.name, MLflow.name

USUAL_PORTS = {name: port for service in (*OF_AIRFLOW, *OTHERS) for name, port in service.usual_ports.items()}


def services_of(layout: StackLayout) -> dict[str, Service]:
    """Return the services that should run, by name. Make new ones for each health check."""
    airflow = Airflow(layout)
    made: list[Service] = [service(airflow) for service in OF_AIRFLOW]
    if layout.state.schedule:
        made.append(WatcherService(airflow))
    made += [service(layout) for service in OTHERS if getattr(layout.state, service.name)]
    return {service.name: service for service in made}
