"""Processes that tests start, several at once or to kill them: steps, and writers to a small table.

A process gets commands through a pipe, one mapping each, and answers each of them. It is a fork of one that has
imported the libraries already (`preloaded.py`).
"""

import importlib
import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import date
from multiprocessing.connection import Connection
from typing import Any

from include.config.loading import load_project
from include.core.errors import ActionRequiredError
from include.core.interval import Interval
from include.core.records import Alert
from include.core.settings import Settings
from include.io import outbox
from include.io.postgres import alerts
from include.io.postgres.messages import Outbox
from include.io.tables import Tables
from include.steps.declared import STEPS
from tests.killing import end_this_process, wrap
from tests.writers import WRITERS

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["tests.integration.preloaded"])


class Processes:
    """Python processes that run commands, all at the same moment."""

    def __init__(self, settings: Settings, count: int) -> None:
        environment = os.environ | settings.variables()
        self.children = []
        for _ in range(count):
            ours, theirs = FORKING.Pipe()
            child = FORKING.Process(target=obey, args=(theirs, environment), daemon=True)
            child.start()
            theirs.close()
            self.children.append((child, ours))
        self.all([{"do": "nothing"}] * count)  # wait until all have finished their imports

    def all(self, commands: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run one command in each process at once. Return the answers; None for a process that was killed."""
        children = self.children[: len(commands)]
        for (_, pipe), command in zip(children, commands, strict=True):
            pipe.send(command)
        return [self._answer(*child) for child in children]

    def _answer(self, child: multiprocessing.process.BaseProcess, pipe: Connection) -> Any:
        try:
            return pipe.recv()
        except EOFError:
            child.join()
            assert child.exitcode == -signal.SIGKILL, f"the process ended unexpectedly with {child.exitcode}"
            return None

    def end(self) -> None:
        for child, pipe in self.children:
            child.kill()
            child.join()
            pipe.close()


@contextmanager
def processes(settings: Settings, count: int) -> Iterator[Processes]:
    started = Processes(settings, count)
    try:
        yield started
    finally:
        started.end()


def run_and_kill(
    settings: Settings, step: str, interval: Interval, at: str, call: int, when: str, project: str = "ferries"
) -> None:
    """Run a step in a process that ends itself before or after the n-th call of a function ("module:name")."""
    with processes(settings, 1) as started:
        command = {"do": "step", "step": step, "start": str(interval.start), "end": str(interval.end)}
        command["project"] = project
        started.all([{"do": "kill", "at": at, "call": call, "when": when}])
        [answer] = started.all([command])
        assert answer is None, f"{step} was not killed: {answer}"


def nothing() -> str:
    return "nothing"


def write(how: str, day: str, who: str) -> int:
    return WRITERS[how](Tables(Settings()), date.fromisoformat(day), who).version


def step(step: str, start: str, end: str, project: str = "ferries") -> dict[str, Any]:
    function = STEPS[step].function
    interval = Interval.model_validate({"start": start, "end": end})
    try:
        result: dict[str, Any] = function(load_project(project), interval, Settings()).model_dump(mode="json")
    except ActionRequiredError as error:
        return {"error": str(error)}
    return result


def send() -> dict[str, Any]:
    """Send what waits in the outbox."""
    settings = Settings()
    addresses = {name: address.get_secret_value() for name, address in settings.destinations.items()}
    return outbox.send_due(Outbox(settings.database_url), addresses.get, seconds=60).model_dump()


def alert(rule: str, day: str) -> int:
    found = Alert(subject="late_ferry", rule=rule, day=date.fromisoformat(day), sentence=f"{rule} of the day")
    return len(alerts.raise_alerts(Settings(), "ferries", [found]))


def command_line(arguments: Sequence[str], given: str = "") -> tuple[int, str]:
    """Run the command line with a text on standard input; return its exit code and all that it prints."""
    from include.cli import main

    sys.argv, sys.stdin = ["include.cli", *arguments], io.StringIO(given)
    printed, code = io.StringIO(), 0
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, printed.getvalue()


def run_function(at: str, arguments: Sequence[Any]) -> Any:
    """Run a function ("module:name") and return what it returns."""
    module, _, name = at.partition(":")
    return getattr(importlib.import_module(module), name)(*arguments)


def kill(at: str, call: int, when: str) -> None:
    """Make the n-th call of a function end this process, as a power cut would."""
    module, _, path = at.partition(":")
    wrap(importlib.import_module(module), path, call, when, end_this_process)


COMMANDS: dict[str, Callable[..., Any]] = {
    each.__name__: each for each in (nothing, write, step, send, alert, kill, command_line, run_function)
}


def obey(pipe: Connection, environment: Mapping[str, str]) -> None:
    """Run commands until the test closes the pipe."""
    os.environ.clear()
    os.environ.update(environment)
    while True:
        try:
            command = pipe.recv()
        except EOFError:
            return
        pipe.send(COMMANDS[command.pop("do")](**command))
