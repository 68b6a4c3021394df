"""Import what every task needs once, in the process from which tasks are forked. This saves each task four seconds.

Airflow forks a process for each DAG file too, each time that it parses it.

When Airflow starts, it imports a module of this name from the `config` folder of its home. The stack and the image put
it there. Nothing imported here may start a thread that it needs later, because threads do not survive a fork. (polars
starts its pool, gRPC its threads and delta-rs its runtime at first use, which is in the task.)
"""
# ruff: noqa: F401

import logging
import os
import sys
from types import SimpleNamespace

if {"scheduler", "celery", "dag-processor"} & set(sys.argv):
    import airflow.providers.amazon.aws.hooks.base_aws
    import airflow.providers.standard.decorators.python
    import numpy
    import pydantic_settings
    import ruamel.yaml

if {"scheduler", "celery"} & set(sys.argv):
    logging.getLogger("great_expectations").setLevel(logging.WARNING)  # its import logs a hundred lines
    import adbc_driver_postgresql.dbapi
    import alembic.command
    import deltalake
    import great_expectations.expectations
    import jinja2
    import mlflow.sklearn
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store
    import pandas
    import polars
    import psycopg
    import sklearn.ensemble
    import sklearn.linear_model
    import skops.io
    import sqlalchemy.orm

    if "SPARK_REMOTE" in os.environ:
        import pyspark.sql.connect.session
    # containers read connections from a file
    if {"AIRFLOW_CONN_NIGHTLY_STORAGE", "AIRFLOW__SECRETS__BACKEND"} & set(os.environ):
        import airflow.providers.amazon.aws.hooks.s3
        import s3fs

if {"scheduler", "triggerer"} & set(sys.argv) and "AIRFLOW__NIGHTLY__LOG_SERVER_HOST" in os.environ:
    import uvicorn
    from airflow.utils.serve_logs import core

    # Airflow's log servers listen at every address of the machine, and no setting changes that.
    # (tests/integration/test_doors.py looks at all listening ports.)
    loopback = {"host": os.environ["AIRFLOW__NIGHTLY__LOG_SERVER_HOST"]}
    vars(core)["uvicorn"] = SimpleNamespace(run=lambda app, **options: uvicorn.run(app, **options | loopback))
