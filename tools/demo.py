"""`make run`: run the first days of an example project, from landed files to scores that an analyst can query.

It lands the first days, prepares the history with one range backfill, trains the first models, then runs two nightly
runs in the Airflow of the local stack. If the project's `simulate.py` has a function `spoil`, the second day gets a
delivery with invalid rows. A second run finds everything done and changes nothing. `tools/summary.py` shows the
results, and the exit code is that of `cli check`.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import Annotated, Any

import httpx
import typer
from croniter import croniter

from include.config.loading import is_simulated, load_model, load_project, model_names, project_names
from include.core.errors import ConfigError
from include.core.interval import Interval
from include.core.project import Project
from include.core.settings import Settings
from include.operations.simulate import deliver, make_frame, maker, usual_available_at
from tools import summary
from tools.console import console_for_people
from tools.stack import HOME, ROOT, Stack, StackError, private_files

POLL_SECONDS = 1.0
RUN_SECONDS = 900  # a run that takes longer is reported as an error
ENDED = {"success", "failed", "skipped", "upstream_failed", "removed"}
"""The states in which a task stays."""

console = console_for_people()


class DemoError(RuntimeError):
    """A run did not succeed. The text names the task and the folder of its log."""


class AirflowApi:
    """The calls of Airflow's REST API that start runs and follow them to their end."""

    def __init__(self, stack: Stack, project: Project) -> None:
        self.project = project
        self.client = stack.api()
        self.logs = stack.home / "airflow" / "logs"
        self._shown: set[tuple[str, str, str, int]] = set()

    def wait_for_dags(self, dag_ids: Sequence[str]) -> None:
        """Wait until the DAG processor has read all of the DAGs, then unpause them."""
        deadline = time.monotonic() + 120
        while missing := set(dag_ids) - self._shown_dags():
            if time.monotonic() > deadline:
                errors = [e["stack_trace"] for e in self._get("/importErrors")["import_errors"]]
                raise DemoError(f"Airflow does not show {', '.join(sorted(missing))}\n" + "\n".join(errors))
            time.sleep(POLL_SECONDS)
        for dag_id in dag_ids:
            self._call("PATCH", f"/dags/{dag_id}", {"is_paused": False})

    def _shown_dags(self) -> set[str]:
        """Return the ids of all DAGs that Airflow shows."""
        pages = self._pages("dags", lambda read: self._get("/dags", limit=100, offset=read, order_by="dag_id"))
        return {dag["dag_id"] for dag in pages}

    def run(self, dag_ids: Sequence[str], run_id: str, day: date, **conf: str) -> list[tuple[str, str]]:
        """Start the runs of a day that do not exist yet. Return those that have not succeeded yet."""
        return [(dag_id, run_id) for dag_id in dag_ids if self._start(dag_id, run_id, day, conf) != "success"]

    def _start(self, dag_id: str, run_id: str, day: date, conf: dict[str, str]) -> str:
        """Start a run, or clear the failed tasks of an existing one. Return the state that it had before."""
        body = {"dag_run_id": run_id, "logical_date": self.project.cutoff_at(day).isoformat(), "conf": conf}
        try:
            self._call("POST", f"/dags/{dag_id}/dagRuns", body)
            return "new"
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.CONFLICT:
                raise
            state = str(self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"])
            if state == "failed":
                self._call("POST", f"/dags/{dag_id}/dagRuns/{run_id}/clear", {"dry_run": False, "only_failed": True})
            return state

    def follow(self, runs: Sequence[tuple[str, str]]) -> None:
        """Print each task as it ends, and return when all runs succeeded.

        Raises:
            DemoError: a run failed, or the time is up.
        """
        deadline = time.monotonic() + RUN_SECONDS
        going = list(runs)
        if not going:
            console.print("  [green]✓[/green] already done")
        with console.status("") as status:
            while going:
                by_run = self._tasks(going)
                for (dag_id, run_id), tasks in by_run.items():
                    self._show(dag_id, run_id, tasks)
                    # Each request takes the two cores from the tasks, so only a run whose tasks have ended is asked.
                    if all(task["state"] in ENDED for task in tasks):
                        state = self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"]
                        if state == "failed":
                            self._explain(dag_id, run_id, tasks)
                        if state == "success":
                            going.remove((dag_id, run_id))
                if time.monotonic() > deadline:
                    raise DemoError(f"not finished after {RUN_SECONDS} s: {', '.join('/'.join(run) for run in going)}")
                busy = [
                    f"{t['dag_id']}.{t['task_id']}" for each in by_run.values() for t in each if t["state"] == "running"
                ]
                status.update(f"  [dim]{', '.join(busy) or 'waiting'}[/dim]")
                time.sleep(POLL_SECONDS)

    def _tasks(self, runs: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
        """Return the tasks of each run, in as few requests as possible."""
        dag_ids, run_ids = (sorted(set(names)) for names in zip(*runs, strict=True))
        found: dict[tuple[str, str], list[dict[str, Any]]] = {run: [] for run in runs}
        body = {"dag_ids": dag_ids, "dag_run_ids": run_ids, "order_by": "id"}
        path = "/dags/~/dagRuns/~/taskInstances/list"
        for task in self._pages("task_instances", lambda read: self._call("POST", path, body | {"page_offset": read})):
            if (run := (task["dag_id"], task["dag_run_id"])) in found:
                found[run].append(task)
        return found

    def state(self, dag_id: str, run_id: str, task_id: str, wanted: Container[str]) -> str:
        """Wait until the state of a task is one of those wanted, and return it."""
        deadline = time.monotonic() + RUN_SECONDS
        while time.monotonic() < deadline:
            state = str(self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")["state"])
            if state in wanted:
                return state
            time.sleep(POLL_SECONDS)
        raise DemoError(f"{dag_id} {run_id}: {task_id} is {state}")

    def _show(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> None:
        marks = {"success": "[green]✓[/green]", "skipped": "[yellow]–[/yellow]", "up_for_retry": "[yellow]↻[/yellow]"}
        marks["failed"] = "[red]✗[/red]"
        for task in sorted(tasks, key=lambda t: t["end_date"] or ""):
            key = (dag_id, run_id, f"{task['task_id']}{task['map_index']}{task['state']}", task["try_number"])
            if task["state"] not in marks or key in self._shown:
                continue
            self._shown.add(key)
            mapped = f" {task['rendered_map_index']}" if task["rendered_map_index"] else ""
            seconds = f"{task['duration']:5.1f} s" if task["duration"] is not None else "       "
            console.print(f"  {marks[task['state']]} {seconds}  {run_id:<19} {dag_id}.{task['task_id']}{mapped}")

    def _explain(self, dag_id: str, run_id: str, tasks: list[dict[str, Any]]) -> None:
        failed = ", ".join(t["task_id"] for t in tasks if t["state"] == "failed")
        logs = self.logs / f"dag_id={dag_id}" / f"run_id={run_id}"
        raise DemoError(f"{dag_id} {run_id}: {failed} failed; see its log in {logs}")

    def _pages(self, of: str, ask: Callable[[int], Any]) -> Iterator[dict[str, Any]]:
        """Yield what all pages list under a name; `ask` gets the page after so many entries."""
        read, there = 0, 1
        while read < there:
            page = ask(read)
            yield from page[of]
            there, read = page["total_entries"], read + max(len(page[of]), 1)

    def _get(self, path: str, **params: Any) -> Any:
        return self.client.get(f"/api/v2{path}", params=params).raise_for_status().json()

    def _call(self, method: str, path: str, body: dict[str, Any]) -> Any:
        return self.client.request(method, f"/api/v2{path}", json=body).raise_for_status().json()


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Print the title of a phase before it, and its duration after it."""
    console.print(f"\n[bold]{title}[/bold]")
    began = time.monotonic()
    yield
    console.print(f"  [dim]{time.monotonic() - began:.0f} s[/dim]")


def command(stack: Stack, *arguments: str, quiet: bool = True) -> int:
    """Run a command of `include.cli` as a person would type it, and return its exit code."""
    return begin_command(stack, *arguments, quiet=quiet)()


def begin_command(stack: Stack, *arguments: str, quiet: bool = True) -> Callable[[], int]:
    """Begin a command of `include.cli`, and return what waits for its end and returns its exit code."""
    console.print(f"  [cyan]python -m include.cli {' '.join(arguments)}[/cyan]", soft_wrap=True)
    with private_files():
        running = subprocess.Popen(
            [sys.executable, "-m", "include.cli", *arguments],
            cwd=ROOT,
            env=stack.cli_environment(),
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
        )

    def finish() -> int:
        errors = running.communicate()[1]
        if quiet and running.returncode:
            raise DemoError(f"{' '.join(arguments)}:\n{errors.strip()}")
        return running.returncode

    return finish


def days(project: Project, interval: Interval) -> tuple[str, ...]:
    """Return the options that name the project and days."""
    return ("--project", project.name, "--start", str(interval.start), "--end", str(interval.end))


def find_project(name: str) -> Project:
    """Return the project that a person asked for by `PROJECT=…`.

    Raises:
        ConfigError: there is none of that name, none was named, or there are no projects at all.
    """
    if name:
        return load_project(name)
    if names := project_names():
        raise ConfigError(f"which project? Type PROJECT={names[0]}, or another of: {', '.join(names)}")
    raise ConfigError(
        "there is no project: add a folder with a project.yaml to include/projects, or name a folder of projects in "
        "NIGHTLY_PROJECTS"
    )


def days_to_run(project: Project) -> tuple[Interval, Interval]:
    """Return the history, which is a little longer than what a training reads, and the two days after it."""
    first = project.first_day
    length = 4 + max(load_model(model).train_days for model in model_names(project.name))
    history = Interval(start=first, end=first + timedelta(days=length - 1))
    return history, Interval(start=first + timedelta(days=length), end=first + timedelta(days=length + 1))


def start(stack: Stack, project: Project, history: Interval) -> None:
    """Start the stack, migrate the shared database, and deliver example data.

    Both commands need only PostgreSQL and folders, and Airflow starts on one core. An S3 server has to run first.
    """
    commands = [("migrate",), ("simulate", *days(project, history))]
    stack.postgres()
    running = [] if stack.s3_url else [begin_command(stack, *each) for each in commands]
    with console.status("") as status:
        stack.say = lambda text: status.update(f"  [dim]{text}[/dim]")
        stack.start(schedule=False)
    for finish in running or [begin_command(stack, *each) for each in commands]:
        finish()


def run(
    stack: Stack, project: Project, history: Interval, prepared_days: Interval, models: Sequence[str] | None = None
) -> int:
    """Prepare the history, train on its last day, and run the days after it one by one.

    Args:
        stack: the local stack to run it on.
        project: an example project.
        history: the days to prepare before the nightly runs.
        prepared_days: the days to run as nightly runs.
        models: the models to train and score; by default all of the project.

    Returns:
        The exit code of `cli check`.
    """
    with phase(f"1  Start PostgreSQL and Airflow, and meanwhile deliver {len(history.days)} days of data, {history}"):
        start(stack, project, history)
    airflow = AirflowApi(stack, project)
    models = model_names(project.name) if models is None else models
    trainings = [f"{model}_train" for model in models]
    preparing = [f"{project.name}_simulate", f"{project.name}_prepare"]
    using = [*(f"{model}_score" for model in models), f"{project.name}_monitor"]
    airflow.wait_for_dags([*preparing, *trainings, *using, f"{project.name}_backfill_range"])

    with phase("2  Prepare them in one range backfill: land, validate, build features"):
        conf = {"start": str(history.start), "end": str(history.end)}
        airflow.follow(airflow.run([f"{project.name}_backfill_range"], "history", history.end, **conf))

    with phase(f"3  Train the first models for {history.end}: without a champion, only absolute checks apply"):
        airflow.follow(airflow.run(trainings, f"nightly__{history.end}", history.end))

    with phase(f"4  Land and prepare the next {len(prepared_days.days)} days: validate, quarantine, features"):
        spoil(stack, project, prepared_days.end)
        for dag_id in preparing:  # a query without rows yet would be asked again only minutes later
            airflow.follow([run for day in prepared_days.days for run in airflow.run([dag_id], f"nightly__{day}", day)])

    # One day after the other, because the gate needs the champion of the day before.
    for n, day in enumerate(prepared_days.days, 5):
        with phase(f"{n}  Nightly run of {day}: train, gate, promote or reject, score, publish, monitor"):
            due = [f"{model}_train" for model in models if trains_on(model, day)]
            airflow.follow(airflow.run([*due, *using], f"nightly__{day}", day))

    console.print()
    summary.show(console, stack, project, Interval(start=history.end, end=prepared_days.end), prepared_days)
    console.print()
    return command(stack, "check", *days(project, Interval(start=history.start, end=prepared_days.end)), quiet=False)


def trains_on(model: str, day: date) -> bool:
    """Return whether a model's own schedule trains it on a day; without one, it is trained each night."""
    cron = load_model(model).train_schedule
    if cron is None:
        return True
    before = datetime.combine(day, datetime.min.time()) - timedelta(seconds=1)
    return bool(croniter(cron, before).get_next(datetime).date() == day)


def settings_of(stack: Stack) -> Settings:
    """Return the settings of a command in a shell that sourced the stack's `env`."""
    variables = stack.cli_environment()
    found = {name: variables.get(f"NIGHTLY_{name.upper()}") for name in Settings.model_fields}
    return Settings.model_validate({name: value for name, value in found.items() if value is not None})


def spoil(stack: Stack, project: Project, day: date) -> None:
    """Send a feed of the day again before the cutoff, with a few invalid rows, if the project says how."""
    spoiled = getattr(maker(project), "spoil", None)
    if spoiled is None:
        return
    settings, feed = settings_of(stack), project.entity.feed
    frame = spoiled(make_frame(project, feed, day))
    at = usual_available_at(project, feed, day) + timedelta(minutes=5)
    with private_files():
        deliver(project, feed, day, frame, available_at=at, settings=settings, name="again")
    console.print(f"  a supplier delivers {feed} again: {frame.height} rows, a few of them invalid")


def main(project: Annotated[str, typer.Option(help="The example project to run.")] = "") -> None:
    """Run everything, and print errors without a traceback."""
    began = time.monotonic()
    try:
        asked = find_project(project)
        if not is_simulated(asked):
            raise DemoError(
                f"make run needs an example project, but {asked.name} has no simulate.py that makes its deliveries"
            )
        code = run(Stack(HOME), asked, *days_to_run(asked))
    except (ConfigError, DemoError, StackError) as error:
        console.print(f"✗ {error}", style="red", markup=False)
        raise SystemExit(1) from error
    console.print(f"[dim]{time.monotonic() - began:.0f} s in total[/dim]")
    raise SystemExit(code)


if __name__ == "__main__":
    typer.run(main)
