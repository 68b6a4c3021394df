"""Create and extend `entities_<project>` and its view `<project>_entities` from what a project declares.

This is not an Alembic revision, since a new project is only a folder. A newly declared column is added. A column that
is no longer declared stays in the table and leaves the view. A column whose type changed is refused.
"""

from contextlib import closing
from typing import Any

import sqlalchemy as sa
from psycopg2 import errors, sql
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql

from include.core.errors import ConfigError
from include.core.feeds import ColumnType
from include.core.names import entities_table, entities_view
from include.core.printable import printable
from include.core.project import Project
from include.io.postgres import schema

TYPES: dict[ColumnType, sa.types.TypeEngine[Any]] = {
    "string": schema.TEXT,
    "integer": schema.BIGINT,
    "double": schema.DOUBLE,
    "boolean": schema.BOOLEAN,
    "timestamp": schema.MOMENT,
    "date": schema.DATE,
}
KEY: dict[str, sa.types.TypeEngine[Any]] = {"day": schema.DATE, "horizon": schema.INTEGER, "entity_id": schema.TEXT}


def column_types(project: Project) -> dict[str, sa.types.TypeEngine[Any]]:
    """Return the type of each column, the key first.

    Raises:
        ConfigError: a public column has the name of a key column.
    """
    if clash := [name for name in project.entity.public if name in KEY]:
        raise ConfigError(
            f"project {project.name}: entity.public: {', '.join(clash)} is a key column of the entities table; "
            "remove it from the list"
        )
    return {**KEY, **{name: TYPES[column.type] for name, (_, column) in project.public.items()}}


def extend(connection: Connection, project: Project) -> None:
    """Bring table and view up to the declaration, in the caller's transaction.

    Raises:
        ConfigError: a column has another type than declared, or other views depend on a view that must change.
    """
    types = {name: kind.compile(postgresql.dialect()).lower() for name, kind in column_types(project).items()}
    with closing(connection.connection.cursor()) as cursor:
        _extend_table(cursor, project, types)
        _extend_view(cursor, project, list(types))
        _describe_view(cursor, project, list(types))


def _extend_table(cursor: Any, project: Project, types: dict[str, str]) -> None:
    name, feed = entities_table(project.name), project.entity.feed
    table = sql.Identifier(name)
    key = 'day date, horizon integer DEFAULT 0, entity_id text COLLATE "C", PRIMARY KEY (day, horizon, entity_id)'
    made = "CREATE TABLE IF NOT EXISTS {} (" + key + ") PARTITION BY RANGE (day)"  # see `make_month`
    cursor.execute(sql.SQL(made).format(table))
    present = read_columns(cursor, name)
    for column, kind in types.items():
        if present.get(column, kind) != kind:
            raise ConfigError(
                f"project {project.name}: {feed}.{column} was {present[column]} in {name} and is now declared "
                f"{kind}; declare it under another name, or change the table by a migration"
            )
        if column not in present:
            adding = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
            cursor.execute(adding.format(table, sql.Identifier(column), sql.SQL(kind)))


def _extend_view(cursor: Any, project: Project, columns: list[str]) -> None:
    name, table = entities_view(project.name), sql.Identifier(entities_table(project.name))
    view = sql.Identifier(name)
    if list(read_columns(cursor, name)) != columns:
        try:
            cursor.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
        except errors.DependentObjectsStillExist as error:
            others = (error.diag.message_detail or "").replace("\n", ", ")
            raise ConfigError(
                f"view {name} has to change, but other views depend on it: {others}; drop them, migrate again, and "
                "create them again"
            ) from error
        selected = sql.SQL(", ").join(map(sql.Identifier, columns))
        cursor.execute(sql.SQL("CREATE VIEW {} AS SELECT {} FROM {}").format(view, selected, table))
    cursor.execute(sql.SQL("GRANT SELECT ON {} TO reader, ops_reader").format(view))


def _describe_view(cursor: Any, project: Project, columns: list[str]) -> None:
    view = sql.Identifier(entities_view(project.name))
    about = (
        f"{project.title}: public columns of each entity. Join it with current_predictions on (day, horizon, "
        "entity_id)."
    )
    cursor.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(printable(about))))
    for name in columns:
        comment = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
        cursor.execute(
            comment.format(view, sql.Identifier(name), sql.Literal(printable(describe_column(project, name))))
        )


def describe_column(project: Project, column: str) -> str:
    """Return the comment of a column of the entities."""
    if column == "day":
        return "Run date, a calendar day in the project's timezone."
    if column == "horizon":
        return "Days from the run date to the day of the entity."
    if column == "entity_id":
        return f"Key made of {', '.join(project.entity.key)}; unique within day and horizon."
    feed, declared = project.public[column]
    return declared.description or f"{column} of the feed {feed}."


def read_columns(cursor: Any, relation: str) -> dict[str, str]:
    """Return name and type of each column of a table or view, in order; empty if it does not exist."""
    cursor.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relname = %s AND c.relnamespace = current_schema()::regnamespace AND a.attnum > 0 "
        "AND NOT a.attisdropped ORDER BY a.attnum",
        (relation,),
    )
    return dict(cursor.fetchall())
