"""Declare the commands and their options, and add them to Airflow's command line."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from airflow.cli.cli_config import (
    ARG_DAG_ID,
    ARG_TASK_ID,
    ARG_YES,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
    positive_int,
)

REPLACED = {
    (
        "-t",
        "--task-regex",
    ): "a backfill runs all tasks; for some tasks of existing runs: airflow tasks clear -t",
    ("-m", "--mark-success"): "mark runs or tasks on Airflow's pages, or: airflow tasks clear, with its filters",
    ("-l", "--local"): "the executor of [core] executor runs the tasks",
    ("-x", "--donot-pickle"): "nothing is pickled any more",
    ("-i", "--ignore-dependencies"): "tasks keep their order; to run one task alone: airflow tasks test",
    (
        "-I",
        "--ignore-first-depends-on-past",
    ): "use --reset-dagruns or --rerun-failed-tasks, as Airflow 3 requires for such DAGs",
    ("-S", "--subdir"): "DAGs come from the bundles of [dag_processor] dag_bundle_config_list",
    ("-v", "--verbose"): "set AIRFLOW__LOGGING__LOGGING_LEVEL=DEBUG",
    ("--continue-on-failures",): "the default, except for training, where a later day builds on an earlier one",
    ("--disable-retry",): "retries are set in the DAG (retries= of its tasks)",
    ("--delay-on-limit",): "runs wait in the queue; limit how many run at a time with --max-active-runs",
    ("--pool",): "tasks keep the pool of their DAG; the default one is replaced by [nightly] backfill_pool",
    ("--treat-dag-id-as-regex",): "one DAG per command; for several, loop over `airflow dags list`",
    ("--treat-dag-as-regex",): "one DAG per command; for several, loop over `airflow dags list`",
}
"""Options of Airflow 2, and what to use instead."""


class Replaced(argparse.Action):
    """An option of Airflow 2 that has no meaning now; it is refused with a hint what to use instead."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: str | None = None
    ) -> NoReturn:
        """Refuse the option."""
        parser.exit(2, f"{option_string} is an option of Airflow 2 and means nothing in Airflow 3: {self.metavar}\n")


DAYS = "A day (2026-03-01) in the DAG's own timezone, {}, or a moment (2026-03-01T03:00)"
BACKFILL = ActionCommand(
    name="backfill",
    help="Run a DAG for a range of days, and follow it to the end",
    description=(
        "Run a DAG for each day of a range, and follow it to the end. The backfill is Airflow's own: it continues "
        "when this command ends, and Airflow's pages show it.\n\nexit code: 0 all days succeeded, 1 some did "
        "not, 2 refused, 130 interrupted"
    ),
    func=lazy_load_command("nightly_backfill.command.backfill"),
    args=(
        ARG_DAG_ID,
        Arg(("-s", "--start-date"), help=DAYS.format("included"), metavar="DAY"),
        Arg(("-e", "--end-date"), help=DAYS.format("included; default: the first day"), metavar="DAY"),
        Arg(("-n", "--dry-run"), help="Print what would be done, and do nothing", action="store_true"),
        Arg(
            ("--rerun-failed-tasks",),
            help="Run existing failed runs again, with all their tasks",
            action="store_true",
        ),
        Arg(("--reset-dagruns",), help="Run existing finished runs again, with all their tasks", action="store_true"),
        Arg(("-B", "--run-backwards"), help="Start with the last day", action="store_true"),
        Arg(
            ("--max-active-runs",),
            help="How many days run at a time; default: the DAG's own max_active_runs",
            type=positive_int(allow_zero=False),
            metavar="N",
        ),
        Arg(
            ("-c", "--conf"),
            help="""Params of the runs, as JSON: '{"publish": "replace"}'; existing runs that run again get them too""",
            metavar="JSON",
        ),
        Arg(
            ("--wait-for-data",),
            help="Also start days whose data is missing: their runs wait for it",
            action="store_true",
        ),
        Arg(("--follow",), help="Follow the active backfill, or show how the last one ended", action="store_true"),
        ARG_YES,
        *(
            Arg(
                flags,
                action=Replaced,
                nargs="?",  # the option is refused with or without a value
                metavar=instead,
                help=argparse.SUPPRESS,
                dest="replaced",
            )
            for flags, instead in REPLACED.items()
        ),
    ),
)
LOG = ActionCommand(
    name="log",
    help="Show the log of a task instance",
    description="Show the log of a task instance, wherever Airflow stores it.",
    func=lazy_load_command("nightly_backfill.log.show"),
    args=(
        ARG_DAG_ID,
        Arg(("run_id",), help="The id of the run"),
        ARG_TASK_ID,
        Arg(("--map-index",), help="The index in a mapped task", type=int, default=-1, metavar="N"),
        Arg(
            ("--try-number",),
            help="The number of the try; default: the last one",
            type=positive_int(allow_zero=False),
            metavar="N",
        ),
    ),
)


def add_commands() -> Sequence[Any]:
    """Add our commands to Airflow's groups `dags` and `tasks`.

    If this fails, Airflow logs the error, and all its other commands still work.

    Returns:
        The groups that this provider adds to Airflow: none.
    """
    groups = sys.modules["airflow.cli.cli_parser"].airflow_commands
    for name, command in (("dags", BACKFILL), ("tasks", LOG)):
        place, group = next((i, g) for i, g in enumerate(groups) if isinstance(g, GroupCommand) and g.name == name)
        commands = tuple(group.subcommands)
        if command.name not in {c.name for c in commands}:  # a later Airflow may have its own command
            groups[place] = group._replace(subcommands=(*commands, command))
    return []
