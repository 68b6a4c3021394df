"""The kernel of `validate`: type a block of rows, and say which rules about rows they break. Pure.

It goes to executors of Spark, so this module imports no `include.io`.
"""

from dataclasses import dataclass

import polars as pl

from include.core import schemas
from include.core.project import Project
from include.quality.rows import RowRules

# The name of a feed's column has no comma, so none of these is one.
PLACE = ",place"
"""The column with the place of a row in its delivery, from 0."""
BLOCK = ",block"
"""The column with the number of the block that a row is in, from 0."""
MARK = ",{}"
"""How a mark of `RowRules.marks` is named beside the columns of a feed."""


def asked(number: int) -> str:
    """Return the column that says whether a rule asks a row."""
    return MARK.format(f"asked {number}")


def broken(number: int) -> str:
    """Return the column that says whether a row breaks a rule."""
    return MARK.format(f"broken {number}")


_PLACED: dict[str, pl.DataType] = {PLACE: pl.Int64(), BLOCK: pl.Int32()}


@dataclass(frozen=True)
class RowKernel:
    """Types rows as landed and says which rules they break; it is pickled for executors."""

    project: Project
    feed: str
    rules: RowRules

    @property
    def landed(self) -> dict[str, pl.DataType]:
        """The columns that it takes."""
        return {**schemas.raw(self.project.feeds[self.feed]), **_PLACED}

    @property
    def typed(self) -> dict[str, pl.DataType]:
        """The typed columns that it makes, those of `schemas.typed_rows`."""
        feed = self.project.feeds[self.feed]
        return {**schemas.raw(feed), **schemas.clean(self.project, feed)}

    @property
    def asked(self) -> dict[int, str]:
        """The column of each rule that says whether it asks a row, by the number of the rule."""
        return {number: asked(number) for number in self.rules.rules}

    @property
    def broken(self) -> dict[int, str]:
        """The column of each rule but those about keys that says whether a row breaks it, by the number of the rule."""
        return {number: broken(number) for number, rule in self.rules.rules.items() if rule.broken is not None}

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """The columns that it makes: the typed ones, place and block, and the marks but for hashes of keys."""
        marks = [*self.asked.values(), *self.broken.values()]
        return {**self.typed, **_PLACED, **dict.fromkeys(marks, pl.Boolean())}

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the columns for a block of rows, which may be of any place of the delivery."""
        typed = schemas.typed_rows(self.project, self.project.feeds[self.feed], rows)
        return typed.hstack(self.rules.marks(typed).rename(MARK.format)).select([*self.columns])
