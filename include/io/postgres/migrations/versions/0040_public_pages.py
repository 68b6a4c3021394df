"""Where the page for everybody of each project is, so that a command in a shell refreshes the page that people read.

The place is a setting of tasks (`public_pages` of the connection `nightly_tables`), which a shell may not have.
"""

from alembic import op

revision = "0040"
down_revision = "0039"

TABLE = """
CREATE TABLE public_pages (
    project text PRIMARY KEY,
    place text NOT NULL,
    place_before text,
    tables text NOT NULL,
    run_id text NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE public_pages IS
    'Where the page for everybody of each project is written. Commands in a shell refresh the page of this place.';
COMMENT ON COLUMN public_pages.project IS 'Name of the project.';
COMMENT ON COLUMN public_pages.place IS 'URI of the folder of all pages; the page is <project>/index.html in it.';
COMMENT ON COLUMN public_pages.place_before IS
    'Place of the page before, until the page was written to the new place. Otherwise null.';
COMMENT ON COLUMN public_pages.tables IS
    'Where the Delta tables were then: a copy of the database beside other tables must not write this page.';
COMMENT ON COLUMN public_pages.run_id IS 'Airflow run that wrote the row, or by-hand.';
COMMENT ON COLUMN public_pages.recorded_at IS 'Time at which this place was recorded.';
"""


def upgrade() -> None:
    op.execute(TABLE)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")
