"""Alembic migrations of the shared database, run by `include.io.database.migrate`, from a checkout or a wheel alike.

A change of a table or view that analysts see is a new file in `versions/`, numbered on; a file that has been
deployed is not edited. Forward only: what undoes a migration is another one, or a backup. The tables of entities are
not here: they follow from what projects declare, and `migrate` makes them after the last revision.
"""
