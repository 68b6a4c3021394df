"""Statistics of all months of a table together, which autovacuum does not collect; and what `exact` means.

Autovacuum looks at each month by itself, and never at the table of which the months are parts. Without statistics of
that table, the planner guesses how many rows a query over months finds. `maintain` asks for them each week
(`analyze_months`), since the login of tasks owns no table.

From PostgreSQL 18 on, `ANALYZE ONLY` leaves the months alone, of which autovacuum takes care.
"""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"

FUNCTION = """
CREATE FUNCTION analyze_months(of_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '2s' AS $$
BEGIN
    IF NOT is_by_month(of_table) THEN
        RAISE EXCEPTION '% has no rows by month', of_table;
    END IF;
    EXECUTE format('ANALYZE %s {schema}.%I',
        CASE WHEN current_setting('server_version_num')::integer >= 180000 THEN 'ONLY' ELSE '' END, of_table);
END $$;
COMMENT ON FUNCTION analyze_months(text) IS
    'Collects the planner''s statistics of a table with all of its months. Readers and writers do not wait.';
REVOKE ALL ON FUNCTION analyze_months(text) FROM PUBLIC;
"""

EXACT = """
COMMENT ON COLUMN skew_checks.exact IS
    'True if features had to be equal to the bit, false if up to 1e-9 of their size, as of Databricks. Predictions are '
    'always compared up to that.';
COMMENT ON COLUMN skew.exact IS
    'True if features had to be equal to the bit, false if up to 1e-9 of their size, as of Databricks. Predictions are '
    'always compared up to that.';
"""


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(FUNCTION.replace("{schema}", schema))
    op.execute(EXACT)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")
