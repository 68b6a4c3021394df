"""Adopted models: fits say where a model that was fitted elsewhere came from.

Columns and comments are repeated from `include/io/postgres/schema.py`: see the first migration.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

STATEMENTS = """
ALTER TABLE fits ADD COLUMN adopted_from text, ADD COLUMN adopted_run text,
    ADD CHECK (adopted_run IS NULL OR adopted_from IS NOT NULL);
COMMENT ON COLUMN fits.candidate IS 'Candidate in model.yaml; adopted: it was fitted elsewhere.';
COMMENT ON COLUMN fits.fit_end IS
    'Newest day whose outcomes the fit has seen; of an adopted model, as the person who adopted it says.';
COMMENT ON COLUMN fits.adopted_from IS 'Where an adopted model came from; null if it was fitted here.';
COMMENT ON COLUMN fits.adopted_run IS 'MLflow run that logged an adopted model there; null if unknown.';
COMMENT ON COLUMN human_actions.action IS
    'Decision: accept or withdraw a delivery, repair a prepared day, promote a version, promote it against the gate, '
    'adopt a model that was fitted elsewhere, erase a person, begin or finish the rotation of the hash key (rehash '
    'begun, rehash finished), or pull, on a laptop.';
COMMENT ON COLUMN human_actions.subject IS
    'The delivery, the run date and the number of its record, the version and its first day, the model and the MLflow '
    'run of an adopted one, or the entry of the journal about an erased person.';
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")
