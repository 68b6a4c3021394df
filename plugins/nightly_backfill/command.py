"""`airflow dags backfill`: check what the runs would find, create Airflow's own backfill, and follow it."""

import argparse
import json
import logging
import signal
import sys
import warnings
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import structlog
from airflow.models.backfill import NoBackfillRunsToCreate
from airflow.sdk.exceptions import AirflowException
from airflow.utils import cli as cli_utils
from airflow.utils.providers_configuration_loader import providers_configuration_loaded

from nightly_backfill import policy, preflight, runs
from nightly_backfill.console import PlainConsole
from nightly_backfill.ending import INTERRUPTED, OK, REFUSED, SOME_FAILED, RefusedError
from nightly_backfill.follow import KEEP_PUBLISHED, Follower
from nightly_backfill.preflight import PreflightOutput
from nightly_backfill.request import conf, count, first_and_last, labels, nearest, span
from nightly_backfill.runs import Run

RERUN_STATES = {"none": (), "failed": ("failed",), "completed": ("failed", "success")}
"""For each `reprocess_behavior` of Airflow, the states of existing runs that run again."""


@cli_utils.action_cli
@providers_configuration_loaded
def backfill(args: argparse.Namespace) -> None:
    """Run the command; it always ends with `SystemExit`."""
    # Airflow would log several lines for each run that it creates, in the middle of the progress
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    logging.getLogger().setLevel(logging.WARNING)
    warnings.simplefilter("ignore", DeprecationWarning)
    console = PlainConsole()
    try:
        code = Command(args, console).run()
    except RefusedError as refusal:
        PlainConsole(stderr=True).print(f"✗ {refusal}", style="red")
        code = REFUSED
    except KeyboardInterrupt:
        console.print(
            f"interrupted; the backfill continues. To follow it: airflow dags backfill {args.dag_id} --follow"
        )
        code = INTERRUPTED
    raise SystemExit(code)


@dataclass(frozen=True)
class Plan:
    """The runs of a range: their names by logical date, the runs that exist, and the dates that run again."""

    first: datetime
    last: datetime
    names: dict[datetime, str]
    there: dict[datetime, Run]
    again: list[datetime]

    @property
    def new(self) -> list[datetime]:
        """The logical dates without a run."""
        return [moment for moment in self.names if moment not in self.there]

    def named(self, moments: Sequence[datetime]) -> str:
        """Return the names of the runs of these dates as a short text."""
        return span(self.names[moment] for moment in moments)


