"""`airflow tasks log`: print the log of a task. Airflow 3 has no command for this."""

import argparse
from collections.abc import Iterator
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.utils import cli as cli_utils
from airflow.utils.log.log_reader import TaskLogReader
from airflow.utils.providers_configuration_loader import providers_configuration_loaded
from airflow.utils.session import create_session
from sqlalchemy import select

from nightly_backfill.console import PlainConsole
from nightly_backfill.printable import printable_lines


@cli_utils.action_cli
@providers_configuration_loaded
def show(args: argparse.Namespace) -> None:
    """Print the log of a try; exit code 2 if there is no such task instance."""
    console = PlainConsole()
    with create_session() as session:
        named = select(TaskInstance).where(
            TaskInstance.dag_id == args.dag_id,
            TaskInstance.run_id == args.run_id,
            TaskInstance.task_id == args.task_id,
        )
        ti = session.scalar(named.where(TaskInstance.map_index == args.map_index))
        if ti is None:
            mapped = sorted(each.map_index for each in session.scalars(named))
            problem = f"there is no task {args.task_id} in run {args.run_id} of {args.dag_id}"
            if mapped:
                problem = f"{args.task_id} is mapped; choose --map-index from {', '.join(map(str, mapped))}"
            console.print(f"✗ {problem}", style="red")
            raise SystemExit(2)
        lines, _ = TaskLogReader().read_log_chunks(ti, args.try_number or ti.try_number, {"end_of_log": False})
        for line in lines:
            for text in _texts(line):
                console.print(printable_lines(text))


def _texts(line: Any) -> Iterator[str]:
    about: dict[str, Any] = line.model_dump() if hasattr(line, "model_dump") else {"event": line}
    event = str(about.get("event", ""))
    if event.startswith("::"):  # marks by which Airflow's pages fold the log
        return
    at = about.get("timestamp")
    if reason := about.get("reason"):  # the reason why a task was skipped
        event = f"{event} {reason}"
    yield f"{at:%H:%M:%S} {about.get('level') or '':8}{event}" if at else event
    for error in about.get("error_detail") or []:
        for frame in error.get("frames") or []:
            yield f"    {frame['filename']}:{frame['lineno']} in {frame['name']}"
        yield f"  {error.get('exc_type')}: {error.get('exc_value')}"
