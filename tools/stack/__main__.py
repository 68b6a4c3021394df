"""The command line of a stack: `python -m tools.stack start`, `stop` and `status`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from include.cli_say import say
from tools.stack.layout import HOME, StackError
from tools.stack.stack import Stack

app = typer.Typer(help="Start, stop and show a whole local stack.", add_completion=False, no_args_is_help=True)
Home = Annotated[Path, typer.Option(help="The folder that holds all of the stack's files.")]


@app.command()
def start(
    home: Home = HOME,
    schedule: Annotated[
        bool | None,
        typer.Option("--schedule/--no-schedule", help="Run the DAGs' schedules; default: as at the last start."),
    ] = None,
) -> None:
    """Start every service that does not run, and wait until all are healthy."""
    began = time.monotonic()
    with _progress("starting") as say:
        stack = Stack(home, say=say)
        stack.start(schedule)
    typer.echo(f"Airflow {version('apache-airflow')} runs at {stack.api_url} ({time.monotonic() - began:.0f} s)")
    typer.echo(f"login: {' '.join(stack.login)}    (also for MLflow's pages: make ui)")
    typer.echo(f"shell: . {_shorten(home / 'env')}    logs: {_shorten(home / 'logs')}")


@app.command()
def stop(home: Home = HOME) -> None:
    """Stop all services and processes."""
    with _progress("stopping") as say:
        killed = Stack(home, say=say).stop()
    typer.echo("stopped" + (f"; had to be killed: {', '.join(map(str, killed))}" if killed else ""))


@app.command()
def status(home: Home = HOME) -> None:
    """Show the services; exit code 1 unless all are healthy."""
    stack = Stack(home)
    found = stack.status()
    for service in found:
        condition = "healthy" if service.healthy else "not running" if service.pid is None else "not healthy"
        typer.echo(f"{service.name:14}{condition:14}{service.pid or '':<10}{service.memory_bytes / 2**20:6.0f} MiB")
    if not all(service.healthy for service in found):
        raise typer.Exit(1)
    typer.echo("\n".join(filter(None, (stack.api_url, stack.mlflow_url))))


@contextmanager
def _progress(action: str) -> Iterator[Callable[[str], None]]:
    """Show on one line what the command waits for, and print errors of the stack without a traceback."""
    with Console(stderr=True).status(action) as line:
        try:
            yield line.update
        except StackError as error:
            line.stop()
            say(*f"{action}: {error}".splitlines(), error=True)
            raise typer.Exit(1) from error


def _shorten(path: Path) -> Path:
    path = path.resolve()
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    app()
