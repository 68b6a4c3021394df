"""Create `<model>_predictions`, the one wide view of a model, and drop it when the model goes.

It is what an analyst opens first: the public columns of the entity, the prediction, the outcome, how good it was, and
which version made it when, so that nobody joins by hand. It shows published batches only, so always whole days.

This is not an Alembic revision, since a new model is only a folder. A view is made again only if its definition has
changed: dropping one waits for its readers. A migration that changes a column that the views read drops them first
(`drop_all`); they are made again at the end.
"""

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from psycopg2 import errors, sql
from sqlalchemy import Connection

from include.config.loading import load_model, model_names
from include.config.model import Model
from include.core.errors import ConfigError
from include.core.names import entities_table, predictions_view
from include.core.printable import printable
from include.core.project import Project
from include.io.postgres import schema
from include.io.postgres.migrations.entities import describe_column, read_columns

RESERVED = frozenset({"current", "newest", "replaced"})
"""Models cannot have these names: the product has views `current_predictions` and so on."""

DECIDES = ("binary", "multiclass")
"""Problem types whose predictions are right or wrong; those of the others have an error."""

VIEW_COLUMNS: dict[str, tuple[str, str]] = {
    "score": ("p.score", schema.PREDICTIONS["score"]),
    "prediction": ("p.prediction", schema.PREDICTIONS["prediction"]),
    "label": ("p.label", "The predicted label."),
    "probabilities": ("p.probabilities", "Probability of each label."),
    "lower": ("p.lower", "The lower limit, in the outcome's unit."),
    "upper": ("p.upper", "The upper limit, in the outcome's unit."),
    "outcome_known": ("o.entity_id IS NOT NULL", "True if the outcome is known, also if it is known to be none."),
    "outcome_value": ("o.value", "The true result: {outcome}. Null if it is not known, or if there is none."),
    "outcome_label": ("o.label", "The true result in words."),
    "correct": ("p.prediction = o.value", "Whether the prediction is the outcome; null without one."),
    "error": ("p.prediction - o.value", "Prediction minus outcome, in the outcome's unit; null without one."),
    "absolute_error": ("abs(p.prediction - o.value)", "The error without its sign."),
    "within_limits": ("o.value BETWEEN p.lower AND p.upper", "Whether the outcome is within the limits."),
    "outcome_available_from": ("o.available_from", "Time from which the delivery of the outcome counts."),
    "model_version": ("b.model_version", schema.SCORED_BY),
    "semantic_version": ("v.semantic_version", "Semantic version, as in versions; null if an older product made it."),
    "as_of": ("b.as_of", "The features used only what was available up to this moment."),
    "stored_at": ("b.created_at", "Time at which the batch was stored."),
    "published_at": ("s.published_at", "Time from which readers see this batch."),
    "batch_id": ("s.batch_id::text", "Batch of the prediction, as in publication_history."),
}  # fmt: skip
OF_LABELS = ("label", "probabilities", "outcome_label")
OF_LIMITS = ("lower", "upper", "within_limits")
OF_ERRORS = ("error", "absolute_error")

KEY = {
    "day": ("s.day", schema.SCORED_DAY),
    "target_day": ("s.day + r.horizon", "Calendar day that the prediction is for: day + horizon."),
    "horizon": ("p.horizon", schema.HORIZON_OF),
    "entity_id": ("p.entity_id", ""),
}

BATCH = ("s.", "b.", "v.")
"""How the expressions of columns begin that are the same in all rows of a batch."""

SELECT = """
SELECT {outer}
FROM published s
JOIN batches b ON b.batch_id = s.batch_id
LEFT JOIN model_versions v ON v.model = {model} AND v.model_version = b.model_version
CROSS JOIN LATERAL (
    WITH a_day_at_a_time AS (SELECT)
    SELECT {inner}
    FROM predictions p
    LEFT JOIN {entities} e ON e.day = s.day AND e.horizon = p.horizon AND e.entity_id = p.entity_id
    LEFT JOIN outcomes o ON o.project = {project} AND o.outcome = {outcome}
        AND o.day BETWEEN s.day AND s.day + b.horizon_days
        AND o.day = s.day + p.horizon AND o.entity_id = p.entity_id
    WHERE p.batch_id = s.batch_id AND p.day = s.day
) r
WHERE s.model = {model}
"""
"""A reader's days limit `published`. The rest is joined a day at a time, so that no outcome of another day is read.

PostgreSQL merges a plain subquery into the query around it, and then reads all outcomes, because it does not conclude
from the days of one table on those of another. It does not merge a subquery with a WITH, even one without any use, and
still hands a reader's conditions on entities down to it. Were it to merge it one day, the view would only be slower.
"""


def extend(connection: Connection, project: Project) -> None:
    """Bring the views of a project's models up to their declarations, in the caller's transaction.

    Raises:
        ConfigError: a model has the name of another view, or other views depend on one that must change.
    """
    models = [load_model(name) for name in model_names(project.name)]
    with closing(connection.connection.cursor()) as cursor:
        for view in _views(cursor, project.name):
            if view not in {predictions_view(model.name) for model in models}:
                _drop(cursor, view)
        for model in models:
            _require_name(model)
            _extend_view(cursor, project, model)


