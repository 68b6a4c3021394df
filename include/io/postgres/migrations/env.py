"""Run the revisions for Alembic, over the connection and in the transaction that `migrate` passes."""

from alembic import context

from include.io.postgres.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
)
with context.begin_transaction():
    context.run_migrations()
