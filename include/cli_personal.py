"""The commands about personal data, which `include.cli` adds to its own: rotation of the hash key, and data on laptops.

There is no logic here: each command calls one operation.
"""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError

from include.cli_options import By, ProjectOption, Why, as_day
from include.cli_records import prints_records
from include.config.loading import load_project
from include.core.base import Record
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.production import Production
from include.core.settings import Settings


def commands(
    settings: Callable[[], Settings], say: Callable[[str], None], show: Callable[[Record], None]
) -> typer.Typer:
    """Return the commands.

    Args:
        settings: reads the settings when a command runs.
        say: prints a line.
        show: prints a record.
    """
    app = typer.Typer()

    @app.command()
    @prints_records
    def rehash(by: By, why: Why) -> None:
        """Hash all identifiers by the keys that were added to NIGHTLY_HASH_KEY; a killed run is continued."""
        from include.operations.rehash import rehash as rotate

        show(rotate(settings(), by=by, why=why))

    @app.command("new_hash_key")
    def new_hash_key(
        file: Annotated[Path, typer.Option(help="a new file, as `airflow connections import` reads it")],
    ) -> None:
        """Write the keys of NIGHTLY_HASH_KEY and a new one after them into a file that only you can read."""
        from include.operations.rehash import write_new_key

        fingerprint = write_new_key(settings(), file)
        say(f"{file} has the keys; their fingerprint is {fingerprint}. Nothing uses the new one yet: run rehash")

    @app.command()
    @prints_records
    def pull(
        project: ProjectOption,
        start: Annotated[date, typer.Option(parser=as_day, metavar="DAY", help="first run date, such as 2026-03-01")],
        end: Annotated[date, typer.Option(parser=as_day, metavar="DAY", help="last run date, included")],
        entity_fraction: Annotated[float, typer.Option(help="the share of the entities, such as 0.01")],
        by: Annotated[str, typer.Option(help="who pulls, for the audit")],
        why: Annotated[str, typer.Option(help="why, for the audit")],
    ) -> None:
        """Bring prepared data of a fraction of the entities to this laptop, with identifiers hashed again.

        NIGHTLY_PRODUCTION_TABLES, NIGHTLY_PRODUCTION_JOURNAL and NIGHTLY_PRODUCTION_DATABASE_URL say where it is.
        """
        from include.operations.pull import pull as bring

        here, days = settings(), Interval(start=start, end=max(start, end))
        found = bring(
            load_project(project), days, here, _production().read_with(here), fraction=entity_fraction, by=by, why=why
        )
        show(found)

    return app


def _production() -> Production:
    try:
        return Production()
    except ValidationError as error:
        missing = ", ".join(f"NIGHTLY_PRODUCTION_{problem['loc'][0]}".upper() for problem in error.errors())
        raise ActionRequiredError(f"these variables are not set, or wrong: {missing}. docs/security.md") from None
    except SettingsError:
        pass
    # not chained, because the parser's error contains the whole text, which is secret
    raise ActionRequiredError("NIGHTLY_PRODUCTION_STORAGE_OPTIONS must be JSON")
