"""Promotions, forced promotions and rollbacks of people are entries of the journal.

`human_actions` takes them from there; the promotion history only has those that are older, or were restored by
`restore_promotions`. A rollback is what `rolled_back_from` says, whatever the version was before.

The view is changed by its definition in the catalog, so that what other migrations added to it stays.
"""

from alembic import op

revision = "0025"
down_revision = "0024"

# The definition of the branch of the promotions, as the catalog writes it, and what is put in its place.
STATEMENTS = """
DO $$
DECLARE
    before text := pg_get_viewdef('human_actions'::regclass);
    changed text := before;
    action text := 'WHEN p.forced THEN ''force promotion''::text';
BEGIN
    changed := replace(changed, action,
        'WHEN p.rolled_back_from IS NOT NULL THEN ''roll back''::text ' || action);
    changed := regexp_replace(changed, 'WHEN \\(?v\\.from_state = ''replaced''::text\\)? THEN ''roll back''::text', '');
    changed := regexp_replace(changed, '(p\\.by <> ''gate''::text\\)?)', '\\1 AND NOT EXISTS (
        SELECT FROM journal j WHERE j.kind = ''decision'' AND j.entry ->> ''model'' = p.model
        AND j.entry ->> ''model_version'' = p.model_version::text AND j.by = p.by AND j.why = p.why
        AND j.entry -> ''promotions'' @> jsonb_build_array(jsonb_build_object(''from_day'', p.from_day)))');
    IF changed NOT LIKE '%rolled_back_from%' OR changed NOT LIKE '%j.entry%' OR changed LIKE '%''replaced''%' THEN
        RAISE EXCEPTION 'the view human_actions is not the one that this migration knows: %', before;
    END IF;
    EXECUTE 'CREATE OR REPLACE VIEW human_actions AS ' || changed;
END $$
"""


def upgrade() -> None:
    op.execute(STATEMENTS)


def downgrade() -> None:
    raise NotImplementedError("migrations only go forward: restore a backup")