def columns_of(project: Project, model: Model) -> dict[str, tuple[str, str]]:
    """Return expression and comment of each column of a model's view, in order.

    A public column that has the name of one of the view's own is there as `entity_<name>`.
    """
    absent = {
        *(OF_ERRORS if model.problem_type in DECIDES else ("correct",)),
        *(OF_LABELS if model.problem_type != "multiclass" else ()),
        *(OF_LIMITS if model.problem_type != "quantile" else ()),
    }
    own = {name: about for name, about in VIEW_COLUMNS.items() if name not in absent}
    found = dict(KEY)
    for name in project.entity.public:
        shown = name
        while shown in {*KEY, *VIEW_COLUMNS} or (shown != name and shown in project.entity.public):
            shown = f"entity_{shown}"
        found[shown] = (f'e."{name}"', describe_column(project, name))
    found["entity_id"] = (KEY["entity_id"][0], describe_column(project, "entity_id"))
    outcome = f"{model.outcome}, {project.outcomes[model.outcome].description}".strip(", ")
    return found | {name: (value, about.replace("{outcome}", outcome)) for name, (value, about) in own.items()}


def drop_all(cursor: Any) -> None:
    """Drop the views of all models, before a migration that changes a column that they read."""
    for view in _views(cursor):
        _drop(cursor, view)


def _require_name(model: Model) -> None:
    if model.name in RESERVED:
        raise ConfigError(
            f"{model.folder / 'model.yaml'}: a model cannot be named {model.name}: {predictions_view(model.name)} is "
            "a view of the product; rename the folder"
        )


def _views(cursor: Any, project: str | None = None) -> list[str]:
    """Return the views of the models of a project, or of all, by their comments."""
    cursor.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'v' AND relnamespace = current_schema()::regnamespace "
        "AND starts_with(obj_description(oid, 'pg_class'), %s) ORDER BY relname",
        (ABOUT + (f"{project}." if project else ""),),
    )
    return [name for (name,) in cursor.fetchall()]


WANTED = sql.Identifier("wanted_view")
"""The name of a view that is compared with the present one. Nobody else sees it: it lives within a transaction."""

ABOUT = "Published predictions of a model of the project "
"""How the comments of the views begin, by which they are found; the project's name and a full stop follow."""


def _drop(cursor: Any, view: str) -> None:
    try:
        cursor.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(view)))
    except errors.DependentObjectsStillExist as error:
        others = (error.diag.message_detail or "").replace("\n", ", ")
        raise ConfigError(
            f"view {view} has to change, but other views depend on it: {others}; drop them, migrate again, and "
            "create them again"
        ) from error


def _extend_view(cursor: Any, project: Project, model: Model) -> None:
    name = predictions_view(model.name)
    view, columns = sql.Identifier(name), columns_of(project, model)

    def in_order(relation: str) -> list[tuple[str, str]]:
        return [*read_columns(cursor, relation).items()]

    statement = _statement(project, model, columns)
    # The database prints both definitions in the same way, so that they can be compared.
    cursor.execute(sql.SQL("CREATE VIEW {} WITH (security_barrier) AS {}").format(WANTED, statement))
    cursor.execute(
        "SELECT pg_get_viewdef(to_regclass(%s)), pg_get_viewdef(to_regclass(%s))", ("wanted_view", f'"{name}"')
    )
    wanted, present = cursor.fetchone()
    if wanted == present:
        cursor.execute(sql.SQL("DROP VIEW {}").format(WANTED))
    elif present is not None and in_order("wanted_view") == in_order(name):
        cursor.execute(sql.SQL("DROP VIEW {}").format(WANTED))  # views of others on top of the present one stay
        cursor.execute(sql.SQL("CREATE OR REPLACE VIEW {} WITH (security_barrier) AS {}").format(view, statement))
    else:
        if present is not None:
            _drop(cursor, name)
        cursor.execute(sql.SQL("ALTER VIEW {} RENAME TO {}").format(WANTED, view))
    cursor.execute(sql.SQL("GRANT SELECT ON {} TO reader, ops_reader").format(view))
    about = (
        f"{ABOUT}{project.name}. {model.title}: one row for each run date, horizon and entity, with its public "
        "columns, and the true result where it is known."
    )
    _comment(cursor, sql.SQL("VIEW {}").format(view), about)
    for column, (_, described) in columns.items():
        _comment(cursor, sql.SQL("COLUMN {}.{}").format(view, sql.Identifier(column)), described)


def _statement(project: Project, model: Model, columns: Mapping[str, tuple[str, str]]) -> sql.Composed:
    inner, outer = [], []
    for name, (value, _) in columns.items():
        is_of_row = not value.startswith(BATCH)
        named = sql.SQL("{} AS {}").format(sql.SQL(value), sql.Identifier(name))
        inner += [named] if is_of_row else []
        outer += [sql.SQL("r.{}").format(sql.Identifier(name)) if is_of_row else named]
    return sql.SQL(SELECT).format(
        inner=sql.SQL(", ").join(inner),
        outer=sql.SQL(", ").join(outer),
        entities=sql.Identifier(entities_table(project.name)),
        project=sql.Literal(project.name),
        outcome=sql.Literal(model.outcome),
        model=sql.Literal(model.name),
    )


def _comment(cursor: Any, of: sql.Composable, text: str) -> None:
    cursor.execute(sql.SQL("COMMENT ON {} IS {}").format(of, sql.Literal(printable(text))))
