"""The command about latency, which `include.cli` adds to its own. There is no logic here."""

from collections.abc import Callable
from datetime import date
from typing import Annotated

import typer

from include.core.settings import Settings
from include.core.terminal import terminal_width


def commands(settings: Callable[[], Settings], say: Callable[..., None]) -> typer.Typer:
    """Return the command.

    Args:
        settings: reads the settings when the command runs.
        say: prints lines.
    """
    app = typer.Typer()

    @app.command()
    def latency(
        project: Annotated[str, typer.Option("--project", help="a project: a folder of include/projects")],
        start: Annotated[
            date | None, typer.Option(parser=date.fromisoformat, metavar="DAY", help="first run date; default: all")
        ] = None,
        end: Annotated[
            date | None, typer.Option(parser=date.fromisoformat, metavar="DAY", help="last run date, included")
        ] = None,
    ) -> None:
        """Say how long each run date took from the landing of its last file to its published predictions."""
        from include.config.loading import load_project
        from include.operations.latency import lines_of

        say(*lines_of(load_project(project), settings(), start, end, width=terminal_width()))

    return app
