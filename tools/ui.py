"""`make ui`: start Airflow and MLflow on localhost, schedule the nightly DAGs, and open both pages in the browser.

A second run changes nothing. `make stop` stops everything.
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

from include.config.loading import is_simulated, load_model, model_names
from include.core.errors import ConfigError
from include.core.project import Project
from tools.console import console_for_people
from tools.demo import AirflowApi, DemoError, command, find_project
from tools.stack import HOME, Stack, StackError

SCHEDULED_SECONDS = 30

console = console_for_people()


def nightly_dags(project: Project) -> list[str]:
    """Return the ids of a project's DAGs with a schedule, in the order of a nightly run."""
    return [
        *([f"{project.name}_simulate"] if is_simulated(project) else []),
        f"{project.name}_prepare",
        *(f"{model}_{kind}" for kind in ("train", "score") for model in model_names(project.name)),
        *(f"{model}_decide" for model in model_names(project.name) if load_model(model).shadow),
        f"{project.name}_monitor",
    ]


def start(stack: Stack, project: Project) -> None:
    """Migrate the shared database, start Airflow and MLflow, and unpause the nightly DAGs.

    The order matters: when a DAG is unpaused, the run of its newest missed run date starts at once.
    """
    stack.postgres()
    command(stack, "migrate")
    stack.start(schedule=True, mlflow=True)
    AirflowApi(stack, project).wait_for_dags(nightly_dags(project))


def has_display() -> bool:
    """Return whether a browser can open. Without a display, `webbrowser` would start a text browser in the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def find_next_start(api: httpx.Client) -> str | None:
    """Return when the next nightly run starts, None if Airflow has not planned it yet.

    A DAG that was just unpaused first shows its missed run, so this waits for a time in the future.
    """
    deadline = time.monotonic() + SCHEDULED_SECONDS
    while time.monotonic() < deadline:
        dags = api.get("/api/v2/dags", params={"limit": 1000}).raise_for_status().json()["dags"]
        starts = [datetime.fromisoformat(dag["next_dagrun_run_after"]) for dag in dags if dag["next_dagrun_run_after"]]
        if starts and min(starts) > datetime.now(UTC):
            return f"{min(starts).astimezone():%Y-%m-%d %H:%M %Z}"
        time.sleep(0.5)
    return None


def show(stack: Stack, project: Project) -> None:
    """Print the addresses of the pages and what runs next, and open the pages if there is a display."""
    user, password = stack.login
    airflow, mlflow = f"{stack.api_url}/dags", f"{stack.mlflow_url}/#/experiments?workflowType=machine_learning"
    dags = nightly_dags(project)
    with stack.api() as api:
        runs = api.get("/api/v2/dags/~/dagRuns", params={"limit": 1}).raise_for_status().json()["total_entries"]
        next_start = find_next_start(api)
    planned = f"starts at {next_start}" if next_start else "is not planned yet"
    console.print(
        f"[bold]Airflow[/bold]  {airflow}\n"
        f"[bold]MLflow[/bold]   {mlflow}\n"
        f"[bold]Log in[/bold]   user {user}, password {password}",
        soft_wrap=True,  # addresses stay whole
    )
    console.print(
        "The login is the same for both; let the browser remember it.\n"
        f"The {len(dags)} nightly DAGs are on. The next nightly run {planned}. The newest missed run date runs now.\n"
        "A training needs enough labelled days; if too few are prepared, it is skipped, and the log of `fit` says so.\n"
        + ("" if runs > len(dags) else "To fill the pages with some history, run: make run\n")
        + "To stop everything, run: make stop"
    )
    if has_display():
        with suppress(webbrowser.Error):
            for url in (airflow, mlflow):
                webbrowser.open(url)


def main(
    project: Annotated[str, typer.Option(help="The project whose nightly DAGs to schedule.")] = "",
    home: Annotated[Path, typer.Option(help="The folder that holds all of the stack's files.")] = HOME,
) -> None:
    """Start Airflow and MLflow, and open both in the browser."""
    try:
        asked = find_project(project)
        with console.status("starting") as status:
            stack = Stack(home, say=status.update)
            start(stack, asked)
        show(stack, asked)
    except (ConfigError, DemoError, StackError) as error:
        console.print(f"✗ {error}", style="red", markup=False)
        raise SystemExit(1) from error


if __name__ == "__main__":
    typer.run(main)
