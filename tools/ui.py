"""`make ui`: open Airflow and MLflow on localhost, and schedule the nightly DAGs, so that tonight's run starts.

Running it again changes nothing. `make stop` ends everything.
"""

import os
import sys
import time
import webbrowser
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from include.config.loading import load_project, model_names, project_names
from tools.demo import Airflow, DemoError, command
from tools.stack import HOME, Stack, StackError

SCHEDULED_SECONDS = 30

console = Console(highlight=False, soft_wrap=True)


def nightly_dags() -> list[str]:
    """Return the ids of all scheduled DAGs, in the order of a nightly run."""
    projects = [load_project(name) for name in project_names()]
    models = model_names()
    return [
        *(f"{project.name}_simulate" for project in projects if project.simulate),
        *(f"{project.name}_prepare" for project in projects),
        *(f"{model}_{kind}" for kind in ("train", "score") for model in models),
        *(f"{project.name}_monitor" for project in projects),
    ]


def start(stack: Stack) -> None:
    """Migrate the shared database, start Airflow and MLflow, and unpause the nightly DAGs.

    The order matters: when a DAG is unpaused, the run of its newest missed run date starts at once.
    """
    stack.postgres()
    command(stack, "migrate")
    stack.start(schedule=True, mlflow=True)
    Airflow(stack).wait_for_dags(nightly_dags())


def has_display() -> bool:
    """Return whether a browser can open. Without a display, `webbrowser` would start a text browser in the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def find_next_run_date(api: httpx.Client) -> str:
    """Return when the next nightly run starts. A DAG just unpaused first shows its missed run."""
    deadline = time.monotonic() + SCHEDULED_SECONDS
    while time.monotonic() < deadline:
        dags = api.get("/api/v2/dags", params={"limit": 1000}).raise_for_status().json()["dags"]
        starts = [datetime.fromisoformat(dag["next_dagrun_run_after"]) for dag in dags if dag["next_dagrun_run_after"]]
        if starts and min(starts) > datetime.now(UTC):
            return f"{min(starts).astimezone():%Y-%m-%d %H:%M %Z}"
        time.sleep(0.5)
    return "a time that the scheduler has not set yet"


def show(stack: Stack) -> None:
    """Print the addresses of the pages and what to do there, and open them if a browser can open."""
    airflow, mlflow = f"{stack.api_url}/dags", f"{stack.mlflow_url}/#/experiments?workflowType=machine_learning"
    with stack.api() as api:
        runs = api.get("/api/v2/dags/~/dagRuns", params={"limit": 1}).raise_for_status().json()["total_entries"]
        next_day = find_next_run_date(api)
    console.print(
        f"[bold]Airflow[/bold]  {airflow}    no login is needed; it listens on this machine only\n"
        f"[bold]MLflow[/bold]   {mlflow}\n"
        f"The {len(nightly_dags())} nightly DAGs are on; the next nightly run starts at {next_day}. The newest missed\n"
        "run starts at once; it trains only if enough labelled days are prepared, and its log says so if not.\n"
        + ("" if runs > len(nightly_dags()) else "To make some history: make run\n")
        + "To stop it: make stop"
    )
    if has_display():
        with suppress(webbrowser.Error):
            for url in (airflow, mlflow):
                webbrowser.open(url)


def main(home: Annotated[Path, typer.Option(help="The folder that holds all of the stack's files.")] = HOME) -> None:
    """Start Airflow and MLflow, and open both in the browser."""
    try:
        with console.status("starting") as status:
            stack = Stack(home, say=status.update)
            start(stack)
        show(stack)
    except (DemoError, StackError) as error:
        console.print(str(error), style="red", markup=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    typer.run(main)
