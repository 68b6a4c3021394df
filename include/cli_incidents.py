"""The commands about incidents, which `include.cli` adds to its own. There is no logic here."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from include.cli_options import By
from include.core.settings import Settings

Why = Annotated[str, typer.Option(help="why, for the audit")]
Number = Annotated[
    int, typer.Option("--incident", min=1, metavar="N", help="the number, as messages and `incidents` say it")
]


def commands(settings: Callable[[], Settings], say: Callable[[str], None]) -> typer.Typer:
    """Return the commands.

    Args:
        settings: reads the settings when a command runs.
        say: prints a line.
    """
    app = typer.Typer()

    @app.command()
    def incidents(
        *, all_of_them: Annotated[bool, typer.Option("--all", help="also those that are over")] = False
    ) -> None:
        """List open incidents, the most severe first: what, since when, what readers see, and the runbook."""
        from include.operations.incidents import lines_of

        for line in lines_of(settings(), is_open=not all_of_them) or ["no incident is open"]:
            say(line)

    @app.command()
    def acknowledge(incident: Number, by: By, why: Why) -> None:
        """Say that you take care of an incident: an update is sent only if its severity rises."""
        from include.operations.incidents import decide_incident

        say(decide_incident(settings(), incident, "acknowledge", by=by, why=why).sentence)

    @app.command()
    def snooze(
        incident: Number,
        by: By,
        why: Why,
        days: Annotated[float | None, typer.Option(help="for so many days from now")] = None,
        until: Annotated[
            datetime | None,
            typer.Option(
                formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
                metavar="MOMENT",
                help="until then instead: UTC, such as 2026-03-01 or 2026-03-01T05:00:00",
            ),
        ] = None,
    ) -> None:
        """Send nothing about an incident for some time, unless its severity rises."""
        from include.operations.incidents import decide_incident, end_of_snooze

        end = end_of_snooze(days, until.replace(tzinfo=UTC) if until else None)
        say(decide_incident(settings(), incident, "snooze", by=by, why=why, until=end).sentence)

    @app.command()
    def freeze_drift(model: Annotated[str, typer.Option(help="the model")], by: By, why: Why) -> None:
        """Count drift by the newest champion's training data from now on, because a change of the data is accepted."""
        from include.config.loading import load_model
        from include.operations import freeze_drift as operation

        say(operation.freeze_drift(load_model(model), settings(), by=by, why=why))

    @app.command()
    def close(incident: Number, by: By, why: Why) -> None:
        """End the incident of a failed task that nobody is going to repeat; other incidents end by themselves."""
        from include.operations.incidents import decide_incident

        say(decide_incident(settings(), incident, "close", by=by, why=why).sentence)

    return app
