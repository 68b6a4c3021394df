"""Run the revisions for Alembic, over the connection and in the transaction that `migrate` passes."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="nightly_ml_version",  # MLflow and Airflow have an `alembic_version` of their own
)
with context.begin_transaction():
    context.run_migrations()
