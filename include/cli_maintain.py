"""The command of maintenance, which `include.cli` adds to its own. There is no logic here."""

from collections.abc import Callable
from datetime import date
from enum import StrEnum
from typing import Annotated

import typer

from include.cli_options import ProjectOption, as_day
from include.cli_records import prints_json, prints_records
from include.core.settings import Settings


class PartOption(StrEnum):
    """A part of maintenance."""

    compact = "compact"
    vacuum = "vacuum"
    months = "months"


def commands(settings: Callable[[], Settings], say: Callable[..., None]) -> typer.Typer:
    """Return the command.

    Args:
        settings: reads the settings when the command runs.
        say: prints lines.
    """
    app = typer.Typer()

    @app.command()
    @prints_records
    def maintain(
        project: ProjectOption,
        day: Annotated[
            date | None, typer.Option(parser=as_day, metavar="DAY", help="as of this day; default: today")
        ] = None,
        only: Annotated[list[PartOption] | None, typer.Option(help="one part; may be repeated; default: all")] = None,
        *,
        by: Annotated[str, typer.Option(help="who asks; the view retention_history says so")] = "by-hand",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and change nothing")] = False,
    ) -> None:
        """Compact small files of old days, and remove files and months of predictions that nothing needs."""
        from include.config.loading import load_project
        from include.core.interval import Interval
        from include.core.records import Maintained
        from include.core.settings import utc_now
        from include.operations.maintain import PARTS, sentences
        from include.runner.run import run

        declared = load_project(project)
        on = Interval.of(day or declared.day_of(utc_now()))
        done = run("maintain", declared, on, settings(), only=tuple(only or PARTS), dry_run=dry_run, by=by)
        assert isinstance(done, Maintained)
        say(*(done.model_dump_json(indent=2).split("\n") if prints_json() else sentences(done)))

    return app
