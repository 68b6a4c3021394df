"""Make the clean rows of deliveries again from the raw tables, as `validate` did, without writing anything.

Text is parsed again by the declarations of now. Which rows were invalid is what the quarantine says: a rule that is
stricter by now, or that looks at earlier deliveries, must not change a day that was published.
"""

import polars as pl

from include.core import schemas
from include.core.erasure import Erasures, without_erased_hashes
from include.core.names import clean_table, quarantine_table, raw_table
from include.core.personal import opened
from include.core.project import Project
from include.core.settings import Settings
from include.io.hash_key import read_hash_key
from include.io.tables import Scope, Tables

MAX_ROWS = 2_000_000
"""So many raw rows of a feed are parsed again, the newest deliveries first; of older ones the clean rows are read."""


def clean_again(
    project: Project, name: str, deliveries: pl.DataFrame, erased: Erasures, settings: Settings
) -> pl.LazyFrame:
    """Return the clean rows of some deliveries of a feed.

    Args:
        project: the project.
        name: the feed.
        deliveries: rows of `schemas.DELIVERIES`, at least one.
        erased: the erased persons, whose rows are left out.
        settings: where the tables are.
    """
    tables, feed = Tables(settings), project.feeds[name]
    newest = deliveries.sort("day", "delivery_id", descending=True)
    chosen = newest.filter((pl.col("rows").cum_sum() <= MAX_ROWS) | (pl.int_range(pl.len()) == 0))
    scope = Scope.of_deliveries(chosen["day"].to_list(), chosen["delivery_id"].to_list())
    stored = tables.scan(raw_table(project.name, name)).filter(scope.expr()).sort("day", "delivery_id", "_row")
    key = read_hash_key(settings, project.name)
    typed = schemas.typed_rows(
        project, feed, opened(feed, without_erased_hashes(feed, stored.collect(), erased, key), key)
    )
    invalid = tables.scan(quarantine_table(project.name, name)).filter(scope.expr()).select("delivery_id", "_row")
    again = typed.join(invalid.collect(), on=["delivery_id", "_row"], how="anti", maintain_order="left")
    again = again.select(schemas.clean(project, feed).keys())
    older = set(newest["delivery_id"]) - set(chosen["delivery_id"])
    if not older:
        return again.lazy()
    rest = tables.scan(clean_table(project.name, name)).filter(pl.col("delivery_id").is_in(sorted(older)))
    return pl.concat([again.lazy(), rest.select(again.columns)])
