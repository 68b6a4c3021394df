"""The commands that notify people, which `include.cli` adds to its own: the watcher, and the test of channels.

They need the addresses of messages only, and the watcher the shared database, so they run where nothing else is
configured. There is no logic here: each command calls one operation.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr, TypeAdapter

from include.config.loading import load_routing, project_names
from include.core.errors import ActionRequiredError
from include.core.outbox import ALERTS
from include.core.settings import DATABASE_URL, parse_texts
from include.core.terminal import table, terminal_width

log = logging.getLogger(__name__)

DESTINATIONS = "NIGHTLY_DESTINATIONS"
MEMORY = Path(tempfile.gettempdir()) / "nightly-watcher.json"


def commands(say: Callable[[str], None]) -> typer.Typer:
    """Return the commands.

    Args:
        say: prints a line.
    """
    app = typer.Typer()
    alert = typer.Typer(help="Try the channels by which people are notified.", no_args_is_help=True)
    app.add_typer(alert, name="alert")

    @alert.callback()
    def _several() -> None:
        """Keep the name of the command, although there is only one."""

    @alert.command("test")
    def test(
        to: Annotated[
            str | None, typer.Option("--to", help="one connection; default: all that messages can go to")
        ] = None,
    ) -> None:
        """Send a marked test message to each destination, and print what became of it; exit code 1 if one failed."""
        from include.operations.try_channels import try_channels

        addresses = _addresses()
        routes = [route.to for name in project_names() for route in load_routing(name).routes]
        found = try_channels([to] if to else dict.fromkeys([ALERTS, *routes, *sorted(addresses)]), addresses.get)
        rows = [(each.destination, each.channel, each.result, str(each.milliseconds)) for each in found]
        for line in table(("destination", "channel", "result", "ms"), rows, terminal_width()):
            say(line)
        if not all(each.is_sent for each in found):
            raise typer.Exit(1)

    @app.command()
    def watch(
        every: Annotated[int, typer.Option(min=1, max=3600, metavar="N", help="seconds between two looks")] = 120,
        airflow: Annotated[
            str | None,
            typer.Option(envvar="NIGHTLY_AIRFLOW_URL", help="address of Airflow's API server, to ask for its health"),
        ] = None,
        project: Annotated[
            list[str] | None, typer.Option("--project", help="only this project; can be repeated; default: all")
        ] = None,
        memory: Annotated[
            Path, typer.Option(help="a file that remembers an outage of the database over a restart")
        ] = MEMORY,
        *,
        once: Annotated[bool, typer.Option("--once", help="look once; exit code 1 if something is wrong")] = False,
    ) -> None:
        """Look every few minutes whether predictions are missing at their deadline, and notify people."""
        from include.operations.watch import Watcher, airflow_health, settings_of

        if not (url := os.environ.get(DATABASE_URL)):
            raise ActionRequiredError(f"{DATABASE_URL} is not set: the watcher looks at the shared database")
        watcher = Watcher(
            settings_of(url),
            _addresses().get,
            memory,
            timedelta(seconds=every),
            tuple(project or ()),
            airflow_health(airflow) if airflow else None,
        )
        while True:
            begun = time.monotonic()
            try:
                found = watcher.look(datetime.now(UTC))
            except Exception as error:
                if once:
                    raise
                log.exception("this look failed (%s); the next one follows", type(error).__name__)
                found = []
            if once:
                for sentence in found:
                    say(f"✗ {sentence}")
                raise typer.Exit(1 if found else 0)
            time.sleep(max(1.0, every - (time.monotonic() - begun)))

    return app


def _addresses() -> dict[str, str]:
    """Return the addresses of messages, by the name of the connection."""
    text = os.environ.get(DESTINATIONS) or "{}"
    try:
        found = TypeAdapter(dict[str, SecretStr]).validate_python(parse_texts(text))
    except ValueError:  # not chained, because the text is secret
        raise ActionRequiredError(f'{DESTINATIONS} must be JSON, such as {{"{ALERTS}": "https://…"}}') from None
    return {name: address.get_secret_value() for name, address in found.items()}
