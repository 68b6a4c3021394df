"""`entities_<project>` and its view `<project>_entities`: made and extended from what a project declares.

Not an Alembic revision, since a new project is only a folder. A column is added where one was declared; one that is
no longer declared stays in the table and leaves the view; one whose type changed is refused.
"""

from contextlib import closing
from typing import Any

from psycopg2 import errors, sql
from sqlalchemy import Connection

from include.core.errors import ConfigError
from include.core.feeds import ColumnType
from include.core.names import entities_table, entities_view
from include.core.project import Project

SQL_TYPES: dict[ColumnType, str] = {
    "string": "text",
    "integer": "bigint",
    "double": "double precision",
    "boolean": "boolean",
    "timestamp": "timestamp with time zone",
    "date": "date",
}
KEY = {"day": "date", "entity_id": "text"}


def sql_types(project: Project) -> dict[str, str]:
    """Column -> SQL type, the key's first. Raises `ConfigError` where a public column is named like one of the key's."""
    columns = project.feeds[project.entity.feed].columns
    if clash := [name for name in project.entity.public if name in KEY]:
        raise ConfigError(
            f"project {project.name}: entity.public: {', '.join(clash)} is what the key of entities is called"
        )
    return {**KEY, **{name: SQL_TYPES[columns[name].type] for name in project.entity.public}}


def extend(connection: Connection, project: Project) -> None:
    """Bring table and view up to the declaration, in the caller's transaction; changes nothing when they are there."""
    types, feed = sql_types(project), project.entity.feed
    table_name, view_name = entities_table(project.name), entities_view(project.name)
    table, view = sql.Identifier(table_name), sql.Identifier(view_name)

    with closing(connection.connection.cursor()) as cursor:
        key = 'day date, entity_id text COLLATE "C", PRIMARY KEY (day, entity_id)'
        making = sql.SQL("CREATE TABLE IF NOT EXISTS {} (" + key + ")")
        cursor.execute(making.format(table))
        present = _columns(cursor, table_name)
        for name, sql_type in types.items():
            if present.get(name, sql_type) != sql_type:
                raise ConfigError(
                    f"project {project.name}: {feed}.{name} was {present[name]} in {table_name} and is now declared "
                    f"{sql_type}; declare it under another name, or change the table by a migration"
                )
            if name not in present:
                adding = sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {}")
                cursor.execute(adding.format(table, sql.Identifier(name), sql.SQL(sql_type)))

        if list(_columns(cursor, view_name)) != list(types):
            try:
                cursor.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(view))
            except errors.DependentObjectsStillExist as error:
                others = (error.diag.message_detail or "").replace("\n", ", ")
                raise ConfigError(f"view {view_name} has to change, but others are built on it: {others}") from error
            columns = sql.SQL(", ").join(map(sql.Identifier, types))
            cursor.execute(sql.SQL("CREATE VIEW {} AS SELECT {} FROM {}").format(view, columns, table))
        cursor.execute(sql.SQL("GRANT SELECT ON {} TO reader, ops_reader").format(view))
        about = f"{project.title}: the public columns of each entity. Joins current_predictions on (day, entity_id)."
        cursor.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(about)))
        for name in types:
            commenting = sql.SQL("COMMENT ON COLUMN {}.{} IS {}")
            cursor.execute(commenting.format(view, sql.Identifier(name), sql.Literal(_about(project, name))))


def _about(project: Project, column: str) -> str:
    if column == "day":
        return "Calendar day, in the project's timezone, that the entity is of."
    if column == "entity_id":
        return f"Made of {', '.join(project.entity.key)}; unique within the day."
    feed = project.entity.feed
    return project.feeds[feed].columns[column].description or f"{column} of the feed {feed}."


def _columns(cursor: Any, relation: str) -> dict[str, str]:
    """Name -> type of a table or view of the current schema, in order; nothing when there is no such relation."""
    cursor.execute(
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod) "
        "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relname = %s AND c.relnamespace = current_schema()::regnamespace AND a.attnum > 0 "
        "AND NOT a.attisdropped ORDER BY a.attnum",
        (relation,),
    )
    return dict(cursor.fetchall())
