"""`public_page` in `project.yaml`: what the page for everybody shows. Pure."""

from pydantic import Field

from include.core.base import Config, Name

MAX_ROWS = 10_000
"""Predictions in a page, of all its models together, unless `rows` says otherwise; the files beside it have all."""


class PublicPage(Config):
    """What the page for everybody shows: all models by default."""

    models: tuple[Name, ...] = Field(
        default=(), description="the models that it shows; by default all of the project", examples=[["revenue"]]
    )
    rows: int = Field(
        default=MAX_ROWS,
        ge=1,
        le=5 * MAX_ROWS,
        description="the most predictions in the page itself, of all models together; the files beside it have all",
        examples=[2000],
    )
