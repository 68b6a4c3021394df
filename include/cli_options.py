"""Options that several commands have: a project, who decides and why, and how a day is read."""

from datetime import date
from typing import Annotated

import typer


def as_day(text: str | date) -> date:
    """Return the day of a text such as 2026-03-01; typer also gives a default, which is a day already."""
    return text if isinstance(text, date) else date.fromisoformat(text)


ProjectOption = Annotated[str, typer.Option("--project", help="a project: a folder of include/projects")]
By = Annotated[str, typer.Option(help="who decides")]
Why = Annotated[str, typer.Option(help="why, for the journal")]
