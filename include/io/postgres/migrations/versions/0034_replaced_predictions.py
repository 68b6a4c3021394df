"""What readers saw before it was replaced: the view `replaced_predictions`.

It reads the batches of a day by their keys, so it needs no index of its own.
"""

from alembic import op

revision = "0034"
down_revision = "0033"

VIEW = """
CREATE VIEW replaced_predictions AS
SELECT m.model, m.day, r.horizon, m.day + r.horizon AS target_day, r.entity_id,
    r.score_before, r.score_after, r.prediction_before, r.prediction_after, r.label_before, r.label_after,
    old.model_version AS version_before, new.model_version AS version_after, m.published_at AS replaced_at, m.mode
FROM publications m
JOIN batches old ON old.batch_id = m.replaced
LEFT JOIN batches new ON new.batch_id = m.batch_id
CROSS JOIN LATERAL (
    SELECT horizon, entity_id, o.score AS score_before, n.score AS score_after, o.prediction AS prediction_before,
        n.prediction AS prediction_after, o.label AS label_before, n.label AS label_after
    FROM (SELECT * FROM predictions WHERE batch_id = m.replaced) o
    FULL JOIN (SELECT * FROM predictions WHERE batch_id = m.batch_id) n USING (horizon, entity_id)
) r;
GRANT SELECT ON replaced_predictions TO reader, ops_reader;
"""

COMMENTS = {
    "model": "Name of the model.",
    "day": "Run date, a calendar day in the project's timezone; with horizon 0, the day that the predictions are for.",
    "horizon": "Days from the run date to the day that the row is about.",
    "target_day": "Calendar day that the prediction is for: day + horizon.",
    "entity_id": "Key of the entity as text; unique within day and horizon.",
    "score_before": "Score that readers saw until then; null if they saw none of the entity.",
    "score_after": "Score that they saw from then on; null if they saw none of the entity.",
    "prediction_before": "Prediction until then.",
    "prediction_after": "Prediction from then on.",
    "label_before": "Multiclass: the predicted label until then. Otherwise null.",
    "label_after": "Multiclass: the predicted label from then on. Otherwise null.",
    "version_before": "Version that made the prediction until then.",
    "version_after": "Version that made the one from then on; null if nothing was published any more.",
    "replaced_at": "Time of the change.",
    "mode": "replace, missing, or unpublish: readers were pointed back to the batch before.",
}
ABOUT = (
    "What readers saw before and after each change of a published day: one row for each change, horizon and entity. "
    "Rows whose scores are equal are there too."
)


def upgrade() -> None:
    op.execute(VIEW)
    op.execute(f"COMMENT ON VIEW replaced_predictions IS {_literal(ABOUT)}")
    for column, about in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN replaced_predictions.{column} IS {_literal(about)}")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")
