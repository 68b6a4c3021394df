"""How commands print records: lines for a person on a terminal; JSON in a pipe, in a file, or with --json."""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from include.core.terminal import terminal_width

AsJson = Annotated[bool, typer.Option("--json", help="print JSON also on a terminal; a pipe or a file gets it always")]
_ASKED: ContextVar[bool] = ContextVar("asked", default=False)


def prints_records(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option --json, which `prints_json` knows while the command runs."""

    @functools.wraps(command)
    def run(*args: Any, as_json: bool, **options: Any) -> None:
        asked = _ASKED.set(as_json)
        try:
            command(*args, **options)
        finally:
            _ASKED.reset(asked)

    own = inspect.signature(command)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), option])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "as_json": AsJson}
    return run


def prints_json() -> bool:
    """Return whether the command that runs prints JSON."""
    return _ASKED.get() or terminal_width() is None
