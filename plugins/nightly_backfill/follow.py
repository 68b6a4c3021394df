"""Follow a backfill: show its progress, each failed task with the command for its log, and the result."""

import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Set
from datetime import datetime

from rich.console import Console

from nightly_backfill import runs
from nightly_backfill.ending import INTERRUPTED, OK, SOME_FAILED
from nightly_backfill.progress import Display
from nightly_backfill.request import count, span

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_A_START = 0.2  # shorter than any run, so that none starts and ends between two looks
MAX_REASONS = 5
"""Reasons for skipped days that the result names."""
ENDED = ("success", "failed")
KEEP_PUBLISHED = ("publish", "missing")
"""The default entry in the conf of a backfill's runs."""


class Follower:
    """Follow a backfill.

    Attributes:
        names: the name of each run, by logical date.
        kept: logical dates whose runs ended before and are not part of the backfill; None if unknown.
        in_order: whether a later run needs the success of the earlier ones.
    """

    def __init__(
        self,
        console: Console,
        dag_id: str,
        backfill_id: int,
        names: Mapping[datetime, str],
        kept: Set[datetime] | None,
        in_order: bool,
    ) -> None:
        self.console, self.dag_id, self.backfill_id = console, dag_id, backfill_id
        self.names, self.kept, self.in_order = names, kept, in_order

    def follow(self) -> int:
        """Follow the backfill until it ends or the user stops following; return the exit code."""
        while True:
            try:
                return self._follow_to_the_end()
            except KeyboardInterrupt:
                if (code := self._interrupted()) is not None:
                    return code

    def _hold(self, states: Counter[str]) -> None:
        """Hold the next day while a day is trained.

        Airflow would start the next day as soon as this one ends, even if it fails, and the gate would compare it with
        a champion that this day may have replaced.
        """
        runs.pause(self.backfill_id, paused=states["running"] > 0)

    def _follow_to_the_end(self) -> int:
        names, moments = self.names, list(self.names)
        found = runs.at(self.dag_id, moments)
        stalled = ""
        ended = {m for m, run in found.items() if run.state in ENDED}
        reported, old = set(self.kept or ()), ended if self.kept is None else self.kept
        with Display(self.console, before=len(ended)) as display:
            while True:
                states = Counter(found[m].state if m in found else "failed" for m in moments)
                display.show(states)
                if (why := self._stalled(states)) != stalled and (stalled := why):
                    self._warn(why)
                for moment in sorted(found.keys() - reported):
                    if found[moment].state == "failed":
                        self._show_failure(names[moment], found[moment].run_id)
                    if found[moment].state in ENDED:
                        reported.add(moment)
                failed = [m for m in moments if m in found and found[m].state == "failed" and m not in old]
                if failed and self.in_order:
                    return self._stop(min(failed))
                if not states["queued"] + states["running"]:
                    break
                if self.in_order:
                    self._hold(states)
                held = not self.in_order or states["running"]
                time.sleep(SECONDS_BETWEEN_LOOKS if held else SECONDS_TO_A_START)
                found = runs.at(self.dag_id, moments)
        runs.active(self.dag_id)
        bad = [names[m] for m in moments if m not in found or found[m].state == "failed"]
        ended_well = {found[m].run_id: names[m] for m in moments if m in found and found[m].state == "success"}
        reasons = runs.skipped_because(self.dag_id, list(ended_well))
        return self._show_result(states, bad, {ended_well[run_id]: why for run_id, why in reasons.items()})

    def _stalled(self, states: Counter[str]) -> str:
        """Return why no run makes progress; empty if runs make progress."""
        if not states["queued"] + states["running"]:
            return ""
        if not runs.scheduler_is_alive():
            return "no scheduler is running; the runs wait for one"
        if runs.is_paused(self.dag_id):
            return f"{self.dag_id} is paused; to start the waiting runs: airflow dags unpause {self.dag_id}"
        if not self.in_order and runs.backfill_is_paused(self.backfill_id):
            return "the backfill is paused; unpause it on Airflow's pages"
        return ""

    def _show_failure(self, name: str, run_id: str) -> None:
        self.console.print(f"✗ {name} failed: run {run_id}", style="red")
        for task in runs.failed_tasks(self.dag_id, run_id):
            index = ["--map-index", str(task.map_index)] if task.map_index >= 0 else []
            command = shlex.join(["airflow", "tasks", "log", self.dag_id, run_id, task.task_id, *index])
            self._say(f"task {task.task_id}: {command}")

    def _show_result(self, states: Counter[str], failed: list[str], skipped: Mapping[str, str]) -> int:
        """Print how many runs did something, which ones had nothing to do and why, and which failed."""
        succeeded, total = states["success"] - len(skipped), count(states.total())
        if failed:
            self.console.print(f"✗ {succeeded} of {total} succeeded; failed: {span(failed)}", style="red")
        elif not skipped:
            self.console.print(f"✓ {total} succeeded", style="green")
        else:
            self.console.print(f"! {succeeded} of {total} succeeded; nothing was done for the others", style="yellow")
        days_of: dict[str, list[str]] = {}
        for name, why in sorted(skipped.items()):
            days_of.setdefault(why.replace(name, "the day"), []).append(name)
        for why, days in list(days_of.items())[:MAX_REASONS]:
            self._say(f"skipped: {span(days)}, because {why}")
        if len(days_of) > MAX_REASONS:
            self._say(f"… and {len(days_of) - MAX_REASONS} more reasons; the logs of the tasks have them")
        if not failed:
            return OK
        self._say(f"when the cause is fixed, type: {self._again(min(failed), max(failed))}")
        return SOME_FAILED

    def _again(self, first: str, last: str) -> str:
        """Return the command that runs the failed runs of these days again with the same conf."""
        days = ["-s", first[:10], "-e", last[:10]]
        given = {key: value for key, value in runs.conf_of(self.backfill_id).items() if (key, value) != KEEP_PUBLISHED}
        conf = ["-c", json.dumps(given)] if given else []
        return shlex.join(["airflow", "dags", "backfill", self.dag_id, *days, "--rerun-failed-tasks", *conf])

    def _stop(self, failed: datetime) -> int:
        runs.cancel(self.backfill_id)
        self.console.print(
            f"✗ stopped at {self.names[failed]}: later days build on it, so they were cancelled and count as failed",
            style="red",
        )
        self._say(f"when the cause is fixed, type: {self._again(self.names[failed], max(self.names.values()))}")
        return SOME_FAILED

    def _interrupted(self) -> int | None:
        """Ask what to do with the backfill; return an exit code, or None to continue to follow it."""
        if not sys.stdin.isatty():
            self._leave()
            return INTERRUPTED
        answer = ""
        while answer not in ("l", "c", "f"):
            try:
                asked = self.console.input("\n[l]eave it running, [c]ancel it, or [f]ollow it again? ", markup=False)
            except (EOFError, KeyboardInterrupt):
                asked = "l"
            answer = asked.strip().lower()[:1]
        if answer == "f":
            return None
        if answer == "c":
            runs.cancel(self.backfill_id)
            self.console.print("cancelled: queued runs will not start; running ones continue to their end")
        else:
            self._leave()
        return INTERRUPTED

    def _leave(self) -> None:
        self.console.print(f"the backfill continues. To follow it again: airflow dags backfill {self.dag_id} --follow")
        if self.in_order:
            runs.pause(self.backfill_id, paused=False)
            self._warn("while nobody follows it, it does not stop when a day fails")

    def _say(self, text: str) -> None:
        self.console.print(f"  {text}")

    def _warn(self, text: str) -> None:
        self.console.print(f"! {text}", style="yellow")
