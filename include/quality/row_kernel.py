"""The kernel of `validate`: type a block of rows, and say which rules about rows they break. Pure.

It goes to executors of Spark, so this module imports no `include.io`.
"""

from dataclasses import dataclass

import polars as pl

from include.core import schemas
from include.core.project import Project
from include.quality.rows import RowRules

PLACE = "_place"
"""The column with the place of a row in its delivery, from 0."""


@dataclass(frozen=True)
class RowKernel:
    """Types rows as landed and says which rules they break; it is pickled for executors."""

    project: Project
    feed: str
    rules: RowRules

    @property
    def landed(self) -> dict[str, pl.DataType]:
        """The columns that it takes."""
        return {**schemas.raw(self.project.feeds[self.feed]), PLACE: pl.Int64()}

    @property
    def typed(self) -> dict[str, pl.DataType]:
        """The typed columns that it makes, those of `schemas.typed_rows`."""
        feed = self.project.feeds[self.feed]
        return {**schemas.raw(feed), **schemas.clean(self.project, feed)}

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The columns that it makes: the typed ones, the place, and the marks but for hashes of keys."""
        rules = self.rules.rules.items()
        asked = [f"asked {number}" for number, _ in rules]
        broken = [f"broken {number}" for number, rule in rules if rule.broken is not None]
        return {**self.typed, PLACE: pl.Int64(), **dict.fromkeys([*asked, *broken], pl.Boolean())}

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the columns for a block of rows, which may be of any place of the delivery."""
        typed = schemas.typed_rows(self.project, self.project.feeds[self.feed], rows)
        return typed.hstack(self.rules.marks(typed)).select([*self.columns])
