"""How the commands are typed, and how they come among Airflow's own."""

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
    ("-t", "--task-regex"): "a backfill runs whole runs; for some tasks of runs there are: airflow tasks clear -t",
    ("-m", "--mark-success"): "mark runs or tasks on Airflow's pages, or: airflow tasks clear, with its filters",
    ("-l", "--local"): "the executor of [core] executor runs the tasks",
    ("-x", "--donot-pickle"): "nothing is pickled any more",
    ("-i", "--ignore-dependencies"): "tasks keep their order; for one task alone: airflow tasks test",
    (
        "-I",
        "--ignore-first-depends-on-past",
    ): "say --reset-dagruns or --rerun-failed-tasks, as Airflow 3 asks of such DAGs",
    ("-S", "--subdir"): "DAGs come from the bundles of [dag_processor] dag_bundle_config_list",
    ("-v", "--verbose"): "set AIRFLOW__LOGGING__LOGGING_LEVEL=DEBUG",
    ("--continue-on-failures",): "it always does, but for training, where a later day builds on an earlier one",
    ("--disable-retry",): "retries are the DAG's (retries= of its tasks)",
    ("--delay-on-limit",): "runs wait in the queue by themselves; say how many at a time with --max-active-runs",
    ("--pool",): "tasks keep the pool of the DAG; those of backfills go to the pool that [nightly] backfill_pool names",
    ("--treat-dag-id-as-regex",): "one DAG a command; for several: a loop over `airflow dags list`",
    ("--treat-dag-as-regex",): "one DAG a command; for several: a loop over `airflow dags list`",
}
"""Flags of Airflow 2 -> what takes their place."""


class Replaced(argparse.Action):
    """A flag of Airflow 2 without a meaning now; it is refused with the name of its replacement."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: str | None = None
    ) -> NoReturn:
        """Refuse the flag."""
        parser.exit(2, f"{option_string} is of Airflow 2 and means nothing in Airflow 3: {self.metavar}\n")


DAYS = "A day (2026-03-01) of the DAG's own timezone, {}, or a moment (2026-03-01T03:00)."
BACKFILL = ActionCommand(
    name="backfill",
    help="Run a DAG for a range of days, and follow it to the end",
    description=(
        "Run a DAG for each day of a range, and follow it to the end. The backfill is Airflow's own: it goes on when "
        "this command ends, and its pages show it.\n\nexit code: 0 all days succeeded, 1 some did not, 2 refused, "
        "130 interrupted"
    ),
    func=lazy_load_command("nightly_backfill.command.backfill"),
    args=(
        ARG_DAG_ID,
        Arg(("-s", "--start-date"), help=DAYS.format("included"), metavar="DAY"),
        Arg(("-e", "--end-date"), help=DAYS.format("included as well; the first day by default"), metavar="DAY"),
        Arg(("-n", "--dry-run"), help="Say what would be done, and do nothing", action="store_true"),
        Arg(
            ("--rerun-failed-tasks",),
            help="Runs that are there and failed run again, whole",
            action="store_true",
        ),
        Arg(("--reset-dagruns",), help="All runs that are there and ended run again, whole", action="store_true"),
        Arg(("-B", "--run-backwards"), help="The last day first", action="store_true"),
        Arg(
            ("--max-active-runs",),
            help="How many days at a time; the DAG's own max_active_runs by default",
            type=positive_int(allow_zero=False),
            metavar="N",
        ),
        Arg(
            ("-c", "--conf"),
            help="""Params of the runs, as JSON: '{"publish": "replace"}'; also of those that run again""",
            metavar="JSON",
        ),
        Arg(
            ("--wait-for-data",),
            help="Also days whose data is not there: their runs wait for it",
            action="store_true",
        ),
        Arg(("--follow",), help="Follow the backfill that goes on, or say how the last one ended", action="store_true"),
        ARG_YES,
        *(
            Arg(
                flags,
                action=Replaced,
                nargs="?",  # with its value or without, it is the flag that is refused
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
    description="Show the log of a task instance, from wherever Airflow keeps it.",
    func=lazy_load_command("nightly_backfill.log.show"),
    args=(
        ARG_DAG_ID,
        Arg(("run_id",), help="The id of the run"),
        ARG_TASK_ID,
        Arg(("--map-index",), help="Which one of a mapped task", type=int, default=-1, metavar="N"),
        Arg(
            ("--try-number",),
            help="Which try; the last one by default",
            type=positive_int(allow_zero=False),
            metavar="N",
        ),
    ),
)


def add_commands() -> Sequence[Any]:
    """Add ours to Airflow's groups `dags` and `tasks`; returns no group of our own, as Airflow asks a provider for.

    Airflow says in its log when this fails, and all its other commands go on working.
    """
    groups = sys.modules["airflow.cli.cli_parser"].airflow_commands
    for name, command in (("dags", BACKFILL), ("tasks", LOG)):
        place, group = next((i, g) for i, g in enumerate(groups) if isinstance(g, GroupCommand) and g.name == name)
        commands = tuple(group.subcommands)
        if command.name not in {c.name for c in commands}:  # a later Airflow may bring its own
            groups[place] = group._replace(subcommands=(*commands, command))
    return []
