"""Exports: the files with what readers see of a run date, and which columns they have. Pure."""

from collections.abc import Mapping
from datetime import date
from typing import Literal

from include.core.project import Project

Format = Literal["parquet", "csv"]
FORMATS: tuple[Format, ...] = ("parquet", "csv")

MANIFEST = "manifest.json"
"""The file that is written last: a run date is whole if it has one."""

KNOWN = (
    "day", "target_day", "horizon", "score", "prediction", "label", "probabilities", "lower", "upper", "model_version",
    "semantic_version", "as_of", "batch_id",
)  # fmt: skip
"""The columns of the wide view that are known at publish and stay the same as long as readers see the batch."""


def folder_of(project: str, model: str, day: date) -> str:
    """Return the folder of a run date below the place of exports."""
    return f"{project}/{model}/{day}"


def file_of(form: Format) -> str:
    """Return the name of the file with the rows."""
    return f"predictions.{form}"


def exported_columns(project: Project, view: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Return the columns of a file in the order of the wide view.

    Args:
        project: whose public columns there are; `entity_id` is one if it is made of public columns.
        view: expression and comment of each column of the view.
    """
    of_entity = {name for name, (expression, _) in view.items() if expression.startswith("e.")}
    known = {*KNOWN, *of_entity, *(("entity_id",) if project.has_public_entity_id else ())}
    return tuple(name for name in view if name in known)
