"""The commands about personal data, which `include.cli` adds to its own: rotation of the hash key, and data on laptops.

There is no logic here: each command calls one operation.
"""

from collections.abc import Callable
from typing import Annotated

import typer

from include.core.settings import Settings

By = Annotated[str, typer.Option(help="who decides")]
Why = Annotated[str, typer.Option(help="why, for the journal")]


def commands(settings: Callable[[], Settings]) -> typer.Typer:
    """Return the commands.

    Args:
        settings: reads the settings when a command runs.
    """
    app = typer.Typer()

    @app.command()
    def rehash(by: By, why: Why) -> None:
        """Hash all identifiers by the keys that were added to NIGHTLY_HASH_KEY; a killed run is continued."""
        from include.operations.rehash import rehash as rotate

        typer.echo(rotate(settings(), by=by, why=why).model_dump_json(indent=2))

    return app
