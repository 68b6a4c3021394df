"""Processes that tests start, several at once or to kill them: steps, and writers to a small table.

A process reads commands from standard input, one JSON object a line, and answers each with one line.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
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

ROOT = Path(__file__).parents[2]


class Processes:
    """Python processes that run commands, all at the same moment."""

    def __init__(self, settings: Settings, count: int) -> None:
        environment = os.environ | settings.variables()
        self.children = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.integration.processes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=environment,
            )
            for _ in range(count)
        ]
        self.all([{"do": "nothing"}] * count)  # wait until all have finished their imports

    def all(self, commands: list[Mapping[str, Any]]) -> list[Any]:
        """Run one command in each process at once. Return the answers; None for a process that was killed."""
        children = self.children[: len(commands)]
        for child, command in zip(children, commands, strict=True):
            assert child.stdin is not None
            child.stdin.write(json.dumps(command) + "\n")
            child.stdin.flush()
        return [self._answer(child) for child in children]

    def _answer(self, child: subprocess.Popen[str]) -> Any:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            assert child.wait() == -signal.SIGKILL, f"the process ended unexpectedly with {child.returncode}"
            return None
        return json.loads(line)

    def end(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                assert stream is not None
                with suppress(BrokenPipeError):  # the process died before it read the command
                    stream.close()


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


def kill(at: str, call: int, when: str) -> None:
    """Make the n-th call of a function end this process, as a power cut would."""
    module, _, path = at.partition(":")
    wrap(importlib.import_module(module), path, call, when, end_this_process)


COMMANDS: dict[str, Callable[..., Any]] = {each.__name__: each for each in (nothing, write, step, send, alert, kill)}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of libraries must not look like an answer
    for line in sys.stdin:
        command = json.loads(line)
        answers.write(json.dumps(COMMANDS[command.pop("do")](**command)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