class Command:
    """One call of the command."""

    def __init__(self, args: argparse.Namespace, console: PlainConsole) -> None:
        self.args, self.console = args, console
        self.dag_id: str = args.dag_id
        model = runs.dag_model(self.dag_id)
        self.dag = runs.serialized(self.dag_id)
        if model is None or model.is_stale or self.dag is None:
            raise RefusedError(f"there is no DAG {self.dag_id!r}{nearest(self.dag_id, runs.dag_ids())}")
        self.model = model
        # dates without a time are days of the schedule, which may have another timezone than the DAG's start date
        self.zone: tzinfo = getattr(self.dag.timetable, "_timezone", None) or self.dag.timezone
        self.preflight = PreflightOutput()

    def run(self) -> int:
        """Run the command and return the exit code."""
        if self.args.follow:
            return self._follow_active()
        self._refuse_schedules_without_days()
        first, last = first_and_last(self.args.start_date, self.args.end_date, self.zone)
        given = self._conf()
        plan = self._plan(first, last)
        self.preflight = self._run_preflight([*plan.new, *plan.again])
        self._refuse_other_order()
        self._show_plan(plan, given)
        if self.args.dry_run:
            return self._show_days(plan)
        if not (plan.new or plan.again):
            return self._nothing_to_do(plan)
        self._refuse_waits(plan)
        if (running := runs.active(self.dag_id)) is not None:
            return self._offer_to_follow(running)
        self._refuse_paused()
        self._confirm(plan, given)
        kept = plan.there.keys() - set(plan.again)
        return self._follow(self._create(plan, given), list(plan.names), kept)

    # The plan

    def _refuse_schedules_without_days(self) -> None:
        timetable = self.dag.timetable
        if not timetable.periodic:
            raise RefusedError(
                f"{self.dag_id} is not scheduled by time, so its runs do not belong to days and cannot be backfilled; "
                f"start it by hand: airflow dags trigger {self.dag_id}"
            )
        if timetable.partitioned:
            raise RefusedError(f"the runs of {self.dag_id} belong to partitions; use: airflow backfill create")

    def _conf(self) -> dict[str, Any]:
        given = conf(self.args.conf, self.dag.params)
        try:
            self.dag.params.deep_merge(given).validate()
        except ValueError as error:
            raise RefusedError(f"-c: {str(error).splitlines()[0]}") from error
        return given

    def _plan(self, first: datetime, last: datetime) -> Plan:
        now = datetime.now(UTC)
        infos = [
            info.logical_date
            for info in self.dag.iter_dagrun_infos_between(first, min(last, now))
            if info.logical_date and info.data_interval and info.data_interval.end < now
        ]
        if not infos:
            why = "these days are in the future" if first > now else f"its schedule is {self.dag.timetable.summary}"
            raise RefusedError(
                f"{self.dag_id} has no run from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M %Z}: {why}"
            )
        there = runs.at(self.dag_id, infos)
        again = [moment for moment, run in there.items() if run.state in RERUN_STATES[self._reprocess_behavior]]
        return Plan(first, last, labels(infos, self.zone), there, sorted(again))

    @property
    def _reprocess_behavior(self) -> str:
        return "completed" if self.args.reset_dagruns else "failed" if self.args.rerun_failed_tasks else "none"

    def _run_preflight(self, moments: Sequence[datetime]) -> PreflightOutput:
        days = sorted(moment.astimezone(self.zone).date() for moment in moments)
        if not days:
            return PreflightOutput()
        try:
            return preflight.run(self.model.bundle_name, self.dag_id, days[0].isoformat(), days[-1].isoformat())
        except preflight.UnknownError as unknown:
            self._warn(f"could not find out which data is missing and which days are published: {unknown}")
            return PreflightOutput(kind="train" if self.dag_id.endswith("_train") else None)

    def _refuse_other_order(self) -> None:
        if self.preflight.kind != "train":
            return
        why = "training goes one day at a time, in ascending order: a gate needs the champion that earlier days made"
        if self.args.run_backwards:
            raise RefusedError(f"--run-backwards: {why}")
        if (self.args.max_active_runs or 1) > 1:
            raise RefusedError(f"--max-active-runs {self.args.max_active_runs}: {why}")

    @property
    def _at_a_time(self) -> int:
        asked: int | None = self.args.max_active_runs
        return 1 if self.preflight.kind == "train" else asked or self.dag.max_active_runs

    # Showing the plan

    def _show_plan(self, plan: Plan, given: dict[str, Any]) -> None:
        order = "last day first, " if self.args.run_backwards else ""
        self.console.print(
            f"{self.dag_id}: {count(len(plan.names))}, {plan.named(list(plan.names))} ({self.zone}), "
            f"{order}{self._at_a_time} at a time",
            style="bold",
        )
        if plan.last > datetime.now(UTC) + timedelta(days=1):
            self._say("days in the future are left out")
        if plan.again:
            self._say(f"run again: {plan.named(plan.again)}")
        for state, runs_of in self._kept(plan).items():
            hint = {
                "failed": " (--rerun-failed-tasks runs them again)",
                "success": " (--reset-dagruns runs them again)",
            }
            self._say(f"left as they are, {state}: {plan.named(runs_of)}{hint.get(state, '')}")
        for model, days in self._published(plan).items():
            self._say(f"published already: {model} {span(days)}")
            if given.get("publish") == "replace":
                undo = f"python -m include.cli unpublish --model {model} --start {days[0]} --end {days[-1]}"
                # without --since, it would also undo days that these runs do not change
                undo += f" --since {datetime.now(UTC):%Y-%m-%dT%H:%M:%S}"
                self._say(f"  publish: replace. Readers will see the new scores. To undo: {undo}")
            else:
                self._say(
                    "  publish: missing. Readers keep what they see; batches that differ are stored unpublished, and"
                )
                self._say(
                    """  the log says how many rows differ. To replace what they see: -c '{"publish": "replace"}'"""
                )

    def _kept(self, plan: Plan) -> dict[str, list[datetime]]:
        kept: dict[str, list[datetime]] = {}
        for moment, run in sorted(plan.there.items()):
            if moment not in plan.again:
                kept.setdefault(run.state, []).append(moment)
        return kept

    def _published(self, plan: Plan) -> dict[str, list[str]]:
        """Map each model to the days that these runs would publish again."""
        affected = {moment.astimezone(self.zone).date().isoformat() for moment in [*plan.new, *plan.again]}
        found = {model: sorted(affected & set(days)) for model, days in self.preflight.published.items()}
        return {model: days for model, days in found.items() if days}

    def _show_days(self, plan: Plan) -> int:
        for moment in sorted(plan.names, reverse=self.args.run_backwards):
            run = plan.there.get(moment)
            if run is None:
                what = "runs"
            else:
                what = f"{'runs again' if moment in plan.again else 'left as it is'} ({run.state}, {run.run_id})"
            self.console.print(f"  {plan.names[moment]}  {what}")
        for day, sentences in self._waits(plan).items():
            self._warn(f"{day}: {'; '.join(sentences)}")
        if self.model.is_paused:
            self._warn(f"{self.dag_id} is paused")
        self.console.print("dry run: nothing was started")
        return OK

    def _nothing_to_do(self, plan: Plan) -> int:
        good = all(run.state == "success" for run in plan.there.values())
        self.console.print("nothing to do: every day has its run")
        return OK if good else SOME_FAILED

    # Reasons to refuse

    def _waits(self, plan: Plan) -> dict[str, list[str]]:
        affected = {moment.astimezone(self.zone).date().isoformat() for moment in [*plan.new, *plan.again]}
        return {day: sentences for day, sentences in sorted(self.preflight.waits.items()) if day in affected}

    def _refuse_waits(self, plan: Plan) -> None:
        waits = self._waits(plan)
        if not waits:
            return
        days = span(waits)
        if self.args.wait_for_data:
            self._warn(f"these days wait for data: {days}")
            return
        reasons = [sentence for sentences in waits.values() for sentence in sentences]
        listed = "\n  ".join([*reasons[:3], *([f"… and {len(reasons) - 3} more"] if len(reasons) > 3 else [])])
        what = "files or databases are missing" if self.preflight.kind == "prepare" else "features are not prepared"
        fix = f"Make it first: {self.preflight.fix}" if self.preflight.fix else "Choose other days"
        raise RefusedError(
            f"{what} for {days}:\n  {listed}\nThe runs would wait for this data and then time out. {fix}\n"
            "If the data is on its way, use --wait-for-data"
        )

    def _offer_to_follow(self, backfill_id: int) -> int:
        names = labels(runs.moments(backfill_id), self.zone)
        said = f"another backfill of {self.dag_id} is active ({span(names.values())}), and Airflow runs one at a time"
        if self._can_ask:
            self.console.print(said)
            if self._agrees("follow that one instead?"):
                return self._follow(backfill_id, list(names))
            return REFUSED
        raise RefusedError(f"{said}; follow it with: airflow dags backfill {self.dag_id} --follow")

    def _refuse_paused(self) -> None:
        if not self.model.is_paused:
            return
        said = f"{self.dag_id} is paused: its runs would wait in the queue"
        if self._can_ask:
            self.console.print(said)
            if self._agrees("unpause it (its schedule continues as well)?"):
                runs.unpause(self.dag_id)
                return
        raise RefusedError(f"{said}; to continue: airflow dags unpause {self.dag_id}")

    def _confirm(self, plan: Plan, given: dict[str, Any]) -> None:
        changes = []
        if self.args.reset_dagruns and plan.again:
            changes.append(f"{count(len(plan.again), 'finished run')} will be reset")
        if given.get("publish") == "replace" and (published := self._published(plan)):
            days = span(day for days in published.values() for day in days)
            changes.append(f"the published scores of {days} may be replaced")
        if not changes or self.args.yes:
            return
        said = " and ".join(changes)
        if not sys.stdin.isatty():
            raise RefusedError(f"{said}; there is no terminal to ask on, so confirm with -y")
        if not self._agrees(f"{said}; continue?"):
            raise RefusedError("nothing was started")

    @property
    def _can_ask(self) -> bool:
        return sys.stdin.isatty() and not self.args.yes

    def _agrees(self, question: str) -> bool:
        try:
            return self.console.input(f"{question} [y/N] ", markup=False).strip().lower() in ("y", "yes")
        except EOFError:
            return False

    # Starting and following

    def _create(self, plan: Plan, given: dict[str, Any]) -> int:
        """Create the backfill with Airflow's public command, so that its own checks and audit log apply."""
        from airflow.cli.cli_parser import get_parser

        if self.preflight.kind == "score" and "publish" in self.dag.params:
            given = dict([KEEP_PUBLISHED]) | given
        # always pass a conf: without one, a run that is reset would keep its old conf
        command = ["backfill", "create", "--dag-id", self.dag_id, "--dag-run-conf", json.dumps(given)]
        command += ["--from-date", plan.first.isoformat(), "--to-date", plan.last.isoformat()]
        command += ["--max-active-runs", str(self._at_a_time), "--reprocess-behavior", self._reprocess_behavior]
        command += ["--run-backwards"] if self.args.run_backwards else []
        args = get_parser().parse_args(command)
        try:
            with policy.resetting():
                args.func(args)
        except (AirflowException, NoBackfillRunsToCreate) as error:
            raise RefusedError(str(error)) from error
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # Airflow's command would end with exit code 0 on SIGTERM
        made = runs.newest(self.dag_id)
        assert made is not None
        return made

    def _follow_active(self) -> int:
        """Follow the active backfill, or show how the last one ended."""
        backfill_id = runs.active(self.dag_id) or runs.newest(self.dag_id)
        if backfill_id is None:
            raise RefusedError(f"{self.dag_id} was never backfilled")
        moments = runs.moments(backfill_id)
        self.preflight = self._run_preflight(moments)
        return self._follow(backfill_id, moments)

    def _follow(self, backfill_id: int, moments: Sequence[datetime], kept: Set[datetime] | None = None) -> int:
        in_order = self.preflight.kind == "train"
        return Follower(self.console, self.dag_id, backfill_id, labels(moments, self.zone), kept, in_order).follow()

    def _say(self, text: str) -> None:
        self.console.print(f"  {text}")

    def _warn(self, text: str) -> None:
        self.console.print(f"! {text}", style="yellow")
